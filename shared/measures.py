"""What there is to measure at one moment, of the whole service: counters, queues, workers, memory, wanted processes.

Four round trips, whose cost does not grow with jobs that have ended. The answer is remembered for a second, so that
many who ask cost no more than one.
"""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis.exceptions import RedisError, ResponseError

from shared.autoscale import (
    LONG_UNIT_SECONDS,
    READING_SECONDS,
    READINGS,
    Load,
    Policy,
    Reading,
    backlog_seconds,
    cost_seconds,
    needed,
    wanted,
)
from shared.errors import StoreUnavailable
from shared.heartbeat import FRESH_SECONDS
from shared.metrics import MICROS
from shared.overview import Overviews, Queue, Work
from shared.queue import BATCH, DRAINED, ONLINE, SERVED, TRAIN
from shared.script import loaded
from shared.settings import Settings
from shared.store import JobStore

SCRIPTS: Final = ("count", "reading")
REMEMBER_SECONDS: Final = 1.0
# How long one who asks waits for another's answer.
PATIENCE_SECONDS: Final = 2.0
# Readings that are older say nothing of now.
KEEP_SECONDS: Final = 2 * READING_SECONDS * READINGS
# The queue whose workers do the jobs of a kind.
QUEUE_OF: Final[Mapping[str, str]] = {"predict": ONLINE, "batch": BATCH, "register": BATCH, "train": TRAIN}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A queue's processes, and what it wants."""

    workers: int  # that were heard of lately
    processes: int  # that these have
    wanted_processes: int
    wanted_workers: int  # of as many processes as these have; if there are none, as the setting `workers` says
    backlog_seconds: float
    job_cost_seconds: float | None
    needed: float  # before it is held and rounded


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One look."""

    at: float  # seconds since 1970, of Redis's clock
    counters: Mapping[str, int]  # as they lie in Redis
    queues: tuple[Queue, ...]
    units: tuple[Work, ...]
    workers: Mapping[str, int]  # by queue
    processes: Mapping[str, int]
    scales: Mapping[str, Scale]
    memory: tuple[int, int]  # bytes used, and the limit
    takes_writes: bool  # Redis does
    models: int
    drift: Mapping[str, float]  # largest index of the newest window, by model
    reading_age_seconds: float | None  # None: there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What one round trip brings."""

    at: float
    counters: Mapping[str, int]
    readings: Sequence[tuple[float, Mapping[str, Any]]]  # age in seconds and what `take_reading` kept, newest first
    memory: tuple[int, int]
    models: int
    metered: Sequence[str]  # models that have counters of their own
    heard: Mapping[str, Sequence[str]]  # by queue, the workers that were heard of lately


