"""SIGTERM of a worker: what it has in hand is finished or given back at once, and costs no attempt.

Leases are far longer than any test here, and a job has a single attempt: what goes on elsewhere was given back.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sklearn.datasets import load_diabetes

from shared.queue import BATCH, ONLINE, TRAIN
from tests.integration.conftest import Service
from tests.integration.fits import Fits, Scripted
from tests.integration.train_runner import TrainRunner, arrays_of, features_of, labelled
from tests.models import FINE, SLOW
from tests.processes import Process
from tests.system.service import Barrier, register_estimators
from tests.wait import until

DIABETES = labelled(load_diabetes(as_frame=True))
SEARCH = {"param_grid": {"alpha": [3.0, 0.01]}, "folds": 2}


@pytest.fixture
def patient(make_service: Callable[..., Service]) -> Service:
    """A service with an API, a janitor and nobody to predict; a unit may go on for a second when its worker stops."""
    service = make_service(lease_seconds=300, max_attempts=1, drain_seconds=1)
    service.start_janitor()
    service.start_api()
    return service


def end(worker: Process) -> int:
    """Stop a worker in order; its exit code."""
    worker.popen.terminate()
    return worker.popen.wait(60)


def status(service: Service, job_id: str) -> str:
    return str(service.http("GET", f"/jobs/{job_id}").json["status"])


def runs_one(service: Service, job_ids: list[str]) -> bool:
    return any(status(service, job_id) == "running" for job_id in job_ids)


def halted(worker: Process) -> Process:
    """A worker that does nothing before it is told to go on, so that it cannot take the work of another."""
    for process in (psutil.Process(worker.pid), *worker.children()):
        process.suspend()
    return worker


def go_on(worker: Process) -> None:
    for process in (psutil.Process(worker.pid), *worker.children()):
        process.resume()


def test_a_worker_that_stops_finishes_a_unit_that_ends_in_time(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = make_service(lease_seconds=300, max_attempts=1, drain_seconds=60)
    register_estimators(service.settings)
    service.start_api()
    worker = service.start_worker()
    barrier = Barrier(service.http, tmp_path)
    job_id = barrier.hold()["id"]

    worker.popen.terminate()
    barrier.let_through(job_id)

    job = service.http.done(job_id)
    assert (worker.popen.wait(60), job["status"], job["attempt"]) == (0, "succeeded", 1)
    assert "unit.given_back" not in worker.text()


def test_a_worker_that_stops_gives_a_long_micro_batch_back_uncounted(patient: Service) -> None:
    other = halted(patient.start_worker())
    worker = patient.start_worker()
    job_ids = [patient.http.submit("moody", [[SLOW + 12 + number / 1000]])["id"] for number in range(3)]
    until(lambda: runs_one(patient, job_ids), 20, "the micro-batch runs")
    go_on(other)

    exit_code = end(worker)
    text = worker.text()

    jobs = patient.finished(job_ids)
    assert [(job["status"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 3
    assert exit_code == 0
    assert "unit.given_back" in text
    assert '"level":"error"' not in text


def test_a_worker_that_stops_pulls_nothing_more(make_service: Callable[..., Service]) -> None:
    service = make_service(lease_seconds=300, max_attempts=1, drain_seconds=30, micro_batch_jobs=1)
    service.start_janitor()
    service.start_api()
    worker = service.start_worker()
    job_ids = [service.http.submit("moody", [[SLOW + 0.7 + number / 1000]])["id"] for number in range(60)]
    until(lambda: runs_one(service, job_ids[-40:]), 60, "some are done")

    end(worker)
    waiting = [job_id for job_id in job_ids if status(service, job_id) == "queued"]
    service.start_worker()

    assert waiting, "it went on for as long as there was work"
    assert {job["status"] for job in service.finished(job_ids, 120)} == {"succeeded"}


def test_a_worker_that_lingers_leaves_at_once_and_is_woken_no_more(make_service: Callable[..., Service]) -> None:
    service = make_service(drain_seconds=3600, linger_seconds=60)
    service.start_api()
    worker = service.start_worker()
    service.http.done(service.http.submit("moody", [[FINE]])["id"])
    base = f"{{{service.settings.redis_prefix}}}:"
    until(lambda: service.redis.client.zcard(f"{base}linger:{ONLINE}") > 0, what="a process lingers")

    exit_code = end(worker)

    assert exit_code == 0
    assert service.redis.client.keys(f"{base}linger:*") + service.redis.client.keys(f"{base}wake:*") == []


def test_a_worker_that_stops_gives_the_chunk_of_a_file_back_uncounted(patient: Service) -> None:
    worker = patient.start_worker(BATCH)
    rows = "\n".join(["id,x", *(f"{number},{SLOW + 12}" for number in range(3))]).encode()
    job_id = patient.http("POST", "/jobs?model=moody&key=id", raw=rows, Content_Type="text/csv").json["id"]
    until(lambda: patient.http("GET", f"/jobs/{job_id}").json["phase"] == "scoring", 20, "its chunk is scored")

    exit_code = end(worker)
    patient.start_worker(BATCH)

    job = patient.http.done(job_id)
    assert (exit_code, job["status"], job["counts"]["succeeded"]) == (0, "succeeded", 3)


@pytest.fixture
def trainings(patient: Service) -> tuple[TrainRunner, Fits, Callable[..., str]]:
    """A model whose fits can be held up, and how a training of it is submitted."""
    runner = TrainRunner(patient.settings, workers=0)
    fits = Fits(Path(patient.settings.data_dir) / "fits")
    model = Scripted(alpha=5.0, folder=str(fits.folder)).fit(*arrays_of(DIABETES))
    runner.register("ridge", model, features_of(DIABETES), format="joblib")
    fits.forget()

    def submit(**more: Any) -> str:
        return runner.submit("ridge", DIABETES, target="target", **more)

    return runner, fits, submit


@pytest.mark.parametrize("held", [0.01, "final"], ids=["a fit of the search", "the last fit"])
def test_a_fit_that_a_stop_ends_does_not_count_as_an_attempt(
    patient: Service, trainings: tuple[TrainRunner, Fits, Callable[..., str]], held: float | str
) -> None:
    runner, fits, submit = trainings
    fits.hold(held)
    worker = patient.start_worker(TRAIN)
    job_id = submit(recipe=SEARCH)

    def is_held() -> bool:
        begun = [alpha for _, alpha, _ in fits.lines("begun")]
        return 0.01 in begun if held == 0.01 else len(begun) > 4

    until(is_held, 60, "the fit has begun")
    for _ in range(2):  # more often than there are attempts
        before = len(fits.lines("begun"))
        assert end(worker) == 0
        worker = patient.start_worker(TRAIN)
        until(lambda: len(fits.lines("begun")) > before, 60, "it is tried again")  # noqa: B023
    fits.let_go()

    until(lambda: runner.read(job_id).done, 60, "the job is done")
    job = runner.read(job_id)
    assert (job.status, job.failure) == ("succeeded", None)


def test_a_worker_whose_redis_is_away_ends_by_itself_and_its_lease_gives_back_what_it_held(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(lease_seconds=2, drain_seconds=1)
    service.start_api()
    worker = service.start_worker()
    job_ids = [service.http.submit("moody", [[SLOW + 5]])["id"]]
    until(lambda: runs_one(service, job_ids), 20, "the micro-batch runs")
    children = worker.children()
    service.redis.kill()

    exit_code = end(worker)

    assert exit_code == 0
    psutil.wait_procs(children, timeout=10)
    assert [child for child in children if child.is_running()] == []
    service.restart_redis()
    service.start_janitor()
    service.start_worker()
    (job,) = service.finished(job_ids)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
