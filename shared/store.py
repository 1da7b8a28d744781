"""The job store: every change of a job is one Lua script in Redis, so that it happens whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.connection import Connections, loaded
from shared.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobGone,
    JobNotFinished,
    JobNotFound,
    QueueFull,
    StoreFull,
    StoreUnavailable,
)
from shared.job import PRIORITY_SECONDS, Counts, Job, Spec, Status, from_millis
from shared.keys import Keys, predict_lane
from shared.settings import Settings

# Entries of the list that one request looks at for a filter.
LIST_SCAN: Final = 5000
SWEEP_PAGE: Final = 1000


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


class JobStore:
    """Jobs in Redis."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self.connections = connections
        self.keys = Keys(settings.redis_prefix)
        self._settings = settings
        self._tombstone_millis = settings.tombstone_seconds * 1000
        self._scripts = loaded(
            (
                "submit",
                "read",
                "rows",
                "list",
                "cancel",
                "delete",
                "pull",
                "renew",
                "commit",
                "release",
                "call_worker",
                "tick",
                "sweep",
            )
        )

    def _run(self, name: str, *arguments: Any) -> Any:
        return self.connections.script(self._scripts[name], self.keys.base, *arguments)

    # For the API

    def submit(self, job: Submission) -> Accepted:
        """Accept a job, in one round trip.

        Raises:
            AliasMoved, QueueFull, StoreFull, StoreUnavailable, IdempotencyKeyReused
        """
        spec = job.spec
        key, digest = job.idempotency or ("", "")
        reply = self._run(
            "submit", job.id, dump_spec(spec), job.rows, predict_lane(spec.model, spec.version), job.queue,
            PRIORITY_SECONDS[spec.priority] * 1_000_000, job.total, job.ttl_seconds * 1000, self._tombstone_millis,
            "" if job.deadline_seconds is None else max(1, int(job.deadline_seconds * 1000)),
            self._settings.max_waiting_jobs,
            key, digest, max(self._settings.idempotency_seconds, job.ttl_seconds) * 1000,
            spec.model, job.alias or "", spec.version,
        )  # fmt: skip
        match reply[0]:
            case b"accepted":
                return Accepted(
                    id=job.id,
                    created=True,
                    created_at=from_millis(reply[1]),
                    ring=reply[2] == 1,
                    queue_position=reply[3],
                )
            case b"same":
                return Accepted(id=reply[1].decode(), created=False, ring=reply[2:] == [1])
            case b"reused":
                raise IdempotencyKeyReused
            case b"moved":
                raise AliasMoved
            case b"full":
                raise StoreFull
            case _:
                rate = float(reply[2] or 0)
                wait = min(120, max(1, round(reply[1] / rate / 10))) if rate else 5
                raise QueueFull(
                    f"{reply[1]} jobs are waiting for {spec.model}; try again in {wait} s", retry_after_seconds=wait
                )

    def read(self, job_id: str, *, known_revision: int | None = None, with_result: bool = True) -> Job | None:
        """A snapshot of a job, in one round trip; None if `known_revision` is still the newest.

        Raises:
            JobNotFound, JobGone, StoreUnavailable
        """
        entry = self._run(
            "read", "full" if with_result else "head", job_id, "" if known_revision is None else known_revision
        )[0]
        if entry == 0:
            raise JobNotFound(f"There is no job {job_id}.")
        if entry == 1:
            raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
        return None if len(entry) == 1 else _job(entry)

    def read_many(self, job_ids: Sequence[str], *, with_result: bool = False) -> dict[str, Job | None]:
        """Snapshots of several jobs, in one round trip; None for one that is unknown or gone."""
        if not job_ids:
            return {}
        arguments = [argument for job_id in job_ids for argument in (job_id, "")]
        entries = self._run("read", "full" if with_result else "head", *arguments)
        return {
            job_id: None if entry in (0, 1) else _job(entry) for job_id, entry in zip(job_ids, entries, strict=True)
        }

    def rows(self, job_id: str) -> list[Any]:
        """The rows of a job, in feature order.

        Raises:
            JobGone, StoreUnavailable
        """
        rows = self._run("rows", job_id)
        if rows is None:
            raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
        parsed: list[Any] = orjson.loads(rows)
        return parsed

    def lane_length(self, model: str, version: int) -> tuple[int, float | None]:
        """Jobs that wait for a version, and its measured pace in jobs a second.

        Raises:
            StoreUnavailable
        """
        lane = predict_lane(model, version)
        pipeline = self.connections.client.pipeline(transaction=False)
        pipeline.zcard(self.keys.lane(lane))
        pipeline.hget(self.keys.pace(lane), "rate")
        try:
            waiting, rate = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        return waiting, float(rate) if rate else None

    def page(
        self, *, limit: int, cursor: str = "", status: str = "", model: str = "", created_after: datetime | None = None
    ) -> tuple[list[Job], str | None]:
        """Jobs, newest first, and the cursor of the next page; a rare status may make a page shorter than `limit`."""
        after = "" if created_after is None else max(0, int(created_after.timestamp() * 1000))
        following, *ids = self._run("list", cursor, limit, status, model, after, LIST_SCAN)
        jobs = self.read_many([job_id.decode() for job_id in ids])
        return [job for job in jobs.values() if job is not None], following.decode() or None

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, or ask its worker to stop; True if it is cancelled by now.

        Raises:
            JobNotFound, JobGone, JobFinished, StoreUnavailable
        """
        match self._run("cancel", job_id):
            case b"unknown":
                raise JobNotFound(f"There is no job {job_id}.")
            case b"gone":
                raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
            case b"finished":
                raise JobFinished
            case answer:
                return bool(answer == b"cancelled")

    def delete(self, job_id: str) -> bool:
        """Remove a finished job; True if it had files in storage, which remain to be removed.

        Raises:
            JobNotFound, JobGone, JobNotFinished, StoreUnavailable
        """
        match self._run("delete", job_id, self._tombstone_millis):
            case b"unknown":
                raise JobNotFound(f"There is no job {job_id}.")
            case b"gone":
                raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
            case b"unfinished":
                raise JobNotFinished
            case answer:
                return bool(answer == b"stored")

    def check_room(self) -> None:
        """See that Redis answers, and takes jobs.

        Raises:
            StoreUnavailable, StoreFull
        """
        try:
            full = self.connections.client.exists(self.keys.full)
        except RedisError as error:
            raise StoreUnavailable from error
        if full:
            raise StoreFull

    # For workers

    def pull(self, queue: str, worker: str, *, linger_seconds: float, answered: bool, lane: str = "") -> Unit | None:
        """Lease a micro-batch, in one round trip; None: nothing to do, and `worker` is noted as lingering.

        `lane` is that of the worker's last unit, from which it is expected to pull again.
        """
        settings = self._settings
        reply = self._run(
            "pull", queue, worker, settings.micro_batch_jobs, settings.micro_batch_rows,
            int(settings.lease_seconds * 1000), int(linger_seconds * 1000), int(answered), DEADLINE, lane,
        )  # fmt: skip
        if reply is None:
            return None
        fence, pulled_lane, ring, *jobs = reply
        leased = tuple(Leased(id=job[0].decode(), attempt=job[1], spec=load_spec(job[2]), rows=job[3]) for job in jobs)
        return Unit(fence=fence.decode(), lane=pulled_lane.decode(), queue=queue, ring=ring == 1, jobs=leased)

    def renew(self, fence: str) -> frozenset[str] | None:
        """Prolong a lease: the ids that need not be worked on any more, or None if the lease is lost."""
        reply = self._run("renew", fence, int(self._settings.lease_seconds * 1000))
        return None if reply is None else frozenset(job_id.decode() for job_id in reply)

    def commit(self, fence: str, outcomes: Sequence[Outcome], cpu_seconds: float = 0.0) -> Committed:
        """End a unit, in one round trip; nothing is written if the lease was lost, or if it is a repeat.

        `cpu_seconds` is what the unit took of a processor; it tells whether batching pays for this lane.
        """
        arguments: list[Any] = [fence, round(cpu_seconds * 1000, 3)]
        for outcome in outcomes:
            extra = {name: value for name in ("failure", "errors", "warnings") if (value := getattr(outcome, name))}
            arguments += (
                outcome.id, outcome.status.value, outcome.succeeded, outcome.failed, outcome.result or b"",
                orjson.dumps(extra) if extra else b"",
                "" if outcome.stored_bytes is None else outcome.stored_bytes,
            )  # fmt: skip
        written, *kept = self._run("commit", *arguments)
        return Committed(written=written, kept=frozenset(job_id.decode() for job_id in kept))

    def release(self, fence: str, outcome: bytes) -> tuple[bool, str]:
        """Give a unit back; jobs with no attempt left fail with `outcome`. Returns whether to ring, and the queue."""
        ring, queue = self._run("release", fence, self._settings.max_attempts, outcome)
        return ring == 1, queue.decode()

    def call_worker(self, queue: str, lane: str) -> bool:
        """Stop pulling from `lane`, and get another worker to look; True: a doorbell must be published."""
        return bool(self._run("call_worker", queue, lane) == 1)

    # For the janitor

    def tick(self, queues: Sequence[str]) -> tuple[int, int, list[str]]:
        """Expired leases and deadlines: how many jobs went back, how many ended, and the queues to ring."""
        again, done, *ring = self._run("tick", self._settings.max_attempts, WORKER_LOST, DEADLINE, *queues)
        return again, done, [queue.decode() for queue in ring]

    def sweep(self) -> list[tuple[str, str]]:
        """Take a page of expired jobs out of the list; returns (entry, id) of those whose files must go first."""
        stored = self._run("sweep", SWEEP_PAGE)
        return [(entry.decode(), job_id.decode()) for entry, job_id in stored]

    def swept(self, entry: str) -> None:
        """Take one job out of the list, after its files are gone."""
        self.connections.client.xdel(self.keys.jobs, entry)


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


def _job(entry: Sequence[Any]) -> Job:
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
