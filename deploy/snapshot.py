"""A Redis as it was at one moment: received as a replica receives it, and opened in a private server to be read.

Protocol: the Redis documentation, "Replication" and "REPLCONF"; SYNC is answered with newlines until the server has
written its memory down, then with `$<bytes>` and a file in RDB format.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from redis.exceptions import RedisError, ResponseError

from deploy.commands import redis_program
from deploy.embedded import started
from shared.connection import Connections
from shared.errors import BadSetting, StoreUnavailable

BLOCK_BYTES: Final = 2**20
# Between two signs of life; the server sends a newline every second while it writes.
SILENT_SECONDS: Final = 30.0
DATABASE: Final = "snapshot.rdb"


@contextmanager
def snapshot(connections: Connections, folder: Path) -> Iterator[Any]:
    """A client of a server that holds what Redis held when this began, and nothing changes.

    Args:
        connections: to the Redis.
        folder: where as much room is as its memory takes; nothing is left there.

    Raises:
        StoreUnavailable: Redis went away.
        BadSetting: it gives no copy of itself to us, or one that cannot be read.
    """
    path = folder / DATABASE
    try:
        receive(connections, path)
        with opened(path, connections.database) as client:
            yield client
    finally:
        path.unlink(missing_ok=True)


def receive(connections: Connections, path: Path) -> None:
    """Write the file that Redis sends to a new replica.

    Raises:
        StoreUnavailable, BadSetting, OSError
    """
    try:
        with connections.raw() as connection:
            # No stream of changes is wanted after the file.
            connection.send_command("REPLCONF", "rdb-only", "1")
            connection.read_response()
            connection.send_command("SYNC")
            _receive(connection, path)
    except ResponseError as error:
        raise BadSetting(
            f"Redis gives no copy of itself to FORETELL_REDIS_URL's user ({error}); allow it +sync and +replconf, "
            "or use the backups of who runs it"
        ) from error
    except RedisError as error:
        raise StoreUnavailable(f"Redis went away while it was copied: {error}") from error


def _receive(connection: Any, path: Path) -> None:
    # The reply is no reply of redis-py's protocol, so it is read from the socket itself.
    sock = connection._sock
    sock.settimeout(SILENT_SECONDS)
    with sock.makefile("rb") as stream, path.open("wb") as file:
        line = b"\n"
        while line == b"\n":
            line = _from_redis(stream.readline)
        if line.startswith(b"-"):
            raise ResponseError(line[1:].decode(errors="replace").strip())
        if not line.startswith(b"$") or not line[1:].strip().isdigit():
            raise StoreUnavailable("Redis ended the connection while it was copied.")
        left = int(line[1:])
        while left:
            block = _from_redis(partial(stream.read, min(left, BLOCK_BYTES)))
            if not block:
                raise StoreUnavailable("Redis ended the connection while it was copied.")
            file.write(block)
            left -= len(block)


def _from_redis(read: Callable[[], bytes]) -> bytes:
    """What Redis sends; that it does not is no fault of the folder.

    Raises:
        StoreUnavailable
    """
    try:
        return read()
    except OSError as error:
        raise StoreUnavailable(f"Redis went away while it was copied: {error}") from error


@contextmanager
def opened(path: Path, database: int) -> Iterator[Any]:
    """A client of a private server that has read this file.

    Raises:
        BadSetting: the file is of a server whose format the bundled one does not know.
    """
    log = path.with_suffix(".log")
    # A unix socket's path may not be long, and that of a backup may be.
    with tempfile.TemporaryDirectory(prefix="foretell-") as private:
        socket = Path(private) / "redis.sock"
        command = [
            *redis_program(),
            "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
            "--dir", str(path.parent), "--dbfilename", path.name, "--save", "", "--appendonly", "no",
            # Newer releases of Redis write another number, mostly with nothing new behind it.
            "--rdb-version-check", "relaxed", "--databases", str(max(16, database + 1)),
            "--daemonize", "no", "--loglevel", "warning",
        ]  # fmt: skip
        address = f"unix://{socket}?db={database}"
        try:
            with started(command, address, log):
                client = redis.Redis.from_url(address, socket_timeout=None)
                yield client
                client.close()
        finally:
            log.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file outlive a power cut.

    Raises:
        OSError
    """
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
