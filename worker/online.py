"""The work of the online queue: micro-batches of small predictions."""

import time
from collections.abc import Callable

import structlog

from shared.errors import NewerSchema
from shared.meter import METER, micros
from shared.queue import ONLINE
from shared.records import Committed, Outcome, Unit
from shared.settings import Settings
from shared.store import JobStore
from shared.tracing import TRACING
from worker.drain import until_written
from worker.lease import LeaseKeeper, leave_to_others
from worker.micro_batch import MicroBatchRunner
from worker.stopping import Stopping
from worker.traced import tell_jobs

log = structlog.get_logger()


class OnlineWork:
    """Pulls micro-batches, predicts, commits."""

    def __init__(
        self,
        store: JobStore,
        runner: MicroBatchRunner,
        call: Callable[[str], None],
        settings: Settings,
        stopping: Stopping | None = None,
    ) -> None:
        self._store = store
        self._runner = runner
        self._call = call
        self._settings = settings
        self._leases = LeaseKeeper(
            store, call, lease_seconds=settings.lease_seconds, timeout_seconds=settings.unit_timeout_seconds,
            stopping=stopping, patience_seconds=settings.drain_seconds,
        )  # fmt: skip
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
            try:
                outcomes = self._runner.run(unit, unwanted)
            except NewerSchema as error:
                leave_to_others(self._store, unit, error, self._call)
                return
            predicted = time.perf_counter()
            cpu_seconds = time.thread_time() - cpu_before
            committed = until_written(
                lambda: self._store.commit(unit.fence, outcomes, cpu_seconds), self._settings.unit_timeout_seconds
            )
            self._runner.discard(unit, outcomes, committed.kept, self._store)
        ended = time.perf_counter()
        if TRACING.on:
            TRACING.note("foretell.commit", {"foretell.jobs.written": committed.written}, predicted, ended)
            tell_jobs(unit, outcomes, committed, started, ended)
        measure(unit, outcomes, committed, micros(predicted - started), micros(ended - started))
        self._log(unit, outcomes, committed.written, predicted - started, ended - predicted)

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
                {"trace_ids": traces}
                if (traces := [job.spec.traceparent[3:35] for job in unit.jobs if job.spec.traceparent])
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


def measure(unit: Unit, outcomes: list[Outcome], committed: Committed, predict_micros: int, busy_micros: int) -> None:
    """Count a micro-batch; jobs that were cancelled meanwhile, or were tried before, have no times of their own."""
    kept = committed.kept
    METER.observe(
        ("predict_seconds", "predict ", (predict_micros,)),
        ("micro_batch_jobs", "", (len(unit.jobs),)),
        ("micro_batch_rows", "", (sum([one.succeeded + one.failed for one in outcomes]),)),
        ("queue_seconds", "predict ", [1000 * job.waited_millis for job in unit.jobs if job.attempt == 1]),
        ("job_seconds", "predict ", [1000 * job.waited_millis + busy_micros for job in unit.jobs if job.id in kept]),
    )
    METER.add("busy_seconds_total online", busy_micros)
    size_bytes = sum(map(len, [one.result or b"" for one in outcomes if one.id in kept]))
    METER.add("output_bytes_total predict", size_bytes + sum([one.stored_bytes or 0 for one in outcomes]))
