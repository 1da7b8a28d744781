"""What goes into the job store and comes out of it: submissions, units, outcomes, and the parsing of stored jobs."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from shared.batch import BatchOptions, Layout, Slice
from shared.frozen import frozen
from shared.job import Counts, Job, Spec, Status, from_millis
from shared.limits import NO_LIMITS, Limits
from shared.owner import DEFAULT_OWNER
from shared.queue import BATCH
from shared.schema import current, known
from shared.training import RegisterOptions, TrainOptions

SPEC_FIELDS: Final = tuple(one.name for one in dataclasses.fields(Spec))
spec_values: Final = operator.attrgetter(*SPEC_FIELDS)


def failure_outcome(code: str, message: str) -> bytes:
    """The stored outcome of a job that failed as a whole."""
    return orjson.dumps({"failure": {"code": code, "message": message}})


WORKER_LOST: Final = failure_outcome(
    "worker_lost",
    "The worker process ended while it worked on this job, at every attempt; "
    "it may have run out of memory, or the model may crash on these rows.",
)
TIMED_OUT: Final = failure_outcome("timed_out", "It took longer than the service allows, at every attempt.")
DEADLINE: Final = failure_outcome("deadline_exceeded", "The job was not finished within its deadline_seconds.")


@frozen
class Submission:
    """A job to be accepted."""

    id: str
    spec: Spec
    alias: str | None  # the alias that was resolved, or None if the version was named
    queue: str
    ttl_seconds: int
    rows: bytes = b""  # JSON array, checked, in feature order; of a batch job nothing
    total: int | None = None  # None: the rows of a file are counted later
    upload_bytes: int = 0  # of the file that came with it
    upload: str | None = None  # the name under which the upload of the file was announced
    file_id: str | None = None  # the file, if it was uploaded before
    deadline_seconds: float | None = None
    idempotency: tuple[str, str] | None = None  # digest of the key, digest of the request
    limits: Limits = NO_LIMITS  # of the owner


@frozen
class Accepted:
    """The answer to a submission."""

    id: str
    created: bool  # False: the Idempotency-Key names this earlier job
    created_at: datetime | None = None
    ring: bool = False  # a doorbell must be published
    queue_position: int | None = None


@frozen
class Leased:
    """One job of a unit."""

    id: str
    attempt: int
    spec: Spec
    rows: bytes
    waited_millis: int = 0  # from its acceptance to this lease


@frozen
class Unit:
    """A micro-batch that this worker may run until its lease is over."""

    fence: str
    lane: str
    queue: str
    ring: bool
    jobs: tuple[Leased, ...]

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The jobs that it is made of."""
        return tuple(job.id for job in self.jobs)


NOT_COUNTED: Final = Counts(total=None)


