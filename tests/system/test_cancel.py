"""`POST /jobs/<id>/cancel` of a job that waits, runs, or is finished."""

from concurrent.futures import ThreadPoolExecutor

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier


def test_a_queued_job_is_cancelled_at_once(http: Http, held_workers: Barrier) -> None:
    job = http.submit("linear", [LINEAR, LINEAR])

    answer = http("POST", f"/jobs/{job['id']}/cancel")

    assert (answer.status, answer.json["status"]) == (202, "cancelled")
    assert answer.json["counts"] == {"total": 2, "pending": 0, "succeeded": 0, "failed": 0, "skipped": 2}


def test_a_cancelled_job_may_be_cancelled_again(http: Http, held_workers: Barrier) -> None:
    job = http.submit("linear", [LINEAR])
    cancelled = http("POST", f"/jobs/{job['id']}/cancel").json

    answer = http("POST", f"/jobs/{job['id']}/cancel")

    assert (answer.status, answer.json) == (200, cancelled)


def test_a_cancelled_job_is_never_predicted(http: Http, held_workers: Barrier) -> None:
    cancelled = http.submit("linear", [LINEAR])
    http("POST", f"/jobs/{cancelled['id']}/cancel")
    behind = http.submit("linear", [LINEAR])

    held_workers.open()

    assert http.done(behind["id"])["status"] == "succeeded"
    job = http("GET", f"/jobs/{cancelled['id']}").json
    assert (job["status"], job["started_at"], job["result"]) == ("cancelled", None, None)


def test_a_running_job_that_is_cancelled_never_succeeds(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    answer = http("POST", f"/jobs/{job['id']}/cancel")
    barrier.let_through(job["id"])

    assert (answer.status, answer.json["status"], answer.json["cancel_requested"]) == (202, "running", True)
    assert http.done(job["id"])["status"] == "cancelled"


def test_a_client_that_waits_learns_that_the_job_was_cancelled(http: Http, held_workers: Barrier) -> None:
    job = http.submit("linear", [LINEAR])

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(http, "GET", f"/jobs/{job['id']}", Prefer="wait=30")
        http("POST", f"/jobs/{job['id']}/cancel")
        answer = waiting.result()

    assert (answer.status, answer.json["status"]) == (200, "cancelled")


def test_a_finished_job_cannot_be_cancelled(http: Http) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])

    answer = http("POST", f"/jobs/{job['id']}/cancel")

    assert (answer.status, answer.json["code"]) == (409, "job_finished")
    assert http("GET", f"/jobs/{job['id']}").json == job


def test_an_unknown_job_cannot_be_cancelled(http: Http) -> None:
    answer = http("POST", "/jobs/nobody/cancel")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")
