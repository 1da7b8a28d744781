"""The janitor: gives back what dead workers held, enforces deadlines, rings again, removes what has expired.

Any number may run at once: each round is made of atomic steps that find nothing to do a second time.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from shared.batch import OUTPUT_NAMES
from shared.batch_store import BatchStore
from shared.errors import ServiceError, StorageFailed, StoreUnavailable
from shared.files import Files
from shared.job import Job, Status
from shared.queue import DRAINED
from shared.registry import Registry
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, file_prefix, job_prefix, output_key, parts_prefix, unpacked_prefix
from shared.store import JobStore

log = structlog.get_logger()

# Past this part of Redis's memory submits are refused, so that running work and doorbells still have room.
WATERMARK: Final = 0.9
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
        *,
        short_of_disk: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing is done yet.

        Args:
            store: jobs, and so on: what is looked after.
            ring: calls workers of a queue.
            short_of_disk: whether Redis has too little room on its disk.
        """
        self._store = store
        self._batches = batches
        self._files = files
        self._storage = storage
        self._registry = registry
        self._schedules = schedules
        self._ring = ring
        self._settings = settings
        self._short_of_disk = short_of_disk
        self._counted = False

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
        self._watch_room()
        for owner in self._store.owners():
            for entry, job_id in self._store.sweep(owner):
                if self._removed(job_prefix(job_id)):
                    self._store.swept(entry, job_id, owner)
        self._sweep_files()
        self.remove_parts()
        self._mend_registry()

    def remove_parts(self) -> None:
        """Remove what the outputs of ended batch jobs were made of, and outputs that were given up.

        Raises:
            StoreUnavailable
        """
        ended = self._batches.ended(MOST_SWEPT)
        jobs = self._store.read_many(ended, skip_newer=True)
        for job_id in ended:
            removed = self._removed(parts_prefix(job_id), unpacked_prefix(job_id))
            if removed and self._without_given_up(jobs.get(job_id)) and self._tidied(job_prefix(job_id)):
                self._batches.tidied(job_id)

    def _without_given_up(self, job: Job | None) -> bool:
        """Remove outputs that a job has not, though its end wrote them before it failed: nobody counts them."""
        if job is None or job.kind != "batch" or job.status not in (Status.FAILED, Status.CANCELLED):
            return True
        kept = {output["key"] for output in job.outputs.values()}
        written = {output_key(job.id, name) for name in OUTPUT_NAMES} - kept
        try:
            given_up = [key for key in self._storage.list(job_prefix(job.id)) if key in written]
        except StorageFailed as error:
            log.warning("janitor.not_removed", prefixes=(job_prefix(job.id),), reason=error.message)
            return False
        return self._removed(*given_up)

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
        if not self._counted:
            # Once, since this release may have come after one that did not count versions.
            self._registry.recount(self._store.owners())
            self._counted = True
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

    def _watch_room(self) -> None:
        """Put up the sign `full` while memory or disk is short; it falls by itself when no janitor renews it."""
        client, full = self._store.connections.client, self._store.keys.full
        memory: dict[str, Any] = client.info("memory")
        used, limit = int(memory["used_memory"]), int(memory["maxmemory"])
        if limit and used > WATERMARK * limit:
            short = "memory"
        elif self._short_of_disk():
            short = "disk"
        else:
            client.delete(full)
            return
        log.warning("store.full", short_of=short, used_bytes=used, limit_bytes=limit)
        with suppress(OutOfMemoryError):  # Redis itself refuses submits then
            client.set(full, short, px=int(self._settings.janitor_seconds * 5000))