@frozen
class BatchUnit:
    """A piece of the work of a job in stages that this worker may do until its lease is over."""

    fence: str
    job_id: str
    queue: str
    kind: Literal["plan", "chunk", "final"]
    ring: bool
    attempt: int
    spec: Spec
    layout: Layout | None  # None: the plan has not found it out yet, or the job is over no file
    position: dict[str, Any]  # where the plan goes on
    stop: str  # why the job ends early: cancelled, failed_rows, failed; empty if it does not
    outcome: dict[str, Any]  # of a job that failed
    rows: int  # rows of the file that are known so far
    counted: bool  # whether these are all
    first: int = 0  # of a chunk: the number of its first slice
    slices: tuple[Slice, ...] = ()
    parts: tuple[tuple[int, dict[str, Any]], ...] = ()  # of the final unit: first slice and part, in order
    reasons: dict[str, int] = field(default_factory=dict)  # of the final unit: rows that failed by reason
    counts: Counts = NOT_COUNTED  # of the final unit
    training: dict[str, Any] = field(default_factory=dict)  # of a train job: what its plan found out
    fit: str = ""  # of a train job's piece: "candidate fold"

    @property
    def lane(self) -> str:
        """A job in stages is its own lane."""
        return self.job_id

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The job that it belongs to."""
        return (self.job_id,)


@frozen
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


@frozen
class Committed:
    """What came of a commit."""

    written: int  # jobs that ended
    kept: frozenset[str]  # those whose outcome counts: not cancelled meanwhile


class AliasMoved(Exception):  # not an error: the caller resolves the alias again
    """The alias was moved since it was resolved, or the version is gone."""


class LeaseLost(Exception):  # not an error of the service: the unit ends without a word
    """Another attempt has the work by now, or it is not wanted any more."""


def dump_spec(spec: Spec) -> bytes:
    """A spec as JSON, without what is empty."""
    usual = ("owner", DEFAULT_OWNER)
    fields = {name: value for name, value in asdict_shallow(spec).items() if value and (name, value) != usual}
    for name in ("batch", "train", "register"):
        if name in fields:
            fields[name] = fields[name].to_dict()
    return orjson.dumps({"schema": spec.schema} | fields)  # first, where the scripts look for it


def asdict_shallow(spec: Spec) -> dict[str, Any]:
    """The fields of a spec by name."""
    return dict(zip(SPEC_FIELDS, spec_values(spec), strict=True))


def load_spec(raw: bytes) -> Spec:
    """The one parser of a stored spec.

    Raises:
        NewerSchema
    """
    fields = known(Spec, current("spec", orjson.loads(raw)))
    if "retry_rows" in fields:
        fields["retry_rows"] = tuple(fields["retry_rows"])
    if "batch" in fields:
        fields["batch"] = BatchOptions.from_dict(fields["batch"])
    if "train" in fields:
        fields["train"] = TrainOptions.from_dict(fields["train"])
    if "register" in fields:
        fields["register"] = RegisterOptions.from_dict(fields["register"])
    return Spec(**fields)


def dump_slice(piece: Slice) -> str:
    """A slice as it is kept in Redis."""
    return f"{piece.start} {piece.stop} {piece.rows} {piece.first_row} {piece.group} {piece.fault or ''}"


def load_slice(raw: bytes) -> Slice:
    """What `dump_slice` gave."""
    start, stop, rows, first_row, group, fault = raw.decode().split(" ")
    return Slice(
        start=int(start),
        stop=int(stop),
        rows=int(rows),
        first_row=int(first_row),
        group=int(group),
        fault=fault or None,
    )


def load_part(raw: bytes) -> dict[str, Any]:
    """What a chunk or fit left for the final unit.

    Raises:
        NewerSchema
    """
    return current("part", orjson.loads(raw))


def load_batch_unit(reply: Sequence[Any], queue: str = BATCH) -> BatchUnit:
    """What pull_batch.lua gave."""
    fence, job_id, ring, kind, attempt, raw_spec, state, *more = reply
    layout, position, stop, outcome, rows, plan = state
    spec = load_spec(raw_spec)
    extra: dict[str, Any] = {}
    if spec.train is not None and layout:
        extra, layout = {"training": orjson.loads(layout)}, None
    if kind == b"chunk" and spec.train is not None:
        extra |= {"first": more[0], "fit": more[1].decode()}
    elif kind == b"chunk":
        extra = {"first": more[0], "slices": tuple(map(load_slice, more[1:]))}
    elif kind == b"final":
        parts, reasons, succeeded, failed, total = more
        extra |= {
            "parts": tuple(
                sorted((int(first), load_part(part)) for first, part in zip(parts[::2], parts[1::2], strict=True))
            ),
            "reasons": {reason.decode(): int(rows) for reason, rows in zip(reasons[::2], reasons[1::2], strict=True)},
            "counts": Counts(total=int(total) if total else None, succeeded=int(succeeded), failed=int(failed)),
        }
    return BatchUnit(
        fence=fence.decode(),
        job_id=job_id.decode(),
        queue=queue,
        kind=kind.decode(),
        ring=ring == 1,
        attempt=attempt,
        spec=spec,
        layout=Layout.from_dict(orjson.loads(layout)) if layout else None,
        position=orjson.loads(position) if position else {},
        stop=stop.decode(),
        outcome=orjson.loads(outcome) if outcome else {},
        rows=int(rows),
        counted=plan == b"done",
        **extra,
    )


def load_job(entry: Sequence[Any], known_spec: Spec | None = None) -> Job:
    """The one parser of a stored job, from what read.lua returned of it; without its spec, if that is known.

    Raises:
        NewerSchema
    """
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
        kind,
        phase,
        _,
        _,
    ) = record
    extra: dict[str, Any] = orjson.loads(outcome) if outcome else {}
    fits = None
    if rate and kind == b"train":
        done, every = rate.split()
        fits, rate = (int(done), int(every)), None
    created_at = from_millis(created)
    assert created_at is not None  # noqa: S101  # submit.lua writes it with the record
    return Job(
        id=job_id.decode(),
        status=Status(status.decode()),
        revision=int(revision),
        spec=known_spec or load_spec(spec),
        counts=Counts(
            total=int(total) if total else None,
            succeeded=int(succeeded or 0),
            failed=int(failed or 0),
            skipped=int(skipped or 0),
        ),
        attempt=int(attempt),
        cancel_requested=cancel == b"1",
        queue_position=None if position is None else position + 1,
        jobs_per_second=float(rate) if rate and not kind else None,
        rows_per_second=float(rate) if rate and kind else None,
        phase=phase.decode() or None if phase else None,
        fits=fits,
        created_at=created_at,
        started_at=from_millis(started),
        finished_at=from_millis(finished),
        expires_at=from_millis(expires),
        predictions=result or None,
        stored_bytes=int(size) if size and not kind else None,
        failure=extra.get("failure"),
        errors=tuple(extra.get("errors", ())),
        warnings=tuple(extra.get("warnings", ())),
        outputs=extra.get("outputs", {}),
        registered=extra.get("registered"),
    )
