"""What a worker process is made of, put together by hand."""

from dataclasses import dataclass
from typing import Any

from celery import Celery

from shared.connection import Connections
from shared.inputs import Inputs
from shared.keys import Keys
from shared.queue import BATCH, ONLINE, TRAIN, Doorbell
from shared.registry import Registry
from shared.residence import Residence
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from worker.batch import BatchWork
from worker.drain import Drainer, caller
from worker.formats.limits import Limits
from worker.micro_batch import MicroBatchRunner
from worker.model_cache import ModelCache
from worker.online import OnlineWork
from worker.train import TrainWork


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts; nothing is connected until it is used."""

    settings: Settings
    keys: Keys
    connections: Connections
    storage: Storage
    registry: Registry
    store: JobStore
    models: ModelCache
    residence: Residence
    drainers: dict[str, Drainer[Any]]  # by queue


def build_services(settings: Settings, app: Celery) -> Services:
    """Put the parts together; after the fork, in every process anew."""
    connections = Connections(settings.redis_address, timeout_seconds=max(5.0, settings.redis_timeout_seconds))
    keys = Keys(settings.redis_prefix)
    storage = Storage.of(settings)
    registry = Registry(connections, keys, storage)
    store = JobStore(connections, settings)
    call = caller(Doorbell(app).ring)
    models = ModelCache(registry, settings.model_cache_mb * 2**20, Limits.of(settings))
    runner = MicroBatchRunner(
        models, storage, most_rows=settings.micro_batch_rows, inline_bytes=settings.inline_result_bytes
    )
    online = OnlineWork(store, runner, call, settings)
    inputs = Inputs(settings, storage)
    batch = BatchWork(store, storage, inputs, registry, models, call, settings)
    train = TrainWork(store, storage, inputs, registry, models, call, settings)
    drainers: dict[str, Drainer[Any]] = {
        ONLINE: Drainer(online, store, call, settings),
        BATCH: Drainer(batch, store, call, settings),
        TRAIN: Drainer(train, store, call, settings),
    }
    return Services(
        settings=settings,
        keys=keys,
        connections=connections,
        storage=storage,
        registry=registry,
        store=store,
        models=models,
        residence=Residence(connections, keys),
        drainers=drainers,
    )
