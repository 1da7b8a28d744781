"""Celery's queues, the names of the tasks, and the one configuration that publishers and workers share.

A message is a doorbell: it carries no job and no data, so losing, doubling or delaying one changes latency only.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import Celery
from celery.schedules import schedule

from shared.broker import broker_of
from shared.settings import Settings

ONLINE: Final = "online"
BATCH: Final = "batch"
TRAIN: Final = "train"
CONTROL: Final = "control"
WEBHOOKS: Final = "webhooks"
QUEUES: Final = (ONLINE, BATCH, TRAIN, CONTROL, WEBHOOKS)
# The queues that must have a worker for jobs to be done.
SERVED: Final = (ONLINE, BATCH, TRAIN, CONTROL, WEBHOOKS)
# Those whose workers pull units of jobs.
DRAINED: Final = (ONLINE, BATCH, TRAIN)

DRAIN: Final = "foretell.drain"
DELIVER: Final = "foretell.deliver"
TICK: Final = "foretell.tick"
TASKS: Final = (DRAIN, DELIVER, TICK)

# A bell older than this has been replaced by the janitor's many times over; workers throw it away unheard. Long,
# since Celery compares the clocks of two machines.
BELL_SECONDS: Final = 600
# To write the output of a batch job, or a fit, may take long, and is watched by the lease.
JOIN_SECONDS: Final = 7 * 86_400


def make_celery(settings: Settings, *, socket_seconds: float = 10) -> Celery:
    """A Celery application: one for each API process, made after the fork, and the one of a worker.

    `socket_seconds`: how long a broker that hangs is waited for; a client waits for a publisher.
    """
    app = Celery("foretell")
    broker = broker_of(settings, QUEUES, socket_seconds=socket_seconds)
    app.conf.update(
        broker_url=broker.url,
        broker_use_ssl=broker.use_ssl,
        # Results are ours: a result backend halves the throughput and adds a second truth.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_transport_options=broker.options,
        broker_connection_timeout=min(5, socket_seconds),
        # The broker may be away for as long as it likes; a worker waits for it.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # So it may refuse writes, as a Redis without enough replicas or with a full disk does (a ResponseError, which
        # Kombu takes for an error of the channel), or close one, as a RabbitMQ does: else a worker would end, with
        # all that its processes do.
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=5,
        # A bell that cannot be rung is rung by the janitor: fail fast, the client waits.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        # One message in hand for each process at most.
        worker_prefetch_multiplier=1,
        # Early acknowledgement: after a late one that failed because Redis was restarted, Celery 5.7 counts the message
        # as in hand for ever and asks for no other. A bell that is lost with its worker is rung again.
        task_acks_late=False,
        # Attempts are counted in the job store; a poison job must not come back by itself.
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Only for a process whose own timer (worker/lease.py) could not run: native code that holds the GIL.
        task_time_limit=settings.unit_timeout_seconds + settings.drain_seconds + 30,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        timezone="UTC",
        beat_schedule={
            "janitor": {
                "task": TICK,
                "schedule": schedule(timedelta(seconds=settings.janitor_seconds), nowfun=_steady_now),
                "options": {"queue": CONTROL, "expires": BELL_SECONDS},
            }
        },
        **broker.more,
    )
    return app


def _steady_now() -> datetime:
    """A time for intervals: of a clock that is set back, Celery would wait until it is that late again."""
    return datetime.fromtimestamp(time.monotonic(), UTC)


def made_when_asked(namespace: dict[str, Any], make: Callable[[], Celery]) -> Callable[[str], Any]:
    """The `__getattr__` of a module (PEP 562) whose `app` is made when Celery asks for it.

    Who imports the module only to fork from it must not have made one.
    """

    def made(name: str) -> Any:
        if name != "app":
            raise AttributeError(name)
        try:
            namespace["app"] = make()
        except AttributeError as error:  # which Celery would take for a module without an application
            raise RuntimeError("the application cannot be made") from error
        return namespace["app"]

    return made


class Doorbell:
    """Rings for the workers of a queue."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, queue: str, *, bell_seconds: float = BELL_SECONDS, retry: bool = True) -> None:
        """Publish one message.

        Args:
            queue: whose workers are called.
            bell_seconds: how old it may become unheard.
            retry: whether it is tried a second time, over another connection.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached; the janitor will ring instead.
        """
        self._app.send_task(
            {WEBHOOKS: DELIVER, CONTROL: TICK}.get(queue, DRAIN),
            args=() if queue == CONTROL else (queue,),
            queue=queue,
            expires=bell_seconds,
            retry=retry,
            time_limit=JOIN_SECONDS if queue in (BATCH, TRAIN) else None,
            ignore_result=True,
        )
