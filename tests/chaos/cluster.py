"""The service under chaos: every process by itself, two of each kind, and a network of ours between all of them."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil
import redis

from deploy.commands import api_command, scheduler_command, worker_command
from shared.queue import QUEUES
from shared.settings import Settings, environment_of
from tests.chaos.clock import Clock
from tests.chaos.inbox import Inbox
from tests.chaos.member import Member, all_ready, supervise
from tests.chaos.network import Link, Network
from tests.disk import Disk
from tests.processes import RedisServer, S3Server, free_port
from tests.rabbitmq import RabbitMQ
from tests.versions import next_version
from worker.append_file import PAUSE_SECONDS, AppendFile

Say = Callable[[str], None]

API: Final = "api"
SCHEDULER: Final = "scheduler"
ROLES: Final = (*QUEUES, SCHEDULER, API)
DISK_BYTES: Final = 2 * 2**30
READY_SECONDS: Final = 120.0
# Quick to recover, with many small units; so many attempts that no kill of ours uses them up.
QUICK: Final = {
    "lease_seconds": 2,
    "janitor_seconds": 0.5,
    "max_attempts": 100,
    "slice_bytes": 8192,
    "chunk_seconds": 0.5,
    "workers": 2,
    "api_processes": 2,
    "keep_challengers": 10_000,
    "log_format": "json",
    # To a receiver of ours, which is tried for as long as any fault may last.
    "webhook_networks": "127.0.0.1/32",
    "webhook_retry_seconds": "0.2 0.5 1 1 2 2 2 5 5 5 5 10 10 10 10 20 20 20 30 30 30",
}
# Of the short form: half of what a lease and a round of the janitor take otherwise.
BRIEF: Final = {"lease_seconds": 1, "janitor_seconds": 0.25}


class Cluster:
    """Redis, two APIs, two workers of each queue, a scheduler."""

    def __init__(
        self,
        folder: Path,
        *,
        network: Network,
        disks: Mapping[str, Disk],
        s3: S3Server | None,
        rabbitmq: RabbitMQ | None,
        brief: bool,
        say: Say,
    ) -> None:
        """Start Redis, and know how to start the others.

        Args:
            folder: for everything, with a short name, since a unix socket's path may not be long.
            network: between all of them.
            disks: those of `redis` and `storage` that can be filled.
            s3: the storage; None: a folder.
            rabbitmq: the broker; None: Redis.
            brief: of each queue there is one worker only, and leases are shorter.
            say: tells people what happens.
        """
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.say, self.network, self.disks, self.s3, self.rabbitmq = say, network, disks, s3, rabbitmq
        places = {"storage": s3.url("chaos")} if s3 else {}
        if rabbitmq:
            places["broker_url"] = rabbitmq.url
        self.inbox = Inbox(network)
        self.settings = Settings.model_validate(
            {"data_dir": folder / "var", **QUICK, **places, **(BRIEF if brief else {})}
        )
        self.redis = RedisServer(self.settings)
        # Held by who takes Redis or its disk away.
        self.redis_lock = threading.RLock()
        self.rabbitmq_lock = threading.Lock()
        # Held by who restarts everything: two at once would wait for one another.
        self.restart_lock = threading.Lock()
        self._newer: Path | None = None
        # How far the clock of the machine was set, for all members alike.
        self.clock_seconds = 0.0
        self.clock_lock = threading.Lock()
        self.members = list(self._members(brief))
        self.clients = [self.network.link(f"client to {member.name}", member.port or 0) for member in self.of(API)]
        self._stopped = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._room = threading.Thread(target=self._keep_room, name="room", daemon=True)
        self._room.start()

    def of(self, *roles: str) -> list[Member]:
        """The members of some roles."""
        return [member for member in self.members if member.role in roles]

    def links(self) -> list[Link]:
        """All of them."""
        return self.network.links

    def redis_client(self) -> Any:
        """A client of Redis that passes the network by."""
        return redis.Redis.from_url(self.settings.redis_address, socket_timeout=5)

    def start(self) -> None:
        """Start everything, and wait until it is ready.

        Raises:
            AssertionError: it is not.
        """
        for member in self.members:
            member.start()
        self._supervisor = supervise(self.members, self._stopped)
        late = all_ready(self.members, READY_SECONDS, self.say)
        assert not late, f"not ready: {late}; their logs are in {self.logs}"

    def newer(self) -> Path:
        """The code of the next version, beside everything else."""
        if self._newer is None:
            self._newer = next_version(self.logs.parent / "next")
        return self._newer

    def restart_redis(self, seconds: float) -> None:
        """kill -9 of Redis, and a start on the same append-only file after a while."""
        with self.redis_lock:
            self.redis.kill()
            self._stopped.wait(seconds)
            self.redis = RedisServer(self.settings)

    def restart_rabbitmq(self, seconds: float) -> None:
        """kill -9 of RabbitMQ, and a start on the same files after a while."""
        assert self.rabbitmq is not None
        with self.rabbitmq_lock:
            self.rabbitmq.kill()
            self._stopped.wait(seconds)
            self.rabbitmq.start()

    def heal(self) -> list[str]:
        """Mend everything; the names of those that do not get well."""
        for link in self.links():
            link.heal()
        for disk in self.disks.values():
            disk.free()
        for member in self.members:
            for process in (psutil.Process(member.pid), *member.children()) if psutil.pid_exists(member.pid) else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
        return all_ready(self.members, READY_SECONDS, self.say)

    def stop(self) -> list[str]:
        """End everything in order, Redis last; the names of those that had to be killed."""
        self._stopped.set()
        if self._supervisor is not None:
            self._supervisor.join()
            self._supervisor = None
        stopping = [member for role in reversed(ROLES) for member in self.of(role)]
        for member in stopping:
            member.tell_to_end()  # all at once, so that their times of grace run at once
        killed = [member.name for member in stopping if not member.stop()]
        for member in self.members:
            member.clock.close()
        self._room.join()
        self.redis.stop()
        self.inbox.close()
        return killed

    def _keep_room(self) -> None:
        """As a control worker does for an embedded Redis; this one is only outside for the network before it."""
        file = AppendFile(self.settings.data_dir / "redis", self.settings.redis_disk_reserve_mb * 2**20)
        while not self._stopped.wait(PAUSE_SECONDS):
            file.reserve()

    def _members(self, brief: bool) -> Iterator[Member]:
        for role in QUEUES:
            for letter in "a" if brief else "ab":
                yield self._member(f"{role}-{letter}", role, lambda of, role=role: worker_command(of, role))  # type: ignore[misc]
        yield self._member(SCHEDULER, SCHEDULER, lambda _: scheduler_command())
        for letter in "ab":
            yield self._member(f"{API}-{letter}", API, api_command, port=free_port())

    def _member(
        self, name: str, role: str, command: Callable[[Settings], Sequence[str]], *, port: int | None = None
    ) -> Member:
        redis_link = self.network.link(f"{name} to redis", str(self.settings.redis_socket))
        links = [redis_link]
        values: dict[str, Any] = {"redis_url": f"redis://127.0.0.1:{redis_link.port}/0"}
        if self.rabbitmq is not None:
            links.append(self.network.link(f"{name} to rabbitmq", self.rabbitmq.port))
            values["broker_url"] = self.rabbitmq.url.replace(str(self.rabbitmq.port), str(links[-1].port))
        environment: dict[str, str] = {}
        if port is not None:
            values["port"] = port
        if self.s3 is not None and role != SCHEDULER:
            address = self.s3.environment["AWS_ENDPOINT_URL"]
            links.append(self.network.link(f"{name} to s3", int(address.rpartition(":")[2])))
            environment = {**self.s3.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{links[-1].port}"}
        settings = self.settings.model_copy(update=values)
        return Member(
            name,
            role,
            command(settings),
            environment_of(settings) | environment,
            log=self.logs / f"{name}.log",
            clock=Clock(self.logs.parent / f"{name}.clock"),
            links=links,
            port=port,
        )


@contextlib.contextmanager
def cluster(*, s3: bool, rabbitmq: bool, brief: bool, say: Say, keep_logs: Callable[[], bool]) -> Iterator[Cluster]:
    """A cluster in a folder of its own, ready; all is gone afterwards, but for logs that are to be kept."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ft-chaos-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        fillable = () if s3 else ("redis", "storage")
        disks = {name: disk for name in fillable if (disk := _disk(folder / "var" / name, stack))}
        server = S3Server(folder / "s3") if s3 else None
        if server is not None:
            stack.callback(server.stop)
            # For us, who register models; members have the same with an address of ours.
            stack.enter_context(patch.dict(os.environ, server.environment))
        broker = None
        if rabbitmq:
            (folder / "rabbitmq").mkdir()
            broker = RabbitMQ(folder / "rabbitmq")
            stack.callback(broker.stop)
        network = Network()
        stack.callback(network.close)
        made = Cluster(folder, network=network, disks=disks, s3=server, rabbitmq=broker, brief=brief, say=say)
        stack.callback(made.stop)
        made.start()
        try:
            yield made
        finally:
            if keep_logs():
                kept = Path(tempfile.mkdtemp(prefix="foretell-chaos-logs-"))
                for log in (*made.logs.iterdir(), made.redis.log):
                    shutil.copy(log, kept)
                say(f"the logs of all processes are in {kept}")


def _disk(folder: Path, stack: contextlib.ExitStack) -> Disk | None:
    """A disk for a folder until the stack ends; None where it cannot be mounted."""
    try:
        disk = Disk(folder, DISK_BYTES)
    except OSError:
        return None
    stack.callback(disk.close)
    return disk
