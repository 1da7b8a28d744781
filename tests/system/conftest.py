"""Services for the system tests: one that all share who only submit and read, and others to be stopped or killed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kept import Kept, short_folder, started_again
from tests.processes import Http
from tests.system.service import Barrier, Service


@pytest.fixture(scope="package")
def service(kept: Kept) -> Iterator[Service]:
    """The one that is shared: never stop it, nor any part of it."""
    with short_folder() as folder:
        service = started_again(kept, folder, max_body_bytes=2**20, event_heartbeat_seconds=0.5)
        yield service
        service.stop()


@pytest.fixture(scope="package")
def http(service: Service) -> Http:
    """A client of the shared service."""
    return service.http


@pytest.fixture
def barrier(http: Http, folder: Path) -> Iterator[Barrier]:
    """Holds prediction processes of the shared service."""
    barrier = Barrier(http, folder)
    yield barrier
    barrier.open()


@pytest.fixture
def held_workers(barrier: Barrier, service: Service) -> Barrier:
    """Every prediction process is held, so that jobs stay in the queue."""
    for _ in range(service.settings.workers):
        barrier.hold()
    return barrier


@pytest.fixture
def start(kept: Kept) -> Iterator[Callable[..., Service]]:
    """Start a service of one's own, with the models and the job of `kept`; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def make(**values: Any) -> Service:
            service = started_again(kept, stack.enter_context(short_folder()), **values)
            stack.callback(service.stop)
            return service

        yield make
