"""The append-only file of the embedded Redis: room that is kept for it on the disk, and its way to the disk.

Both is done here since Redis does not:

- The write during which it finds its disk full it answers all the same, and holds it in memory until there is room
  (flushAppendOnlyFile in its aof.c): kill -9 would lose what it acknowledged. So the file always has room ahead that
  nobody else can take, and submissions are refused while that cannot be had: docs/decisions/0044-reserved-room.md.
- Under `appendfsync everysec` it holds back its writes for up to two seconds while the disk is slow, and answers
  all the same (docs/decisions/0003-embedded-server.md). So it syncs none, and that is done from outside.
"""

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger()

PAUSE_SECONDS: Final = 0.2
SYNC_SECONDS: Final = 1.0
BLOCK_BYTES: Final = 512  # what st_blocks counts, whatever the file system's own are
KEEP_SIZE: Final = 1  # of fallocate(2): the file is no longer for it


class AppendFile:
    """What a Redis appends its writes to."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        """Nothing is done yet.

        Args:
            folder: the one that Redis works in.
            reserve_bytes: how much room is kept ahead of the file's end; made so much anew when a quarter is used.
        """
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self.is_short = False  # the disk has no room for the reserve

    def keep_for_ever(self, *, synced: bool) -> None:
        """Renew the reserve from now on, beside whatever this process does, and sync about once a second if wanted."""
        threading.Thread(target=self._keep_for_ever, args=(synced,), name="append-file", daemon=True).start()

    def _keep_for_ever(self, synced: bool) -> None:
        due = time.monotonic()
        while True:
            _try(self.reserve)
            if synced and time.monotonic() >= due:
                _try(self.sync)
                due = time.monotonic() + SYNC_SECONDS
            time.sleep(PAUSE_SECONDS)

    def reserve(self) -> None:
        """See that there is room ahead of the end of the newest file, and note if there is none to be had.

        Raises:
            OSError: the disk fails.
        """
        files = list(self._folder.glob("appendonlydir/*.incr.aof"))
        with contextlib.suppress(FileNotFoundError):  # it was rewritten meanwhile
            if files:
                self.is_short = not self._has_room(max(files, key=_number))

    def _has_room(self, file: Path) -> bool:
        descriptor = os.open(file, os.O_RDWR)
        try:
            about = os.fstat(descriptor)
            if about.st_blocks * BLOCK_BYTES - about.st_size >= self._reserve_bytes * 3 // 4:
                return True
            allocate(descriptor, about.st_size, self._reserve_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                space = os.fstatvfs(descriptor)  # it can only be seen that nobody has taken it yet
                return space.f_bavail * space.f_frsize >= self._reserve_bytes
            raise
        finally:
            os.close(descriptor)
        return True

    def sync(self) -> None:
        """Write what was appended to the disk; what is there already costs nothing.

        Raises:
            OSError: the disk fails.
        """
        for file in self._folder.glob("appendonlydir/*.incr.aof"):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def allocate(descriptor: int, begin: int, size_bytes: int) -> None:
    """Have the file system keep room for a part of a file beyond its end; Python's own call would make the file longer.

    Raises:
        OSError: ENOSPC if there is none, ENOSYS where that is not to be had.
    """
    library: Any = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "fallocate"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if library.fallocate(descriptor, KEEP_SIZE, ctypes.c_long(begin), ctypes.c_long(size_bytes)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _try(step: Callable[[], None]) -> None:
    """Do one of the two; whatever keeps it from its turn, the other has its own."""
    try:
        step()
    except OSError as error:  # a disk that fails is said again and again
        log.warning("redis.file_not_kept", reason=error.strerror)
        time.sleep(SYNC_SECONDS)


def _number(file: Path) -> int:
    """Of `appendonly.aof.<number>.incr.aof`; a rewrite begins the next."""
    return int(file.name.split(".")[-3])
