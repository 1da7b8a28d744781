"""The end of a training: what is fitted is not thrown away, and what is registered does not fail."""

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge, SGDRegressor

from shared.batch_store import BatchStore
from shared.errors import StorageFull, StoreUnavailable
from shared.job import Status
from shared.queue import TRAIN
from shared.registry import PRODUCTION
from shared.settings import Settings
from tests.integration.train_runner import TrainRunner, arrays_of, features_of, labelled
from tests.processes import RedisServer

DIABETES = labelled(load_diabetes(as_frame=True))


@pytest.fixture
def runner(settings: Settings, redis_server: RedisServer) -> TrainRunner:
    runner = TrainRunner(settings)
    runner.register("diabetes", Ridge(alpha=5.0).fit(*arrays_of(DIABETES)), features_of(DIABETES))
    return runner


@pytest.fixture
def job_id(runner: TrainRunner) -> str:
    """A training of which all is done but its end."""
    job_id = runner.submit("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.01}})
    assert runner.step() == "plan"
    return job_id


def moves(runner: TrainRunner) -> list[tuple[int | None, int]]:
    return [(move["from"], move["to"]) for move in runner.registry.history("diabetes", PRODUCTION)]


@pytest.mark.parametrize("error", [StorageFull, RuntimeError])
def test_what_goes_wrong_once_a_version_is_registered_does_not_fail_the_job(
    runner: TrainRunner, job_id: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    put = runner.storage.put

    def without_room(key: str, data: bytes) -> None:
        if key.startswith("jobs/") and key.endswith("/manifest.json"):
            raise error
        put(key, data)

    monkeypatch.setattr(runner.storage, "put", without_room)
    for _ in range(runner.settings.max_attempts + 1):
        assert runner.step() == "final"
        assert runner.step() is None, "it is tried again at once, and again, and again"
        assert (runner.read(job_id).status, runner.read(job_id).phase) == (Status.RUNNING, "registering")
        runner.be_late("leases")
    monkeypatch.undo()

    assert runner.step() == "final"

    job = runner.read(job_id)
    assert (job.status, runner.version(job).version) == (Status.SUCCEEDED, 2)
    assert moves(runner) == [(1, 2), (None, 1)]


def with_full_redis(runner: TrainRunner) -> None:
    """Redis is full when the version is to be registered, and has room again at the second attempt."""
    client, limits = runner.store.connections.client, iter((1, 0))
    runner.registries[0].hold_up(lambda: client.config_set("maxmemory", next(limits)), times=2)


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(with_full_redis, id="full-at-its-version"),
        pytest.param(lambda runner: runner.registries[0].refuse_numbers(2), id="full-at-its-number"),
        pytest.param(lambda runner: runner.registries[0].lose_the_answer(StoreUnavailable), id="away"),
    ],
)
def test_a_redis_that_is_full_or_away_for_a_moment_costs_no_fit(
    runner: TrainRunner, job_id: str, disturb: Callable[[TrainRunner], Any]
) -> None:
    disturb(runner)

    assert runner.step() == "final"

    job = runner.read(job_id)
    assert (job.status, job.failure) == (Status.SUCCEEDED, None)
    assert moves(runner) == [(1, 2), (None, 1)]


def test_a_full_redis_is_told_the_phase_and_one_that_is_away_keeps_nobody_from_work(
    runner: TrainRunner, job_id: str, redis_server: RedisServer
) -> None:
    batches = BatchStore(runner.store, runner.settings, TRAIN)
    unit = batches.pull("w", linger_seconds=0, answered=False)
    assert unit is not None

    redis_server.client.config_set("maxmemory", 1)
    batches.tell_phase(unit, "gating")
    redis_server.client.config_set("maxmemory", 0)
    assert runner.read(job_id).phase == "gating"
    redis_server.stop()
    batches.tell_phase(unit, "fitting")


def test_a_version_keeps_what_was_warned_of_and_what_it_unpacks_to(runner: TrainRunner) -> None:
    # It is fitted for as long as it takes, and its clone is not.
    runner.register("slow", SGDRegressor(max_iter=100_000).fit(*arrays_of(DIABETES)), features_of(DIABETES))

    job = runner.run("slow", DIABETES, target="target", recipe={"params": {"max_iter": 1}})

    version = runner.version(job)
    assert any("Maximum number of iteration reached" in warning for warning in version.warnings), version.warnings
    assert version.warnings == job.warnings
    assert version.memory_bytes > 1000
