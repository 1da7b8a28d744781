"""Celery's queues, the names of the tasks, and the one configuration that publishers and workers share.

A message is a doorbell: it carries no job and no data, so losing, doubling or delaying one changes latency only.
"""

from typing import Final

from celery import Celery

from shared.settings import Settings

ONLINE: Final = "online"
BATCH: Final = "batch"
TRAIN: Final = "train"
CONTROL: Final = "control"
QUEUES: Final = (ONLINE, BATCH, TRAIN, CONTROL)
# The queues that must have a worker for jobs to be done.
SERVED: Final = (ONLINE, BATCH, TRAIN, CONTROL)

DRAIN: Final = "foretell.drain"
TICK: Final = "foretell.tick"
TASKS: Final = (DRAIN, TICK)

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
    app.conf.update(
        broker_url=settings.redis_address.replace("unix://", "redis+socket://"),
        # Results are ours: a result backend halves the throughput and adds a second truth.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        broker_transport_options={
            "global_keyprefix": f"{settings.redis_prefix}:celery:",
            # Never renewed by Celery; a message given twice is harmless here, so it may be long.
            "visibility_timeout": 21_600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": socket_seconds,
            "socket_connect_timeout": min(5, socket_seconds),
            "socket_keepalive": not settings.redis_address.startswith("unix://"),
            "health_check_interval": 5,
            "retry_on_timeout": False,
        },
        # The broker may be away for as long as it likes; a worker waits for it.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_pool_acquire_timeout=5,
        # A bell that cannot be rung is rung by the janitor: fail fast, the client waits.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        # A worker takes a bell only when a process of it is free, so it never hoards one that another could answer.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
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
        beat_scheduler="celery.beat:Scheduler",
        beat_schedule={
            "janitor": {
                "task": TICK,
                "schedule": settings.janitor_seconds,
                "options": {"queue": CONTROL, "expires": 60},
            }
        },
    )
    return app


class Doorbell:
    """Rings for the workers of a queue."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, queue: str) -> None:
        """Publish one message.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached; the janitor will ring instead.
        """
        self._app.send_task(
            DRAIN,
            args=(queue,),
            queue=queue,
            expires=BELL_SECONDS,
            time_limit=JOIN_SECONDS if queue in (BATCH, TRAIN) else None,
            ignore_result=True,
        )
