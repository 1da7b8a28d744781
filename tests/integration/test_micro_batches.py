"""What one job of a micro-batch does to its neighbours: nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import quick_settings
from tests.integration.conftest import Service
from tests.kept import short_folder
from tests.models import EXIT, FINE, INFINITE, MEMORY, RAISE, SHORT, SLOW, register_moody
from tests.wait import until


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service with all its processes, one of each, that the tests share."""
    with short_folder() as folder:
        service = Service(quick_settings(folder))
        try:
            service.start_worker()
            service.start_janitor()
            service.start_api()
            yield service
        finally:
            service.stop()


def test_a_bad_row_fails_alone_among_its_neighbours(service: Service) -> None:
    service.http.submit("moody", [[SLOW + 1]])
    service.http.submit("moody", [[SLOW + 1]])
    before = [service.http.submit("moody", [[value]])["id"] for value in (1.0, 2.0, 3.0)]
    bad = service.http.submit("moody", [[4.0], [RAISE], [5.0]])["id"]
    after = [service.http.submit("moody", [[value]])["id"] for value in (6.0, 10.0)]

    neighbours = service.finished(before + after)
    job = service.http.done(bad)

    assert [neighbour["result"]["predictions"] for neighbour in neighbours] == [[2.0], [4.0], [6.0], [12.0], [20.0]]
    assert job["status"] == "partially_succeeded"
    assert job["result"]["predictions"] == [8.0, None, 10.0]
    assert job["counts"] == {"total": 3, "pending": 0, "succeeded": 2, "failed": 1, "skipped": 0}
    assert job["errors"] == [
        {
            "row": 2,
            "column": "x",
            "code": "prediction_failed",
            "message": "The model refused the row: thirteen is unlucky",
        }
    ]


@pytest.mark.parametrize(
    ("value", "code"),
    [(RAISE, "prediction_failed"), (MEMORY, "out_of_memory"), (SHORT, "bad_model_output"), (EXIT, "prediction_failed")],
    ids=["raises", "runs out of memory", "gives the wrong shape", "exits"],
)
def test_a_model_that_fails_is_a_failed_job(service: Service, value: float, code: str) -> None:
    job = service.http("POST", "/jobs", {"model": "moody", "instances": [[value]]}, Prefer="wait=20").json
    good = service.http("POST", "/jobs", {"model": "moody", "instances": [[FINE]]}, Prefer="wait=20").json

    assert (job["status"], job["failure"]["code"], job["result"]) == ("failed", code, None)
    assert job["counts"]["failed"] == 1
    assert good["result"]["predictions"] == [2.0]


def test_an_infinite_prediction_is_null_with_a_warning(service: Service) -> None:
    job = service.http("POST", "/jobs", {"model": "moody", "instances": [[FINE], [INFINITE]]}, Prefer="wait=20").json

    assert (job["status"], job["result"]["predictions"]) == ("succeeded", [2.0, None])
    assert "not finite" in job["warnings"][0]


def test_a_running_job_is_cancelled_and_never_succeeds(service: Service) -> None:
    job_id = service.http.submit("moody", [[SLOW + 2]])["id"]
    until(lambda: service.http("GET", f"/jobs/{job_id}").json["status"] == "running", 20, "the job runs")

    answer = service.http("POST", f"/jobs/{job_id}/cancel")
    job = service.http.done(job_id)

    assert (answer.status, answer.json["cancel_requested"]) == (202, True)
    assert (job["status"], job["result"], job["counts"]["skipped"]) == ("cancelled", None, 1)


def test_a_lane_never_keeps_a_worker_from_another_lane(make_service: Any) -> None:
    service = make_service(workers=1, micro_batch_jobs=1)
    service.start_worker()
    service.start_janitor()
    service.start_api()
    busy = [service.http.submit("moody", [[SLOW + 0.3]])["id"] for _ in range(20)]
    register_moody(service.settings, "quiet")

    quiet = service.http("POST", "/jobs", {"model": "quiet", "instances": [[FINE]]}, Prefer="wait=20").json

    assert quiet["status"] == "succeeded"
    assert sum(not service.http("GET", f"/jobs/{job_id}").json["done"] for job_id in busy) > 5


def test_a_full_lane_is_429_with_retry_after(make_service: Any) -> None:
    service = make_service(max_waiting_jobs=3)
    service.start_api()
    for _ in range(3):
        service.http.submit("moody", [[FINE]])

    answer = service.http("POST", "/jobs", {"model": "moody", "instances": [[FINE]]})

    assert (answer.status, answer.json["code"]) == (429, "queue_full")
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def test_a_result_too_large_for_redis_is_read_like_any_other(make_service: Any) -> None:
    service = make_service(inline_result_bytes=1000, result_ttl_seconds=600)
    service.start_worker()
    service.start_janitor()
    service.start_api()
    rows = [[float(number + 2000)] for number in range(1000)]

    job = service.http("POST", "/jobs", {"model": "moody", "instances": rows}, Prefer="wait=20").json
    result = service.http("GET", job["result"]["href"])
    part = service.http("GET", job["result"]["href"], Range="bytes=0-9")
    stored = service.settings.data_dir / "storage" / "jobs" / job["id"]

    assert result.json["predictions"] == [row[0] * 2 for row in rows]
    assert (part.status, part.body) == (206, result.body[:10])
    assert stored.exists()
    assert service.http("DELETE", f"/jobs/{job['id']}").status == 204
    assert not (stored / "result.json").exists()


def test_a_worker_that_is_asked_to_stop_finishes_what_it_has(service: Service) -> None:
    values = [SLOW + 0.5 + number / 1000 for number in range(5)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]
    until(lambda: service.http("GET", f"/jobs/{job_ids[0]}").json["status"] == "running", 20, "the micro-batch runs")

    code = service.processes[0].stop()
    service.start_worker()

    jobs = service.finished(job_ids)
    assert code == 0
    assert [job["result"]["predictions"] for job in jobs] == [[value * 2] for value in values]
    assert jobs[0]["attempt"] == 1
