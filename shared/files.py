"""Uploads: those under way, and the files that were uploaded to be used by jobs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from redis.exceptions import RedisError

from shared.batch import Format
from shared.errors import FileInUse, StoreUnavailable, UnknownFile, UploadLost
from shared.job import from_millis
from shared.limits import Limits, beyond
from shared.owner import DEFAULT_OWNER
from shared.schema import SCHEMA, current, known
from shared.settings import Settings
from shared.store import JobStore

# Files whose place in their owner's list is looked at in one round of the janitor.
LOOKED_AT: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file that was uploaded by itself."""

    id: str
    name: str
    format: Format | None
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None


class Files:
    """What is noted in Redis about uploads and files; their bytes lie in storage."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._idle_millis = settings.upload_idle_seconds * 1000
        self._ttl_millis = settings.file_ttl_seconds * 1000
        self._look = b"0"

    def announce(self, prefix: str) -> None:
        """Say that files are being written below a prefix: if that is never finished, the janitor removes them.

        Raises:
            StoreUnavailable, StoreFull
        """
        self._store.run("upload", prefix, self._idle_millis, "begin")

    def keep(self, prefix: str) -> None:
        """Say that it still goes on.

        Raises:
            UploadLost: it was idle for too long and is removed.
            StoreUnavailable, StoreFull
        """
        if not self._store.run("upload", prefix, self._idle_millis, "go on"):
            raise UploadLost

    def forget(self, prefix: str) -> None:
        """Say that there is nothing left of it.

        Raises:
            StoreUnavailable
        """
        self._store.run("upload", prefix, 0, "forget")

    def add(self, file: StoredFile, upload: str, *, owner: str = DEFAULT_OWNER, most_bytes: int = 0) -> StoredFile:
        """Keep a file whose upload is complete; returned with its expiry.

        `most_bytes`: that the owner may have in storage (0: any number).

        Raises:
            LimitReached, InvalidRequest, UploadLost, StoreUnavailable, StoreFull
        """
        about = {
            "name": file.name,
            "format": file.format,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "created_at": file.created_at.timestamp(),
            "schema": SCHEMA,
        }
        expires = self._store.run(
            "file_add", file.id, upload, orjson.dumps(about), self._ttl_millis, owner, file.size_bytes, most_bytes or ""
        )
        if expires is None:
            raise UploadLost
        if isinstance(expires, int):
            raise beyond("bytes", expires, file.size_bytes, Limits(stored_bytes=most_bytes))
        return self.get(file.id, owner=owner)

    def get(self, file_id: str, *, owner: str = DEFAULT_OWNER) -> StoredFile:
        """A file of an owner.

        Raises:
            UnknownFile, StoreUnavailable
        """
        try:
            raw, expires, whose = self._store.connections.client.hmget(
                self._store.keys.file(file_id), "file", "expires", "owner"
            )
        except RedisError as error:
            raise StoreUnavailable from error
        if raw is None or (whose or DEFAULT_OWNER.encode()) != owner.encode():
            raise UnknownFile(f"There is no file {file_id}.")
        return _loaded(file_id, raw, expires)

    def page(self, *, owner: str = DEFAULT_OWNER, after: str | None = None, limit: int) -> list[StoredFile]:
        """Files of an owner, newest first; those that follow `after`, up to `limit`.

        Raises:
            UnknownFile: there is no file `after`.
            StoreUnavailable
        """
        if after is not None:
            self.get(after, owner=owner)
        client, keys, index = self._store.connections.client, self._store.keys, self._store.keys.files_of(owner)
        found: list[StoredFile] = []
        try:
            while len(found) < limit:
                start = "+" if after is None else f"({after}"
                ids = client.zrange(index, start, "-", desc=True, bylex=True, offset=0, num=limit - len(found))
                if not ids:
                    break
                pipeline = client.pipeline(transaction=False)
                for raw_id in ids:
                    pipeline.hmget(keys.file(raw_id.decode()), "file", "expires")
                records = dict(zip(ids, pipeline.execute(), strict=True))
                # A release that does not keep these lists has removed them.
                gone = [raw_id for raw_id, (raw, _) in records.items() if raw is None]
                if gone:
                    client.zrem(index, *gone)
                found += [_loaded(one.decode(), *record) for one, record in records.items() if record[0] is not None]
                after = ids[-1].decode()
        except RedisError as error:
            raise StoreUnavailable from error
        return found

    def delete(self, file_id: str, *, owner: str = DEFAULT_OWNER) -> None:
        """Forget a file; its bytes remain to be removed.

        Raises:
            UnknownFile, FileInUse, StoreUnavailable
        """
        match self._store.run("file_delete", file_id, owner):
            case b"unknown":
                raise UnknownFile(f"There is no file {file_id}.")
            case b"in use":
                raise FileInUse
            case _:
                return

    def expired(self, most: int) -> tuple[list[str], list[str]]:
        """Prefixes of uploads that were given up, and ids of files that are over; their bytes remain to be removed.

        Call after call, the files of a release that kept no lists of them come into those of their owners.

        Raises:
            StoreUnavailable, StoreFull
        """
        uploads, files, self._look = self._store.run("sweep_files", most, self._idle_millis, self._look, LOOKED_AT)
        return [prefix.decode() for prefix in uploads], [file_id.decode() for file_id in files]

    def swept(self, *, upload: str | None = None, file_id: str | None = None) -> None:
        """The bytes of one of these are gone.

        Raises:
            redis.exceptions.RedisError
        """
        client, keys = self._store.connections.client, self._store.keys
        if upload is not None:
            client.zrem(keys.uploads, upload)
        if file_id is not None:
            client.zrem(keys.files, file_id)


def _loaded(file_id: str, raw: bytes, expires: bytes | None) -> StoredFile:
    about = known(StoredFile, current("file", orjson.loads(raw)))
    created_at = from_millis(b"%d" % round(about.pop("created_at") * 1000))
    assert created_at is not None  # noqa: S101  # `add` wrote it
    return StoredFile(id=file_id, created_at=created_at, expires_at=from_millis(expires), **about)
