"""What a worker process is made of, put together by hand."""

from dataclasses import dataclass

from celery import Celery

from shared.connection import Connections
from shared.keys import Keys
from shared.queue import Doorbell
from shared.registry import Registry
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from worker.drain import Drainer
from worker.micro_batch import MicroBatchRunner
from worker.model_cache import ModelCache


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts; nothing is connected until it is used."""

    settings: Settings
    keys: Keys
    connections: Connections
    storage: Storage
    registry: Registry
    store: JobStore
    drainer: Drainer


def build_services(settings: Settings, app: Celery) -> Services:
    """Put the parts together; after the fork, in every process anew."""
    connections = Connections(settings.redis_address, timeout_seconds=max(5.0, settings.redis_timeout_seconds))
    keys = Keys(settings.redis_prefix)
    storage = Storage(settings.data_dir / "storage")
    registry = Registry(connections, keys, storage)
    store = JobStore(connections, settings)
    ring = Doorbell(app).ring
    runner = MicroBatchRunner(
        ModelCache(registry, settings.model_cache_mb * 2**20),
        storage,
        most_rows=settings.micro_batch_rows,
        inline_bytes=settings.inline_result_bytes,
    )
    drainer = Drainer(store, runner, ring, settings)
    return Services(
        settings=settings,
        keys=keys,
        connections=connections,
        storage=storage,
        registry=registry,
        store=store,
        drainer=drainer,
    )
