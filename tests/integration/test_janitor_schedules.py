"""The control worker starts the trainings that are due."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.connection import Connections
from shared.keys import Keys
from shared.schedule import Schedule
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from tests.models import register_moody
from tests.processes import RedisServer, start_scheduler, start_worker
from tests.wait import until


@pytest.mark.parametrize(
    "hurt",
    [
        pytest.param(lambda client, keys: None, id="all-is-well"),
        pytest.param(lambda client, keys: client.set(f"{keys.base}reserved", "no list"), id="the-janitor-fails"),
    ],
)
def test_a_training_that_is_due_becomes_one_job(
    make_settings: Callable[..., Settings], folder: Path, hurt: Callable[[Any, Keys], None]
) -> None:
    rows = folder / "rows.csv"
    rows.write_text("x,y\n1,2\n")
    settings = make_settings(input_prefixes=folder.as_uri())
    server = RedisServer(settings)
    started = []
    try:
        connections, keys = Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix)
        register_moody(settings)
        schedules = Schedules(connections, keys, Storage.of(settings))
        train = {"input": {"uri": rows.as_uri()}, "target": "y"}
        schedules.put(
            "moody", Schedule(cron="0 3 1 1 *", time_zone="UTC", when_drifted=None, enabled=True, train=train)
        )
        server.client.delete(f"{keys.base}reserved")
        hurt(server.client, keys)
        started = [start_worker(settings, "control"), start_worker(settings, "control"), start_scheduler(settings)]

        make_due(server.client, keys)
        job_id = until(lambda: schedules.get("moody").job_id, what="the training is submitted")

        jobs, _ = JobStore(connections, settings).page(limit=10, kind="train")
        assert [job.id for job in jobs] == [job_id]
        assert (jobs[0].spec.model, jobs[0].status) == ("moody", "queued")
    finally:
        for process in started:
            process.stop()
        server.stop()


def make_due(client: Any, keys: Keys) -> None:
    """Have every schedule be due since a second ago."""
    seconds, micros = client.time()
    for model in client.zrange(keys.schedules, 0, -1):
        client.zadd(keys.schedules, {model: seconds * 1000 + micros // 1000 - 1000})
