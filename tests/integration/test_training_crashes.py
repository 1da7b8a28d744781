"""Whatever is killed while a model is trained, there is one version, one move, and the same outcome."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_diabetes

from shared.errors import JobFinished
from shared.job import Job, Status
from shared.queue import TRAIN
from shared.registry import PRODUCTION
from shared.settings import Settings
from shared.storage import output_key
from tests.integration.conftest import Service
from tests.integration.fits import ALL_ROWS, RAISES, Fits, Scripted
from tests.integration.train_runner import TrainRunner, arrays_of, features_of, labelled
from tests.processes import free_port
from tests.rabbitmq import chosen_broker
from tests.wait import until

DIABETES = labelled(load_diabetes(as_frame=True))
FOLDS = 2
SEARCH: dict[str, Any] = {"param_grid": {"alpha": [3.0, 0.01, 0.5]}, "folds": FOLDS}
WINNER = 0.01


class TrainService:
    """A service for trainings alone, with all its processes, which gets well after any of them was killed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.runner = TrainRunner(service.settings, workers=0)
        service.start_janitor()
        self.worker = service.start_worker(TRAIN)

    def kill_worker(self) -> None:
        """Kill the worker with all its processes, and start another."""
        self.worker.kill()
        self.worker = self.service.start_worker(TRAIN)


class Trainings:
    """A model of such a service whose fits do as a test says."""

    def __init__(self, trainer: TrainService, name: str) -> None:
        self.trainer = trainer
        self.runner = trainer.runner
        self.name = name
        self.fits = Fits(Path(trainer.service.settings.data_dir) / name)
        model = Scripted(alpha=5.0, folder=str(self.fits.folder)).fit(*arrays_of(DIABETES))
        self.runner.register(name, model, features_of(DIABETES), format="joblib")
        self.fits.forget()

    def submit(self, **request: Any) -> str:
        """A training; the janitor rings for it."""
        return self.runner.submit(self.name, DIABETES, **({"target": "target", "recipe": SEARCH} | request))

    def done(self, job_id: str, seconds: float = 90) -> Job:
        """The job once it is done."""
        until(lambda: self.runner.read(job_id).done, seconds, "the job is done")
        return self.runner.read(job_id)

    def run(self, **request: Any) -> Job:
        """Submit a training and wait for it."""
        return self.done(self.submit(**request))

    def until_begun(self, alpha: float, count: int = 1) -> None:
        """Wait until fits of this alpha have begun."""
        until(lambda: sum(line[1] == alpha for line in self.fits.lines("begun")) >= count, what="the fit has begun")

    def until_final(self) -> None:
        """Wait until the best candidate is fitted on all rows."""
        until(lambda: [line for line in self.fits.lines("begun") if is_final(line)], what="the last fit has begun")

    def versions(self) -> list[int]:
        """All versions there are."""
        return sorted(manifest.version for manifest in self.runner.registry.model(self.name).versions)

    def moves(self) -> list[tuple[int | None, int]]:
        """All moves of production, the newest first."""
        return [(move["from"], move["to"]) for move in self.runner.registry.history(self.name, PRODUCTION)]


def is_final(line: tuple[int, float, str]) -> bool:
    """Whether a fit was on all rows that are not held out, rather than on those of a fold."""
    return int(line[2].split(":")[0]) >= ALL_ROWS


