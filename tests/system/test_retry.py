"""`POST /jobs/<id>/retry`: all rows or the failed ones, with the row numbers of the first job."""

from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import HOME, REFUSED_HOME
from tests.system.service import Barrier, Job


@pytest.fixture
def partial(http: Http) -> Job:
    """A job of five rows of which the second and the fourth failed."""
    job = http.done(
        http.submit("home", [HOME, REFUSED_HOME, HOME, REFUSED_HOME, HOME], metadata={"ticket": "42"})["id"]
    )
    assert job["status"] == "partially_succeeded"
    return job


def retried(http: Http, job: Job, body: dict[str, Any] | None = None) -> Job:
    """The new job, done."""
    answer = http("POST", f"/jobs/{job['id']}/retry", body)
    assert answer.status == 202, answer.body
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"
    return http.done(answer.json["id"])


def rows_of(job: Job) -> list[int]:
    return [error["row"] for error in job["errors"]]


def test_a_retry_of_all_rows_gives_the_same_again(http: Http, partial: Job) -> None:
    again = retried(http, partial, {"only": "all"})

    assert again["id"] != partial["id"]
    assert again["retry_of"] == partial["id"]
    assert [again[name] for name in ("status", "counts", "result", "errors", "model", "metadata")] == [
        partial[name] for name in ("status", "counts", "result", "errors", "model", "metadata")
    ]


@pytest.mark.parametrize("body", [{"only": "failed"}, {}, None], ids=["failed", "empty-object", "no-body"])
def test_a_retry_runs_the_failed_rows_under_their_first_numbers(
    http: Http, partial: Job, body: dict[str, Any] | None
) -> None:
    again = retried(http, partial, body)

    assert (again["retry_of"], again["counts"]["total"]) == (partial["id"], 2)
    assert rows_of(again) == rows_of(partial) == [2, 4]


def test_a_retry_of_a_retry_keeps_the_first_numbers(http: Http, partial: Job) -> None:
    again = retried(http, retried(http, partial))

    assert rows_of(again) == [2, 4]


def test_the_rows_of_a_cancelled_job_are_run_by_a_retry(http: Http, held_workers: Barrier) -> None:
    job = http.submit("home", [HOME, HOME])
    cancelled = http("POST", f"/jobs/{job['id']}/cancel").json
    held_workers.open()

    again = retried(http, cancelled)

    assert (again["status"], again["counts"]["succeeded"]) == ("succeeded", 2)


def test_a_retry_may_be_waited_for(http: Http, partial: Job) -> None:
    answer = http("POST", f"/jobs/{partial['id']}/retry", {"only": "all"}, Prefer="wait=30")

    assert (answer.status, answer.json["status"]) == (200, "partially_succeeded")


def test_a_job_without_failed_rows_has_nothing_to_retry(http: Http) -> None:
    job = http.done(http.submit("home", [HOME])["id"])

    answer = http("POST", f"/jobs/{job['id']}/retry", {"only": "failed"})

    assert (answer.status, answer.json["code"]) == (409, "nothing_to_retry")


def test_an_unfinished_job_cannot_be_retried(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    answer = http("POST", f"/jobs/{job['id']}/retry", {"only": "all"})

    assert (answer.status, answer.json["code"]) == (409, "job_not_finished")


def test_only_known_rows_can_be_retried(http: Http, partial: Job) -> None:
    answer = http("POST", f"/jobs/{partial['id']}/retry", {"only": "some"})

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/only")
