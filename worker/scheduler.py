"""The Celery application of the scheduler: `celery -A worker.scheduler beat`; it rings for the janitor."""

from typing import Any

import structlog
from celery import Celery
from celery.signals import beat_init, setup_logging

from shared.connection import Connections
from shared.heartbeat import SCHEDULER, beat_for_ever
from shared.keys import Keys
from shared.logs import configure_logs
from shared.queue import make_celery
from shared.settings import load_settings

log = structlog.get_logger()


def make_app() -> Celery:
    """The application; apart from the workers' one, since it needs none of what they import."""
    settings = load_settings()

    @setup_logging.connect(weak=False)
    def use_our_logs(**_: Any) -> None:
        configure_logs(settings, "scheduler")

    @beat_init.connect(weak=False)
    def announce(**_: Any) -> None:
        beat_for_ever(Connections(settings.redis_address, timeout_seconds=2), Keys(settings.redis_prefix), SCHEDULER)
        log.info("scheduler.ready")

    return make_celery(settings)


app = make_app()
