"""What an API process is made of, put together by hand."""

from dataclasses import dataclass

from api.bodies import Bodies
from api.checkers import Checkers
from api.places import OwnersPlaces, Places
from api.rates import Rates
from api.readiness import Readiness
from api.stopping import Stopping
from api.waiters import Waiters
from shared.api_keys import ApiKeys
from shared.connection import Connections
from shared.drift import Drift
from shared.errors import TooManyDownloads
from shared.files import Files
from shared.inputs import Inputs
from shared.keys import Keys
from shared.measures import Measures
from shared.overview import Overviews
from shared.queue import Doorbell, make_celery
from shared.registry import Registry
from shared.residence import Residence
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from shared.usage import Usage
from shared.webhooks import Webhooks


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
    api_keys: ApiKeys
    webhooks: Webhooks
    drift: Drift
    store: JobStore
    doorbell: Doorbell
    waiters: Waiters
    stopping: Stopping
    readiness: Readiness
    checkers: Checkers
    bodies: Bodies
    downloads: Places
    uploads: OwnersPlaces
    rates: Rates
    usage: Usage
    overviews: Overviews
    measures: Measures


def build_services(settings: Settings) -> Services:
    """Put the parts together; one Celery application for each process, made after the fork."""
    connections = Connections(settings.redis_address, timeout_seconds=settings.redis_timeout_seconds)
    keys = Keys(settings.redis_prefix)
    storage = Storage.of(settings)
    store = JobStore(connections, settings)
    waiters = Waiters(
        store,
        most=settings.max_waiters,
        most_threads=settings.max_waiting_threads,
        most_streams=settings.max_event_streams,
    )
    stopping = Stopping(waiters.end)
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
        api_keys=ApiKeys(connections, keys),
        webhooks=Webhooks(connections, keys, settings),
        drift=Drift(connections, keys),
        store=store,
        doorbell=Doorbell(make_celery(settings, socket_seconds=settings.redis_timeout_seconds)),
        waiters=waiters,
        stopping=stopping,
        readiness=Readiness(store, storage, connections, keys, stopping),
        checkers=Checkers(settings),
        bodies=Bodies(settings),
        uploads=OwnersPlaces(),
        rates=Rates(connections, keys),
        usage=Usage(store),
        overviews=Overviews(store),
        measures=Measures(store, settings),
        downloads=Places(settings.max_downloads, TooManyDownloads),
    )
