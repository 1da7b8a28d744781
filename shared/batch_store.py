"""Jobs in stages in the job store, over a file, a training or an artifact: their plan, their pieces and their end."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
import structlog
from redis.exceptions import RedisError

from shared.batch import Layout, Slice
from shared.errors import NewerSchema, StoreFull, StoreUnavailable
from shared.job import Status
from shared.meter import METER
from shared.queue import BATCH
from shared.records import DEADLINE, BatchUnit, dump_slice, load_batch_unit, load_slice
from shared.schema import SCHEMA
from shared.settings import Settings
from shared.store import JobStore

log = structlog.get_logger()

# As a label.
DRIFTED: Final[Mapping[bool | None, str]] = {True: "yes", False: "no", None: "unknown"}


class BatchStore:
    """The units of one queue's jobs. A worker has one at most, so no more are in flight than there are workers."""

    def __init__(self, store: JobStore, settings: Settings, queue: str = BATCH) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue

    def pull(self, worker: str, *, linger_seconds: float, answered: bool) -> BatchUnit | None:
        """Lease a unit, in one round trip; None: nothing to do, and `worker` is noted as lingering.

        Raises:
            StoreUnavailable, StoreFull
        """
        settings = self._settings
        reply = self._store.run(
            "pull_batch", worker, int(settings.lease_seconds * 1000), int(linger_seconds * 1000), int(answered),
            settings.max_chunk_slices if self._queue == BATCH else 1, settings.chunk_seconds, DEADLINE, self._queue,
            SCHEMA,
        )  # fmt: skip
        if reply is None:
            return None
        try:
            return load_batch_unit(reply, self._queue)
        except NewerSchema as error:  # of a part: a worker of the newer version goes on
            log.warning("unit.newer_schema", fence=reply[0].decode(), lane=reply[1].decode(), reason=error.message)
            self._store.release(reply[0].decode(), b"", counts=False)
            return None

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
            orjson.dumps(position), rows, known, 0, *map(dump_slice, slices),
        )  # fmt: skip
        return goes_on == 1, ring == 1, waiting

    def plan_training(self, unit: BatchUnit, worker: str, about: Mapping[str, Any], fits: Sequence[str]) -> bool:
        """End the plan of a train job; False if it has lost its lease, or the job stops.

        Args:
            unit: the plan.
            worker: who made it.
            about: what was found out, for the units that follow; with `rows` and of these `failed`.
            fits: each "candidate fold", to be spread over the workers; none: there is nothing to search.

        Raises:
            StoreUnavailable, StoreFull
        """
        _, ring, _ = self._store.run(
            "plan", unit.fence, "done", worker, 0, orjson.dumps(about), b"{}", about["rows"], 0, about["failed"], *fits
        )
        return bool(ring == 1)

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

        A part that came after the end of its job is noted for removal: those before it are gone by then.

        Raises:
            StoreUnavailable, StoreFull
        """
        counts = [argument for reason in sorted(reasons) for argument in (reason, reasons[reason])]
        reply = self._store.run(
            "commit_chunk", unit.fence, orjson.dumps({"schema": unit.spec.schema, **part}), part["succeeded"],
            part["failed"], *counts,
        )  # fmt: skip
        if reply != 1:
            with suppress(NewerSchema):  # its own workers look after it
                job = self._store.read_many([unit.job_id])[unit.job_id]
                if job is None or job.done:
                    self._note_ended(unit.job_id)
        return bool(reply == 1)

    def commit_final(
        self, unit: BatchUnit, status: Status, outcome: Mapping[str, Any], *, succeeded: int | None = None,
        window: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """End a job whose output is written; False if it was cancelled meanwhile, which its manifest must say too.

        If another attempt does that by now, or the job is done, nothing changes. `window` is how far the rows are from
        the model's training data, which shared.drift reads.

        Raises:
            StoreUnavailable, StoreFull
        """
        counted = "" if succeeded is None else succeeded
        remembered = "" if window is None else orjson.dumps(window)
        size_bytes = sum(output.get("bytes") or 0 for output in outcome.get("outputs", {}).values())
        reply = self._store.run(
            "commit_final", unit.fence, status.value, orjson.dumps(outcome), counted, unit.spec.model, remembered,
            size_bytes,
        )  # fmt: skip
        if reply == 1:
            METER.add(f"output_bytes_total {unit.spec.kind}", size_bytes)
            if window is not None:
                METER.add(f"drift_windows_total {DRIFTED[window.get('drifted')]}")
        return bool(reply != 2)

    def tell_phase(self, unit: BatchUnit, phase: str) -> None:
        """Say what a unit is at; it is for display, so a Redis that cannot be told keeps nobody from work."""
        try:
            self._store.run("phase", unit.fence, phase)
        except (StoreUnavailable, StoreFull) as error:
            log.debug("phase.not_told", job_id=unit.job_id, phase=phase, reason=error.code)

    def begin_again(self, job_id: str, unit: BatchUnit | None = None) -> bool:
        """Have an unfinished job begin anew, since all but its input is lost; False if there is nothing to begin.

        `unit`: of who found that out; False also if that is another's by now, or the job began anew too often.

        Raises:
            StoreUnavailable, StoreFull
        """
        more = () if unit is None else (unit.fence, self._settings.max_attempts)
        return bool(self._store.run("begin_again", job_id, *more) == 1)

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

    def _note_ended(self, job_id: str) -> None:
        try:
            self._store.connections.client.sadd(self._store.keys.ended, job_id)
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
        outcome: dict[str, Any] = {"failure": {"code": code, "message": message}}
        if errors:
            outcome["errors"] = list(errors)
        if "errors" in unit.training:
            outcome["outputs"] = {"errors": unit.training["errors"]}
        return bool(self._store.run("fail_batch", unit.fence, orjson.dumps(outcome)) == 1)
