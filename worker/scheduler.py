"""The Celery application of the scheduler: `celery -A worker.scheduler beat`; it rings for the janitor."""

from typing import Any

import structlog
from celery import Celery
from celery.beat import Scheduler
from celery.signals import beat_init, setup_logging

from shared.connection import Connections
from shared.heartbeat import SCHEDULER, beat_for_ever
from shared.keys import Keys
from shared.logs import configure_logs
from shared.queue import made_when_asked, make_celery
from shared.settings import load_settings

log = structlog.get_logger()


class Patient(Scheduler):
    """Celery's own, which sleeps until it is time.

    Celery would wake ten milliseconds before and ask without a pause until then: with a round a second a hundredth of a
    processor for nothing.
    """

    def adjust(self, n: float, drift: float = 0.0) -> float:
        """The seconds as they are; the drift of Celery's is left out."""
        return n


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

    app = make_celery(settings)
    app.conf.beat_scheduler = Patient
    return app


__getattr__ = made_when_asked(globals(), make_app)
