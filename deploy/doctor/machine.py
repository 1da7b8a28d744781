"""This machine: room on its disks, open files, and who may come in."""

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.front.client import IDLE_CONNECTIONS
from deploy.doctor.finding import Finding, in_words, ok, problem, warning
from deploy.keys import check_open
from shared.errors import BadSetting
from shared.place import Place
from shared.settings import Settings

# With less a disk is full in a moment.
LEAST_BYTES: Final = 256 * 2**20
# Of an API process: what each of its threads may hold (a client that was passed on, which is three; Redis, as a thread
# of the event loop's does; a file), and all others.
FILES_OF_A_THREAD: Final = 6
OTHER_FILES: Final = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What may be written to a folder."""

    folder: Path
    size_bytes: int
    why: str
    action: str


def disk(settings: Settings) -> Iterator[Finding]:
    """Free room where the service writes, against what its limits allow to be written."""
    for need in _needs(settings):
        folder = _there(need.folder)
        about = shutil.disk_usage(folder)
        files = os.statvfs(folder)
        found = f"{need.folder}: {in_words(about.free)} of {in_words(about.total)} are free"
        if about.free < LEAST_BYTES:
            yield problem("disk", found, "make room: Redis takes no writes on a full disk, and uploads are refused")
        elif files.f_files and files.f_favail < files.f_files / 100:
            yield problem("disk", f"{need.folder}: {files.f_favail} files may still be made", "remove small files")
        elif about.free < need.size_bytes:
            yield warning("disk", f"{found}, and {need.why} {in_words(need.size_bytes)}", need.action)
        else:
            yield ok("disk", found)


def _needs(settings: Settings) -> Iterator[Need]:
    if settings.redis_url is None:
        yield Need(
            folder=settings.data_dir,
            # Its append-only file, and a second one while it is rewritten.
            size_bytes=2 * settings.redis_max_memory_mb * 2**20,
            why="the file of the embedded Redis and its rewriting may take",
            action="make room, or lower FORETELL_REDIS_MAX_MEMORY_MB",
        )
    place = Place.parse(settings.storage_url)
    if place.bucket is None:
        yield Need(
            folder=Path("/", place.path),
            size_bytes=settings.max_upload_bytes,
            why="a file that is sent may have",
            action="make room, or lower FORETELL_MAX_UPLOAD_BYTES to less than half of what is free: a job needs room "
            "for its input and its result",
        )
    yield Need(
        folder=Path(tempfile.gettempdir()),
        size_bytes=LEAST_BYTES,
        why="temporary files may take",
        action="make room, or let TMPDIR name another folder",
    )


def _there(folder: Path) -> Path:
    """The folder, or the one that it will be made in."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def open_files(settings: Settings) -> Iterator[Finding]:
    """Whether a process that is started like this one may hold as many as an API process does, which asks for all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if sys.platform == "linux" else soft  # see api/server.py
    needed = FILES_OF_A_THREAD * settings.api_threads + settings.max_waiters + IDLE_CONNECTIONS + OTHER_FILES
    if most == resource.RLIM_INFINITY:
        yield ok("open files", "without a limit")
    elif most < needed:
        yield warning(
            "open files",
            f"{most} a process, and an API process with FORETELL_API_THREADS={settings.api_threads} and "
            f"FORETELL_MAX_WAITERS={settings.max_waiters} may need {needed}",
            f"ulimit -n {needed} before the start (systemd: LimitNOFILE), or fewer threads and waiters",
        )
    else:
        yield ok("open files", f"{most} a process; an API process may need {needed}")


def access(settings: Settings) -> Iterator[Finding]:
    """Whether an API that others can reach asks them for a key; the same is asked at its start.

    Raises:
        StoreUnavailable
    """
    try:
        check_open(settings)
    except BadSetting as error:
        yield problem("access", error.message, "make a key, or listen on 127.0.0.1")
        return
    if settings.is_local:
        yield ok("access", f"the API listens on {settings.host}, for this machine alone")
    elif settings.allow_access_without_keys:
        yield warning(
            "access",
            f"the API listens on {settings.host}, and without keys lets everybody do everything",
            "make a key (python -m deploy keys create NAME --scope admin), and unset "
            "FORETELL_ALLOW_ACCESS_WITHOUT_KEYS",
        )
    else:
        yield ok("access", f"the API listens on {settings.host}, and asks for keys")
