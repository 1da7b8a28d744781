"""The work of the online queue: micro-batches of small predictions."""

import time
from collections.abc import Callable

import structlog

from shared.queue import ONLINE
from shared.records import Outcome, Unit
from shared.settings import Settings
from shared.store import JobStore
from worker.drain import until_written
from worker.lease import LeaseKeeper
from worker.micro_batch import MicroBatchRunner

log = structlog.get_logger()


class OnlineWork:
    """Pulls micro-batches, predicts, commits."""

    def __init__(
        self, store: JobStore, runner: MicroBatchRunner, call: Callable[[str], None], settings: Settings
    ) -> None:
        self._store = store
        self._runner = runner
        self._settings = settings
        self._leases = LeaseKeeper(
            store, call, lease_seconds=settings.lease_seconds, timeout_seconds=settings.unit_timeout_seconds
        )
        # Jobs that this process does lately, and when its last unit ended.
        self._jobs_per_second = 0.0
        self._last_unit = 0.0

    def pull(self, worker: str, *, linger_seconds: float, answered: bool, lane: str) -> Unit | None:
        """Lease a micro-batch.

        Raises:
            StoreUnavailable
        """
        return self._store.pull(ONLINE, worker, linger_seconds=linger_seconds, answered=answered, lane=lane)

    def do(self, unit: Unit) -> None:
        """Predict and commit.

        Raises:
            StoreUnavailable: Redis was away for too long; the lease ends, and another worker does it again.
        """
        started, cpu_before = time.perf_counter(), time.thread_time()
        with self._leases.keep(unit) as unwanted:
            outcomes = self._runner.run(unit, unwanted)
            predicted = time.perf_counter()
            cpu_seconds = time.thread_time() - cpu_before
            committed = until_written(
                lambda: self._store.commit(unit.fence, outcomes, cpu_seconds), self._settings.unit_timeout_seconds
            )
            self._runner.discard(unit, outcomes, committed.kept)
        self._log(unit, outcomes, committed.written, predicted - started, time.perf_counter() - predicted)

    def _log(
        self, unit: Unit, outcomes: list[Outcome], written: int, run_seconds: float, commit_seconds: float
    ) -> None:
        log.info(
            "unit.committed",
            lane=unit.lane,
            fence=unit.fence,
            jobs=len(unit.jobs),
            written=written,
            rows=sum(outcome.succeeded + outcome.failed for outcome in outcomes),
            failed_rows=sum(outcome.failed for outcome in outcomes),
            run_ms=round(run_seconds * 1000, 2),
            commit_ms=round(commit_seconds * 1000, 2),
            job_ids=[job.id for job in unit.jobs],
            request_ids=[job.spec.request_id for job in unit.jobs],
            **(
                {"traceparents": traces}
                if (traces := [job.spec.traceparent for job in unit.jobs if job.spec.traceparent])
                else {}
            ),
        )

    def pause(self, unit: Unit) -> None:
        """Under dense traffic let some jobs gather before the next pull, so that a call serves several of them.

        A pull, a predict call and a commit cost the same for one small job as for ten. An idle worker never waits here:
        only one that has lately seen jobs come in faster than it would wait for the next.
        """
        jobs = len(unit.jobs)
        now, pause = time.monotonic(), self._settings.gather_seconds
        per_second = jobs / max(now - self._last_unit, 1e-6)
        self._last_unit = now
        # The average forgets a burst as soon as jobs come slowly.
        self._jobs_per_second = min(0.8 * self._jobs_per_second + 0.2 * per_second, 10 * per_second)
        if self._jobs_per_second * pause >= 1 and jobs < self._settings.micro_batch_jobs // 2:
            time.sleep(pause)
