"""Draining: pull micro-batches, predict, commit, until nothing waits; then linger for a moment before letting go."""

import os
import socket
import time
from collections.abc import Callable

import redis
import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from shared.errors import StoreFull, StoreUnavailable
from shared.records import Committed, Outcome, Unit
from shared.settings import Settings
from shared.store import JobStore
from worker.lease import LeaseKeeper
from worker.micro_batch import MicroBatchRunner

log = structlog.get_logger()


class Drainer:
    """What a worker process does between two doorbells."""

    def __init__(
        self, store: JobStore, runner: MicroBatchRunner, ring: Callable[[str], None], settings: Settings
    ) -> None:
        self._store = store
        self._runner = runner
        self._ring = ring
        self._settings = settings
        self._leases = LeaseKeeper(
            store, self._call, lease_seconds=settings.lease_seconds, timeout_seconds=settings.unit_timeout_seconds
        )
        self._name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
        self._waiting: redis.Redis | None = None
        # Jobs that this process does lately, and when its last unit ended.
        self._jobs_per_second = 0.0
        self._last_unit = 0.0

    def drain(self, queue: str) -> None:
        """Answer a doorbell.

        Raises:
            StoreUnavailable: Redis is away; the janitor rings again when it is back.
        """
        end = time.monotonic() + self._settings.drain_seconds
        answered, lane = True, ""
        while True:
            left = end - time.monotonic()
            linger_seconds = min(max(left, 0), self._settings.linger_seconds)
            unit = self._store.pull(queue, self._name, linger_seconds=linger_seconds, answered=answered, lane=lane)
            answered = False
            if unit is not None:
                lane = unit.lane
                self._work(unit)
                if time.monotonic() >= end:
                    # Time for Celery to look after this process; whoever is free goes on.
                    self._hand_over(queue, lane)
                    return
                self._let_gather(len(unit.jobs))
            elif left <= 0 or not self._linger(left):
                self._last_look(queue, lane)
                return

    def _hand_over(self, queue: str, lane: str) -> None:
        if self._store.call_worker(queue, lane):
            self._call(queue)

    def _last_look(self, queue: str, lane: str) -> None:
        """Stop lingering; a job that came in this moment has woken nobody but us, and is done first."""
        unit = self._store.pull(queue, self._name, linger_seconds=0, answered=False, lane=lane)
        if unit is not None:
            self._work(unit)
            self._hand_over(queue, unit.lane)

    def _let_gather(self, jobs: int) -> None:
        """Under dense traffic let some jobs gather before the next pull, so that a call serves several of them.

        A pull, a predict call and a commit cost the same for one small job as for ten. An idle worker never waits here:
        only one that has lately seen jobs come in faster than it would wait for the next.
        """
        now, pause = time.monotonic(), self._settings.gather_seconds
        per_second = jobs / max(now - self._last_unit, 1e-6)
        self._last_unit = now
        # The average forgets a burst as soon as jobs come slowly.
        self._jobs_per_second = min(0.8 * self._jobs_per_second + 0.2 * per_second, 10 * per_second)
        if self._jobs_per_second * pause >= 1 and jobs < self._settings.micro_batch_jobs // 2:
            time.sleep(pause)

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

    def _work(self, unit: Unit) -> None:
        if unit.ring:
            self._call(unit.queue)
        started, cpu_before = time.perf_counter(), time.thread_time()
        with self._leases.keep(unit) as unwanted:
            outcomes = self._runner.run(unit, unwanted)
            predicted = time.perf_counter()
            committed = self._commit(unit, outcomes, time.thread_time() - cpu_before)
            self._runner.discard(unit, outcomes, committed.kept)
        log.info(
            "unit.committed",
            lane=unit.lane,
            fence=unit.fence,
            jobs=len(unit.jobs),
            written=committed.written,
            rows=sum(outcome.succeeded + outcome.failed for outcome in outcomes),
            failed_rows=sum(outcome.failed for outcome in outcomes),
            run_ms=round((predicted - started) * 1000, 2),
            commit_ms=round((time.perf_counter() - predicted) * 1000, 2),
            job_ids=[job.id for job in unit.jobs],
            request_ids=[job.spec.request_id for job in unit.jobs],
            **(
                {"traceparents": traces}
                if (traces := [job.spec.traceparent for job in unit.jobs if job.spec.traceparent])
                else {}
            ),
        )

    def _commit(self, unit: Unit, outcomes: list[Outcome], cpu_seconds: float) -> Committed:
        """Write the outcomes; while Redis is away, for as long as anybody may still want them."""
        attempts = Retrying(
            retry=retry_if_exception_type((StoreUnavailable, StoreFull)),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._settings.unit_timeout_seconds),
            reraise=True,
        )
        return attempts(self._store.commit, unit.fence, outcomes, cpu_seconds)

    def _call(self, queue: str) -> None:
        try:
            self._ring(queue)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: a bell is only a hint
            log.warning("doorbell.not_rung", queue=queue, error=type(error).__name__)
