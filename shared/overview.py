"""What goes on at the moment, for people who watch: queues, workers, what ended lately, and what failed.

`count_ends` of prelude.lua counts what ends, in slots of ten seconds; this module reads the last sixty of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.errors import StoreUnavailable
from shared.heartbeat import FRESH_SECONDS, SCHEDULER
from shared.job import Job, Status, from_millis
from shared.owner import EVERYBODY
from shared.queue import BATCH, ONLINE, QUEUES, TRAIN, WEBHOOKS
from shared.store import JobStore

SLOT_SECONDS: Final = 10
SLOTS: Final = 60
# Where jobs wait, and webhooks; the janitor, whose queue `control` is, is only rung for.
LINES: Final = (ONLINE, BATCH, TRAIN, WEBHOOKS)
MOST_FAILURES: Final = 20
# Entries of one line that are looked at; of more, the rest is not counted.
MOST_ENTRIES: Final = 2_000
TOOK: Final = re.compile(rb"(\d+):(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """Jobs of one queue; of that of webhooks, deliveries."""

    name: str
    waiting: int
    running: int
    oldest_at: datetime | None  # when the one that has waited longest was accepted
    # Of everybody's alone:
    waiting_seconds: float  # of one process, that what waits will take, as far as its pace is known
    unmeasured: int  # jobs whose pace is not
    pieces: int  # units that could run at once
    lanes: int  # that have something; of jobs in stages each is one
    longest: int  # jobs of the longest lane

    def waited_seconds(self, at: float) -> float:
        """How long the oldest job has waited at a moment, seconds since 1970; 0 if none does."""
        return 0.0 if self.oldest_at is None else max(0.0, at - self.oldest_at.timestamp())


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A unit that one of a worker's processes has leased."""

    process: str
    queue: str
    kind: str  # predict, or plan, chunk or final of a job in stages
    lane: str  # <model>@<version>, or the id of a job in stages
    own_jobs: int  # jobs whose owner asked
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A process that says that it lives, with what the processes that it forked are at."""

    name: str  # <host>:<pid>
    roles: tuple[str, ...]  # queues, or the scheduler
    version: str | None
    heard_at: datetime
    work: tuple[Work, ...]


@dataclass(kw_only=True, slots=True)
class Slot:
    """What ended within ten seconds."""

    at: datetime  # its begin
    jobs: int = 0
    failed: int = 0  # of these
    rows: int = 0  # that were tried
    took: dict[int, int] = field(default_factory=dict)  # jobs by bucket; those that were cancelled are in none

    def add(self, text: bytes) -> None:
        """Add what an owner had."""
        jobs, failed, rows, *_ = text.split(b" ", 3)
        self.jobs, self.failed, self.rows = self.jobs + int(jobs), self.failed + int(failed), self.rows + int(rows)
        for bucket, count in TOOK.findall(text):
            self.took[int(bucket)] = self.took.get(int(bucket), 0) + int(count)

    def quantile_seconds(self, share: float) -> float | None:
        """How long a share of the jobs took at most, from accepted to done; None without jobs.

        A bucket goes from 2**(b/2) to 2**((b+1)/2) milliseconds, and its middle is told: 19 % off at most.
        """
        left = share * sum(self.took.values())
        for bucket, count in sorted(self.took.items()):
            left -= count
            if left <= 0:
                return round(math.exp2((bucket + 0.5) / 2) / 1000, 6)
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """One look at it."""

    at: datetime
    queues: tuple[Queue, ...]
    workers: tuple[Worker, ...]
    slots: tuple[Slot, ...]  # oldest first; the last one is not over
    failures: tuple[Job, ...]  # newest first


class Overviews:
    """Looks at what goes on."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def of(self, owner: str) -> Overview:
        """What concerns an owner, or EVERYBODY.

        Raises:
            StoreUnavailable, StoreFull
        """
        queues, units = self.lines("" if owner == EVERYBODY else owner)
        try:
            micros, texts, failed, heard = self._read(owner)
            workers = self._workers(heard, units)
        except RedisError as error:
            raise StoreUnavailable from error
        at = datetime.fromtimestamp(micros / 1_000_000, UTC)
        found = self._store.read_many([job_id.decode() for job_id in failed], skip_newer=True)
        return Overview(
            at=at,
            queues=queues,
            workers=workers,
            slots=_slots(at, texts),
            failures=tuple(job for job in found.values() if job is not None and job.status is Status.FAILED),
        )

    def lines(self, owner: str = "") -> tuple[tuple[Queue, ...], tuple[Work, ...]]:
        """What waits and what runs, of an owner, or of everybody.

        Raises:
            StoreUnavailable, StoreFull
        """
        queues, units = self._store.run("overview", owner, MOST_ENTRIES, *LINES)
        return tuple(map(_queue, queues)), tuple(map(_work, units))

    def _read(self, owner: str) -> tuple[int, list[list[bytes]], list[bytes], Mapping[str, list[tuple[bytes, float]]]]:
        """Redis's clock (us), the texts of each slot, the ids of failures, and by role who was heard of."""
        client, keys = self._store.connections.client, self._store.keys
        seconds, micros = client.time()
        newest = seconds // SLOT_SECONDS
        pipeline = client.pipeline(transaction=False)
        for slot in range(newest - SLOTS + 1, newest + 1):
            if owner == EVERYBODY:
                pipeline.hvals(keys.slot(slot))
            else:
                pipeline.hmget(keys.slot(slot), owner)
        pipeline.lrange(keys.failures(owner), 0, MOST_FAILURES - 1)
        roles = (*QUEUES, SCHEDULER)
        for role in roles:
            pipeline.zrange(keys.workers(role), 0, -1, withscores=True)
        replies = pipeline.execute()
        texts = [[text for text in found if text is not None] for found in replies[:SLOTS]]
        heard = dict(zip(roles, replies[SLOTS + 1 :], strict=True))
        return seconds * 1_000_000 + micros, texts, replies[SLOTS], heard

    def _workers(self, heard: Mapping[str, list[tuple[bytes, float]]], units: Sequence[Work]) -> tuple[Worker, ...]:
        last: dict[str, float] = {}
        roles: dict[str, list[str]] = {}
        for role, members in heard.items():
            for raw, score in members:
                name = raw.decode()
                last[name] = max(score, last.get(name, 0.0))
                roles.setdefault(name, []).append(role)
        names = sorted(last)
        told = self._store.connections.client.mget([self._store.keys.process(name) for name in names]) if names else []
        about: dict[str, dict[str, Any]] = {
            name: orjson.loads(raw) if raw else {} for name, raw in zip(names, told, strict=True)
        }
        return tuple(
            Worker(
                name=name,
                roles=tuple(roles[name]),
                version=about[name].get("version"),
                heard_at=datetime.fromtimestamp(last[name], UTC),
                work=tuple(unit for unit in units if _is_of(unit, name, about[name].get("family"))),
            )
            for name in names
        )


