"""Getting a job's outcome: in the same answer, by polling, by a long poll."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR, OTHER_LINEAR
from tests.system.service import Barrier
from tests.wait import until

BODY = {"model": "linear", "instances": [LINEAR, OTHER_LINEAR]}


@pytest.mark.parametrize("prefer", ["wait=30", "respond-async, wait=30", 'wait="30"', "Wait = 30"])
def test_a_client_that_waits_gets_the_result_inline(http: Http, prefer: str) -> None:
    answer = http("POST", "/jobs", BODY, Prefer=prefer)

    assert answer.status == 200
    assert (answer.json["status"], len(answer.json["result"]["predictions"])) == ("succeeded", 2)
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"


def test_a_client_that_does_not_wait_is_told_where_and_when_to_look(http: Http) -> None:
    answer = http("POST", "/jobs", BODY)

    assert (answer.status, answer.json["status"], answer.json["result"]) == (202, "queued", None)
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "preference-applied" not in answer.headers


def test_polling_the_location_ends_at_the_result(http: Http) -> None:
    location = http("POST", "/jobs", BODY).headers["location"]

    job = until(lambda: job if (job := http("GET", location).json)["done"] else None, 60, "the job is done")

    assert job is not None
    assert (job["status"], len(job["result"]["predictions"])) == ("succeeded", 2)
    assert job["counts"] == {"total": 2, "pending": 0, "succeeded": 2, "failed": 0, "skipped": 0}
    assert "retry-after" not in http("GET", location).headers


def test_past_the_wait_the_answer_is_the_job_as_it_is(http: Http, held_workers: Barrier) -> None:
    answer = http("POST", "/jobs", BODY, Prefer="wait=1")

    assert (answer.status, answer.json["done"]) == (202, False)
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "preference-applied" not in answer.headers


def test_an_unchanged_job_is_not_sent_again(http: Http) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])
    etag = http("GET", f"/jobs/{job['id']}").headers["etag"]

    answer = http("GET", f"/jobs/{job['id']}", If_None_Match=etag)

    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(lambda etag: f"W/{etag}", id="weak"),
        pytest.param(lambda etag: f'"0", {etag}', id="one-of-several"),
        pytest.param(lambda etag: "*", id="any"),
    ],
)
def test_if_none_match_is_understood_in_every_form(http: Http, known: Callable[[str], str]) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])
    etag = http("GET", f"/jobs/{job['id']}").headers["etag"]

    answer = http("GET", f"/jobs/{job['id']}", If_None_Match=known(etag))

    assert answer.status == 304


def test_a_changed_job_is_sent_with_another_etag(http: Http) -> None:
    accepted = http("POST", "/jobs", BODY)
    http.done(accepted.json["id"])

    answer = http("GET", accepted.headers["location"], If_None_Match=accepted.headers["etag"])

    assert (answer.status, answer.json["done"]) == (200, True)
    assert answer.headers["etag"] != accepted.headers["etag"]


def test_a_long_poll_ends_without_a_body_when_nothing_changes(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    answer = http("GET", f"/jobs/{job['id']}", Prefer="wait=1", If_None_Match=f'"{job["revision"]}"')

    assert (answer.status, answer.body) == (304, b"")


def test_a_long_poll_ends_with_the_next_change(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(http, "GET", f"/jobs/{job['id']}", Prefer="wait=30", If_None_Match=f'"{job["revision"]}"')
        http("POST", f"/jobs/{job['id']}/cancel")
        answer = poll.result()

    assert (answer.status, answer.json["status"]) == (200, "running")
    assert answer.json["cancel_requested"]
    assert answer.json["revision"] > job["revision"]


def test_a_wait_without_an_etag_ends_when_the_job_is_done(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(http, "GET", f"/jobs/{job['id']}", Prefer="wait=30")
        barrier.let_through(job["id"])
        answer = poll.result()

    assert (answer.status, answer.json["status"]) == (200, "succeeded")


def test_an_unknown_job_is_not_found(http: Http) -> None:
    answer = http("GET", "/jobs/01a202dc-b4c8-7072-abbb-000000000000", Prefer="wait=30")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")
