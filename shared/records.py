"""What goes into the job store and comes out of it: submissions, units, outcomes, and the parsing of stored jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from shared.job import Counts, Job, Spec, Status, from_millis


def failure_outcome(code: str, message: str) -> bytes:
    """The stored outcome of a job that failed as a whole."""
    return orjson.dumps({"failure": {"code": code, "message": message}})


WORKER_LOST: Final = failure_outcome(
    "worker_lost",
    "The worker process ended while it worked on this job, at every attempt; "
    "it may have run out of memory, or the model may crash on these rows.",
)
TIMED_OUT: Final = failure_outcome("timed_out", "The prediction took longer than the service allows, at every attempt.")
DEADLINE: Final = failure_outcome("deadline_exceeded", "The job was not finished within its deadline_seconds.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A job to be accepted."""

    id: str
    spec: Spec
    rows: bytes  # JSON array, checked, in feature order
    total: int
    alias: str | None  # the alias that was resolved, or None if the version was named
    queue: str
    ttl_seconds: int
    deadline_seconds: float | None = None
    idempotency: tuple[str, str] | None = None  # digest of the key, digest of the request


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The answer to a submission."""

    id: str
    created: bool  # False: the Idempotency-Key names this earlier job
    created_at: datetime | None = None
    ring: bool = False  # a doorbell must be published
    queue_position: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased:
    """One job of a unit."""

    id: str
    attempt: int
    spec: Spec
    rows: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A micro-batch that this worker may run until its lease is over."""

    fence: str
    lane: str
    queue: str
    ring: bool
    jobs: tuple[Leased, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one job of a unit ended."""

    id: str
    status: Status
    succeeded: int
    failed: int
    result: bytes | None = None
    stored_bytes: int | None = None
    failure: Mapping[str, str] | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What came of a commit."""

    written: int  # jobs that ended
    kept: frozenset[str]  # those whose outcome counts: not cancelled meanwhile


class AliasMoved(Exception):  # not an error: the caller resolves the alias again
    """The alias was moved since it was resolved."""


def dump_spec(spec: Spec) -> bytes:
    """A spec as JSON, without what is empty."""
    return orjson.dumps({name: value for name, value in asdict_shallow(spec).items() if value})


def asdict_shallow(spec: Spec) -> dict[str, Any]:
    """The fields of a spec by name."""
    return {name: getattr(spec, name) for name in Spec.__slots__}


def load_spec(raw: bytes) -> Spec:
    """The one parser of a stored spec."""
    fields: dict[str, Any] = orjson.loads(raw)
    if "retry_rows" in fields:
        fields["retry_rows"] = tuple(fields["retry_rows"])
    return Spec(**fields)


def load_job(entry: Sequence[Any]) -> Job:
    job_id, record, spec, outcome, result, position, rate = entry
    (
        status,
        revision,
        _,
        attempt,
        total,
        succeeded,
        failed,
        skipped,
        created,
        started,
        finished,
        expires,
        cancel,
        size,
    ) = record
    extra: dict[str, Any] = orjson.loads(outcome) if outcome else {}
    created_at = from_millis(created)
    assert created_at is not None  # noqa: S101  # submit.lua writes it with the record
    return Job(
        id=job_id.decode(),
        status=Status(status.decode()),
        revision=int(revision),
        spec=load_spec(spec),
        counts=Counts(
            total=int(total), succeeded=int(succeeded or 0), failed=int(failed or 0), skipped=int(skipped or 0)
        ),
        attempt=int(attempt),
        cancel_requested=cancel == b"1",
        queue_position=None if position is None else position + 1,
        jobs_per_second=float(rate) if rate else None,
        created_at=created_at,
        started_at=from_millis(started),
        finished_at=from_millis(finished),
        expires_at=from_millis(expires),
        predictions=result or None,
        stored_bytes=int(size) if size else None,
        failure=extra.get("failure"),
        errors=tuple(extra.get("errors", ())),
        warnings=tuple(extra.get("warnings", ())),
    )