class Measures:
    """Looks; one for a process."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._overviews = Overviews(store)
        self._policy = Policy.of(settings)
        self._most_models = settings.metrics_models
        self._usual_processes = settings.workers
        self._scripts = loaded(SCRIPTS)
        self._lock = threading.Lock()
        self._until = self._reading_at = 0.0
        self._newest: Measured | None = None

    def send(self, process: str, number: int, *counted: Any) -> None:
        """Add what a process has counted: shared.meter.

        Raises:
            StoreUnavailable, StoreFull
        """
        self._run("count", process, number, self._most_models, *counted)

    def now(self) -> Measured:
        """How it is, or was a second ago at most.

        Raises:
            StoreUnavailable, StoreFull
        """
        # While Redis hangs, those who ask do not stand in line for it.
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise StoreUnavailable
        try:
            if self._newest is None or time.monotonic() >= self._until:
                self._newest = self.look()
                self._until = time.monotonic() + REMEMBER_SECONDS
            return self._newest
        finally:
            self._lock.release()

    def take_reading(self) -> None:
        """Keep how it is, every so often, unless somebody else has just done so.

        Raises:
            StoreUnavailable, StoreFull
        """
        if time.monotonic() < self._reading_at:
            return
        self._reading_at = time.monotonic() + READING_SECONDS
        seen = self.look()
        told = {queue: [*_told(seen.counters, queue), round(scale.needed, 3)] for queue, scale in seen.scales.items()}
        # A round of the janitor may be early by a moment.
        self._run("reading", orjson.dumps(told), 900 * READING_SECONDS, READINGS, 1000 * KEEP_SECONDS)

    def look(self) -> Measured:
        """How it is.

        Raises:
            StoreUnavailable, StoreFull
        """
        queues, units = self._overviews.lines()
        try:
            read = self._read()
            processes, drift = self._read_more(read)
            takes_writes = self._takes_writes()
        except RedisError as error:
            raise StoreUnavailable from error
        workers = {queue: len(names) for queue, names in read.heard.items()}
        sizes = {queue: sum(processes[name] for name in names) for queue, names in read.heard.items()}
        return Measured(
            at=read.at,
            counters=read.counters,
            queues=queues,
            units=units,
            workers=workers,
            processes=sizes,
            scales={
                queue.name: self._scale(queue, units, read, workers[queue.name], sizes[queue.name])
                for queue in queues
                if queue.name in DRAINED
            },
            memory=read.memory,
            takes_writes=takes_writes,
            models=read.models,
            drift=drift,
            reading_age_seconds=read.readings[0][0] if read.readings else None,
        )

    def _run(self, name: str, *arguments: Any) -> Any:
        return self._store.connections.script(self._scripts[name], self._store.keys.base, *arguments)

    def _read(self) -> Read:
        keys, pipeline = self._store.keys, self._store.connections.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(keys.metrics)
        pipeline.lrange(keys.readings, 0, READINGS - 1)
        pipeline.info("memory")
        pipeline.scard(keys.models)
        pipeline.smembers(keys.metered)
        for queue in SERVED:
            pipeline.zrangebyscore(keys.workers(queue), time.time() - FRESH_SECONDS, "+inf")
        (seconds, micros), counters, readings, memory, models, metered, *heard = pipeline.execute()
        at = seconds + micros / MICROS
        taken = (raw.partition(b" ") for raw in readings)
        return Read(
            at=at,
            counters={name.decode(): int(value) for name, value in counters.items()},
            readings=[(at - int(millis) / 1000, orjson.loads(told)) for millis, _, told in taken],
            memory=(int(memory["used_memory"]), int(memory.get("maxmemory", 0))),
            models=models,
            metered=sorted(name.decode() for name in metered),
            heard={queue: [name.decode() for name in found] for queue, found in zip(SERVED, heard, strict=True)},
        )

    def _read_more(self, read: Read) -> tuple[dict[str, int], dict[str, float]]:
        """How many processes each worker has, and how far the newest file of each model was from its training data."""
        keys, pipeline = self._store.keys, self._store.connections.client.pipeline(transaction=False)
        names = sorted({name for found in read.heard.values() for name in found})
        for name in names:
            pipeline.get(keys.process(name))
        for model in read.metered:
            pipeline.lindex(keys.drift(model), 0)
        answers = pipeline.execute()
        told = zip(names, answers, strict=False)
        processes = {name: orjson.loads(raw).get("processes", 1) if raw else 1 for name, raw in told}
        windows = zip(read.metered, answers[len(names) :], strict=True)
        drift = {model: orjson.loads(raw.partition(b" ")[2]).get("max_psi") for model, raw in windows if raw}
        return processes, {model: psi for model, psi in drift.items() if psi is not None}

    def _takes_writes(self) -> bool:
        """Whether a write is taken; counters cannot say so, since they are written too."""
        try:
            self._store.connections.client.set(self._store.keys.confirmed, 1, px=60_000)
        except ResponseError:
            return False
        return True

    def _scale(self, queue: Queue, units: Sequence[Work], read: Read, workers: int, processes: int) -> Scale:
        at = read.at
        accepted, ended, busy = _told(read.counters, queue.name)
        load = Load(
            queue=queue.name,
            now=Reading(at=at, accepted=accepted, ended=ended, busy_seconds=busy / MICROS),
            waiting_seconds=queue.waiting_seconds,
            unmeasured=queue.unmeasured,
            pieces=queue.pieces,
            long_units=sum(
                unit.queue == queue.name and at - unit.since.timestamp() >= LONG_UNIT_SECONDS for unit in units
            ),
            oldest_seconds=queue.waited_seconds(at),
        )
        readings = [
            Reading(at=at - age, accepted=one[0], ended=one[1], busy_seconds=one[2] / MICROS, needed=one[3])
            for age, told in read.readings
            if age <= KEEP_SECONDS and (one := told.get(queue.name))
        ]
        number = wanted(load, readings, self._policy)
        each = processes / workers if workers else self._usual_processes
        return Scale(
            workers=workers,
            processes=processes,
            wanted_processes=number,
            wanted_workers=math.ceil(number / each),
            backlog_seconds=backlog_seconds(load, readings),
            job_cost_seconds=cost_seconds(load, readings),
            needed=needed(load, readings, self._policy),
        )


def _told(counters: Mapping[str, int], queue: str) -> tuple[int, int, int]:
    """Jobs that a queue was given, those that ended, and the time that its workers spent, us."""
    accepted = ended = 0
    for field, value in counters.items():
        name, _, rest = field.partition(" ")
        if name in ("jobs_accepted_total", "jobs_ended_total") and QUEUE_OF.get(rest.partition(" ")[0]) == queue:
            accepted += value if name == "jobs_accepted_total" else 0
            ended += value if name == "jobs_ended_total" else 0
    return accepted, ended, counters.get(f"busy_seconds_total {queue}", 0)
