"""The schedules of all models.

What counts is what Redis holds; storage has a copy of each schedule, so that it can be restored.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog
from redis.exceptions import RedisError

from shared.connection import Connections
from shared.copies import Copies
from shared.errors import (
    FileMissing,
    InvalidRequest,
    ModelNotFound,
    ScheduleChanged,
    ScheduleNotFound,
    ServiceError,
    StoreUnavailable,
)
from shared.job import from_millis
from shared.keys import Keys
from shared.schedule import Run, Schedule, ScheduleRecord, millis
from shared.script import loaded
from shared.storage import Storage, schedule_key

log = structlog.get_logger()

SCRIPTS: Final = ("schedule_put", "schedule_delete", "schedule_advance", "schedule_drifted")


class Schedules:
    """The schedules of all models; times are those of Redis's clock, unless another clock is given."""

    def __init__(
        self, connections: Connections, keys: Keys, storage: Storage, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._connections = connections
        self._keys = keys
        self._storage = storage
        self._scripts = loaded(SCRIPTS)
        self._copies = Copies(connections, keys, "schedule")
        self.now = clock or self._redis_time

    def get(self, model: str) -> ScheduleRecord:
        """A model's schedule.

        Raises:
            ScheduleNotFound, StoreUnavailable
        """
        try:
            pipeline = self._connections.client.pipeline(transaction=True)
            pipeline.hmget(self._keys.schedule(model), "schedule", "revision", "last", "job", "window")
            pipeline.zscore(self._keys.schedules, model)
            (raw, revision, last, job_id, window), due = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        if raw is None:
            raise ScheduleNotFound(f"Model {model!r} has no schedule.")
        return ScheduleRecord(
            model=model,
            schedule=Schedule.from_dict(orjson.loads(raw)),
            revision=int(revision),
            next_run_at=None if due is None else from_millis(b"%d" % due),
            last_run=None if last is None else Run.from_json(last),
            job_id=None if job_id is None else job_id.decode(),
            window=None if window is None else window.decode(),
        )

    def exists(self, model: str) -> bool:
        """Whether a model has a schedule.

        Raises:
            StoreUnavailable
        """
        try:
            return bool(self._connections.client.hexists(self._keys.schedule(model), "schedule"))
        except RedisError as error:
            raise StoreUnavailable from error

    def put(self, model: str, schedule: Schedule, *, expected: Sequence[int] | Literal["*"] | None = None) -> None:
        """Keep a schedule. A run that is due by now stays due, unless the times are others than before.

        Args:
            model: the model's name.
            schedule: what is wanted.
            expected: one of these revisions, or any schedule at all ("*"), must be there; None: whatever is.

        Raises:
            ModelNotFound, ScheduleChanged, StoreUnavailable, StoreFull
            InvalidRequest: bad_cron, unknown_time_zone.
        """
        self._put(model, schedule, _wanted(expected))

    def _put(self, model: str, schedule: Schedule, expected: str, least_revision: int = 0) -> None:
        times = schedule.times
        due = None if times is None else times.next_after(self.now())
        match self._run(
            "schedule_put", model, orjson.dumps(asdict(schedule)),
            "" if times is None else f"{times.expression} {times.time_zone}", "" if due is None else millis(due),
            int(schedule.watches), expected, least_revision,
        ):  # fmt: skip
            case [b"unknown"]:
                raise ModelNotFound(f"There is no model {model!r}.")
            case [b"changed", revision]:
                raise _changed(model, revision)

    def delete(self, model: str, *, expected: Sequence[int] | Literal["*"] | None = None) -> None:
        """Remove a schedule; jobs that it made go on.

        Raises:
            ScheduleNotFound, ScheduleChanged, StoreUnavailable, StoreFull
        """
        match self._run("schedule_delete", model, _wanted(expected)):
            case [b"unknown"]:
                raise ScheduleNotFound(f"Model {model!r} has no schedule.")
            case [b"changed", revision]:
                raise _changed(model, revision)

    # For whoever runs them

    def due(self, now: datetime) -> list[str]:
        """The models whose schedule is due by the clock, the longest due first.

        Raises:
            StoreUnavailable
        """
        try:
            names = self._connections.client.zrange(self._keys.schedules, "-inf", millis(now), byscore=True)
        except RedisError as error:
            raise StoreUnavailable from error
        return [name.decode() for name in names]

    def watching(self) -> list[str]:
        """The models whose schedule looks at drift.

        Raises:
            StoreUnavailable
        """
        try:
            return sorted(name.decode() for name in self._connections.client.smembers(self._keys.watching))
        except RedisError as error:
            raise StoreUnavailable from error

    def advance(self, record: ScheduleRecord, following: datetime | None, run: Run) -> bool:
        """Note what came of `next_run_at`, and go on to the following time; False: somebody else did.

        If the following time is `next_run_at` itself, it is tried again. None: there is no further time.

        Raises:
            StoreUnavailable, StoreFull
        """
        assert record.next_run_at is not None  # noqa: S101  # it was due
        then = "" if following is None else millis(following)
        answer = self._run(
            "schedule_advance", record.model, millis(record.next_run_at), then, millis(run.due_at), run.to_json(),
            run.job_id or "",
        )  # fmt: skip
        return bool(answer)

    def acted(self, record: ScheduleRecord, window: str | None, run: Run) -> bool:
        """Note what came of drift up to a window, which is not acted on again; False: somebody else did.

        If it is the window of the record, drift is looked at again.

        Raises:
            StoreUnavailable, StoreFull
        """
        answer = self._run(
            "schedule_drifted", record.model, record.window or "", window or "", millis(run.due_at), run.to_json(),
            run.job_id or "",
        )  # fmt: skip
        return bool(answer)

    # The copy in storage

    def copy(self, model: str) -> None:
        """Bring the copy in storage up to what Redis holds.

        Raises:
            StoreUnavailable, StorageFailed
        """
        self._copies.bring(model, lambda: self._write_copy(model))

    def _write_copy(self, model: str) -> bytes:
        """Write the copy once; returns the revision of what it was written of."""
        revision = self._revision(model)
        if revision is None:
            return b"0"  # Redis was emptied, and the copy is all that there is
        try:
            record = self.get(model)
        except ScheduleNotFound:
            self._storage.delete(schedule_key(model))
        else:
            about = {"model": model, "revision": record.revision, "schedule": asdict(record.schedule)}
            self._storage.put(schedule_key(model), orjson.dumps(about, option=orjson.OPT_INDENT_2))
        return revision

    def unsaved(self) -> list[str]:
        """Models whose schedule's copy may be older than it is.

        Raises:
            StoreUnavailable
        """
        return self._copies.marked()

    def save(self, model: str) -> None:
        """Bring the copy up to it now if that is possible; if not, the janitor does it."""
        try:
            self.copy(model)
        except ServiceError as error:
            log.warning("schedule.not_copied", model=model, code=error.code, reason=error.message)

    def rebuild(self, models: Sequence[str]) -> dict[str, str | None]:
        """Restore from storage the schedules of which Redis knows nothing; their next run is the next from now.

        Returns:
            Model -> what is wrong with its copy, None if its schedule was restored; models without a copy are left out.

        Raises:
            StoreUnavailable, StoreFull, StorageFailed
        """
        found: dict[str, str | None] = {}
        for model in models:
            try:
                about = orjson.loads(self._storage.get(schedule_key(model)))
                schedule, revision = Schedule.from_dict(about["schedule"]), int(about["revision"])
                self._put(model, schedule, "new", revision)
                found[model] = None
            except (FileMissing, ScheduleChanged):
                continue
            except (ValueError, KeyError, TypeError, InvalidRequest, ModelNotFound) as error:
                found[model] = f"{schedule_key(model)} cannot be used: {error}"
        return found

    def _revision(self, model: str) -> bytes | None:
        try:
            revision: bytes | None = self._connections.client.hget(self._keys.schedule(model), "revision")
        except RedisError as error:
            raise StoreUnavailable from error
        return revision

    def _redis_time(self) -> datetime:
        try:
            seconds, micros = self._connections.client.time()
        except RedisError as error:
            raise StoreUnavailable from error
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)

    def _run(self, name: str, *arguments: Any) -> Any:
        return self._connections.script(self._scripts[name], self._keys.base, *arguments)


def _wanted(expected: Sequence[int] | Literal["*"] | None) -> str:
    """As the scripts take it."""
    return expected if expected == "*" else "" if expected is None else f" {' '.join(map(str, expected))} "


def _changed(model: str, revision: int) -> ScheduleChanged:
    return ScheduleChanged(
        f"The schedule of model {model!r} is at revision {revision} by now; read it again, and decide anew."
    )
