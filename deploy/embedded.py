"""A Redis of this machine alone, for as long as a command needs it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from deploy.commands import redis_command
from deploy.run import hold_data_dir, pings, private_folders
from shared.connection import check_server
from shared.errors import BadSetting
from shared.process import die_with_parent
from shared.settings import Settings

START_SECONDS: Final = 600.0
STOP_SECONDS: Final = 60.0
TURN_SECONDS: Final = 0.05


@contextmanager
def started(command: Sequence[str], address: str, log: Path) -> Iterator[None]:
    """Have a Redis run that ends with the block; what it says goes into a file.

    Raises:
        BadSetting: it does not start; with its last line.
    """
    parent = os.getpid()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
        )
    try:
        _await(process, address, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until it has read its file and answers."""
    end = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(address, socket_timeout=5) as client:
        while process.poll() is None and time.monotonic() < end:
            try:
                client.ping()
            except (redis.RedisError, OSError):
                time.sleep(TURN_SECONDS)
            else:
                return
    said = log.read_text(errors="replace").strip().splitlines()
    raise BadSetting(f"a Redis does not start: {said[-1] if said else 'it says nothing'}")


@contextmanager
def reachable(settings: Settings, *, alone: bool = False) -> Iterator[None]:
    """See that the Redis of the settings answers, and start the embedded one if the service does not run.

    Args:
        settings: of the service.
        alone: the service may not run on the data folder.

    Raises:
        BadSetting: it cannot be reached or used, or the service runs.
    """
    if settings.redis_url is not None or (not alone and pings(settings)):
        check_server(settings.redis_address, timeout_seconds=5)
        yield
        return
    with hold_data_dir(settings.data_dir):
        private_folders(settings)
        settings.redis_socket.unlink(missing_ok=True)
        # Nobody else has its file rewritten here.
        command = [*redis_command(settings), "--auto-aof-rewrite-percentage", "100"]
        with started(command, settings.redis_address, settings.data_dir / "redis" / "command.log"):
            yield
