"""What a job over a file wrote, over HTTP: whole, in parts, again, and of jobs that did not come to their end."""

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.processes import Answer, Http
from tests.system.rows import LINEAR
from tests.system.service import HeldFile, Job, scored_file

BAD_ROWS = (7, 4000)
FILE = b"id,x1,x2,x3\n" + b"".join(
    b"a-%d,%s,0.02,0.04\n" % (row, b"?" if row in BAD_ROWS else b"0.0%d" % (row % 9)) for row in range(1, 8001)
)
OUTPUTS = ("result", "errors", "manifest")


def scored(http: Http, **query: Any) -> Job:
    return scored_file(http, FILE, model="linear", key="id", **query)


def download(http: Http, job: Job, what: str = "result", *, method: str = "GET", **headers: Any) -> Answer:
    return http(method, f"/jobs/{job['id']}/{what}", **headers)


@pytest.fixture(scope="module")
def job(http: Http) -> Job:
    """A job with a result of some hundred kilobytes, and two failed rows."""
    return scored(http)


@pytest.fixture(scope="module")
def body(http: Http, job: Job) -> bytes:
    """Its result."""
    return download(http, job).body


@pytest.fixture
def held_file(http: Http, folder: Path) -> Iterator[HeldFile]:
    file = HeldFile(http, folder)
    yield file
    file.end()


@pytest.mark.parametrize("what", OUTPUTS)
def test_a_download_says_what_it_is_and_its_checksum_verifies(http: Http, job: Job, what: str) -> None:
    answer = download(http, job, what)

    digest = hashlib.sha256(answer.body)
    assert answer.status == 200
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["accept-ranges"] == "bytes"
    name = {"result": "result.csv", "errors": "errors.jsonl", "manifest": "manifest.json"}[what]
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_the_result_has_every_good_row_in_order(job: Job, body: bytes) -> None:
    header, *lines = body.decode().splitlines()

    assert header == "id,prediction"
    assert [line.partition(",")[0] for line in lines] == [f"a-{row}" for row in range(1, 8001) if row not in BAD_ROWS]
    assert job["result"]["rows"] == len(lines)


def test_the_errors_are_the_bad_rows(http: Http, job: Job) -> None:
    answer = download(http, job, "errors")

    errors = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [(error["row"], error["key"], error["column"], error["code"]) for error in errors] == [
        (row, f"a-{row}", "x1", "not_a_number") for row in BAD_ROWS
    ]


def test_job_and_manifest_agree_with_the_files(http: Http, job: Job, body: bytes) -> None:
    manifest, errors = download(http, job, "manifest").json, download(http, job, "errors").body

    found = {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in (("result", body), ("errors", errors))
    }
    assert {name: (about["bytes"], about["sha256"]) for name, about in manifest["outputs"].items()} == found
    assert (job["result"]["bytes"], job["result"]["sha256"]) == found["result"]
    assert manifest["input"]["sha256"] == job["input"]["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert manifest["counts"] == {name: count for name, count in job["counts"].items() if name != "pending"}


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        pytest.param("0-99", 0, 100, id="first"),
        pytest.param("5000-5999", 5000, 6000, id="middle"),
        pytest.param("-250", -250, None, id="suffix"),
        pytest.param("7000-", 7000, None, id="rest"),
        pytest.param("100000-999999999", 100000, None, id="past-the-end"),
    ],
)
def test_a_range_is_that_part_of_the_result(
    http: Http, job: Job, body: bytes, asked: str, start: int, stop: int | None
) -> None:
    answer = download(http, job, Range=f"bytes={asked}")

    first, end, _ = slice(start, stop).indices(len(body))
    assert (answer.status, answer.body) == (206, body[start:stop])
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{len(body)}"
    assert answer.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'


def test_a_range_beyond_the_end_is_a_416_that_tells_the_size(http: Http, job: Job, body: bytes) -> None:
    answer = download(http, job, Range=f"bytes={len(body)}-")

    assert (answer.status, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(body)}"


