"""A backup put back: into a service that does not run, on this or another machine, prefix or storage.

Everything is checked before anything is written. Files come first, then the records; then what was under way begins
again: small jobs wait once more, jobs in stages are planned anew.
"""

import argparse
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from redis.exceptions import OutOfMemoryError

from deploy.backup import ABOUT, FILES, FORMAT, RECORDS, STORAGE, copy, digest_of, told
from deploy.embedded import reachable
from deploy.entries import BLOCK_BYTES, lasting, pages, read_commands
from shared.batch_store import BatchStore
from shared.catalogue import reached
from shared.connection import Connections
from shared.errors import BackupDamaged, BadSetting, ServiceError, StoreFull
from shared.files import Files
from shared.heartbeat import API, SCHEDULER, living
from shared.keys import Keys
from shared.queue import BATCH, QUEUES
from shared.settings import Settings
from shared.storage import Storage, file_prefix, job_prefix
from shared.store import JobStore

PAGE: Final = 500
# No job fails for want of attempts because it was under way when the backup was made.
ANY_ATTEMPTS: Final = 2**31
FOLDERS: Final = ("jobs", "files", "models")


def restore_service(settings: Settings, arguments: Sequence[str]) -> int:
    """`python -m deploy restore FOLDER [--replace]`.

    Raises:
        ServiceError
    """
    parser = argparse.ArgumentParser("python -m deploy restore", description="Put a backup back.")
    parser.add_argument("folder", type=Path, help="of the backup")
    parser.add_argument("--replace", action="store_true", help="remove the jobs, models and files that are there")
    given = parser.parse_args(arguments)
    for line in restore(settings, given.folder.absolute(), replace=given.replace):
        print(line)
    return 0


def restore(settings: Settings, folder: Path, *, replace: bool) -> Iterator[str]:
    """Put a backup into the place that the settings name; what was done, for people.

    Args:
        settings: of the service that is to be, which does not run.
        folder: of the backup.
        replace: remove what is there before.

    Raises:
        BackupDamaged: a file of the backup is missing or is another; nothing was written.
        BadSetting: the service runs, or its place is not empty.
        StoreUnavailable, StoreFull, StorageFailed, StorageFull
    """
    about, files = check(folder)
    with reachable(settings, alone=True):
        connections, keys = Connections(settings.redis_address, timeout_seconds=30), Keys(settings.redis_prefix)
        storage = Storage.of(settings)
        make_room(connections, keys, storage, replace=replace)
        source = Storage((folder / STORAGE).as_uri())
        for key, sha256 in files.items():
            if copy(source, storage, key).sha256 != sha256:
                raise BackupDamaged(f"{folder / STORAGE / key} was changed while it was read.")
        play(connections, folder / RECORDS, about["prefix"], keys)
        store = JobStore(connections, settings.model_copy(update={"max_attempts": ANY_ATTEMPTS}))
        begin_again(store, settings)
        remove_again(store, settings, storage, about["removed"])
    yield f"{folder} is restored: {told(about)}"
    for missing in about["missing"]:
        yield f"It was not in the backup: {missing}"


def check(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What a backup says of itself, and the sha256 of each of its files by key, once all of it is found to be so.

    Raises:
        BackupDamaged: something is missing or is another; named.
        BadSetting: it is no backup, or of a later release.
    """
    path = folder / ABOUT
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadSetting(
            f"{path} cannot be read ({error.strerror}): {folder} is no backup, or one that was not finished"
        ) from error
    try:
        about = orjson.loads(raw)
        whole = digest_of(about) == about["digest"]
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BackupDamaged(f"{path} is not as it was written, so nothing was restored.")
    if about["format"] != FORMAT:
        raise BadSetting(f"{path} is of format {about['format']}, of a later release ({about['foretell']}); use that")
    for name, sha256 in about["sha256"].items():
        _check_file(folder / name, sha256)
    entries = [orjson.loads(line) for line in (folder / FILES).read_bytes().splitlines()]
    for entry in entries:
        _check_file(folder / STORAGE / entry["key"], entry["sha256"])
    return about, {entry["key"]: entry["sha256"] for entry in entries}


def _check_file(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read ({error.strerror}), so nothing was restored.") from error
    if digest.hexdigest() != sha256:
        raise BackupDamaged(f"{path} is not as it was written, so nothing was restored.")


def make_room(connections: Connections, keys: Keys, storage: Storage, *, replace: bool) -> None:
    """See that nobody works there and that nothing is there, or remove it.

    Raises:
        BadSetting, StoreUnavailable, StorageFailed
    """
    with reached():
        alive = [role for role in (*QUEUES, SCHEDULER, API) if living(connections, keys, role)]
        if alive:
            raise BadSetting(f"the service runs there ({', '.join(alive)}); stop it, and try again in 10 s")
        some = next(
            (key for page in pages(connections.client, f"{keys.base}*") for key in lasting(page, keys.base)), None
        )
    stored = next((key for folder in FOLDERS for key in storage.list(folder)), None)
    found = some.decode() if some else stored
    if found and not replace:
        raise BadSetting(
            f"there is something already, such as {found}; --replace removes all of it, else name another place"
        )
    with reached():
        for page in pages(connections.client, f"{keys.base}*"):
            connections.client.unlink(*page)
    for folder in FOLDERS:
        storage.delete(folder)


def play(connections: Connections, path: Path, prefix: str, keys: Keys) -> None:
    """Write the records, under the prefix of the target.

    Raises:
        BackupDamaged, StoreUnavailable, StoreFull
    """
    old, new = Keys(prefix).base.encode(), keys.base.encode()
    pipeline = connections.client.pipeline(transaction=False)
    with path.open("rb") as file, reached():
        try:
            for name, key, *arguments in read_commands(file, path, old.decode()):
                pipeline.execute_command(name, new + key.removeprefix(old), *arguments)
                if len(pipeline) >= PAGE:
                    pipeline.execute()
            pipeline.execute()
        except OutOfMemoryError as error:
            raise StoreFull(
                "Redis has not the memory that the backup needs; raise its limit, and try again."
            ) from error


def begin_again(store: JobStore, settings: Settings) -> None:
    """Give back what was leased, and have jobs in stages begin anew: of these only what they read is in a backup.

    Raises:
        StoreUnavailable, StoreFull
    """
    client, keys = store.connections.client, store.keys
    with reached():
        fences = [raw.decode() for raw in client.zrange(keys.leases, 0, -1)]
        staged = [raw.decode() for raw in client.smembers(keys.batches)]
        models = client.smembers(keys.models)
        if models:  # the copies in storage of what is in Redis are not in a backup
            client.sadd(keys.unsaved, *models)
            client.sadd(keys.uncopied, *models)
    for fence in fences:
        store.release(fence, b"", counts=False)
    batches = BatchStore(store, settings, BATCH)
    for job_id in staged:
        batches.begin_again(job_id)


def remove_again(store: JobStore, settings: Settings, storage: Storage, removed: dict[str, list[list[str]]]) -> None:
    """Remove what was removed while the backup was made, as its owners did.

    Raises:
        StoreUnavailable, StorageFailed
    """
    files = Files(store, settings)
    for job_id, owner in removed["jobs"]:
        with contextlib.suppress(ServiceError):  # it is done
            store.cancel(job_id, owner=owner)
        with contextlib.suppress(ServiceError):  # it has expired
            store.delete(job_id, owner=owner)
        storage.delete(job_prefix(job_id))
    for file_id, owner in removed["files"]:
        with contextlib.suppress(ServiceError):  # it has expired
            files.delete(file_id, owner=owner)
        storage.delete(file_prefix(file_id))
