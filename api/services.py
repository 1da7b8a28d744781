"""What an API process is made of, put together by hand."""

from dataclasses import dataclass

from api.checkers import Checkers
from api.waiters import Waiters
from shared.connection import Connections
from shared.drift import Drift
from shared.files import Files
from shared.inputs import Inputs
from shared.keys import Keys
from shared.queue import Doorbell, make_celery
from shared.registry import Registry
from shared.residence import Residence
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts; nothing is connected until it is used."""

    settings: Settings
    keys: Keys
    connections: Connections
    storage: Storage
    files: Files
    inputs: Inputs
    registry: Registry
    residence: Residence
    schedules: Schedules
    drift: Drift
    store: JobStore
    doorbell: Doorbell
    waiters: Waiters
    checkers: Checkers


def build_services(settings: Settings) -> Services:
    """Put the parts together; one Celery application for each process, made after the fork."""
    connections = Connections(settings.redis_address, timeout_seconds=settings.redis_timeout_seconds)
    keys = Keys(settings.redis_prefix)
    storage = Storage.of(settings)
    store = JobStore(connections, settings)
    return Services(
        settings=settings,
        keys=keys,
        connections=connections,
        storage=storage,
        files=Files(store, settings),
        inputs=Inputs(settings, storage),
        registry=Registry(connections, keys, storage),
        residence=Residence(connections, keys),
        schedules=Schedules(connections, keys, storage),
        drift=Drift(connections, keys),
        store=store,
        doorbell=Doorbell(make_celery(settings, socket_seconds=settings.redis_timeout_seconds)),
        waiters=Waiters(store, most=settings.max_waiters, most_streams=settings.max_event_streams),
        checkers=Checkers(settings),
    )
