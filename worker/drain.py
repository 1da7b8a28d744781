"""Draining: pull units and work on them until nothing waits; then linger for a moment before letting go."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import redis
import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from shared.errors import StoreFull, StoreUnavailable
from shared.records import BatchUnit, Unit
from shared.settings import Settings
from shared.store import JobStore
from worker.stopping import Stopping

log = structlog.get_logger()

AnyUnit = TypeVar("AnyUnit", Unit, BatchUnit)
Answer = TypeVar("Answer")
# Of a worker and all that it forks.
FAMILY: Final = f"{time.time_ns():x}"


def worker_name() -> str:
    """Who this process is, for Redis; workers fork, so it is asked for and not kept."""
    return f"{socket.gethostname()}-{os.getpid()}-{FAMILY}"


class Work(Protocol[AnyUnit]):
    """What one queue's units are and how they are done: micro-batches, or pieces of batch jobs."""

    def pull(self, worker: str, *, linger_seconds: float, answered: bool, lane: str) -> AnyUnit | None:
        """Lease a unit, if there is one; raises StoreUnavailable."""

    def do(self, unit: AnyUnit) -> None:
        """Do it and commit it; raises StoreUnavailable."""

    def pause(self, unit: AnyUnit) -> None:
        """Let more work gather before the next pull, where that pays."""


class Drainer(Generic[AnyUnit]):
    """What a worker process does between two doorbells of one queue."""

    def __init__(
        self,
        work: Work[AnyUnit],
        store: JobStore,
        call: Callable[[str], None],
        settings: Settings,
        stopping: Stopping,
    ) -> None:
        self._work: Work[AnyUnit] = work
        self._store = store
        self._call = call
        self._settings = settings
        self._name = worker_name()
        self._waiting: redis.Redis | None = None
        self._draining = False
        self._stopping = stopping
        stopping.on_begin(self._wake)

    def drain(self, queue: str) -> None:
        """Answer a doorbell.

        Raises:
            StoreUnavailable, StoreFull: Redis is away, or takes nothing; the janitor rings again when it is back.
        """
        self._draining = True
        try:
            self._drain(queue, time.monotonic() + self._settings.drain_seconds)
        finally:
            self._draining = False

    def _drain(self, queue: str, end: float) -> None:
        answered, lane = True, ""
        while not self._stopping.begun:
            left = end - time.monotonic()
            linger_seconds = min(max(left, 0), self._settings.linger_seconds)
            unit = self._work.pull(self._name, linger_seconds=linger_seconds, answered=answered, lane=lane)
            answered = False
            if unit is not None:
                lane = unit.lane
                self._do(unit)
                if time.monotonic() >= end:
                    # Time for Celery to look after this process; whoever is free goes on.
                    self._hand_over(queue, lane)
                    return
                self._work.pause(unit)
            elif left <= 0 or not self._linger(left):
                if self._stopping.begun:
                    break
                self._last_look(queue, lane)
                return
        self._leave(queue, lane)

    def _do(self, unit: AnyUnit) -> None:
        if unit.ring:
            self._call(unit.queue)
        self._work.do(unit)

    def _hand_over(self, queue: str, lane: str) -> None:
        if self._store.call_worker(queue, self._name, lane):
            self._call(queue)

    def _leave(self, queue: str, lane: str) -> None:
        """Be woken no more, and get another worker to look if there is work."""
        if self._store.leave(queue, self._name, lane):
            self._call(queue)

    def _wake(self) -> None:
        """Have the process leave at once if it lingers, since it shall end."""
        if self._draining:
            with contextlib.suppress(StoreUnavailable):  # it lingers for a moment only
                self._store.wake(self._name)

    def _last_look(self, queue: str, lane: str) -> None:
        """Stop lingering; work that came in this moment has woken nobody but us, and is done first."""
        unit = self._work.pull(self._name, linger_seconds=0, answered=False, lane=lane)
        if unit is not None:
            self._do(unit)
            self._hand_over(queue, unit.lane)

    def _linger(self, left: float) -> bool:
        """Wait to be woken; False if nobody did."""
        seconds = min(left, self._settings.linger_seconds)
        if seconds <= 0:  # which BLPOP takes for "for ever"
            return False
        if self._waiting is None:
            self._waiting = self._store.connections.blocking(self._settings.linger_seconds)
        try:
            return self._waiting.blpop([self._store.keys.wake(self._name)], timeout=seconds) is not None
        except redis.RedisError as error:
            raise StoreUnavailable from error


def caller(ring: Callable[[str], None]) -> Callable[[str], None]:
    """Rings for a queue; a bell that cannot be rung is rung by the janitor."""

    def call(queue: str) -> None:
        try:
            ring(queue)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: a bell is only a hint
            log.warning("doorbell.not_rung", queue=queue, error=type(error).__name__)

    return call


def until_written(write: Callable[[], Answer], seconds: float) -> Answer:
    """Commit; while Redis is away, for as long as anybody may still want it.

    Raises:
        StoreUnavailable, StoreFull: it was away for longer.
    """
    with contextlib.suppress(StoreUnavailable, StoreFull):
        return write()  # as nearly always: to make ready for another attempt takes as long as the call
    attempts = Retrying(
        retry=retry_if_exception_type((StoreUnavailable, StoreFull)),
        wait=wait_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
    return attempts(write)
