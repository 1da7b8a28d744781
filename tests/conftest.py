"""Fixtures that every kind of test shares: settings on free ports and folders, and one Redis for each test module."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from shared.connection import Connections
from shared.keys import Keys
from shared.settings import Settings
from shared.store import JobStore
from tests.kept import kept
from tests.processes import RedisServer, S3Server, free_port
from tests.rabbitmq import chosen_broker, end_chosen_broker

__all__ = ["kept"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have kinds of tests one after another, each in its random order, so that what a kind shares ends with it.

    Those of units are last: they are short, so that of several processes that run tests none ends long before others.
    """
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0])


@pytest.fixture(scope="session", autouse=True)
def no_broker_outlives_the_tests() -> Iterator[None]:
    """The broker that was started for all tests, if one was, ends with them."""
    yield
    end_chosen_broker()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since a unix socket's path may not be long."""
    path = Path(tempfile.mkdtemp(prefix="ft-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_settings(folder: Path) -> Callable[..., Settings]:
    """Settings of a service of its own, quick to recover."""

    return lambda **values: quick_settings(folder, **values)


def quick_settings(folder: Path, **values: Any) -> Settings:
    """Settings of a service in a folder, on a free port."""
    quick = {
        "lease_seconds": 2,
        "janitor_seconds": 0.5,
        "workers": 2,
        "api_processes": 1,
        "port": free_port(),
        "data_dir": folder / "var",
        "log_format": "json",
    }
    return Settings.model_validate(quick | chosen_broker() | values)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """The quick ones."""
    return make_settings()


def announce_models(client: Any, settings: Settings) -> None:
    """Have the job store take jobs for version 1 of the models that its tests name; there are no artifacts."""
    for model in ("m", "a", "b", "busy", "other", "quiet"):
        client.hset(Keys(settings.redis_prefix).model(model), "v:1", 1)


# Captures what our modules log in this process while it is entered: `with capture_logs() as logged`.
CaptureLogs = Callable[[], AbstractContextManager[list[Any]]]


@pytest.fixture
def capture_logs() -> CaptureLogs:
    """As structlog's own, and it sees loggers that have logged before, which else keep to where they did."""

    @contextmanager
    def captured() -> Iterator[list[Any]]:
        ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("api", "shared", "worker")]
        for logger in (vars(module).get("log") for module in ours):
            if isinstance(logger, type(structlog.get_logger())):
                vars(logger).pop("bind", None)
        with structlog.testing.capture_logs() as logged:
            yield logged

    return captured


@pytest.fixture
def redis_server(settings: Settings) -> Iterator[RedisServer]:
    """A Redis of its own."""
    server = RedisServer(settings)
    announce_models(server.client, settings)
    yield server
    server.stop()


@pytest.fixture
def store(settings: Settings, redis_server: RedisServer) -> JobStore:
    """A job store on that Redis."""
    return JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3-compatible server, for all tests that want one."""
    path = Path(tempfile.mkdtemp(prefix="ft-s3-"))
    server = S3Server(path)
    yield server
    server.stop()
    shutil.rmtree(path, ignore_errors=True)
