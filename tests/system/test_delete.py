"""`DELETE /jobs/<id>`: the job is gone, and stays gone."""

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Job


@pytest.fixture
def deleted(http: Http) -> Job:
    job = http.done(http.submit("linear", [LINEAR])["id"])
    answer = http("DELETE", f"/jobs/{job['id']}")
    assert (answer.status, answer.body) == (204, b"")
    return job


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/errors"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ],
)
def test_everything_of_a_deleted_job_is_gone(http: Http, deleted: Job, method: str, path: str) -> None:
    answer = http(method, f"/jobs/{deleted['id']}{path}")

    assert (answer.status, answer.json["code"]) == (410, "job_gone")


def test_a_deleted_job_is_not_listed(http: Http, deleted: Job) -> None:
    listed = http("GET", f"/jobs?created_after={deleted['created_at']}").json["jobs"]

    assert deleted["id"] not in [job["id"] for job in listed]


def test_a_running_job_cannot_be_deleted(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    answer = http("DELETE", f"/jobs/{job['id']}")

    assert (answer.status, answer.json["code"]) == (409, "job_not_finished")
    assert http("GET", f"/jobs/{job['id']}").json["status"] == "running"


def test_an_unknown_job_cannot_be_deleted(http: Http) -> None:
    answer = http("DELETE", "/jobs/nobody")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")
