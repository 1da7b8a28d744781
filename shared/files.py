"""Uploads: those under way, and the files that were uploaded to be used by jobs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis.exceptions import RedisError

from shared.batch import Format
from shared.errors import FileInUse, StoreUnavailable, UnknownFile, UploadLost
from shared.job import from_millis
from shared.settings import Settings
from shared.store import JobStore


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

    def add(self, file: StoredFile, upload: str) -> StoredFile:
        """Keep a file whose upload is complete; returned with its expiry.

        Raises:
            UploadLost, StoreUnavailable, StoreFull
        """
        about = {
            "name": file.name,
            "format": file.format,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "created_at": file.created_at.timestamp(),
        }
        expires = self._store.run("file_add", file.id, upload, orjson.dumps(about), self._ttl_millis)
        if expires is None:
            raise UploadLost
        return self.get(file.id)

    def get(self, file_id: str) -> StoredFile:
        """A file.

        Raises:
            UnknownFile, StoreUnavailable
        """
        try:
            raw, expires = self._store.connections.client.hmget(self._store.keys.file(file_id), "file", "expires")
        except RedisError as error:
            raise StoreUnavailable from error
        if raw is None:
            raise UnknownFile(f"There is no file {file_id}.")
        about: dict[str, Any] = orjson.loads(raw)
        created_at = from_millis(b"%d" % round(about.pop("created_at") * 1000))
        assert created_at is not None  # noqa: S101  # `add` wrote it
        return StoredFile(id=file_id, created_at=created_at, expires_at=from_millis(expires), **about)

    def delete(self, file_id: str) -> None:
        """Forget a file; its bytes remain to be removed.

        Raises:
            UnknownFile, FileInUse, StoreUnavailable
        """
        match self._store.run("file_delete", file_id):
            case b"unknown":
                raise UnknownFile(f"There is no file {file_id}.")
            case b"in use":
                raise FileInUse
            case _:
                return

    def expired(self, most: int) -> tuple[list[str], list[str]]:
        """Prefixes of uploads that were given up, and ids of files that are over; their bytes remain to be removed.

        Raises:
            StoreUnavailable, StoreFull
        """
        uploads, files = self._store.run("sweep_files", most, self._idle_millis)
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
