"""An embedded server for benchmarks of what is done within it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from benchmarks.processes import ProcessGroup
from deploy.commands import redis_command
from shared.connection import Connections
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class StoreServer:
    """A server that runs."""

    settings: Settings
    connections: Connections
    pid: int

    def cpu_micros(self) -> float:
        """CPU time of its main thread, which does all commands: Linux, /proc/<pid>/schedstat."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0]) / 1000

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return bool(self.connections.client.ping())
        except RedisError:
            return False


@contextmanager
def store_server() -> Iterator[StoreServer]:
    """A server with a folder of its own, on its unix socket."""
    with tempfile.TemporaryDirectory(prefix="ft-") as folder, ProcessGroup(Path(folder)) as group:
        settings = Settings(data_dir=Path(folder) / "var")
        settings.redis_socket.parent.mkdir(parents=True)
        process = group.start("redis", redis_command(settings), {})
        connections = Connections(settings.redis_address, timeout_seconds=5)
        server = StoreServer(settings=settings, connections=connections, pid=process.pid)
        group.wait_until(server.answers, "Redis answers", seconds=30)
        yield server
