"""The Celery application of the workers: `celery -A worker.app worker -Q <queue>`."""

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

import billiard
import structlog
from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_process_init, worker_ready
from redis.exceptions import RedisError

from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.errors import ServiceError, StoreUnavailable
from shared.files import Files
from shared.heartbeat import beat_for_ever
from shared.inputs import Inputs
from shared.keys import Keys
from shared.logs import configure_logs
from shared.process import die_with_parent
from shared.queue import BATCH, CONTROL, DRAIN, ONLINE, TICK, TRAIN, Doorbell, make_celery
from shared.registry import Registry
from shared.schedules import Schedules
from shared.settings import load_settings
from shared.storage import Storage
from shared.store import JobStore
from worker.basis import basis_of
from worker.drain import caller
from worker.janitor import Janitor
from worker.schedules import Scheduler, submitter, surroundings

log = structlog.get_logger()

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
    made: dict[tuple[int, Any], Any] = {}
    parent: dict[str, tuple[str, ...]] = {"queues": ()}

    def of_this_process(build: Any) -> Any:
        key = (os.getpid(), build)
        if key not in made:
            made[key] = build()
        return made[key]

    def build_drainers() -> Any:
        # Here, so that the process of the janitor does without scikit-learn.
        from worker.preload import Preloader
        from worker.services import build_services

        services = build_services(settings, app)
        predicting = [queue for queue in parent["queues"] if queue in (ONLINE, BATCH)]
        if predicting:
            Preloader(services.models, services.registry, services.residence, ",".join(predicting)).start()
        return services.drainers

    def build_rounds() -> tuple[Janitor, Scheduler]:
        store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        storage, files = Storage.of(settings), Files(store, settings)
        registry = Registry(store.connections, store.keys, storage)
        schedules = Schedules(store.connections, store.keys, storage)
        batches, ring = BatchStore(store, settings), Doorbell(app).ring
        janitor = Janitor(store, batches, files, storage, registry, schedules, ring, settings)
        inputs = Inputs(settings, storage)
        submit = submitter(store, registry, files, inputs, caller(ring), settings)
        around = surroundings(store, registry, submit, basis_of(registry, files, inputs))
        return janitor, Scheduler(schedules, around, settings)

    @app.task(name=DRAIN)
    def drain(queue: str) -> None:
        try:
            of_this_process(build_drainers)[queue].drain(queue)
        except StoreUnavailable:
            log.warning("drain.interrupted", queue=queue, reason="Redis is away")

    def guarded(turn: Callable[[], None]) -> None:
        try:
            turn()
        except (ServiceError, RedisError) as error:
            log.warning("janitor.interrupted", reason=getattr(error, "code", type(error).__name__))
        except Exception as error:
            log.exception("janitor.crashed", error=type(error).__name__)

    @app.task(name=TICK)
    def tick() -> None:
        # Whatever keeps one of them from its round, the other has its own.
        guarded(lambda: of_this_process(build_rounds)[0].tick())
        guarded(lambda: of_this_process(build_rounds)[1].run())

    @setup_logging.connect(weak=False)
    def use_our_logs(**_: Any) -> None:
        configure_logs(settings, "worker")

    @celeryd_init.connect(weak=False)
    def import_once(options: dict[str, Any], **_: Any) -> None:
        # In the parent, so that its children share the memory and start at once. It never predicts: OpenMP used
        # before a fork makes the children hang.
        parent["queues"] = tuple(options.get("queues") or ())
        # Read when OpenMP is loaded: threads of a fit that wait for one another would spin otherwise, and where others
        # want the processor too they would hold each other up for many times as long as the fit takes.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if CONTROL not in parent["queues"]:
            import worker.preload
            import worker.services  # noqa: F401

    @worker_process_init.connect(weak=False)
    def start_child(**_: Any) -> None:
        import threadpoolctl

        process: Any = billiard.current_process()
        if process._parent_pid:  # the solo pool runs tasks in the worker itself, which is nobody's child here
            die_with_parent(process._parent_pid)
        threadpoolctl.threadpool_limits(1)
        os.nice(max((NICENESS.get(queue, 0) for queue in parent["queues"]), default=0))
        if BATCH in parent["queues"]:
            keep_memory()

    @worker_ready.connect(weak=False)
    def announce(sender: Any, **_: Any) -> None:
        queues = sorted(sender.app.amqp.queues.consume_from)
        for queue in queues:
            beat_for_ever(Connections(settings.redis_address, timeout_seconds=2), Keys(settings.redis_prefix), queue)
        log.info("worker.ready", queues=queues)

    return app


app = make_app()
