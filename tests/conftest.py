"""Fixtures that every kind of test shares: settings on free ports and folders, and one Redis for each test module."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.connection import Connections
from shared.keys import Keys
from shared.settings import Settings
from shared.store import JobStore
from tests.processes import RedisServer, S3Server, free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since a unix socket's path may not be long."""
    path = Path(tempfile.mkdtemp(prefix="ft-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_settings(folder: Path) -> Callable[..., Settings]:
    """Settings of a service of its own, quick to recover."""

    def make(**values: Any) -> Settings:
        quick = {
            "lease_seconds": 2,
            "janitor_seconds": 0.5,
            "workers": 2,
            "api_processes": 1,
            "port": free_port(),
            "data_dir": folder / "var",
            "log_format": "json",
        }
        return Settings.model_validate(quick | values)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """The quick ones."""
    return make_settings()


def announce_models(client: Any, settings: Settings) -> None:
    """Have the job store take jobs for version 1 of the models that its tests name; there are no artifacts."""
    for model in ("m", "a", "b", "busy", "other", "quiet"):
        client.hset(Keys(settings.redis_prefix).model(model), "v:1", 1)


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
