"""What a worker process is made of, put together by hand."""

from collections.abc import Iterable
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
from worker.drain import Drainer, Work, caller
from worker.formats.limits import ArtifactLimits
from worker.micro_batch import MicroBatchRunner
from worker.model_cache import ModelCache
from worker.online import OnlineWork
from worker.stopping import Stopping
from worker.traced import TracedWork


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
    stopping: Stopping


def build_services(settings: Settings, app: Celery, stopping: Stopping, queues: Iterable[str]) -> Services:
    """Put the parts together that work on these queues needs; after the fork, in every process anew."""
    connections = Connections(settings.redis_address, timeout_seconds=max(5.0, settings.redis_timeout_seconds))
    keys = Keys(settings.redis_prefix)
    storage = Storage.of(settings)
    registry = Registry(connections, keys, storage)
    store = JobStore(connections, settings)
    call = caller(Doorbell(app).ring)
    models = ModelCache(registry, settings.model_cache_mb * 2**20, ArtifactLimits.of(settings))
    inputs = Inputs(settings, storage)

    def online() -> Work[Any]:
        runner = MicroBatchRunner(
            models, storage, most_rows=settings.micro_batch_rows, inline_bytes=settings.inline_result_bytes
        )
        return OnlineWork(store, runner, call, settings, stopping)

    def batch() -> Work[Any]:
        return BatchWork(store, storage, inputs, registry, models, call, settings, stopping)

    def train() -> Work[Any]:
        # Here, since what fits is most of scikit-learn, and only this queue needs it.
        from worker.train import TrainWork

        return TrainWork(store, storage, inputs, registry, models, call, settings, stopping)

    makers = {ONLINE: online, BATCH: batch, TRAIN: train}

    def work_of(queue: str) -> Work[Any]:
        return TracedWork(makers[queue]()) if settings.tracing else makers[queue]()

    drainers: dict[str, Drainer[Any]] = {
        queue: Drainer(work_of(queue), store, call, settings, stopping) for queue in queues if queue in makers
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
        stopping=stopping,
    )
