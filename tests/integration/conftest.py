"""A whole service out of single processes, so that each can be killed by itself."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.queue import BATCH, CONTROL, ONLINE
from shared.settings import Settings
from tests.integration.apis import Api, logs_as_before
from tests.models import register_moody
from tests.processes import Http, Process, RedisServer, S3Server, free_port, start_api, start_scheduler, start_worker
from tests.rabbitmq import chosen_broker


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


class BatchService(Service):
    """A service for files alone, with all its processes, which gets well after any of them was killed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.worker = self.start_worker(BATCH)
        self.start_janitor()
        self.api = self.start_api()

    def send(self, data: bytes, **query: Any) -> str:
        """Submit a job over a CSV file, which must be accepted; its id."""
        options = "".join(f"&{name}={value}" for name, value in query.items())
        answer = self.http("POST", f"/jobs?model=moody&key=id{options}", raw=data, Content_Type="text/csv")
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    def outputs(self, job_id: str) -> dict[str, Any]:
        """Everything that a job gives but what names the job itself."""
        files = {name: self.http("GET", f"/jobs/{job_id}/{name}") for name in ("result", "errors", "manifest")}
        assert {answer.status for answer in files.values()} == {200}
        return {
            "result": files["result"].body,
            "errors": files["errors"].body,
            "manifest": {**files["manifest"].json, "job_id": ""},
        }

    def scored(self, job_id: str) -> int:
        """Rows that are done so far."""
        counts = self.http("GET", f"/jobs/{job_id}").json["counts"]
        return int(counts["succeeded"] + counts["failed"])

    def kill_worker(self) -> None:
        """Kill the worker with all its processes, and start another."""
        self.worker.kill()
        self.worker = self.start_worker(BATCH)

    def kill_api(self) -> None:
        """Kill the API with all its processes, and start another."""
        for process in self.api.children():
            process.kill()
        self.api.kill()
        self.api = self.start_api()

    def give_up(self) -> None:
        """Cancel what is not done, so that the next test has the service to itself."""
        jobs = [job["id"] for job in self.http("GET", "/jobs?limit=200").json["jobs"] if not job["done"]]
        for job_id in jobs:
            self.http("POST", f"/jobs/{job_id}/cancel")
        self.finished(jobs)


@contextlib.contextmanager
def batch_service(**values: Any) -> Iterator[BatchService]:
    """A service for files with a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    quick = {"lease_seconds": 2, "janitor_seconds": 0.5, "workers": 2, "api_processes": 1, "log_format": "json"}
    place = {"port": free_port(), "data_dir": folder / "var"}
    service = BatchService(Settings.model_validate(quick | place | chosen_broker() | values))
    try:
        yield service
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def environment_of_s3(server: S3Server) -> Iterator[None]:
    """The server, as the place that the environment names, for us and for the processes that we start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield


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


@pytest.fixture
def make_api(make_settings: Callable[..., Settings], redis_server: RedisServer) -> Iterator[Callable[..., Api]]:
    """Make the API in this process, with settings of one's own."""
    with logs_as_before(), contextlib.ExitStack() as stack:

        def make(**values: Any) -> Api:
            api = Api(make_settings(**values))
            stack.callback(api.services.waiters.end)
            return api

        yield make
