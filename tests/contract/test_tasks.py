"""The API names tasks by strings that imports cannot see: the workers know exactly those."""

import json
import subprocess
import sys

from deploy.commands import root
from shared.queue import CONTROL, DELIVER, DRAIN, QUEUES, SERVED, TASKS, TICK, make_celery
from shared.settings import Settings
from tests.processes import clean_environment


def registered(module: str) -> set[str]:
    """Our tasks that a fresh process knows after it imported a Celery application."""
    code = f"import json; from {module} import app; print(json.dumps(sorted(app.tasks)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), cwd=root(), capture_output=True, check=True, text=True
    )
    return {name for name in json.loads(answer.stdout) if not name.startswith("celery.")}


def test_the_workers_know_exactly_the_tasks_that_are_named() -> None:
    assert registered("worker.app") == set(TASKS) == {DRAIN, DELIVER, TICK}


def test_the_scheduler_knows_no_task_and_rings_for_one_that_the_workers_know() -> None:
    schedule = make_celery(Settings()).conf.beat_schedule

    assert registered("worker.scheduler") == set()
    assert {(entry["task"], entry["options"]["queue"]) for entry in schedule.values()} == {(TICK, CONTROL)}


def test_every_queue_that_must_be_served_is_a_queue() -> None:
    assert set(SERVED) <= set(QUEUES)
