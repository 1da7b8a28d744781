"""Services for the system tests: one that all share who only submit and read, and others to be stopped or killed."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Job, Service, quick_settings, register_estimators


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a service left behind that was started for the first time, did a job, and was stopped."""

    data_dir: Path
    job: Job
    models: list[dict[str, Any]]


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short name, since a unix socket's path may not be long."""
    path = Path(tempfile.mkdtemp(prefix="ft-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def kept() -> Iterator[Kept]:
    with short_folder() as folder:
        service = Service(quick_settings(folder / "var"))
        try:
            register_estimators(service.settings)
            job = service.http.done(service.http.submit("linear", [LINEAR])["id"])
            models = service.http("GET", "/models").json["models"]
        finally:
            service.stop()
        yield Kept(data_dir=folder / "var", job=job, models=models)


def started_again(kept: Kept, folder: Path, **values: Any) -> Service:
    """A second start, on a copy of the folder."""
    shutil.copytree(kept.data_dir, folder / "var", ignore=shutil.ignore_patterns("*.sock"))
    return Service(quick_settings(folder / "var", **values))


@pytest.fixture(scope="session")
def service(kept: Kept) -> Iterator[Service]:
    """The one that is shared: never stop it, nor any part of it."""
    with short_folder() as folder:
        service = started_again(kept, folder, max_body_bytes=2**20, event_heartbeat_seconds=0.5)
        yield service
        service.stop()


@pytest.fixture(scope="session")
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
