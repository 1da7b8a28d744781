"""The append-only file of the embedded Redis: room that is kept for it on the disk, its way there, and its rewrites.

All of it is done here since Redis does not:

- The write during which it finds its disk full it answers all the same, and holds it in memory until there is room
  (flushAppendOnlyFile in its aof.c): kill -9 would lose what it acknowledged. If a part of the write found room it
  leaves a gap in the file, and does not start with it any more: it cuts that part off, and writes on behind it in a
  file that it does not append to but after a start (openNewIncrAofForAppend). So the file always has room ahead that
  nobody else can take, submissions are refused while that cannot be had, and every write before none is left:
  docs/decisions/0044-reserved-room.md.
- By itself it would begin a new file, which has no room of its own, at any time.
- Under `appendfsync everysec` it holds back its writes for up to two seconds while the disk is slow, and answers
  all the same (docs/decisions/0003-embedded-server.md). So it syncs none, and that is done from outside.
"""

import contextlib
import ctypes
import errno
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger()

MANIFEST: Final = "appendonly.aof.manifest"
# A rewrite begins the next one, and if it fails, such as for want of room, the one before stays.
APPENDED: Final = re.compile(r"^file (\S+) seq \d+ type i", re.MULTILINE)
PAUSE_SECONDS: Final = 0.2
SYNC_SECONDS: Final = 1.0
# A shorter file is read in a moment.
REWRITE_BYTES: Final = 64 * 2**20
REWRITE_PAUSE_SECONDS: Final = 60.0
# By so much the blocks of a file may be more than its bytes.
PAGE_BYTES: Final = 2**16
BLOCK_BYTES: Final = 512  # what st_blocks counts, whatever the file system's own are
KEEP_SIZE: Final = 1  # of fallocate(2): the file is no longer for it


