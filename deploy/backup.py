"""A backup: one folder with the records of Redis as of one moment, and every file in storage that they name.

    backup.json      what it is, with the sha256 of the two files below; written last
    records.resp     the records, as commands (deploy/entries.py)
    files.jsonl      {key, bytes, sha256} of every file, a line each
    storage/         the files, by key

Files are written before their records and never change, so whatever the records name can be copied after them. What is
removed meanwhile is missing then: if its owner removed it, that is noted and done again after a restore; else records
are taken anew, and with them only the files that are new.
"""

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from deploy.embedded import reachable
from deploy.entries import commands, packed
from deploy.inventory import Inventory, NamedFile
from deploy.snapshot import snapshot, sync
from shared import __version__
from shared.catalogue import reached
from shared.connection import Connections
from shared.errors import BackupDamaged, BadSetting, FileMissing
from shared.keys import Keys
from shared.settings import Settings
from shared.storage import Storage

FORMAT: Final = 1
ABOUT: Final = "backup.json"
RECORDS: Final = "records.resp"
FILES: Final = "files.jsonl"
STORAGE: Final = "storage"
# After the first the window, in which something may be removed, is as short as one snapshot takes.
MOST_ROUNDS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """A file as it was copied."""

    size_bytes: int
    sha256: str


@dataclass(kw_only=True, slots=True)
class Round:
    """What came of one snapshot."""

    missing: list[str] = field(default_factory=list)  # sentences
    removed: dict[str, list[list[str]]] = field(default_factory=lambda: {"jobs": [], "files": []})  # id and owner


def back_up_service(settings: Settings, arguments: Sequence[str]) -> int:
    """`python -m deploy backup FOLDER`.

    Raises:
        ServiceError
    """
    parser = argparse.ArgumentParser("python -m deploy backup", description="Back up jobs, models and files.")
    parser.add_argument("folder", type=Path, help="a new folder; it must be kept as safe as the service itself")
    folder = parser.parse_args(arguments).folder.absolute()
    os.nice(10)  # the service, which may run, goes first
    try:
        for line in back_up(settings, folder):
            print(line)
    except OSError as error:
        raise BadSetting(f"{folder} cannot be used for a backup: {error.strerror}") from error
    return 0


def back_up(settings: Settings, folder: Path) -> Iterator[str]:
    """Back up a service that runs, or does not, into a new folder; what was done, for people.

    Raises:
        BadSetting: the folder cannot be used, or Redis gives no copy of itself.
        BackupDamaged: files that the records name are not in storage, or are others; all others are in the backup.
        StoreUnavailable, StorageFailed, StorageFull
    """
    claim(folder)
    with reachable(settings):
        connections = Connections(settings.redis_address, timeout_seconds=30)
        source, target = Storage.of(settings), Storage((folder / STORAGE).as_uri())
        copied: dict[str, Copied] = {}
        for number in range(1, MOST_ROUNDS + 1):
            with reached():
                seconds, micros = connections.client.time()
            taken = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
            with snapshot(connections, folder) as client:
                inventory = Inventory.of(client, Keys(settings.redis_prefix), int(taken.timestamp() * 1000))
                copy_files(source, target, inventory, copied)
                found = compare(inventory, copied, connections, Keys(settings.redis_prefix))
                if not found.missing or number == MOST_ROUNDS:
                    records = write_records(folder / RECORDS, client, Keys(settings.redis_prefix).base)
                    break
        for key in [key for key in copied if not inventory.wants(key)]:
            target.delete(key)
            del copied[key]
    files = write_files(folder / FILES, copied)
    about = {
        "format": FORMAT,
        "foretell": __version__,
        "taken_at": taken.isoformat(),
        "prefix": settings.redis_prefix,
        "jobs": dict(sorted(inventory.statuses.items())),
        "versions": len(inventory.versions),
        "uploads": len(inventory.files),
        "files": len(copied),
        "bytes": sum(file.size_bytes for file in copied.values()),
        "removed": found.removed,
        "missing": found.missing,
        "sha256": {RECORDS: records, FILES: files},
    }
    write_about(folder / ABOUT, about)
    yield f"{folder} holds {told(about)}"
    if found.missing:
        raise BackupDamaged(
            f"The backup in {folder} lacks what is not in the file storage: {'; '.join(found.missing[:10])}"
        )


