"""A service made of processes that are started, stopped and replaced one by one, as containers are."""

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from benchmarks.processes import ProcessGroup, clean_environment, free_port
from deploy.commands import redis_command
from shared.settings import Settings, environment_of

LONGEST_SECONDS: Final = 180.0


class Fleet:
    """The processes of a service, each started by itself, as containers do it."""

    def __init__(self, processes: ProcessGroup, folder: Path, **settings: Any) -> None:
        self._processes, self._folder = processes, folder
        usual = {"data_dir": folder / "var", "port": free_port(), "workers": 1, "api_processes": 1}
        self.settings = Settings(**{**usual, **settings})
        self.environment = clean_environment() | environment_of(self.settings)
        (self.settings.data_dir / "redis").mkdir(parents=True)
        processes.start("redis", redis_command(self.settings), self.environment)
        self.redis: Any = redis.Redis.from_url(self.settings.redis_address)
        processes.wait_until(self._redis_answers, "Redis", seconds=LONGEST_SECONDS)
        self.running: dict[str, psutil.Popen] = {}
        self._numbers = itertools.count()

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def start(self, role: str) -> psutil.Popen:
        """Start a process of a role, ready."""
        name = f"{role.replace(' ', '-')}-{next(self._numbers)}"
        process = self._processes.start(name, [sys.executable, "-m", "deploy", *role.split()], self.environment)
        log = self._folder / f"{name}.log"
        if role == "api":
            # The old one may listen on the same port, so a request would not tell.
            self._processes.wait_until(lambda: self.answers(process), "the API", seconds=LONGEST_SECONDS)
        else:
            self._processes.wait_until(lambda: ".ready" in log.read_text(), role, seconds=LONGEST_SECONDS)
        return process

    def answers(self, process: psutil.Popen) -> bool:
        """Whether an API process listens."""
        listening = (
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.settings.port
            for member in (process, *process.children(recursive=True))
            for connection in connections_of(member)
        )
        return any(listening) and bool(process.children())

    def stop(self, process: psutil.Popen) -> float:
        """Stop a process in order; how long that took."""
        began = time.perf_counter()
        code = self._processes.stop(process, seconds=LONGEST_SECONDS)
        if code:
            raise RuntimeError(f"{process.args} ended with {code}")
        return time.perf_counter() - began

    def replace(self, role: str, *, side_by_side: bool) -> float:
        """Replace a process; how long the old one took to end."""
        new = self.start(role) if side_by_side else None
        seconds = self.stop(self.running[role])
        self.running[role] = new or self.start(role)
        return seconds

    def leases(self) -> set[bytes]:
        """The fences of all units that run."""
        return set(self.redis.zrange(f"{{{self.settings.redis_prefix}}}:leases", 0, -1))


def connections_of(process: psutil.Process) -> list[Any]:
    """The sockets of a process, none of one that has ended."""
    try:
        return list(process.net_connections("tcp"))
    except psutil.NoSuchProcess:
        return []


def until(condition: Callable[[], bool], what: str, *, pause_seconds: float = 0.05) -> None:
    """Wait for a condition. Raises RuntimeError if it does not come true."""
    end = time.monotonic() + LONGEST_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {LONGEST_SECONDS:g} s")
        time.sleep(pause_seconds)
