"""A whole service out of single processes, so that each can be killed by itself."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.queue import CONTROL, ONLINE
from shared.settings import Settings
from tests.models import register_moody
from tests.processes import Http, Process, RedisServer, start_api, start_scheduler, start_worker


class Service:
    """Redis, API, workers, janitor; with the model `moody`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = Http(settings.port)
        self.redis = RedisServer(settings)
        self.processes: list[Process] = []
        register_moody(settings)

    def keep(self, process: Process) -> Process:
        """Have a process ended with the service."""
        self.processes.append(process)
        return process

    def start_api(self) -> Process:
        """Start an API."""
        return self.keep(start_api(self.settings))

    def start_worker(self, queue: str = ONLINE) -> Process:
        """Start a worker of a queue."""
        return self.keep(start_worker(self.settings, queue))

    def start_janitor(self) -> None:
        """Start a scheduler and the worker that runs the janitor's rounds."""
        self.start_worker(CONTROL)
        self.keep(start_scheduler(self.settings))

    def restart_redis(self) -> None:
        """Start Redis again on the same file."""
        self.redis = RedisServer(self.settings)

    def stop(self) -> None:
        """End everything; Redis last."""
        for process in reversed(self.processes):
            process.stop()
        self.redis.stop()

    def finished(self, job_ids: list[str], seconds: float = 60) -> list[dict[str, Any]]:
        """The jobs, once all are done."""
        return [self.http.done(job_id, seconds) for job_id in job_ids]


@pytest.fixture
def make_service(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Service]]:
    """A service with nothing started but Redis."""
    with contextlib.ExitStack() as stack:

        def make(**values: Any) -> Service:
            service = Service(make_settings(**values))
            stack.callback(service.stop)
            return service

        yield make


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A service with all its processes, one of each."""
    service = make_service()
    service.start_worker()
    service.start_janitor()
    service.start_api()
    return service
