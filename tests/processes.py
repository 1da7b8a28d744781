"""Processes of tests: Redis, workers, the API and the whole service, each ended by the test that started it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import obstore
import psutil
import redis
from obstore.store import S3Store

from deploy.commands import api_command, redis_command, root, scheduler_command, worker_command
from shared.settings import Settings, environment_of
from tests.wait import until

# A process that starts imports for seconds, and for many times as long on a machine that does much else.
START_SECONDS: Final = 120.0
# Makes the command line that runs another one somewhere else.
Around = Callable[[Sequence[str]], list[str]]


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(settings: Settings | None = None) -> dict[str, str]:
    """The environment of a child: ours without any FORETELL_ variable, then the settings.

    Children may keep what they compile, whatever the tests themselves may: there are thousands of them.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    return (
        inherited
        | (environment_of(settings) if settings else {})
        | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    )


class Process:
    """A process with its output in a file, and everything that it started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path | None = None
    ) -> None:
        """Start it in a folder: that of the code that it runs, which is ours by default."""
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder or root(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.popen.pid

    def text(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Everything that descends from it and lives."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def await_start(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it can be used; one that never can does not stay."""
        try:
            until(ready, START_SECONDS, what)
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """kill -9, of the process alone."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """End it in order, with all that it started; its exit code."""
        descendants = self.children()
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for left in descendants:
            try:
                left.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(descendants, timeout=10)
        return self.popen.returncode


class RedisServer(Process):
    """The embedded server of the settings, as the service itself starts it."""

    def __init__(self, settings: Settings, *extra: str) -> None:
        self.settings = settings
        (settings.data_dir / "redis").mkdir(parents=True, exist_ok=True)
        settings.redis_socket.parent.mkdir(parents=True, exist_ok=True)
        super().__init__([*redis_command(settings), *extra], clean_environment(), settings.data_dir / "redis.log")
        self.client: Any = redis.Redis.from_url(settings.redis_address)
        self.await_start(self.answers, "Redis answers")

    def answers(self) -> bool:
        """Whether it is up and has read its file."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stop(self, seconds: float = 30.0) -> int:
        """End it, also if it was halted."""
        self.client.close()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
        return super().stop(seconds)


def start_worker(
    settings: Settings, queue: str, *, wait: bool = True, folder: Path | None = None, **environment: str
) -> Process:
    """A Celery worker, as the service itself starts it."""
    log = settings.data_dir / f"worker-{queue}-{free_port()}.log"
    worker = Process(worker_command(settings, queue), clean_environment(settings) | environment, log, folder)
    if wait:
        worker.await_start(lambda: "worker.ready" in worker.text(), f"the {queue} worker is ready")
    return worker


def start_scheduler(settings: Settings) -> Process:
    """The scheduler, as the service itself starts it."""
    return Process(scheduler_command(), clean_environment(settings), settings.data_dir / "scheduler.log")


def start_api(settings: Settings, folder: Path | None = None) -> Process:
    """The API, as the service itself starts it."""
    api = Process(api_command(settings), clean_environment(settings), settings.data_dir / "api.log", folder)
    api.await_start(lambda: Http(settings.port).alive(), "the API answers")
    return api


def start_service(settings: Settings) -> Process:
    """Everything, as `make run` starts it, ready."""
    log = settings.data_dir.parent / f"service-{settings.port}.log"
    log.unlink(missing_ok=True)
    service = Process([sys.executable, "-m", "deploy"], clean_environment(settings), log)
    try:
        until(
            lambda: "Foretell is ready" in service.text() or service.popen.poll() is not None,
            START_SECONDS,
            "it is ready",
        )
        assert service.popen.poll() is None, service.text()
    except BaseException:
        service.stop()
        raise
    return service


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def __str__(self) -> str:
        return f"{self.status} {self.body[:2000]!r}"

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Http:
    """A client with nothing hidden."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host

    def __call__(
        self, method: str, path: str, body: Any = None, *, seconds: float = 40, raw: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; `body` is sent as JSON, header names are given with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        payload = raw
        if body is not None:
            payload = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, path, payload, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def alive(self) -> bool:
        """Whether the API answers at all."""
        try:
            return self("GET", "/healthz", seconds=2).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def submit(self, model: str, instances: list[Any], **more: Any) -> dict[str, Any]:
        """Submit a job that must be accepted."""
        answer = self("POST", "/jobs", {"model": model, "instances": instances, **more})
        assert answer.status == 202, answer.body
        job: dict[str, Any] = answer.json
        return job

    def done(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """The job once it is done."""
        last: Answer | Exception | None = None

        def finished() -> dict[str, Any] | None:
            nonlocal last
            try:
                last = answer = self("GET", f"/jobs/{job_id}")
            except (OSError, http.client.HTTPException) as error:
                last = error
                return None
            return answer.json if answer.status == 200 and answer.json["done"] else None

        try:
            return until(finished, seconds, f"job {job_id} is done") or {}
        except AssertionError as error:
            raise AssertionError(f"{error}; last answer: {last}") from None


class S3Server(Process):
    """An S3-compatible server with a bucket, on free ports and with its files in a folder of its own."""

    def __init__(self, folder: Path, ip: str = "127.0.0.1", around: Around = list) -> None:
        """Start it on an address; `around` makes the command line that runs another one there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.ip = ip
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self.filer_port = ports["filer"]
        self.environment = {
            "AWS_ACCESS_KEY_ID": "key-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{ip}:{ports['s3']}",
        }
        options = [f"-{name}.port={port}" for name, port in ports.items()]
        self._grpc_ports = {name: free_port() for name in ports}
        options += [f"-{name}.port.grpc={port}" for name, port in self._grpc_ports.items()]
        options += [f"-{name}.localSocket={folder / name}.sock" for name in ("filer", "s3")]
        super().__init__(
            around(
                [
                    str(Path(sys.executable).with_name("weed")),
                    f"-logdir={folder}",
                    "server",
                    "-filer",
                    "-s3",
                    f"-dir={folder}",
                    f"-ip={ip}",
                    f"-ip.bind={ip}",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64",
                    "-volume.max=0",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    *options,
                ]
            ),
            clean_environment() | self.environment,
            folder / "s3.log",
        )
        try:
            until(self.takes_files, 60, "S3 answers")
        except BaseException:
            self.stop()
            raise

    def stop(self, seconds: float = 0.0) -> int:
        """End it at once: in order it takes half a minute, and nobody needs its files."""
        self.kill()
        ended = super().stop(seconds)
        # It makes sockets of its own, wherever its folder is.
        for name, port in self._grpc_ports.items():
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108  # it is its own
        return ended

    def store(self) -> S3Store:
        """The bucket, which the server makes with the first file."""
        return S3Store(
            "bucket",
            access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region=self.environment["AWS_REGION"],
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def takes_files(self) -> bool:
        """Whether a file can be written."""
        try:
            obstore.put(self.store(), "ready", b"")
        except (obstore.exceptions.BaseError, OSError):
            return False
        return True

    def url(self, prefix: str) -> str:
        """A place in the bucket, as FORETELL_STORAGE takes it."""
        return f"s3://bucket/{prefix}"

    def unfinished(self) -> list[str]:
        """The uploads in parts that were neither completed nor aborted."""
        connection = http.client.HTTPConnection(self.ip, self.filer_port, timeout=10)
        connection.request("GET", "/buckets/bucket/.uploads/", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return [entry["FullPath"] for entry in json.loads(body)["Entries"] or []] if answer.status == 200 else []
