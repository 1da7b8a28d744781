"""The janitor: gives back what dead workers held, enforces deadlines, rings again, removes what has expired.

Any number may run at once: each round is made of atomic steps that find nothing to do a second time.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.exceptions import OutOfMemoryError

from shared.files import Files
from shared.queue import BATCH, ONLINE
from shared.settings import Settings
from shared.storage import Storage, file_prefix, job_prefix
from shared.store import JobStore

log = structlog.get_logger()

# Past this part of Redis's memory submits are refused, so that running work and doorbells still have room.
WATERMARK: Final = 0.9
DRAINED: Final = (ONLINE, BATCH)
# Uploads and files that one round removes.
MOST_SWEPT: Final = 100


class Janitor:
    """One of any number of janitors."""

    def __init__(
        self, store: JobStore, files: Files, storage: Storage, ring: Callable[[str], None], settings: Settings
    ) -> None:
        self._store = store
        self._files = files
        self._storage = storage
        self._ring = ring
        self._settings = settings

    def tick(self) -> None:
        """One round.

        Raises:
            StoreUnavailable, StorageFailed, redis.exceptions.RedisError: the next round goes on.
        """
        again, ended, queues = self._store.tick(DRAINED)
        if again or ended:
            log.warning("janitor.recovered", jobs_given_back=again, jobs_ended=ended)
        for queue in queues:
            self._ring(queue)
        self._watch_memory()
        for entry, job_id in self._store.sweep():
            self._storage.delete(job_prefix(job_id))
            self._store.swept(entry)
        self._sweep_files()

    def _sweep_files(self) -> None:
        """Remove what is left of uploads that nobody finished, and files whose time to live is over."""
        uploads, files = self._files.expired(MOST_SWEPT)
        for prefix in uploads:
            self._storage.delete(prefix)
            self._files.swept(upload=prefix)
        for file_id in files:
            self._storage.delete(file_prefix(file_id))
            self._files.swept(file_id=file_id)
        if uploads or files:
            log.info("janitor.swept", uploads=len(uploads), files=len(files))

    def _watch_memory(self) -> None:
        """Put up the sign `full` while memory is short; it falls by itself when no janitor renews it."""
        client, full = self._store.connections.client, self._store.keys.full
        memory: dict[str, Any] = client.info("memory")
        used, limit = int(memory["used_memory"]), int(memory["maxmemory"])
        if limit and used > WATERMARK * limit:
            log.warning("store.full", used_bytes=used, limit_bytes=limit)
            try:
                client.set(full, 1, px=int(self._settings.janitor_seconds * 5000))
            except OutOfMemoryError:
                return  # Redis itself refuses submits then
        else:
            client.delete(full)
