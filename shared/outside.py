"""Files of this machine that are not the service's own, and that others may change at any moment."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.errors import StorageFailed
from shared.object_store import translated
from shared.storage import Storage

# O_NONBLOCK: a pipe or a device that stands where the file was must not be waited for.
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# What open(2) says of a link, of what is no folder, and of a socket.
NO_FILE: Final = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG)


class OutsideFiles(Storage):
    """Reads files by their paths from the root on, in which no part is a link any more.

    Links were resolved when the path was checked; one that was put there since is not followed. What is no ordinary
    file is not there.
    """

    def __init__(self) -> None:
        super().__init__("file:///")

    def get(self, key: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileMissing, StorageFailed
        """
        return bytes(self.get_range(key, 0, self.size(key)))

    def _head(self, key: str) -> tuple[int, str | None]:
        with _opened(key) as descriptor:
            return _about(descriptor)

    def _fetch(self, key: str, start: int, stop: int, tag: str | None) -> memoryview:
        with _opened(key) as descriptor:
            if tag is not None and _about(descriptor)[1] != tag:
                raise StorageFailed(f"{key} was changed while it was read.")
            data = bytearray()
            while len(data) < stop - start and (
                more := os.pread(descriptor, stop - start - len(data), start + len(data))
            ):
                data += more
        if not data:
            raise StorageFailed(f"{key} ends before byte {start}.")
        return memoryview(data)


@contextmanager
def _opened(key: str) -> Iterator[int]:
    """A descriptor of the file, reached folder by folder."""
    with translated(key, "read"):
        try:
            descriptor = os.open("/", FOLDER)
            *folders, name = key.split("/")
            for part in folders:
                descriptor = _stepped(descriptor, part, FOLDER)
            descriptor = _stepped(descriptor, name, FILE)
        except OSError as error:
            if error.errno in NO_FILE:
                raise FileNotFoundError(error.errno, "it is a link, or no file") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(errno.ENOENT, "it is no ordinary file")
            yield descriptor
        finally:
            os.close(descriptor)


def _stepped(folder: int, name: str, flags: int) -> int:
    """What lies in a folder, which is closed."""
    try:
        return os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _about(descriptor: int) -> tuple[int, str]:
    """Size, and a tag that changes when the file does."""
    found = os.fstat(descriptor)
    return found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
