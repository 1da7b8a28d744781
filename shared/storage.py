"""File storage: bytes by key, for what is too large for Redis. A reader never sees half a file."""

import os
from pathlib import Path

import obstore
from obstore.store import LocalStore

from shared.errors import StorageFailed


class Storage:
    """A folder, through obstore; opened at first use, since a store made before a fork hangs after it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stores: dict[int, LocalStore] = {}

    def _store(self) -> LocalStore:
        store = self._stores.get(os.getpid())
        if store is None:
            self._stores.clear()
            try:
                store = self._stores[os.getpid()] = LocalStore(self.root, mkdir=True, automatic_cleanup=True)
            except Exception as error:
                raise StorageFailed(f"The folder {self.root.name} of the file storage cannot be opened.") from error
        return store

    def put(self, key: str, data: bytes) -> None:
        """Write a file whole, then make it last: obstore renames it into place, but does not sync it to the disk.

        Raises:
            StorageFailed
        """
        try:
            obstore.put(self._store(), key, data)
            path = self.root / key
            for place, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
                descriptor = os.open(place, flags)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StorageFailed(f"{key} cannot be written.") from error

    def get(self, key: str) -> bytes:
        """The bytes of a file.

        Raises:
            StorageFailed: also if there is none.
        """
        try:
            return bytes(obstore.get(self._store(), key).bytes())
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StorageFailed(f"{key} cannot be read.") from error

    def delete(self, prefix: str) -> None:
        """Remove every file below a prefix; nothing happens if there is none.

        Raises:
            StorageFailed
        """
        try:
            store = self._store()
            paths = [entry["path"] for page in obstore.list(store, prefix) for entry in page]
            if paths:
                obstore.delete(store, paths)
        except FileNotFoundError:
            return  # somebody else removed it meanwhile
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StorageFailed(f"{prefix} cannot be removed.") from error

    def check(self) -> None:
        """See that the storage can be read.

        Raises:
            StorageFailed
        """
        try:
            obstore.list_with_delimiter(self._store())
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StorageFailed from error


def job_prefix(job_id: str) -> str:
    """Where all files of a job lie."""
    return f"jobs/{job_id}"


def result_key(job_id: str, attempt: int) -> str:
    """Where an attempt puts a result that is too large for Redis; never where another attempt's may be committed."""
    return f"{job_prefix(job_id)}/result-{attempt}.json"


def artifact_key(model: str, version: int) -> str:
    """Where an artifact lies."""
    return f"models/{model}/{version}/artifact"


def manifest_key(model: str, version: int) -> str:
    """Where the copy of a version's manifest lies, beside its artifact."""
    return f"models/{model}/{version}/manifest.json"