def is_fresh(worker: Worker, at: datetime) -> bool:
    """Whether a worker was heard of lately enough to count on it; clocks of machines are compared."""
    return (at - worker.heard_at).total_seconds() <= FRESH_SECONDS


def _is_of(unit: Work, name: str, family: str | None) -> bool:
    """Whether one of a worker's processes has the unit: worker.drain.worker_name is <host>-<pid>-<family>."""
    host = name.rpartition(":")[0]
    return family is not None and unit.process.startswith(f"{host}-") and unit.process.endswith(f"-{family}")


def _queue(raw: Sequence[Any]) -> Queue:
    name, waiting, running, oldest, waiting_millis, unmeasured, pieces, lanes, longest = raw
    return Queue(
        name=name.decode(),
        waiting=waiting,
        running=running,
        oldest_at=from_millis(oldest),
        waiting_seconds=waiting_millis / 1000,
        unmeasured=unmeasured,
        pieces=pieces,
        lanes=lanes,
        longest=longest,
    )


def _work(raw: Sequence[Any]) -> Work:
    queue, process, pulled, kind, lane, own = raw
    return Work(
        process=process.decode(),
        queue=queue.decode(),
        kind=kind.decode() or "predict",
        lane=lane.decode(),
        own_jobs=own,
        since=datetime.fromtimestamp(int(pulled) / 1_000_000, UTC),
    )


def _slots(at: datetime, texts: Sequence[Sequence[bytes]]) -> tuple[Slot, ...]:
    newest = int(at.timestamp()) // SLOT_SECONDS
    slots = []
    for number, found in enumerate(texts, newest - len(texts) + 1):
        slot = Slot(at=datetime.fromtimestamp(number * SLOT_SECONDS, UTC))
        for text in found:
            slot.add(text)
        slots.append(slot)
    return tuple(slots)
