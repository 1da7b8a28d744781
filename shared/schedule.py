"""A schedule: when a model is trained again, by the clock or since its data drifted, and what became of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from shared.cron import Cron
from shared.job import from_millis
from shared.owner import DEFAULT_OWNER
from shared.schema import SCHEMA, current, known


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftPolicy:
    """Train when at least so many of the last windows drifted."""

    windows: int  # 1 to shared.drift.MOST_WINDOWS
    drifted: int  # 1 to windows


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a model is trained, and how."""

    cron: str | None  # None: by drift alone
    time_zone: str
    when_drifted: DriftPolicy | None
    enabled: bool
    owner: str = DEFAULT_OWNER  # whose its jobs are
    submitted_by: str = ""  # who wanted it, as histories name them
    any_model: bool = False  # its jobs may change models of other owners too, since an admin wanted it
    train: dict[str, Any]  # the body of a train request, but for kind and model
    schema: int = SCHEMA  # that this was written in

    @property
    def times(self) -> Cron | None:
        """When it is due by the clock; None: never.

        Raises:
            InvalidRequest: bad_cron, unknown_time_zone.
        """
        return Cron(self.cron, self.time_zone) if self.enabled and self.cron is not None else None

    @property
    def watches(self) -> bool:
        """Whether drift starts it."""
        return self.enabled and self.when_drifted is not None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Schedule":
        """From JSON, as `asdict` gives it.

        Raises:
            NewerSchema
        """
        raw = current("schedule", raw)
        policy = raw["when_drifted"]
        drifted = None if policy is None else DriftPolicy(**known(DriftPolicy, policy))
        return cls(**(known(cls, raw) | {"when_drifted": drifted}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What came of the last time that a schedule was due, or that drift was noticed."""

    due_at: datetime
    cause: Literal["time", "drift"]
    job_id: str | None = None  # None: no job was made
    code: str | None = None  # why not: missed, still_running, unchanged, or what the submit was refused with
    message: str | None = None
    basis: str | None = None  # what the last job was made of, see worker/basis.py; None: it cannot be told

    def to_json(self) -> bytes:
        """As it is kept."""
        return orjson.dumps(asdict(self) | {"due_at": millis(self.due_at)})

    @classmethod
    def from_json(cls, raw: bytes) -> "Run":
        """From what `to_json` gave."""
        fields = known(cls, orjson.loads(raw))
        return cls(**(fields | {"due_at": from_millis(b"%d" % fields["due_at"])}))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleRecord:
    """A model's schedule with what became of it so far."""

    model: str
    schedule: Schedule
    revision: int  # grows with every change, also by a deletion: its ETag
    next_run_at: datetime | None  # None: it is never due by the clock
    last_run: Run | None
    job_id: str | None  # the last job that it made
    window: str | None  # the newest window of drift that it acted on, by its job


def millis(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