def claim(folder: Path) -> None:
    """Make the folder, for nobody else to read: what it holds are jobs, models and secrets.

    Raises:
        BadSetting, OSError
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadSetting(f"{folder} is not empty; name a new folder for the backup")
    folder.chmod(0o700)  # it may have been there
    (folder / STORAGE).mkdir(mode=0o700)


def copy_files(source: Storage, target: Storage, inventory: Inventory, copied: dict[str, Copied]) -> None:
    """Copy the files that belong to a snapshot and are not copied yet; those that vanish meanwhile are left out.

    Raises:
        StorageFailed, StorageFull
    """
    for folder in ("jobs", "files", "models"):
        for key in source.list(folder):
            if key not in copied and inventory.wants(key):
                try:
                    copied[key] = copy(source, target, key)
                except FileMissing:
                    continue


def copy(source: Storage, target: Storage, key: str) -> Copied:
    """Copy a file.

    Raises:
        FileMissing, StorageFailed, StorageFull
    """
    digest, size = hashlib.sha256(), 0
    blocks = source.blocks(key)
    with target.writer(key) as writer:
        for block in blocks:
            writer.write(block)
            digest.update(block)
            size += len(block)
    return Copied(size_bytes=size, sha256=digest.hexdigest())


def compare(inventory: Inventory, copied: dict[str, Copied], connections: Connections, keys: Keys) -> Round:
    """Whether each file that the records name was copied and is the one that they mean.

    Raises:
        StoreUnavailable
    """
    came, gone = Round(), set[str]()
    for named in inventory.named:
        there = copied.get(named.key)
        if there is None and named.id not in gone and _is_gone(connections, keys, named):
            gone.add(named.id)
            came.removed[f"{named.kind}s"].append([named.id, inventory.owner(named.id)])
        if named.id in gone:
            continue
        if there is None:
            came.missing.append(f"{named.key} of {named.kind} {named.id} is missing")
        elif named.sha256 not in (None, there.sha256) or named.size_bytes not in (None, there.size_bytes):
            came.missing.append(f"{named.key} of {named.kind} {named.id} is not what it was when it was written")
    return came


def _is_gone(connections: Connections, keys: Keys, named: NamedFile) -> bool:
    """Whether the owner of a file has removed it since, or its time was over."""
    with reached():
        if named.kind == "file":
            return not connections.client.exists(keys.file(named.id))
        if named.kind != "job":
            return False  # the records are taken anew
        status, expires = connections.client.hmget(keys.job(named.id), "status", "expires")
        seconds, _ = connections.client.time()
    return status in (None, b"deleted") or (expires is not None and int(expires) <= seconds * 1000)


def write_records(path: Path, client: Any, base: str) -> str:
    """Write all records; the sha256 of the file.

    Raises:
        OSError
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for command in commands(client, base):
            raw = packed(command)
            file.write(raw)
            digest.update(raw)
    sync(path)
    return digest.hexdigest()


def write_files(path: Path, copied: dict[str, Copied]) -> str:
    """Write the list of files; its sha256.

    Raises:
        OSError
    """
    lines = (
        orjson.dumps({"key": key, "bytes": file.size_bytes, "sha256": file.sha256}) + b"\n"
        for key, file in sorted(copied.items())
    )
    raw = b"".join(lines)
    path.write_bytes(raw)
    sync(path)
    return hashlib.sha256(raw).hexdigest()


def write_about(path: Path, about: dict[str, Any]) -> None:
    """Write what a backup is, with a digest of that itself: without this file there is no backup.

    Raises:
        OSError
    """
    whole = about | {"digest": digest_of(about)}
    new = path.with_suffix(".new")
    new.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
    sync(new)
    new.replace(path)
    sync(path)


def digest_of(about: dict[str, Any]) -> str:
    """The sha256 of what a backup says of itself."""
    known = {name: value for name, value in about.items() if name != "digest"}
    return hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()


def told(about: dict[str, Any]) -> str:
    """What is in a backup, for people."""
    jobs = about["jobs"]
    waiting = jobs.get("queued", 0) + jobs.get("running", 0)
    return (
        f"{sum(jobs.values())} jobs ({waiting} of them unfinished), {about['versions']} versions of models and "
        f"{about['uploads']} uploaded files as of {about['taken_at']}: {about['files']} files, {about['bytes']} bytes"
    )
