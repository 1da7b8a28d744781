"""The Celery application of the workers: `celery -A worker.app worker -Q <queue>`."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final

import billiard
import structlog
from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from redis.exceptions import RedisError

from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.errors import ServiceError, StoreFull, StoreUnavailable
from shared.files import Files
from shared.heartbeat import beat_for_ever
from shared.inputs import Inputs
from shared.keys import Keys
from shared.logs import configure_logs
from shared.measures import Measures
from shared.meter import METER
from shared.process import die_with_parent
from shared.queue import (
    BATCH,
    CONTROL,
    DELIVER,
    DRAIN,
    ONLINE,
    TICK,
    TRAIN,
    WEBHOOKS,
    Doorbell,
    made_when_asked,
    make_celery,
)
from shared.registry import Registry
from shared.schedules import Schedules
from shared.settings import load_settings
from shared.storage import Storage
from shared.store import JobStore
from shared.tracing import TRACING
from shared.webhooks import Webhooks
from worker.append_file import AppendFile
from worker.basis import basis_of
from worker.drain import FAMILY, caller
from worker.imports import import_for
from worker.janitor import Janitor
from worker.messages import STRATEGY
from worker.schedules import Scheduler, submitter, surroundings
from worker.stopping import CELERY_SECONDS, Farewell, Stopping, end_at_last, hush_celery
from worker.webhooks import Sender

log = structlog.get_logger()

CONSUMER: Final = "worker.consumer:Consumer"
# Small predictions go first where all want the processor, files before trainings.
NICENESS: Final = {BATCH: 5, TRAIN: 10}


def keep_memory() -> None:
    """Let the C library keep what is freed: the next slice needs as much again in a moment.

    To get the pages from the system anew costs as much as to read the file. See mallopt(3): -3 is M_MMAP_THRESHOLD, -1
    is M_TRIM_THRESHOLD, -8 is M_ARENA_MAX.
    """
    with contextlib.suppress(OSError, AttributeError):  # another system's C library
        library = ctypes.CDLL(None)
        library.mallopt(-3, 64 * 2**20)
        library.mallopt(-1, 256 * 2**20)
        # Threads that wait most of the time, such as those of leases and of the storage, share what they have freed.
        library.mallopt(-8, 2)


def make_app() -> Celery:
    """The application with its tasks; what they need is made in each process, after the fork, at its first task."""
    settings = load_settings()
    app = make_celery(settings)
    app.conf.worker_consumer = CONSUMER
    made: dict[tuple[int, Any], Any] = {}
    parent: dict[str, tuple[str, ...]] = {"queues": ()}
    stopping, farewell = Stopping(), Farewell()
    append_file = AppendFile(
        settings.data_dir / "redis",
        settings.redis_disk_reserve_mb * 2**20,
        Connections(settings.redis_address, timeout_seconds=2).client,
    )

    making = threading.Lock()  # webhooks are sent by threads of one process

    def of_this_process(build: Any) -> Any:
        key = (os.getpid(), build)
        with making:
            if key not in made:
                made[key] = build()
        return made[key]

    def build_drainers() -> Any:
        # Here, so that the process of the janitor does without scikit-learn.
        from worker.preload import Preloader
        from worker.services import build_services

        services = build_services(settings, app, stopping, parent["queues"])
        predicting = [queue for queue in parent["queues"] if queue in (ONLINE, BATCH)]
        if predicting:
            Preloader(services.models, services.registry, services.residence, ",".join(predicting)).start()
        return services.drainers

    def build_rounds() -> tuple[Janitor, Scheduler, Webhooks]:
        store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        storage, files = Storage.of(settings), Files(store, settings)
        registry = Registry(store.connections, store.keys, storage)
        schedules = Schedules(store.connections, store.keys, storage)
        batches, ring = BatchStore(store, settings), Doorbell(app).ring
        janitor = Janitor(
            store, batches, files, storage, registry, schedules, ring, settings,
            short_of_disk=lambda: append_file.is_short,
        )  # fmt: skip
        inputs = Inputs(settings, storage)
        webhooks = Webhooks(store.connections, store.keys, settings)
        submit = submitter(store, registry, files, inputs, webhooks, caller(ring), settings)
        around = surroundings(store, registry, submit, basis_of(registry, files, inputs))
        return janitor, Scheduler(schedules, around, settings), webhooks

    def build_sender() -> Sender:
        store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        webhooks = Webhooks(store.connections, store.keys, settings)
        return Sender(webhooks, store, caller(Doorbell(app).ring), settings, stopping)

    @app.task(name=DELIVER, Strategy=STRATEGY)
    def deliver(queue: str) -> None:
        try:
            of_this_process(build_sender).deliver()
        except (StoreUnavailable, StoreFull) as error:
            log.warning("drain.interrupted", queue=queue, reason=error.code)

    @app.task(name=DRAIN, Strategy=STRATEGY)
    def drain(queue: str) -> None:
        try:
            of_this_process(build_drainers)[queue].drain(queue)
        except (StoreUnavailable, StoreFull) as error:
            log.warning("drain.interrupted", queue=queue, reason=error.code)

    def guarded(turn: Callable[[], None]) -> None:
        try:
            turn()
        except (ServiceError, RedisError) as error:
            log.warning("janitor.interrupted", reason=getattr(error, "code", type(error).__name__))
        except Exception as error:
            log.exception("janitor.crashed", error=type(error).__name__)

    def call_senders() -> None:
        if of_this_process(build_rounds)[2].due():
            Doorbell(app).ring(WEBHOOKS)

    @app.task(name=TICK, Strategy=STRATEGY)
    def tick() -> None:
        # Whatever keeps one of them from its round, the other has its own.
        guarded(lambda: of_this_process(build_rounds)[0].tick())
        guarded(lambda: of_this_process(build_rounds)[1].run())
        guarded(call_senders)
        guarded(of_this_process(measures).take_reading)

    @setup_logging.connect(weak=False)
    def use_our_logs(**_: Any) -> None:
        configure_logs(settings, "worker")
        hush_celery()

    @celeryd_init.connect(weak=False)
    def import_once(options: dict[str, Any], **_: Any) -> None:
        parent["queues"] = tuple(options.get("queues") or ())
        import_for(parent["queues"], tracing=settings.tracing)

    @celeryd_after_setup.connect(weak=False)
    def keep_append_file(**_: Any) -> None:
        # Before the broker is asked for anything: a Redis that is held back would take no worker that could let it go.
        if CONTROL in parent["queues"] and settings.redis_url is None:
            append_file.keep_for_ever(synced=settings.durability == "process")

    @worker_process_init.connect(weak=False)
    def start_child(**_: Any) -> None:
        import threadpoolctl

        process: Any = billiard.current_process()
        if process._parent_pid:  # the solo pool runs tasks in the worker itself, which is nobody's child here
            die_with_parent(process._parent_pid)
            farewell.drop()
            stopping.listen(farewell.end)
            count_for_ever()
        threadpoolctl.threadpool_limits(1)
        if {ONLINE, BATCH}.intersection(parent["queues"]) and TRAIN not in parent["queues"]:
            # Here, since the process of the janitor does without joblib.
            from worker.threads import use_sequential

            use_sequential()
        os.nice(max((NICENESS.get(queue, 0) for queue in parent["queues"]), default=0))
        if BATCH in parent["queues"]:
            keep_memory()

    @worker_shutting_down.connect(weak=False)
    def end_children(**_: Any) -> None:
        # Celery's own way to end would wait for as long as they have work.
        farewell.tell()
        METER.end()
        end_at_last(settings.drain_seconds + CELERY_SECONDS)
        stopping.begin()  # for threads of this process itself

    def measures() -> Measures:
        return Measures(JobStore(Connections(settings.redis_address, timeout_seconds=2), settings), settings)

    def count_for_ever() -> None:
        side = parent["queues"][0] if parent["queues"] else "other"
        METER.begin(side)
        TRACING.begin(settings, side)
        stopping.on_begin(TRACING.hurry)
        stopping.on_begin(METER.end)
        METER.send_for_ever(of_this_process(measures).send, settings.metrics_seconds)

    @worker_process_shutdown.connect(weak=False)
    @worker_shutdown.connect(weak=False)
    def count_for_the_last_time(**_: Any) -> None:
        METER.try_to_send(of_this_process(measures).send)
        TRACING.end()

    @worker_ready.connect(weak=False)
    def announce(sender: Any, **_: Any) -> None:
        queues = sorted(queue.alias or queue.name for queue in sender.app.amqp.queues.consume_from.values())
        if not hasattr(sender.pool, "grow"):  # it does not fork: this process itself works
            count_for_ever()
        for queue in queues:
            connections = Connections(settings.redis_address, timeout_seconds=2)
            beat_for_ever(connections, Keys(settings.redis_prefix), queue, FAMILY, processes=sender.pool.limit)
        log.info("worker.ready", queues=queues)

    return app


__getattr__ = made_when_asked(globals(), make_app)
