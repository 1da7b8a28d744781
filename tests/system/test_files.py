"""Files on their way in: what is kept of them and for how long, and one job for a file that is sent twice."""

import hashlib
import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Answer, Http
from tests.system.service import HeldFile, Job, Service, files_below, scored_file, send_file
from tests.wait import until

FILE = b"id,x1,x2,x3\n" + b"".join(b"%d,0.0%d,0.02,0.04\n" % (row, row % 9) for row in range(500))
OTHER_FILE = FILE + b"500,0,0,0\n"


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def new_files(service: Service) -> Callable[[], set[str]]:
    """Looks which files there are in storage that were not there before the test."""
    before = files_below(service, "")
    return lambda: files_below(service, "") - before


@pytest.fixture
def held_file(http: Http, folder: Path) -> Iterator[HeldFile]:
    file = HeldFile(http, folder)
    yield file
    file.end()


def form(*parts: tuple[str, str, bytes]) -> dict[str, Any]:
    """A request with a form of parts, each with name, file name and content."""
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="%s"' % file_name.encode() if file_name else b"", content)
        for name, file_name, content in parts
    )
    return {"raw": body + b"--XX--\r\n", "Content_Type": "multipart/form-data; boundary=XX"}


def stored(http: Http, data: bytes = FILE) -> Job:
    """A file by itself."""
    answer = http("POST", "/files?name=rows.csv", raw=data, Content_Type="text/csv")
    assert answer.status == 201, answer.body
    file: Job = answer.json
    return file


def over(http: Http, file_id: str, **more: Any) -> Answer:
    """The answer to a job over a file that was sent before."""
    return http("POST", "/jobs", {"model": "linear", "input": {"file_id": file_id}, "key": "id", **more})


def result(http: Http, job_id: str) -> bytes:
    return http("GET", f"/jobs/{job_id}/result").body


def test_every_way_to_send_a_file_gives_the_same(http: Http) -> None:
    file = stored(http)

    raw = scored_file(http, FILE, model="linear", key="id")
    referred = http.done(over(http, file["id"]).json["id"])
    options = json.dumps({"model": "linear", "key": "id"}).encode()
    sent = http("POST", "/jobs", **form(("job", "", options), ("file", "rows.csv", FILE)))
    formed = http.done(sent.json["id"])

    assert result(http, raw["id"]) == result(http, referred["id"]) == result(http, formed["id"])
    assert {job["input"]["sha256"] for job in (raw, referred, formed)} == {hashlib.sha256(FILE).hexdigest()}
    assert (referred["input"]["file_id"], formed["input"]["name"]) == (file["id"], "rows.csv")


def test_a_form_brings_a_file_too(http: Http) -> None:
    answer = http("POST", "/files", **form(("file", "rows.csv", FILE)))

    assert answer.status == 201, answer.body
    assert (answer.json["name"], answer.json["format"], answer.json["bytes"]) == ("rows.csv", "csv", len(FILE))


def test_a_file_may_be_read_by_several_jobs_and_outlives_them(http: Http) -> None:
    file = stored(http)

    jobs = [http.done(over(http, file["id"]).json["id"]) for _ in range(2)]
    for job in jobs:
        http("DELETE", f"/jobs/{job['id']}")

    assert [job["status"] for job in jobs] == ["succeeded"] * 2
    assert http("GET", f"/files/{file['id']}").status == 200


def test_a_file_cannot_be_removed_while_a_job_reads_it(http: Http, held_file: HeldFile) -> None:
    file = stored(http, held_file.data)
    job = over(http, file["id"], model="gate", key=None).json

    early = http("DELETE", f"/files/{file['id']}")
    held_file.let_through()
    http.done(job["id"])
    late = http("DELETE", f"/files/{file['id']}")

    assert (early.status, early.json["code"]) == (409, "file_in_use")
    assert late.status == 204


def test_a_job_over_a_file_that_was_removed_keeps_its_result_but_cannot_be_retried(
    http: Http, service: Service
) -> None:
    file = stored(http)
    job = http.done(over(http, file["id"]).json["id"])
    before = result(http, job["id"])

    http("DELETE", f"/files/{file['id']}")
    retried = http("POST", f"/jobs/{job['id']}/retry", {"only": "all"})
    again = over(http, file["id"])

    assert result(http, job["id"]) == before
    assert (retried.status, retried.json["code"]) == (410, "input_gone")
    assert (again.status, again.json["code"]) == (404, "file_not_found")
    assert not files_below(service, f"files/{file['id']}")


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda: {"raw": FILE, "Content_Type": "text/csv"}, id="raw"),
        pytest.param(lambda: form(("job", "", b'{"model": "linear"}'), ("file", "rows.csv", FILE)), id="form"),
    ],
)
def test_a_file_that_is_only_checked_is_not_stored(
    http: Http, new_files: Callable[[], set[str]], request_of: Callable[[], dict[str, Any]]
) -> None:
    sent = request_of()
    query = "&model=linear" if sent["raw"] == FILE else ""

    answer = http("POST", f"/jobs?validate_only=true{query}", **sent)

    assert (answer.status, answer.json["valid"]) == (200, True), answer.body
    assert new_files() == set()


def test_a_file_that_is_only_checked_is_told_what_is_wrong_with_it(
    http: Http, new_files: Callable[[], set[str]]
) -> None:
    answer = send_file(http, FILE.replace(b"x3", b"x4"), model="linear", validate_only="true")

    assert answer.status == 422
    assert [(error["column"], error["code"]) for error in answer.json["errors"]] == [("x3", "missing_column")]
    assert new_files() == set()


@pytest.mark.parametrize("path", ["/jobs?model=linear", "/files"])
def test_an_upload_that_breaks_off_leaves_nothing(
    service: Service, new_files: Callable[[], set[str]], path: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.settings.port, timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "text/csv")
    connection.putheader("Content-Length", "1000000000")
    connection.endheaders()

    connection.send(FILE * 500)
    until(new_files, what="the upload has begun")
    connection.close()

    until(lambda: not new_files(), what="nothing is left of it")


def same_key(http: Http, data: bytes, key: str) -> Answer:
    return send_file(http, data, headers={"Idempotency_Key": key}, model="linear", key="id")


def test_a_file_that_is_sent_twice_under_one_key_is_one_job_and_is_stored_once(
    http: Http, new_files: Callable[[], set[str]], key: str
) -> None:
    first = same_key(http, FILE, key)

    second = same_key(http, FILE, key)

    assert (first.status, second.status) == (202, 202)
    assert second.json["id"] == first.json["id"]
    http.done(first.json["id"])
    assert {name.split("/")[1] for name in new_files()} == {first.json["id"]}


def test_another_file_under_the_same_key_is_refused_and_not_stored(
    http: Http, new_files: Callable[[], set[str]], key: str
) -> None:
    first = same_key(http, FILE, key)

    second = same_key(http, OTHER_FILE, key)

    assert (second.status, second.json["code"]) == (422, "idempotency_key_reused")
    http.done(first.json["id"])
    assert {name.split("/")[1] for name in new_files()} == {first.json["id"]}


def test_the_same_file_from_many_clients_at_once_is_one_job(
    http: Http, new_files: Callable[[], set[str]], key: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: same_key(http, FILE, key), range(8)))

    assert {answer.status for answer in answers} == {202}
    (job_id,) = {answer.json["id"] for answer in answers}
    http.done(job_id)
    assert {name.split("/")[1] for name in new_files()} == {job_id}