def test_a_download_that_broke_off_goes_on_where_it_was(http: Http, job: Job, body: bytes) -> None:
    first = download(http, job, Range="bytes=0-40000")

    rest = download(http, job, Range=f"bytes={len(first.body)}-", If_Range=first.headers["etag"])

    assert (first.status, rest.status) == (206, 206)
    assert first.body + rest.body == body


@pytest.mark.parametrize("known", ['"another"', "Sun, 22 Nov 2026 14:00:00 GMT"], ids=["etag", "date"])
def test_a_part_of_another_version_is_answered_with_the_whole(http: Http, job: Job, body: bytes, known: str) -> None:
    answer = download(http, job, Range="bytes=100-", If_Range=known)

    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("what", OUTPUTS)
def test_what_the_client_has_is_not_sent_again(http: Http, job: Job, what: str) -> None:
    etag = download(http, job, what).headers["etag"]

    answer = download(http, job, what, If_None_Match=etag)

    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize("what", OUTPUTS)
def test_head_tells_the_same_without_the_file(http: Http, job: Job, what: str) -> None:
    whole = download(http, job, what)

    answer = download(http, job, what, method="HEAD")

    told = ("content-type", "content-length", "etag", "repr-digest", "content-disposition", "accept-ranges")
    assert (answer.status, answer.body) == (200, b"")
    assert {name: answer.headers[name] for name in told} == {name: whole.headers[name] for name in told}


def test_a_compressed_result_stays_compressed(http: Http, body: bytes) -> None:
    job = scored(http, output_compression="gzip")

    answer = download(http, job)

    assert gzip.decompress(answer.body) == body
    assert (answer.headers["content-type"], answer.headers.get("content-encoding")) == ("application/gzip", None)
    assert answer.headers["content-disposition"] == 'attachment; filename="result.csv.gz"'
    assert job["result"]["sha256"] == hashlib.sha256(answer.body).hexdigest()


def test_a_parquet_result_can_be_read(http: Http) -> None:
    job = scored(http, output_format="parquet")

    answer = download(http, job)

    table = pq.read_table(io.BytesIO(answer.body))
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert (table.column_names, table.num_rows) == (["id", "prediction"], 7998)


def test_a_job_that_failed_early_gives_what_it_had_done(http: Http, body: bytes) -> None:
    job = scored(http, max_failed_rows=1)

    result, errors = download(http, job), download(http, job, "errors")

    assert (job["status"], job["failure"]["code"]) == ("failed", "too_many_failed_rows")
    assert "not_a_number" in job["failure"]["message"]
    assert (result.status, result.body) == (200, body)
    assert len(errors.body.splitlines()) == job["counts"]["failed"] == 2


def test_nothing_can_be_downloaded_while_a_job_runs_and_a_cancelled_one_gives_what_it_had_done(
    http: Http, held_file: HeldFile
) -> None:
    job = held_file.half_done()
    early = [download(http, job, what) for what in OUTPUTS]

    http("POST", f"/jobs/{job['id']}/cancel")
    cancelled = http.done(job["id"])
    result, manifest = download(http, job), download(http, job, "manifest").json

    assert {(answer.status, answer.json["code"]) for answer in early} == {(409, "result_not_ready")}
    assert cancelled["status"] == "cancelled"
    assert result.body == b"prediction\n" + b"1.0\n" * HeldFile.AT_ONCE
    assert cancelled["counts"]["skipped"] == HeldFile.ROWS - HeldFile.AT_ONCE
    assert manifest["skipped_rows"] == [[HeldFile.AT_ONCE + 1, HeldFile.ROWS]]


def test_the_result_of_a_job_over_rows_is_json_with_ranges(http: Http) -> None:
    job = http.done(http.submit("linear", [LINEAR] * 50)["id"])

    whole = download(http, job)
    part = download(http, job, Range="bytes=10-19")
    manifest = download(http, job, "manifest")

    assert (whole.headers["content-type"], len(whole.json["predictions"])) == ("application/json", 50)
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert (manifest.status, manifest.json["code"]) == (409, "no_result")
