"""The janitor: gives back what dead workers held, enforces deadlines, rings again, removes what has expired.

Any number may run at once: each round is made of atomic steps that find nothing to do a second time.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from shared.batch_store import BatchStore
from shared.errors import ServiceError, StorageFailed, StoreUnavailable
from shared.files import Files
from shared.queue import BATCH, ONLINE, TRAIN
from shared.registry import Registry
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, file_prefix, job_prefix, parts_prefix, unpacked_prefix
from shared.store import JobStore

log = structlog.get_logger()

# Past this part of Redis's memory submits are refused, so that running work and doorbells still have room.
WATERMARK: Final = 0.9
DRAINED: Final = (ONLINE, BATCH, TRAIN)
# Uploads and files that one round removes, and copies that it writes.
MOST_SWEPT: Final = 100


class Janitor:
    """One of any number of janitors."""

    def __init__(
        self,
        store: JobStore,
        batches: BatchStore,
        files: Files,
        storage: Storage,
        registry: Registry,
        schedules: Schedules,
        ring: Callable[[str], None],
        settings: Settings,
    ) -> None:
        self._store = store
        self._batches = batches
        self._files = files
        self._storage = storage
        self._registry = registry
        self._schedules = schedules
        self._ring = ring
        self._settings = settings

    def tick(self) -> None:
        """One round.

        Raises:
            StoreUnavailable, redis.exceptions.RedisError: the next round goes on.
        """
        again, ended, queues = self._store.tick(DRAINED)
        if again or ended:
            log.warning("janitor.recovered", jobs_given_back=again, jobs_ended=ended)
        for queue in queues:
            self._ring(queue)
        self._watch_memory()
        for entry, job_id in self._store.sweep():
            if self._removed(job_prefix(job_id)):
                self._store.swept(entry)
        self._sweep_files()
        self.remove_parts()
        self._mend_registry()

    def remove_parts(self) -> None:
        """Remove what the outputs of ended batch jobs were made of.

        Raises:
            StoreUnavailable
        """
        for job_id in self._batches.ended(MOST_SWEPT):
            if self._removed(parts_prefix(job_id), unpacked_prefix(job_id)) and self._tidied(job_prefix(job_id)):
                self._batches.tidied(job_id)

    def _sweep_files(self) -> None:
        """Remove what is left of uploads that nobody finished, and files whose time to live is over."""
        uploads, files = self._files.expired(MOST_SWEPT)
        for prefix in uploads:
            if self._removed(prefix):
                self._files.swept(upload=prefix)
        for file_id in files:
            if self._removed(file_prefix(file_id)):
                self._files.swept(file_id=file_id)
        if uploads or files:
            log.info("janitor.swept", uploads=len(uploads), files=len(files))

    def _mend_registry(self) -> None:
        """Write copies in storage that may be old, and remove the files of versions that are gone."""
        self._registry.give_up()
        for mend, names in (
            (self._registry.remove, self._registry.removed()),
            (self._registry.copy, self._registry.unsaved()),
            (self._schedules.copy, self._schedules.unsaved()),
        ):
            # Any of them, so that those that cannot be mended never keep the others from their turn.
            for name in random.sample(names, min(MOST_SWEPT, len(names))):
                try:
                    mend(name)
                except (StoreUnavailable, RedisError):
                    raise
                except ServiceError as error:
                    log.warning("janitor.not_mended", model=name, reason=error.message)
                except Exception as error:
                    log.exception("janitor.not_mended", model=name, reason=type(error).__name__)

    def _removed(self, *prefixes: str) -> bool:
        """Remove files; one that cannot be removed now does not keep others from being removed."""
        try:
            for prefix in prefixes:
                self._storage.delete(prefix)
        except StorageFailed as error:
            log.warning("janitor.not_removed", prefixes=prefixes, reason=error.message)
            return False
        return True

    def _tidied(self, prefix: str) -> bool:
        try:
            self._storage.tidy(prefix)
        except StorageFailed as error:
            log.warning("janitor.not_removed", prefixes=(prefix,), reason=error.message)
            return False
        return True

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
