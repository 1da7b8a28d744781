"""The file storage: whether it can be written, read, listed and removed from, and never shows half a file."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.doctor.finding import Finding, ok, problem, warning
from shared.errors import StorageFailed, StorageFull
from shared.place import Place
from shared.settings import Settings
from shared.storage import Storage

LONGEST_REASON: Final = 300


class Untrue(Exception):
    """The storage does something else than it should; what."""


class _GivenUp(Exception):
    """Thrown by the trial itself, as a process that dies in mid-write."""


def storage(settings: Settings) -> Iterator[Finding]:
    """A trial under a name of its own, which is removed."""
    place = Place.parse(settings.storage_url)
    files = Storage(place.url)
    prefix = f"doctor/{secrets.token_hex(8)}"
    absent = [] if place.bucket else _absent(Path("/", place.path))
    try:
        files.check()  # which gives up soon
        for step in (_write, _replace, _stream, _give_up):
            step(files, prefix)
        files.delete(prefix)
        if list(files.list(prefix)):
            raise Untrue("a file that was removed is listed")
    except (StorageFailed, Untrue) as error:
        yield problem("storage", f"{place.url}: {_reason(error)}", _remedy(place, error))
    else:
        yield from _owned(settings, place)
        yield ok("storage", f"{place.url} takes files whole, reads, lists and removes them")
    finally:
        with contextlib.suppress(StorageFailed):
            files.delete(prefix)
        for folder in absent:
            with contextlib.suppress(OSError):  # somebody uses it meanwhile
                folder.rmdir()


def inputs(settings: Settings) -> Iterator[Finding]:
    """Whether jobs can read where they may."""
    prefixes = settings.input_prefixes.split()
    unread = 0
    for prefix in prefixes:
        place = Place.parse(prefix)
        try:
            if place.bucket:
                Storage(place.url).check()
            else:
                next(Path("/", place.path).iterdir(), None)
        except (StorageFailed, OSError) as error:
            unread += 1
            yield problem(
                "inputs",
                f"{prefix} of FORETELL_INPUT_PREFIXES cannot be read here: {_reason(error)}",
                "make it readable for API, worker-batch and worker-train, or take it out",
            )
    if prefixes and not unread:
        yield ok("inputs", f"{', '.join(prefixes)} can be read")


def _write(files: Storage, prefix: str) -> None:
    key = f"{prefix}/whole"
    files.put(key, b"first")
    if files.get(key) != b"first" or bytes(files.get_range(key, 1, 3)) != b"ir":
        raise Untrue("a file is read otherwise than it was written")
    if list(files.list(prefix)) != [key]:
        raise Untrue("a file that was written is not listed")


def _replace(files: Storage, prefix: str) -> None:
    """A reader never gets parts of two files: see Storage.blocks."""
    key = f"{prefix}/whole"
    reading = files.blocks(key)
    files.put(key, b"other")
    with contextlib.suppress(StorageFailed):
        if b"".join(reading) != b"first":
            raise Untrue("a file that is replaced while it is read is not noticed: it must answer If-Match by ETag")
    if files.get(key) != b"other":
        raise Untrue("a file that was replaced is read as it was before")


def _stream(files: Storage, prefix: str) -> None:
    key = f"{prefix}/streamed"
    with files.writer(key) as writer:
        writer.write(b"half")
        if files.exists(key):
            raise Untrue("a file is seen before it is complete")
    if files.get(key) != b"half":
        raise Untrue("a file that was written piece by piece is read otherwise")


def _give_up(files: Storage, prefix: str) -> None:
    key = f"{prefix}/given-up"
    with contextlib.suppress(_GivenUp), files.writer(key) as writer:
        writer.write(b"half")
        raise _GivenUp
    if files.exists(key):
        raise Untrue("a file that was never finished is seen")


def _absent(folder: Path) -> list[Path]:
    """What the trial will make on the way to a folder, deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _owned(settings: Settings, place: Place) -> Iterator[Finding]:
    """Whether this user is the one of the service, whose files nobody else may read."""
    folder, us = Path("/", place.path), os.geteuid()
    if place.bucket is None and folder.exists() and (owner := folder.stat().st_uid) != us:
        yield warning(
            "storage",
            f"{folder} belongs to user {owner}, and you are {us}: what you may do says nothing of the service",
            "run this as the user that runs the service; all its processes run as one",
        )


def _reason(error: Exception) -> str:
    """What went wrong in a line, with what the store itself said."""
    cause = error.__cause__
    said = f"{error} {cause}" if cause is not None else str(error)
    line = " ".join(said.partition("\n\nDebug source")[0].split())
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."


def _remedy(place: Place, error: Exception) -> str:
    if isinstance(error, StorageFull):
        return "make room, or have its quota raised"
    if isinstance(error, Untrue):
        return "use another store; docs/batch-files.md#storage says what is asked of one"
    if place.bucket:
        return (
            "see that the store runs, and that FORETELL_STORAGE and the AWS_ variables name it, the key and its rights"
        )
    return "make it a folder that the user of the service may write to, or correct FORETELL_STORAGE, FORETELL_DATA_DIR"
