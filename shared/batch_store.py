"""Batch jobs in the job store: their plan, their chunks and their end; what the workers of the batch queue do."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from redis.exceptions import RedisError

from shared.batch import Layout, Slice
from shared.errors import StoreUnavailable
from shared.job import Status
from shared.records import DEADLINE, BatchUnit, dump_slice, load_batch_unit, load_slice
from shared.settings import Settings
from shared.store import JobStore


class BatchStore:
    """The units of batch jobs. A worker has one at most, so no more chunks are in flight than there are workers."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def pull(self, worker: str, *, linger_seconds: float, answered: bool) -> BatchUnit | None:
        """Lease a unit, in one round trip; None: nothing to do, and `worker` is noted as lingering.

        Raises:
            StoreUnavailable, StoreFull
        """
        settings = self._settings
        reply = self._store.run(
            "pull_batch", worker, int(settings.lease_seconds * 1000), int(linger_seconds * 1000), int(answered),
            settings.max_chunk_slices, settings.chunk_seconds, DEADLINE,
        )  # fmt: skip
        return None if reply is None else load_batch_unit(reply)

    def plan(
        self, unit: BatchUnit, worker: str, mode: str, layout: Layout, position: Mapping[str, Any],
        slices: Sequence[Slice], *, known: int, rows: int, keep_seconds: float = 0
    ) -> tuple[bool, bool, int]:  # fmt: skip
        """Add slices to a job, and keep how far the plan is.

        Args:
            unit: the plan.
            worker: who makes it.
            mode: more; pause (the unit ends, and the plan goes on in another); done.
            layout: how slices are read.
            position: where to go on after a crash, or a pause.
            slices: in order; each once.
            known: slices that the job had before, so that none is added twice.
            rows: of the file so far, with these.
            keep_seconds: how long only this worker may go on after a pause.

        Returns:
            Whether the unit goes on, whether a doorbell must be published, and how many slices no worker has begun.

        Raises:
            StoreUnavailable, StoreFull
        """
        goes_on, ring, waiting = self._store.run(
            "plan", unit.fence, mode, worker, int(keep_seconds * 1000), orjson.dumps(layout.to_dict()),
            orjson.dumps(position), rows, known, *map(dump_slice, slices),
        )  # fmt: skip
        return goes_on == 1, ring == 1, waiting

    def slices(self, job_id: str) -> list[Slice]:
        """All slices of a job that are known so far.

        Raises:
            StoreUnavailable
        """
        store = self._store
        try:
            return [load_slice(raw) for raw in store.connections.client.lrange(store.keys.slices(job_id), 0, -1)]
        except RedisError as error:
            raise StoreUnavailable from error

    def commit_chunk(self, unit: BatchUnit, part: Mapping[str, Any], reasons: Mapping[str, int]) -> bool:
        """Count a chunk's rows; False if another attempt has the chunk by now, or the job is done.

        Raises:
            StoreUnavailable, StoreFull
        """
        counts = [argument for reason in sorted(reasons) for argument in (reason, reasons[reason])]
        reply = self._store.run(
            "commit_chunk", unit.fence, orjson.dumps(part), part["succeeded"], part["failed"], *counts
        )
        return bool(reply == 1)

    def commit_final(self, unit: BatchUnit, status: Status, outcome: Mapping[str, Any]) -> bool:
        """End a job whose output is written; False if it was cancelled meanwhile, which its manifest must say too.

        If another attempt does that by now, or the job is done, nothing changes.

        Raises:
            StoreUnavailable, StoreFull
        """
        return bool(self._store.run("commit_final", unit.fence, status.value, orjson.dumps(outcome)) != 2)

    def ended(self, most: int) -> list[str]:
        """Jobs that have ended since `tidied` was told last; what they were made of remains to be removed.

        Raises:
            StoreUnavailable
        """
        store = self._store
        try:
            return [raw.decode() for raw in store.connections.client.srandmember(store.keys.ended, most)]
        except RedisError as error:
            raise StoreUnavailable from error

    def tidied(self, job_id: str) -> None:
        """The parts and unpacked pieces of a job that has ended are gone.

        Raises:
            StoreUnavailable
        """
        try:
            self._store.connections.client.srem(self._store.keys.ended, job_id)
        except RedisError as error:
            raise StoreUnavailable from error

    def fail(self, unit: BatchUnit, code: str, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> bool:
        """End a job that cannot go on, once what is done is written; True: a doorbell must be published.

        Raises:
            StoreUnavailable, StoreFull
        """
        outcome = {"failure": {"code": code, "message": message}} | ({"errors": list(errors)} if errors else {})
        return bool(self._store.run("fail_batch", unit.fence, orjson.dumps(outcome)) == 1)