@contextlib.contextmanager
def train_service(**values: Any) -> Iterator[TrainService]:
    """A service for trainings with a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    quick = {"lease_seconds": 2, "janitor_seconds": 0.5, "workers": 2, "log_format": "json"}
    place = {"port": free_port(), "data_dir": folder / "var"}
    service = Service(Settings.model_validate(quick | place | chosen_broker() | values))
    try:
        yield TrainService(service)
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def trainer() -> Iterator[TrainService]:
    with train_service(max_attempts=2) as trainer:
        yield trainer


@pytest.fixture
def trainings(trainer: TrainService) -> Iterator[Trainings]:
    trainings = Trainings(trainer, f"model-{len(trainer.runner.registry.names())}")
    yield trainings
    trainings.fits.let_go()


def obstruct(trainings: Trainings, job_id: str) -> Path:
    """Keep a job whose version is registered from ending: its manifest cannot be written where a folder is."""
    settings = trainings.trainer.service.settings
    path = Path(settings.data_dir) / "storage" / output_key(job_id, "manifest.json")
    path.mkdir(parents=True)
    (path / "something").touch()
    return path


def clear(path: Path) -> None:
    (path / "something").unlink()
    path.rmdir()


def kill_while_it_plans(trainings: Trainings) -> str:
    trainings.fits.kill("load", once=True)
    trainings.trainer.kill_worker()  # the other has it loaded
    return trainings.submit()


def kill_while_it_searches(trainings: Trainings) -> str:
    trainings.fits.hold(0.5)
    job_id = trainings.submit()
    trainings.until_begun(0.5)
    trainings.trainer.kill_worker()
    trainings.fits.let_go()
    return job_id


def kill_one_process_while_it_searches(trainings: Trainings) -> str:
    trainings.fits.kill(0.5, once=True)
    return trainings.submit()


def kill_in_the_last_fit(trainings: Trainings) -> str:
    trainings.fits.hold("final")
    job_id = trainings.submit()
    trainings.until_final()
    trainings.trainer.kill_worker()
    trainings.fits.let_go()
    return job_id


def kill_once_it_is_registered(trainings: Trainings) -> str:
    job_id = trainings.submit()
    path = obstruct(trainings, job_id)
    until(lambda: trainings.runner.read(job_id).phase == "registering", 60, "the version is registered")
    trainings.trainer.kill_worker()
    clear(path)
    return job_id


@pytest.mark.parametrize(
    "disturbed",
    [
        pytest.param(kill_while_it_plans, id="while-it-plans"),
        pytest.param(kill_while_it_searches, id="while-it-searches"),
        pytest.param(kill_one_process_while_it_searches, id="one-process-while-it-searches"),
        pytest.param(kill_in_the_last_fit, id="in-the-last-fit"),
        pytest.param(kill_once_it_is_registered, id="once-it-is-registered"),
    ],
)
def test_a_kill_changes_nothing_in_the_outcome(trainings: Trainings, disturbed: Callable[[Trainings], str]) -> None:
    usual = trainings.run(promote="never")
    trainings.fits.forget()

    job = trainings.done(disturbed(trainings))

    assert not list(trainings.fits.folder.glob("once-*")), "nothing was killed"
    assert job.status == Status.SUCCEEDED, job.failure
    assert trainings.versions() == [1, 2, 3]
    assert trainings.moves() == [(1, 3), (None, 1)]
    expected, found = trainings.runner.version(usual), trainings.runner.version(job)
    assert (found.version, found.source_job) == (3, job.id)
    assert (found.metrics, found.comparison) == (expected.metrics, expected.comparison)
    assert found.data["sha256"] == expected.data["sha256"]
    fits = trainings.runner.manifest_of(job)["fits"]
    assert fits == trainings.runner.manifest_of(usual)["fits"]


def test_fits_that_are_done_are_not_done_again(trainings: Trainings) -> None:
    trainings.fits.hold(0.5)
    job_id = trainings.submit()
    trainings.until_begun(0.5)
    until(lambda: trainings.runner.read(job_id).fits == (2 * FOLDS, 3 * FOLDS), what="the other fits are done")
    done = trainings.fits.lines("ended")

    trainings.trainer.kill_worker()
    trainings.fits.let_go()
    job = trainings.done(job_id)

    assert job.status == Status.SUCCEEDED, job.failure
    of_folds = [line[1:] for line in trainings.fits.lines("ended") if not is_final(line)]
    assert len(of_folds) == len(set(of_folds)) == 3 * FOLDS
    assert {line[1:] for line in done} <= set(of_folds)


def test_a_redis_that_is_killed_during_a_search_changes_nothing(trainings: Trainings) -> None:
    usual = trainings.run(promote="never")
    trainings.fits.hold(0.5)
    job_id = trainings.submit()
    trainings.until_begun(0.5, FOLDS + 1)

    trainings.trainer.service.redis.kill()
    trainings.trainer.service.restart_redis()
    trainings.fits.let_go()
    job = trainings.done(job_id)

    assert job.status == Status.SUCCEEDED, job.failure
    assert trainings.moves() == [(1, 3), (None, 1)]
    assert trainings.runner.version(job).metrics == trainings.runner.version(usual).metrics


def test_two_processes_share_the_fits_of_a_search(trainings: Trainings) -> None:
    trainings.fits.hold("all")
    job_id = trainings.submit()

    until(lambda: len({pid for pid, _, _ in trainings.fits.lines("begun")}) == 2, what="both have a fit")
    assert trainings.runner.read(job_id).fits == (0, 3 * FOLDS)
    trainings.fits.let_go()

    assert trainings.done(job_id).status == Status.SUCCEEDED


# Candidates that fail


def test_a_candidate_that_kills_its_worker_at_every_attempt_fails_and_the_others_go_on(trainings: Trainings) -> None:
    trainings.fits.kill(0.5)

    job = trainings.run()

    assert job.status == Status.SUCCEEDED, job.failure
    assert job.registered is not None
    assert job.registered["params"] == {"alpha": WINNER}
    fits = trainings.runner.manifest_of(job)["fits"]
    assert [fit["candidate"] for fit in fits if "error" in fit] == [2] * FOLDS
    assert all("the worker process ended" in fit["error"] for fit in fits if "error" in fit)
    assert sum(alpha == 0.5 for _, alpha, _ in trainings.fits.lines("begun")) == 2 * FOLDS


def test_a_candidate_that_takes_too_long_fails_and_the_others_go_on() -> None:
    with train_service(max_attempts=1, fit_timeout_seconds=3) as trainer:
        trainings = Trainings(trainer, "slow")
        trainings.fits.hold(0.5)

        job = trainings.run()
        fits = trainings.runner.manifest_of(job)["fits"]

    assert job.status == Status.SUCCEEDED, job.failure
    assert [fit["candidate"] for fit in fits if "error" in fit] == [2] * FOLDS
    assert all("FORETELL_FIT_TIMEOUT_SECONDS" in fit["error"] for fit in fits if "error" in fit)


def test_a_candidate_that_raises_fails_and_the_others_go_on(trainings: Trainings) -> None:
    job = trainings.run(recipe={"param_grid": {"alpha": [RAISES, WINNER]}, "folds": FOLDS})

    fits = trainings.runner.manifest_of(job)["fits"]
    assert [fit.get("error") for fit in fits[:FOLDS]] == ["The fit raised ValueError: this alpha is no good"] * FOLDS
    assert job.registered is not None
    assert job.registered["params"] == {"alpha": WINNER}


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param({"param_grid": {"alpha": [RAISES]}, "folds": FOLDS}, id="search"),
        pytest.param({"params": {"alpha": RAISES}}, id="one-set"),
    ],
)
def test_a_training_without_any_fit_that_works_fails(trainings: Trainings, recipe: dict[str, Any]) -> None:
    job = trainings.run(recipe=recipe)

    assert job.status == Status.FAILED
    assert job.failure is not None
    assert job.failure["code"] == "training_failed"
    assert "this alpha is no good" in job.failure["message"]
    assert trainings.versions() == [1]


def test_a_last_fit_that_kills_its_worker_at_every_attempt_fails_the_job(trainings: Trainings) -> None:
    trainings.fits.kill(0.5)

    job = trainings.run(recipe={"params": {"alpha": 0.5}})

    assert job.status == Status.FAILED
    assert job.failure is not None
    assert job.failure["code"] == "worker_lost"
    assert trainings.versions() == [1]
    assert trainings.run().status == Status.SUCCEEDED


# Cancelling and deadlines


@pytest.mark.parametrize(
    "recipe", [pytest.param(SEARCH, id="search"), pytest.param({"params": {"alpha": 0.01}}, id="last-fit")]
)
def test_a_long_fit_can_be_cancelled_and_the_worker_serves_the_next_job(
    trainings: Trainings, recipe: dict[str, Any]
) -> None:
    trainings.fits.hold("all")
    job_id = trainings.submit(recipe=recipe)
    until(lambda: trainings.fits.lines("begun"), what="a fit has begun")

    trainings.runner.store.cancel(job_id)
    job = trainings.done(job_id, 30)

    assert job.status == Status.CANCELLED
    assert job.failure is None
    counts = job.counts
    assert counts.succeeded + counts.failed + counts.skipped == counts.total == 442
    assert trainings.versions() == [1]
    trainings.fits.let_go()
    assert trainings.run().status == Status.SUCCEEDED


def test_what_is_registered_can_be_cancelled_no_more(trainings: Trainings) -> None:
    job_id = trainings.submit()
    path = obstruct(trainings, job_id)
    until(lambda: trainings.runner.read(job_id).phase == "registering", 60, "the version is registered")

    with pytest.raises(JobFinished):
        trainings.runner.store.cancel(job_id)
    clear(path)

    assert trainings.done(job_id).status == Status.SUCCEEDED
    assert trainings.moves() == [(1, 2), (None, 1)]


def test_a_deadline_ends_a_training_and_nothing_is_registered(trainings: Trainings) -> None:
    trainings.fits.hold("all")

    job = trainings.run(deadline_seconds=3.0)

    assert job.status == Status.FAILED
    assert job.failure is not None
    assert job.failure["code"] == "deadline_exceeded"
    assert trainings.versions() == [1]


def test_a_deadline_that_comes_after_the_version_is_registered_changes_nothing(trainings: Trainings) -> None:
    trainings.run(promote="never")  # so that both processes have the model loaded
    job_id = trainings.submit(deadline_seconds=8.0)
    path = obstruct(trainings, job_id)
    until(lambda: trainings.runner.read(job_id).phase == "registering", 60, "the version is registered")
    client, key = trainings.trainer.service.redis.client, f"{trainings.runner.store.keys.base}deadlines"
    until(lambda: client.zscore(key, job_id) is None, 30, "the deadline is over")
    clear(path)

    job = trainings.done(job_id)

    assert job.status == Status.SUCCEEDED, job.failure
    assert trainings.moves() == [(1, 3), (None, 1)]
