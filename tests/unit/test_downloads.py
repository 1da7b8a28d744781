"""Stored files as answers: whole, in ranges, or not at all."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api.downloads import attachment
from shared.batch import BatchOptions, Input
from shared.job import Counts, Status
from shared.training import RegisterOptions
from tests.unit.fakes import make_job
from tests.unit.file_fakes import FileService

DATA = b"id,prediction\r\n" + b"".join(b"%d,%d\r\n" % (row, row * row) for row in range(100))
SIZE = len(DATA)
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{SHA256}"'


def output(name: str, data: bytes = DATA, **more: Any) -> dict[str, Any]:
    """What a job says of a file that it wrote."""
    known = {"key": f"jobs/j1/{name}", "name": name, "media_type": "text/csv", "encoding": None, "rows": 100}
    return known | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} | more


@pytest.fixture
def service(tmp_path: Path) -> FileService:
    service = FileService(tmp_path)
    service.services.storage.put("jobs/j1/rows.csv", DATA)
    finish(service, result=output("rows.csv"))
    return service


def finish(service: FileService, status: Status = Status.SUCCEEDED, **outputs: dict[str, Any]) -> None:
    """The job j1 over a file, ended with these outputs."""
    job = make_job(status=status, counts=Counts(total=100, succeeded=100), outputs=outputs)
    spec = replace(job.spec, batch=BatchOptions(input=Input(key="k")))
    service.store.snapshots["j1"] = replace(job, spec=spec)


def get(service: FileService, **headers: str) -> TestResponse:
    """Ask for the result."""
    return service.client.get(
        "/jobs/j1/result", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_a_whole_file_says_what_it_is(service: FileService) -> None:
    answer = get(service)

    assert (answer.status_code, answer.data) == (200, DATA)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="rows.csv"'
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        pytest.param("bytes=0-0", 0, 1, id="first-byte"),
        pytest.param("bytes=10-19", 10, 20, id="inside"),
        pytest.param("bytes=10-", 10, SIZE, id="open"),
        pytest.param("bytes=-5", SIZE - 5, SIZE, id="suffix"),
        pytest.param("bytes=-99999", 0, SIZE, id="suffix-longer-than-the-file"),
        pytest.param(f"bytes={SIZE - 1}-{SIZE + 9}", SIZE - 1, SIZE, id="past-the-end"),
        pytest.param(f"bytes=0-{'9' * 50}", 0, SIZE, id="endless"),
        pytest.param("bytes = 10 - 19", 10, 20, id="blanks"),
    ],
)
def test_a_range_is_that_part_of_the_file(service: FileService, asked: str, start: int, stop: int) -> None:
    answer = get(service, Range=asked)

    assert (answer.status_code, answer.data) == (206, DATA[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["ETag"] == ETAG


@given(start=st.integers(0, 2 * SIZE), length=st.none() | st.integers(1, 2 * SIZE))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_is_the_same_slice_of_the_file(service: FileService, start: int, length: int | None) -> None:
    answer = get(service, Range=f"bytes={start}-" + ("" if length is None else str(start + length - 1)))

    if start >= SIZE:
        assert answer.status_code == 416
    else:
        assert (answer.status_code, answer.data) == (206, DATA[start:][:length])


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=999999-9999999", "bytes=-0"], ids=["end", "beyond", "none"])
def test_a_range_without_a_byte_of_the_file_is_a_416(service: FileService, asked: str) -> None:
    answer = get(service, Range=asked)

    assert answer.status_code == 416
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Range": "bytes=0-1,5-6"}, id="several-ranges"),
        pytest.param({"Range": "rows=0-1"}, id="another-unit"),
        pytest.param({"Range": "bytes=5-4"}, id="backwards"),
        pytest.param({"Range": "bytes=-"}, id="nothing"),
        pytest.param({"Range": "bytes=٣-4"}, id="other-digits"),
        pytest.param({"Range": "bytes=0-1", "If-Range": '"other"'}, id="changed-since"),
        pytest.param({"Range": "bytes=0-1", "If-Range": f"W/{ETAG}"}, id="weak-if-range"),
        pytest.param({"Range": "bytes=0-1", "If-Range": "Sat, 31 Jan 2026 12:00:00 GMT"}, id="if-range-by-date"),
        pytest.param({"If-Match": ETAG}, id="if-match"),
        pytest.param({"If-Match": "*"}, id="if-match-any"),
        pytest.param({"If-None-Match": '"other"'}, id="if-none-match-another"),
    ],
)
def test_the_whole_file_is_the_answer_to_what_asks_for_no_single_part(
    service: FileService, headers: dict[str, str]
) -> None:
    answer = service.client.get("/jobs/j1/result", headers=headers)

    assert (answer.status_code, answer.data) == (200, DATA)


def test_a_range_of_the_version_that_the_client_knows_is_given(service: FileService) -> None:
    answer = get(service, Range="bytes=0-1", If_Range=ETAG)

    assert (answer.status_code, answer.data) == (206, DATA[:2])


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"], ids=["strong", "weak", "list", "any"])
def test_a_file_that_the_client_has_is_not_sent_again(service: FileService, known: str) -> None:
    answer = get(service, If_None_Match=known, Range="bytes=0-1")

    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", ETAG)


@pytest.mark.parametrize("known", ['"other"', f"W/{ETAG}"], ids=["another", "weak"])
def test_a_file_that_must_be_another_is_a_412(service: FileService, known: str) -> None:
    answer = get(service, If_Match=known)

    assert answer.status_code == 412
    assert answer.json is not None
    assert answer.json["code"] == "precondition_failed"


@pytest.mark.parametrize("asked", ["", "bytes=0-1"], ids=["whole", "range"])
def test_head_tells_of_the_whole_file_without_it(service: FileService, asked: str) -> None:
    answer = service.client.head("/jobs/j1/result", headers={"Range": asked} if asked else {})

    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["ETag"] == ETAG


def test_a_range_of_an_empty_file_is_the_empty_file(service: FileService) -> None:
    service.services.storage.put("jobs/j1/errors", b"")
    finish(service, errors=output("errors", b""))

    answer = service.client.get("/jobs/j1/errors", headers={"Range": "bytes=0-9"})

    assert (answer.status_code, answer.data) == (200, b"")


@pytest.mark.parametrize(
    ("encoding", "media_type"), [("gzip", "application/gzip"), ("zstd", "application/zstd")], ids=["gzip", "zstd"]
)
def test_a_packed_file_is_sent_packed(service: FileService, encoding: str, media_type: str) -> None:
    finish(service, result=output("rows.csv", encoding=encoding))

    answer = get(service)

    assert (answer.headers["Content-Type"], answer.data) == (media_type, DATA)
    assert "Content-Encoding" not in answer.headers


def test_a_file_that_is_not_where_it_was_is_an_error_and_no_broken_file(service: FileService) -> None:
    service.services.storage.delete("jobs/j1")

    answer = get(service)

    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["code"] == "file_missing"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_what_a_job_had_done_can_be_read_however_it_ended(service: FileService, status: Status) -> None:
    finish(service, status, result=output("rows.csv"))

    assert get(service).data == DATA


@pytest.mark.parametrize("what", ["result", "errors", "manifest"])
def test_nothing_can_be_read_before_the_job_is_done(service: FileService, what: str) -> None:
    finish(service, Status.RUNNING)

    answer = service.client.get(f"/jobs/j1/{what}")

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["code"] == "result_not_ready"


@pytest.mark.parametrize("what", ["result", "manifest"])
def test_a_job_that_wrote_nothing_has_no_result(service: FileService, what: str) -> None:
    finish(service, Status.CANCELLED)

    answer = service.client.get(f"/jobs/j1/{what}")

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["code"] == "no_result"


def test_a_job_over_rows_has_no_manifest(service: FileService) -> None:
    service.store.snapshots["j1"] = make_job(status=Status.SUCCEEDED, predictions=b"[1,2,3]")

    answer = service.client.get("/jobs/j1/manifest")

    assert answer.status_code == 409
    assert "with the request" in answer.text


@pytest.mark.parametrize(
    ("about", "told"),
    [
        pytest.param({"registered": {"version": 2}}, "GET /models/m/versions/2 is what came of it", id="registered"),
        pytest.param({"failure": {"code": "unsafe_artifact", "message": "no"}}, "its failure says", id="refused"),
        pytest.param({"status": Status.CANCELLED}, "was cancelled", id="cancelled"),
    ],
)
def test_the_check_of_an_artifact_has_no_manifest_and_says_where_to_look(
    service: FileService, about: dict[str, Any], told: str
) -> None:
    spec = replace(make_job().spec, register=RegisterOptions(format="skops", key="k"))
    service.store.snapshots["j1"] = make_job(spec=spec, **({"status": Status.SUCCEEDED} | about))

    answer = service.client.get("/jobs/j1/manifest")

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "no_result")
    assert "this one checked an artifact" in answer.json["detail"]
    assert told in answer.json["detail"]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        pytest.param("rows.csv", 'attachment; filename="rows.csv"', id="plain"),
        pytest.param('a"b\\c.csv', 'attachment; filename="a\\"b\\\\c.csv"', id="quotes"),
        pytest.param(
            "größe €.csv",
            "attachment; filename=\"gr__e _.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%E2%82%AC.csv",
            id="beyond-ascii",
        ),
        pytest.param(
            "a\r\nb.csv", "attachment; filename=\"a__b.csv\"; filename*=UTF-8''a%0D%0Ab.csv", id="line-breaks"
        ),
    ],
)
def test_a_file_name_is_written_so_that_every_client_can_read_it(name: str, header: str) -> None:
    assert attachment(name) == header
