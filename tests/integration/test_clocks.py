"""The clock of a machine is set while the service runs: nothing waits for the time to come again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.commands import scheduler_command
from shared.job import Status
from shared.queue import CONTROL
from shared.settings import Settings
from shared.store import JobStore
from tests.bells import waiting
from tests.chaos.clock import Clock
from tests.integration.batches import submit
from tests.processes import Process, RedisServer, clean_environment, start_worker
from tests.wait import until


@pytest.fixture
def clock(folder: Path) -> Iterator[Clock]:
    clock = Clock(folder / "clock")
    yield clock
    clock.close()


@pytest.fixture
def scheduler(settings: Settings, redis_server: RedisServer, clock: Clock) -> Iterator[Process]:
    environment = clean_environment(settings) | clock.environment()
    scheduler = Process(scheduler_command(), environment, settings.data_dir / "scheduler.log")
    yield scheduler
    scheduler.stop()


@pytest.mark.parametrize("seconds", [-7200, 7200], ids=["back", "forward"])
def test_the_scheduler_rings_on_when_the_clock_is_set(
    settings: Settings, clock: Clock, scheduler: Process, seconds: float
) -> None:
    until(lambda: waiting(settings, CONTROL) > 1, what="it rings")

    clock.set(seconds)
    rung = waiting(settings, CONTROL)

    until(lambda: waiting(settings, CONTROL) > rung + 3, 15, "it rings on")


def test_the_janitor_works_though_the_clock_of_the_scheduler_is_minutes_slow(
    settings: Settings, store: JobStore, clock: Clock, scheduler: Process
) -> None:
    clock.set(-300)
    worker = start_worker(settings, CONTROL)

    job_id = submit(store, deadline=0.5)

    try:
        until(lambda: store.read(job_id).status is Status.FAILED, what="the deadline is enforced")  # type: ignore[union-attr]
    finally:
        worker.stop()
