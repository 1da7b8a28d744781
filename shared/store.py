"""The job store: every change of a job is one Lua script in Redis, so that it happens whole or not at all."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.connection import Connections
from shared.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobGone,
    JobNotFinished,
    JobNotFound,
    NewerSchema,
    QueueFull,
    StoreFull,
    StoreUnavailable,
    UnknownFile,
    UploadLost,
)
from shared.job import PRIORITY_SECONDS, Job, from_millis
from shared.keys import Keys, predict_lane
from shared.limits import beyond
from shared.meter import METER
from shared.owner import DEFAULT_OWNER
from shared.records import (
    DEADLINE,
    WORKER_LOST,
    Accepted,
    AliasMoved,
    Committed,
    Leased,
    Outcome,
    Submission,
    Unit,
    dump_spec,
    load_job,
    load_spec,
)
from shared.schema import SCHEMA
from shared.script import Script, loaded
from shared.settings import Settings
from shared.webhooks import limits_of_ends

SCRIPTS: Final = (
    *("submit", "read", "rows", "list", "cancel", "delete"),
    *("pull", "renew", "commit", "release", "call_worker", "leave", "tick", "sweep"),
    *("pull_batch", "plan", "commit_chunk", "commit_final", "fail_batch", "phase", "begin_again"),
    *("upload", "count_upload", "swept", "file_add", "file_delete", "sweep_files", "overview"),
)
# Entries of the list that one request looks at for a filter, while Redis does nothing else: 3 us each.
LIST_SCAN: Final = 1000
SWEEP_PAGE: Final = 1000
NOTHING_KNOWN: Final[Mapping[str, int]] = {}


class JobStore:
    """Jobs in Redis."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self.connections = connections
        self.keys = Keys(settings.redis_prefix)
        self._settings = settings
        self._tombstone_millis = settings.tombstone_seconds * 1000
        self._scripts = loaded(SCRIPTS)

    def run(self, name: str, *arguments: Any) -> Any:
        """Run a script of ours.

        Raises:
            StoreUnavailable, StoreFull
        """
        return self.connections.script(self._scripts[name], self.keys.base, *arguments)

    # For the API

    def submit(self, job: Submission) -> Accepted:
        """Accept a job, in one round trip; in another one see that replicas have it, if the settings want that.

        Raises:
            AliasMoved, QueueFull, LimitReached, InvalidRequest, StoreFull, StoreUnavailable,
            IdempotencyKeyReused, UploadLost, UnknownFile
        """
        script, arguments = self.submission(job)
        reply = self.connections.script(script, *arguments)
        if self._settings.replicas_acknowledge and reply[0] in (b"accepted", b"same"):
            self._confirm(self.keys.idempotency(job.idempotency[0]) if job.idempotency else self.keys.job(job.id))
        return self.accepted(job, reply)

    def submission(self, job: Submission) -> tuple[Script, tuple[Any, ...]]:
        """The script that accepts a job, with its arguments; `accepted` reads what it replies."""
        spec, about, most = job.spec, job.spec.batch or job.spec.train, job.limits
        staged = spec.kind != "predict"
        key, digest = job.idempotency or ("", "")
        more: tuple[Any, ...] = ()
        if staged:
            limits = (about.max_failed_rows, about.max_failed_fraction) if about else (None, None)
            shown = ("" if limit is None else limit for limit in limits)
            more = (spec.kind, job.upload or "", job.file_id or "", *shown)
        return self._scripts["submit"], (
            self.keys.base, job.id, dump_spec(spec), job.rows,
            job.id if staged else predict_lane(spec.model, spec.version), job.queue,
            PRIORITY_SECONDS[spec.priority] * 1_000_000, "" if job.total is None else job.total,
            job.ttl_seconds * 1000, self._tombstone_millis,
            "" if job.deadline_seconds is None else max(1, int(job.deadline_seconds * 1000)),
            self._settings.max_batch_jobs if staged else self._settings.max_waiting_jobs,
            key, digest, max(self._settings.idempotency_seconds, job.ttl_seconds) * 1000,
            spec.model, job.alias or "", spec.version,
            spec.owner, *(limit or "" for limit in (most.waiting_jobs, most.waiting_rows, most.stored_bytes)),
            job.upload_bytes, limits_of_ends(self._settings) if spec.webhook else "", *more,
        )  # fmt: skip

    def accepted(self, job: Submission, reply: Sequence[Any]) -> Accepted:
        """What became of a job, by the reply of its script.

        Raises:
            AliasMoved, QueueFull, LimitReached, InvalidRequest, StoreFull, IdempotencyKeyReused, UploadLost,
            UnknownFile
        """
        kind, most = job.spec.kind, job.limits
        staged = kind != "predict"
        match reply[0]:
            case b"accepted":
                METER.add(f"input_bytes_total {kind}", job.upload_bytes if staged else len(job.rows))
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
                raise StoreFull.short_of(reply[1])
            case b"too_much":
                what, used = reply[1].decode(), reply[2]
                wanted = {"jobs": 1, "rows": job.total or 0, "bytes": job.upload_bytes}
                raise beyond(what, used, wanted[what], most)
            case b"upload_lost":
                raise UploadLost
            case b"file_gone":
                raise UnknownFile(f"There is no file {job.file_id}.")
            case _:
                rate = float(reply[2] or 0)
                wait = min(120, max(1, round(reply[1] / rate / 10))) if rate else 5
                raise QueueFull(
                    f"{reply[1]} jobs are waiting{'' if staged else f' for {job.spec.model}'}; try again in {wait} s",
                    retry_after_seconds=wait,
                )

    def first(self, digest: str) -> tuple[str, str] | None:
        """The job that was accepted under an Idempotency-Key, and the digest of its request; None: none was.

        Raises:
            StoreUnavailable
        """
        key = self.keys.idempotency(digest)
        try:
            found = self.connections.client.get(key)
        except RedisError as error:
            raise StoreUnavailable from error
        if found is None:
            return None
        self._confirm(key)
        return tuple(found.decode().split())

    def _confirm(self, key: str) -> None:
        """See that as many replicas as the settings want have what was accepted, before that is said.

        Raises:
            StoreUnavailable: they do not. The job may be done all the same.
        """
        wanted = self._settings.replicas_acknowledge
        if wanted and not self.connections.confirm(key, self.keys.confirmed, wanted):
            raise StoreUnavailable(
                "Not enough replicas of the job store (Redis) have the job yet; send the request again in a moment, "
                "with the same Idempotency-Key."
            )

    def read(
        self,
        job_id: str,
        *,
        owner: str = DEFAULT_OWNER,
        known_revision: int | None = None,
        with_result: bool = True,
    ) -> Job | None:
        """A snapshot of a job of an owner, in one round trip; None if `known_revision` is still the newest.

        Raises:
            JobNotFound, JobGone, NewerSchema, StoreUnavailable
        """
        script, arguments = self.reading(job_id, owner=owner, known_revision=known_revision, with_result=with_result)
        return self.snapshot(job_id, self.connections.script(script, *arguments))

    def reading(
        self, job_id: str, *, owner: str, known_revision: int | None, with_result: bool = True
    ) -> tuple[Script, tuple[Any, ...]]:
        """The script that reads a job, with its arguments; `snapshot` reads what it replies."""
        what, known = "full" if with_result else "head", "" if known_revision is None else known_revision
        return self._scripts["read"], (self.keys.base, what, owner, job_id, known)

    def snapshot(self, job_id: str, reply: Sequence[Any]) -> Job | None:
        """A job, by the reply of the script that read it; None if its revision is still the known one.

        Raises:
            JobNotFound, JobGone, NewerSchema
        """
        entry = reply[0]
        if entry == 0:
            raise JobNotFound(f"There is no job {job_id}.")
        if entry == 1:
            raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
        return None if len(entry) == 1 else load_job(entry)

    def read_many(
        self,
        job_ids: Sequence[str],
        *,
        with_result: bool = False,
        skip_newer: bool = False,
        known: Mapping[str, int] = NOTHING_KNOWN,
    ) -> dict[str, Job | None]:
        """Snapshots of several jobs, whoever's they are, in one round trip; None for one that is unknown or gone.

        `skip_newer`: leave out those of a newer schema. `known`: leave out those that still have this revision, by id.

        Raises:
            NewerSchema, StoreUnavailable
        """
        if not job_ids:
            return {}
        arguments = [argument for job_id in job_ids for argument in (job_id, known.get(job_id, ""))]
        entries = self.run("read", "full" if with_result else "head", "", *arguments)
        jobs: dict[str, Job | None] = {}
        for job_id, entry in zip(job_ids, entries, strict=True):
            if entry not in (0, 1) and len(entry) == 1:
                continue
            try:
                jobs[job_id] = None if entry in (0, 1) else load_job(entry)
            except NewerSchema:
                if not skip_newer:
                    raise
        return jobs

    def rows(self, job_id: str) -> list[Any]:
        """The rows of a job, in feature order.

        Raises:
            JobGone, StoreUnavailable
        """
        rows = self.run("rows", job_id)
        if rows is None:
            raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
        parsed: list[Any] = orjson.loads(rows)
        return parsed

    def lane_length(self, model: str, version: int, *, owner: str = DEFAULT_OWNER) -> tuple[int, float | None]:
        """Jobs of an owner that wait for a version, and its measured pace in jobs a second.

        Raises:
            StoreUnavailable
        """
        lane = predict_lane(model, version)
        pipeline = self.connections.client.pipeline(transaction=False)
        pipeline.zcard(self.keys.lane(lane, owner))
        pipeline.hget(self.keys.pace(lane), "rate")
        try:
            waiting, rate = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        return waiting, float(rate) if rate else None

    def page(
        self,
        *,
        owner: str = DEFAULT_OWNER,
        limit: int,
        cursor: str = "",
        status: str = "",
        kind: str = "",
        model: str = "",
        created_after: datetime | None = None,
    ) -> tuple[list[Job], str | None]:
        """Jobs of an owner, newest first, and the cursor of the next page; a rare status may make a page shorter."""
        after = "" if created_after is None else max(0, int(created_after.timestamp() * 1000))
        following, *ids = self.run("list", cursor, limit, status, model, after, LIST_SCAN, kind, owner)
        jobs = self.read_many([job_id.decode() for job_id in ids])
        return [job for job in jobs.values() if job is not None], following.decode() or None

    def cursor_of(self, job_id: str, *, owner: str = DEFAULT_OWNER) -> str:
        """The cursor of the page of jobs that begins after this one.

        Raises:
            JobNotFound, JobGone, StoreUnavailable
        """
        self.read(job_id, owner=owner, with_result=False)
        try:
            place = self.connections.client.hget(self.keys.job(job_id), "seq")
        except RedisError as error:
            raise StoreUnavailable from error
        if place is None:
            raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
        return str(place.decode())

    def cancel(self, job_id: str, *, owner: str = DEFAULT_OWNER) -> bool:
        """Cancel a job, or ask its worker to stop; True if it is cancelled by now.

        Raises:
            JobNotFound, JobGone, JobFinished, StoreUnavailable
        """
        match self.run("cancel", job_id, owner):
            case b"unknown":
                raise JobNotFound(f"There is no job {job_id}.")
            case b"gone":
                raise JobGone(f"Job {job_id} was deleted, or its time to live is over.")
            case b"finished":
                raise JobFinished
            case answer:
                return bool(answer == b"cancelled")

    def delete(self, job_id: str, *, owner: str = DEFAULT_OWNER) -> bool:
        """Remove a finished job; True if it had files in storage, which remain to be removed.

        Raises:
            JobNotFound, JobGone, JobNotFinished, StoreUnavailable
        """
        match self.run("delete", job_id, self._tombstone_millis, owner):
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
            short = self.connections.client.get(self.keys.full)
        except RedisError as error:
            raise StoreUnavailable from error
        if short:
            raise StoreFull.short_of(short)

    # For workers

    def pull(self, queue: str, worker: str, *, linger_seconds: float, answered: bool, lane: str = "") -> Unit | None:
        """Lease a micro-batch, in one round trip; None: nothing to do, and `worker` is noted as lingering.

        `lane` is that of the worker's last unit, from which it is expected to pull again.
        """
        settings = self._settings
        reply = self.run(
            "pull", queue, worker, settings.micro_batch_jobs, settings.micro_batch_rows,
            int(settings.lease_seconds * 1000), int(linger_seconds * 1000), int(answered), DEADLINE, lane, SCHEMA,
        )  # fmt: skip
        if reply is None:
            return None
        fence, pulled_lane, ring, *jobs = reply
        leased = tuple(
            Leased(id=job[0].decode(), attempt=job[1], spec=load_spec(job[2]), rows=job[3], waited_millis=job[4])
            for job in jobs
        )
        return Unit(fence=fence.decode(), lane=pulled_lane.decode(), queue=queue, ring=ring == 1, jobs=leased)

    def renew(self, fence: str) -> frozenset[str] | None:
        """Prolong a lease: the ids that need not be worked on any more, or None if the lease is lost."""
        reply = self.run("renew", fence, int(self._settings.lease_seconds * 1000))
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
        written, *kept = self.run("commit", *arguments)
        return Committed(written=written, kept=frozenset(job_id.decode() for job_id in kept))

    def release(self, fence: str, outcome: bytes, *, counts: bool = True, last: bool = False) -> tuple[bool, str]:
        """Give a unit back; jobs with no attempt left fail with `outcome`. Returns whether to ring, and the queue.

        `last`: it is not tried again, however many attempts are left.

        Not `counts`: a unit that could not be done for the moment has as many attempts left as before.
        """
        ring, queue = self.run("release", fence, 0 if last else self._settings.max_attempts, outcome, int(not counts))
        return ring == 1, queue.decode()

    def call_worker(self, queue: str, worker: str, lane: str) -> bool:
        """`worker` stops pulling from `lane`, and another one is got to look; True: a doorbell must be published.

        Raises:
            StoreUnavailable, StoreFull
        """
        return bool(self.run("call_worker", queue, worker, lane) == 1)

    def leave(self, queue: str, worker: str, lane: str) -> bool:
        """The same for a worker that ends, and is not to be woken any more.

        Raises:
            StoreUnavailable, StoreFull
        """
        return bool(self.run("leave", queue, worker, lane) == 1)

    def wake(self, worker: str) -> None:
        """Wake a worker that lingers.

        Raises:
            StoreUnavailable
        """
        key = self.keys.wake(worker)
        try:
            self.connections.client.pipeline(transaction=False).rpush(key, 1).expire(key, 60).execute()
        except RedisError as error:
            raise StoreUnavailable from error

    # For the janitor

    def tick(self, queues: Sequence[str]) -> tuple[int, int, list[str]]:
        """Expired leases and deadlines: how many jobs went back, how many ended, and the queues to ring."""
        again, done, *ring = self.run("tick", self._settings.max_attempts, WORKER_LOST, DEADLINE, *queues)
        return again, done, [queue.decode() for queue in ring]

    def owners(self) -> list[str]:
        """Everybody who ever submitted a job.

        Raises:
            redis.exceptions.RedisError
        """
        return [DEFAULT_OWNER, *sorted(name.decode() for name in self.connections.client.smembers(self.keys.owners))]

    def sweep(self, owner: str = DEFAULT_OWNER) -> list[tuple[str, str]]:
        """Take a page of expired jobs out of an owner's list; (entry, id) of those whose files must go first."""
        stored = self.run("sweep", SWEEP_PAGE, owner)
        return [(entry.decode(), job_id.decode()) for entry, job_id in stored]

    def swept(self, entry: str, job_id: str, owner: str = DEFAULT_OWNER) -> None:
        """Take one job out of the list, after its files are gone."""
        self.run("swept", owner, entry, job_id)
