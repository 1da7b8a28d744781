"""One service for all tests of the client, which none of them ends, and a network to it that breaks on demand."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from foretell import AsyncClient, Client

from tests.chaos.network import Link, Network
from tests.models import register_fitted, register_moody
from tests.processes import Http
from tests.system.service import Barrier, Service, quick_settings, register_estimators

# Fewer than the client sends in a job at first.
MOST_INSTANCES = 2000


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine has in its environment and in its files is nothing to the tests."""
    for name in ("FORETELL_URL", "FORETELL_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORETELL_CONFIG_FILE", str(tmp_path / "config.toml"))


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """The one that is shared, with the demo models and some that misbehave."""
    path = Path(tempfile.mkdtemp(prefix="ft-"))  # short, since a unix socket's path may not be long
    quick = {"event_heartbeat_seconds": 0.5, "max_wait_seconds": 2}
    service = Service(quick_settings(path / "var", max_instances=MOST_INSTANCES, **quick))
    try:
        register_estimators(service.settings)
        register_moody(service.settings)
        register_fitted(service.settings)
        yield service
    finally:
        service.stop()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="package")
def http(service: Service) -> Http:
    """What is under the client."""
    return service.http


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of it."""
    with Client(service.address, retries=2) as client:
        yield client


@pytest.fixture
def connect(service: Service) -> Callable[..., AsyncClient]:
    """Makes asynchronous clients."""
    return lambda **more: AsyncClient(service.address, **more)


@pytest.fixture
def barrier(http: Http, folder: Path) -> Iterator[Barrier]:
    """Holds prediction processes."""
    barrier = Barrier(http, folder)
    yield barrier
    barrier.open()


@pytest.fixture
def link(service: Service) -> Iterator[Link]:
    """The way to the service."""
    network = Network()
    with contextlib.closing(network):
        yield network.link("client to API", service.settings.port)


@pytest.fixture
def far_client(link: Link) -> Iterator[Client]:
    """A client that goes this way."""
    with Client(f"http://127.0.0.1:{link.port}", retries=10) as client:
        yield client
