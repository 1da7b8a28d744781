"""`GET /jobs/<id>/result` and `/errors`: whole, in parts, unchanged, too early, and large."""

import json

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR, OTHER_LINEAR
from tests.system.service import Barrier, Job

ROWS = [LINEAR, OTHER_LINEAR]
# 24 probabilities a row: far more than the MiB up to which a result is kept in Redis.
MANY_ROWS = [[number % 7, number % 5, *[0] * 22] for number in range(6000)]


@pytest.fixture(scope="module")
def job(http: Http) -> Job:
    """A small job, done."""
    return http.done(http.submit("linear", ROWS)["id"])


@pytest.fixture(scope="module")
def large(http: Http) -> Job:
    """A job with a large result, done."""
    return http.done(http.submit("recommend", MANY_ROWS, method="predict_proba")["id"])


def test_the_result_by_itself_names_the_version_that_made_it(http: Http, job: Job) -> None:
    answer = http("GET", f"/jobs/{job['id']}/result")

    assert answer.status == 200
    assert answer.json == {
        "job_id": job["id"],
        "model": job["model"],
        "counts": job["counts"],
        "warnings": [],
        "errors": [],
        "predictions": job["result"]["predictions"],
    }


def test_parts_of_a_result_make_up_the_whole(http: Http, job: Job) -> None:
    url = f"/jobs/{job['id']}/result"
    whole = http("GET", url).body

    parts = [http("GET", url, Range=part) for part in ("bytes=0-99", "bytes=100-199", "bytes=200-")]

    assert [part.status for part in parts] == [206, 206, 206]
    assert b"".join(part.body for part in parts) == whole
    assert parts[1].headers["content-range"] == f"bytes 100-199/{len(whole)}"


def test_the_end_of_a_result_can_be_asked_for(http: Http, job: Job) -> None:
    whole = http("GET", f"/jobs/{job['id']}/result").body

    part = http("GET", f"/jobs/{job['id']}/result", Range="bytes=-10")

    assert (part.status, part.body) == (206, whole[-10:])


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("bytes=0-9,20-29", id="several-ranges"),
        pytest.param("rows=1-2", id="a-unit-that-nobody-knows"),
    ],
)
def test_a_range_that_is_not_served_gives_the_whole(http: Http, job: Job, asked: str) -> None:
    # RFC 9110, section 14.2: several ranges may be ignored, an unknown unit must be.
    whole = http("GET", f"/jobs/{job['id']}/result").body

    answer = http("GET", f"/jobs/{job['id']}/result", Range=asked)

    assert (answer.status, answer.body) == (200, whole)


def test_a_range_past_the_end_is_not_satisfiable(http: Http, job: Job) -> None:
    whole = http("GET", f"/jobs/{job['id']}/result").body

    answer = http("GET", f"/jobs/{job['id']}/result", Range="bytes=100000-")

    assert (answer.status, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_an_unchanged_result_is_not_sent_again(http: Http, job: Job) -> None:
    etag = http("GET", f"/jobs/{job['id']}/result").headers["etag"]

    answer = http("GET", f"/jobs/{job['id']}/result", If_None_Match=etag)

    assert (answer.status, answer.body) == (304, b"")


def test_another_version_than_was_wanted_is_refused_without_it(http: Http, job: Job) -> None:
    path = f"/jobs/{job['id']}/result"

    refused = http("GET", path, If_Match='"another"')
    same = http("GET", path, If_Match=http("GET", path).headers["etag"])

    assert (refused.status, refused.json["code"], same.status) == (412, "precondition_failed", 200)
    assert "predictions" not in refused.json


def test_results_of_two_jobs_have_different_etags(http: Http, job: Job) -> None:
    other = http.done(http.submit("linear", ROWS)["id"])

    etags = {http("GET", f"/jobs/{job_id}/result").headers["etag"] for job_id in (job["id"], other["id"])}

    assert len(etags) == 2


@pytest.mark.parametrize("path", ["result", "errors"])
def test_before_the_job_is_done_there_is_no_outcome(http: Http, barrier: Barrier, path: str) -> None:
    job = barrier.hold()

    answer = http("GET", f"/jobs/{job['id']}/{path}")

    assert (answer.status, answer.json["code"]) == (409, "result_not_ready")


def test_a_cancelled_job_has_no_result(http: Http, held_workers: Barrier) -> None:
    job = http.submit("linear", ROWS)
    http("POST", f"/jobs/{job['id']}/cancel")

    answer = http("GET", f"/jobs/{job['id']}/result")

    assert (answer.status, answer.json["code"]) == (409, "no_result")


def test_an_unknown_job_has_no_result(http: Http) -> None:
    answer = http("GET", "/jobs/nobody/result")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


def test_a_large_result_is_named_in_the_job_and_fetched_by_itself(http: Http, large: Job) -> None:
    result = http("GET", large["result"]["href"]).json

    assert large["result"]["rows"] == len(result["predictions"]) == len(MANY_ROWS)
    assert all(sum(row) == pytest.approx(1) for row in result["predictions"][::500])


def test_a_large_result_has_the_length_that_the_job_names(http: Http, large: Job) -> None:
    body = http("GET", large["result"]["href"]).body

    assert len(body) == large["result"]["bytes"]


def test_a_part_of_a_large_result_is_served(http: Http, large: Job) -> None:
    whole = http("GET", large["result"]["href"]).body

    part = http("GET", large["result"]["href"], Range="bytes=1000000-1000099")

    assert (part.status, part.body) == (206, whole[1_000_000:1_000_100])


def test_errors_are_a_line_for_each_failed_row(http: Http) -> None:
    texts = ["known", "unknown", "known", "strange"]
    job = http.done(http.submit("lookup", texts)["id"])

    answer = http("GET", f"/jobs/{job['id']}/errors")

    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [(line["row"], line["code"]) for line in lines] == [(2, "prediction_failed"), (4, "prediction_failed")]
    assert all(line["message"] for line in lines)


def test_a_job_without_failed_rows_has_no_lines_of_errors(http: Http, job: Job) -> None:
    answer = http("GET", f"/jobs/{job['id']}/errors")

    assert (answer.status, answer.body) == (200, b"")
