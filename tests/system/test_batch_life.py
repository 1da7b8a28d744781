"""The life of a job over a file, over HTTP: submitted, watched, ended, repeated, removed; and as documented."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import HeldFile, Job, Service, files_below, scored_file, send_file
from tests.system.test_events import opened
from tests.system.test_openapi import faults
from tests.wait import until

# The second and the fourth row fail.
FILE = b"id,x1,x2,x3\na,0.06,0.02,0.04\nb,?,0.02,0.04\nc,0.06,0.02,0.04\nd,0.06,0.02\ne,0.06,0.02,0.04\n"
GOOD_FILE = b"id,x1,x2,x3\na,0.06,0.02,0.04\n"
# The files of a job when it is done.
KEPT = {"input", "result.csv", "errors.jsonl", "manifest.json"}


@pytest.fixture(scope="module")
def partial(http: Http) -> Job:
    """A job of five rows of which two failed."""
    return scored_file(http, FILE, model="linear", key="id")


@pytest.fixture
def held_file(http: Http, folder: Path) -> Iterator[HeldFile]:
    file = HeldFile(http, folder)
    yield file
    file.end()


def errors_of(job: Job) -> list[int]:
    """The numbers of its failed rows."""
    return [error["row"] for error in job["errors"]]


def keys_of(http: Http, job: Job) -> list[str]:
    """The keys in its result."""
    _, *lines = http("GET", f"/jobs/{job['id']}/result").body.decode().splitlines()
    return [line.partition(",")[0] for line in lines]


def retried(http: Http, job: Job, only: str) -> Job:
    """The new job, done."""
    answer = http("POST", f"/jobs/{job['id']}/retry", {"only": only})
    assert answer.status == 202, answer.body
    return http.done(answer.json["id"])


def test_a_client_that_waits_gets_the_outcome_of_a_small_file(http: Http) -> None:
    answer = send_file(http, FILE, headers={"Prefer": "wait=30"}, model="linear", key="id")

    assert answer.status == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json["status"] == "partially_succeeded"
    assert answer.json["counts"] == {"total": 5, "pending": 0, "succeeded": 3, "failed": 2, "skipped": 0}
    assert answer.json["result"]["href"] == f"/jobs/{answer.json['id']}/result"


def test_rows_are_numbered_and_named_in_the_job_itself(partial: Job) -> None:
    assert [(error["row"], error["column"], error["code"]) for error in partial["errors"]] == [
        (2, "x1", "not_a_number"),
        (4, None, "wrong_number_of_fields"),
    ]


def test_jobs_are_listed_by_their_kind(http: Http, partial: Job) -> None:
    rows = http.submit("linear", [LINEAR])["id"]

    listed = {kind: http("GET", f"/jobs?kind={kind}&limit=200").json["jobs"] for kind in ("batch", "predict")}

    assert {job["kind"] for job in listed["batch"]} == {"batch"}
    assert {job["kind"] for job in listed["predict"]} == {"predict"}
    assert partial["id"] in [job["id"] for job in listed["batch"]]
    assert rows in [job["id"] for job in listed["predict"]]


def test_the_event_stream_shows_the_progress_and_ends_with_the_job(http: Http, held_file: HeldFile) -> None:
    job = held_file.submit()

    with opened(http, job["id"]) as stream:
        seen = []
        while (event := stream.event()) is not None:
            seen.append(event.data)
            if event.data["progress"]["fraction"] == HeldFile.AT_ONCE / HeldFile.ROWS:
                held_file.let_through()

    fractions = [data["progress"]["fraction"] for data in seen]
    assert fractions == sorted(fractions)
    assert 0.5 in fractions
    assert (seen[-1]["status"], fractions[-1]) == ("succeeded", 1.0)
    assert "scoring" in [data["phase"] for data in seen]
    assert seen[-1] == http("GET", f"/jobs/{job['id']}").json


def test_a_job_that_runs_says_how_far_it_is_and_when_to_look_again(http: Http, held_file: HeldFile) -> None:
    job = held_file.half_done()

    answer = http("GET", f"/jobs/{job['id']}")

    progress = answer.json["progress"]
    assert (answer.json["status"], answer.json["phase"], progress["fraction"]) == ("running", "scoring", 0.5)
    assert progress["rows_per_second"] > 0
    assert progress["eta_seconds"] >= 0
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "cancel" in answer.json["links"]


def test_every_option_is_told_by_the_job(http: Http) -> None:
    data = "nr;x1;x2;x3;größe\n'a';0.5;1;1;2\n".encode("latin-1")
    said = {
        "key": "nr", "include": "größe", "output_format": "ndjson", "output_compression": "zstd",
        "max_failed_rows": 5, "max_failed_fraction": 0.5, "keep_failed_rows": "true",
        "delimiter": ";", "quote": "'", "header": "true", "encoding": "latin-1",
    }  # fmt: skip

    job = scored_file(http, data, model="linear", priority="low", result_ttl_seconds=600, **said)

    assert job["status"] == "succeeded", job["failure"]
    expected: dict[str, Any] = said | {"include": ["größe"], "keep_failed_rows": True, "header": True, "only": None}
    assert job["options"] == expected
    assert (job["priority"], job["input"]["format"], job["input"]["bytes"]) == ("low", "csv", len(data))
    assert job["result"]["name"] == "result.ndjson.zst"


@pytest.mark.parametrize(
    ("only", "rows", "keys"),
    [pytest.param("failed", [2, 4], [], id="failed"), pytest.param("all", [2, 4], ["a", "c", "e"], id="all")],
)
def test_a_retry_is_a_new_job_with_the_same_row_numbers(
    http: Http, partial: Job, only: str, rows: list[int], keys: list[str]
) -> None:
    again = retried(http, partial, only)

    assert (again["retry_of"], again["options"]["only"]) == (partial["id"], None if only == "all" else only)
    assert errors_of(again) == rows
    assert keys_of(http, again) == keys
    assert again["counts"]["total"] == len(rows) + len(keys)


def test_a_retry_of_what_was_not_reached_completes_a_cancelled_job(http: Http, held_file: HeldFile) -> None:
    job = held_file.half_done()
    http("POST", f"/jobs/{job['id']}/cancel")
    cancelled = http.done(job["id"])
    held_file.let_through()

    again = retried(http, cancelled, "skipped")

    assert cancelled["counts"]["skipped"] == HeldFile.ROWS - HeldFile.AT_ONCE
    assert (again["status"], again["counts"]["succeeded"]) == ("succeeded", HeldFile.ROWS - HeldFile.AT_ONCE)


@pytest.mark.parametrize("only", ["failed", "skipped"])
def test_where_there_is_nothing_to_retry_it_is_said(http: Http, only: str) -> None:
    job = scored_file(http, GOOD_FILE, model="linear")

    answer = http("POST", f"/jobs/{job['id']}/retry", {"only": only})

    assert (answer.status, answer.json["code"]) == (409, "nothing_to_retry")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("DELETE", "", "job_not_finished"),
        ("POST", "/retry", "job_not_finished"),
        ("GET", "/result", "result_not_ready"),
    ],
)
def test_some_things_must_wait_until_a_job_is_done(
    http: Http, held_file: HeldFile, method: str, path: str, code: str
) -> None:
    job = held_file.submit()

    answer = http(method, f"/jobs/{job['id']}{path}")

    assert (answer.status, answer.json["code"]) == (409, code)


def test_a_finished_job_cannot_be_cancelled(http: Http, partial: Job) -> None:
    answer = http("POST", f"/jobs/{partial['id']}/cancel")

    assert (answer.status, answer.json["code"]) == (409, "job_finished")


def test_a_cancelled_job_never_becomes_another(http: Http, held_file: HeldFile) -> None:
    job = held_file.half_done()

    http("POST", f"/jobs/{job['id']}/cancel")
    held_file.let_through()
    done = http.done(job["id"])
    again = http("POST", f"/jobs/{job['id']}/cancel")

    assert done["status"] == "cancelled"
    assert (again.status, again.json["status"]) == (200, "cancelled")


def test_a_job_that_is_removed_takes_its_files_with_it(http: Http, service: Service) -> None:
    job = scored_file(http, FILE, model="linear")
    folder = f"jobs/{job['id']}"
    until(lambda: files_below(service, folder) == KEPT, what="its input and outputs are left")

    answer = http("DELETE", f"/jobs/{job['id']}")

    assert answer.status == 204
    assert files_below(service, folder) == set()
    for path in ("", "/result", "/errors", "/manifest", "/events"):
        assert http("GET", f"/jobs/{job['id']}{path}").status == 410
    assert http("POST", f"/jobs/{job['id']}/retry").status == 410


def test_a_job_whose_time_is_over_is_gone_with_its_files(http: Http, service: Service) -> None:
    job = scored_file(http, FILE, model="linear", result_ttl_seconds=1)

    until(lambda: http("GET", f"/jobs/{job['id']}").status == 410, what="the job is gone")
    until(lambda: not files_below(service, f"jobs/{job['id']}"), what="its files are gone")

    assert http("GET", f"/jobs/{job['id']}/result").status == 410


def test_a_cancelled_job_leaves_no_parts(http: Http, service: Service, held_file: HeldFile) -> None:
    job = held_file.half_done()
    during = files_below(service, f"jobs/{job['id']}")

    http("POST", f"/jobs/{job['id']}/cancel")
    http.done(job["id"])

    assert any(name.startswith("parts/") for name in during)
    until(lambda: files_below(service, f"jobs/{job['id']}") == KEPT, what="the parts are gone")


@pytest.fixture(scope="module")
def schema(http: Http) -> dict[str, Any]:
    document: dict[str, Any] = http("GET", "/openapi.json").json
    return document


def succeeded(http: Http, held: HeldFile) -> Job:
    return scored_file(http, GOOD_FILE, model="linear", key="id", include="all")


def partially_succeeded(http: Http, held: HeldFile) -> Job:
    return scored_file(http, FILE, model="linear")


def failed(http: Http, held: HeldFile) -> Job:
    return scored_file(http, FILE, model="linear", max_failed_rows=0)


def invalid(http: Http, held: HeldFile) -> Job:
    """The API does not look into compressed files."""
    return scored_file(http, b"\x1f\x8bnonsense that is no gzip", model="linear")


def running(http: Http, held: HeldFile) -> Job:
    return held.half_done()


def queued(http: Http, held: HeldFile) -> Job:
    return held.submit()


def cancelled(http: Http, held: HeldFile) -> Job:
    job = held.half_done()
    http("POST", f"/jobs/{job['id']}/cancel")
    return http.done(job["id"])


def retry(http: Http, held: HeldFile) -> Job:
    return retried(http, scored_file(http, FILE, model="linear"), "failed")


@pytest.mark.parametrize(
    "made",
    [queued, running, succeeded, partially_succeeded, failed, invalid, cancelled, retry],
    ids=lambda made: made.__name__,
)
def test_a_job_over_a_file_is_as_the_document_says(
    http: Http, schema: dict[str, Any], held_file: HeldFile, made: Callable[[Http, HeldFile], Job]
) -> None:
    job = made(http, held_file)

    answers = schema["paths"]["/jobs/{job_id}"]["get"]["responses"]
    assert faults(job, answers["200"]["content"]["application/json"]["schema"], schema) == []


def test_files_and_checks_are_as_the_document_says(http: Http, schema: dict[str, Any]) -> None:
    file = http("POST", "/files", raw=FILE, Content_Type="text/csv")
    check = send_file(http, FILE, model="linear", validate_only="true")

    paths = schema["paths"]
    kept = paths["/files"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    checked = paths["/jobs"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert faults(file.json, kept, schema) == []
    assert faults(check.json, checked, schema) == []


@pytest.mark.parametrize("what", ["result", "errors", "manifest"])
def test_a_download_is_of_a_documented_type(http: Http, schema: dict[str, Any], partial: Job, what: str) -> None:
    whole = http("GET", f"/jobs/{partial['id']}/{what}")
    part = http("GET", f"/jobs/{partial['id']}/{what}", Range="bytes=0-4")

    described = schema["paths"][f"/jobs/{{job_id}}/{what}"]["get"]["responses"]
    assert whole.headers["content-type"].partition(";")[0] in described["200"]["content"]
    assert part.headers["content-type"] == whole.headers["content-type"]
    assert str(part.status) in described