class AppendFile:
    """What a Redis appends its writes to."""

    def __init__(self, folder: Path, reserve_bytes: int, client: Any = None) -> None:
        """Nothing is done yet.

        Args:
            folder: the one that Redis works in.
            reserve_bytes: how much room is kept ahead of the file's end; made so much anew when a quarter is used.
            client: redis-py's, for a Redis that is to be held back and has its file rewritten.
        """
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._client = client
        self._held_back = True  # by another process, for all that we know
        self._room_bytes = 0  # ahead of the end of the newest file, when it was looked at last
        # When a rewrite may be begun next, and how long after one that failed.
        self._next, self._pause_seconds = 0.0, REWRITE_PAUSE_SECONDS
        self.is_short = False  # the disk has no room for the reserve

    def keep_for_ever(self, *, synced: bool) -> None:
        """Do all of it from now on, beside whatever this process does; sync about once a second if wanted."""
        threading.Thread(target=self._keep_for_ever, args=(synced,), name="append-file", daemon=True).start()

    def _keep_for_ever(self, synced: bool) -> None:
        due = time.monotonic()
        while True:
            _try(self.reserve)
            if time.monotonic() >= due:
                if synced:
                    _try(self.sync)
                _try(self.rewrite_if_due)
                due = time.monotonic() + SYNC_SECONDS
            time.sleep(PAUSE_SECONDS)

    def reserve(self) -> None:
        """See that there is room ahead of the end of the newest file, and note if there is none to be had.

        Raises:
            OSError: the disk fails.
            redis.exceptions.RedisError: Redis is to be held back, and does not answer.
        """
        files = self._files()
        with contextlib.suppress(FileNotFoundError):  # it was rewritten meanwhile
            for older in files[:-1]:
                with contextlib.suppress(OSError):  # it is for the newest to say what is wrong
                    give_back(older)
            for newest in files[-1:]:
                self._room_bytes = self._room(newest)
                self.is_short = self._room_bytes < self._reserve_bytes * 3 // 4
                self._hold_back(self._room_bytes < self._reserve_bytes // 8)

    def _hold_back(self, wanted: bool) -> None:
        """Have Redis refuse every write, or no longer: by asking for a replica, which the embedded one never has."""
        if self._client is not None and (wanted or self._held_back):
            self._client.config_set("min-replicas-to-write", int(wanted))
            if wanted != self._held_back:
                log.warning("redis.held_back" if wanted else "redis.let_go")
            self._held_back = wanted

    def rewrite_if_due(self) -> None:
        """Have Redis write all that it has into a new file, once the old one has twice as much as after the last time.

        Only where there is room for it; and the file that it then appends to has a reserve of its own at once.

        Raises:
            OSError: the disk fails.
            redis.exceptions.RedisError
        """
        if self._client is None or time.monotonic() < self._next:
            return
        info = self._client.info()
        size_bytes, after_bytes = info["aof_current_size"], info["aof_base_size"]
        if info["aof_rewrite_in_progress"] or size_bytes < max(REWRITE_BYTES, 2 * after_bytes):
            return
        # Each that fails leaves a file behind.
        failed = info["aof_last_bgrewrite_status"] != "ok"
        self._pause_seconds = min(2 * self._pause_seconds, 3600.0) if failed else REWRITE_PAUSE_SECONDS
        self._next = time.monotonic() + self._pause_seconds
        # The room of the present file is given back in the same step.
        needed_bytes = min(size_bytes, info["used_memory"]) + self._reserve_bytes
        if free_bytes(self._folder) + self._room_bytes < needed_bytes:
            log.warning("redis.file_not_rewritten", reason="too little room", needed_bytes=needed_bytes)
            return
        self._client.bgrewriteaof()
        self.reserve()

    def _files(self) -> list[Path]:
        """Those that Redis has appended to since it wrote all it has into one; the newest is the one of now.

        Raises:
            OSError
        """
        folder = self._folder / "appendonlydir"
        with contextlib.suppress(FileNotFoundError):  # it has written nothing yet
            # Another file that lies there may be of a rewrite that could not begin.
            return [folder / name for name in APPENDED.findall((folder / MANIFEST).read_text())]
        return []

    def _room(self, file: Path) -> int:
        """How much there is ahead of the end of a file, bytes, after more was asked for if that was little."""
        descriptor = os.open(file, os.O_RDWR)
        try:
            about = os.fstat(descriptor)
            ahead_bytes = max(0, about.st_blocks * BLOCK_BYTES - about.st_size)
            if ahead_bytes >= self._reserve_bytes * 3 // 4:
                return ahead_bytes
            for part in (1, 2, 4, 8):  # as much as there is
                if self._reserve_bytes // part > ahead_bytes and has_room(
                    descriptor, about.st_size, self._reserve_bytes // part
                ):
                    return self._reserve_bytes // part
            return ahead_bytes
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                return free_bytes(descriptor)  # it can only be seen that nobody has taken it yet
            raise
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Write what was appended to the disk; what is there already costs nothing.

        Raises:
            OSError: the disk fails.
        """
        for file in self._files():
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


def has_room(descriptor: int, begin: int, size_bytes: int) -> bool:
    """Whether the file system keeps room for a part of a file from now on.

    Raises:
        OSError: that is not to be had, or the disk fails.
    """
    try:
        allocate(descriptor, begin, size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return False
        raise
    return True


def free_bytes(place: Path | int) -> int:
    """How much room is left for us where a file or folder is.

    Raises:
        OSError
    """
    space = os.statvfs(place)
    return space.f_bavail * space.f_frsize


def give_back(file: Path) -> None:
    """Let others have the room beyond the end of a file that nobody writes to any more.

    Raises:
        OSError
    """
    about = file.stat()
    if about.st_blocks * BLOCK_BYTES - about.st_size > PAGE_BYTES:
        os.truncate(file, about.st_size)


def _try(step: Callable[[], None]) -> None:
    """Do one of them; whatever keeps it from its turn, the others have their own."""
    try:
        step()
    except RedisError:
        pass  # whoever wants to read or write says so
    except OSError as error:  # a disk that fails is said again and again
        log.warning("redis.file_not_kept", reason=error.strerror)
        time.sleep(SYNC_SECONDS)
    except Exception:
        log.exception("redis.file_not_kept")
        time.sleep(SYNC_SECONDS)
