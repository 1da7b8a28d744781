"""A unit of a job in stages under its lease: what cannot go on ends its job, what is away is given back."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import structlog
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from shared.batch_store import BatchStore
from shared.errors import (
    FileMissing,
    InputGone,
    InvalidRequest,
    NewerSchema,
    ServiceError,
    StorageFailed,
    StoreUnavailable,
)
from shared.meter import METER, micros
from shared.records import BatchUnit, failure_outcome
from shared.store import JobStore
from shared.tracing import TRACING, trace_id
from worker.drain import until_written
from worker.lease import LeaseKeeper, leave_to_others
from worker.predict import Stopped
from worker.stopping import Stopping

log = structlog.get_logger()

# How long storage that is away for the moment is tried again within a unit.
PATIENCE_SECONDS: Final = 60
# What Python and Arrow say when there is no memory for the stack of a thread.
NO_THREAD: Final = ("can't start new thread", "Failed to launch worker thread")

# Does a unit; the function tells whether nobody wants it any more.
Run = Callable[[BatchUnit, Callable[[], bool]], None]


def is_made_of_others(unit: BatchUnit) -> bool:
    """Whether a unit reads what units before it wrote, which is removed when it is done, and not the input alone.

    A failover may forget that it was done.
    """
    if unit.kind == "chunk":
        unpacked = unit.layout is not None and unit.layout.unpacked
        return bool(unpacked or unit.spec.train is not None or unit.spec.retry_of is not None)
    return unit.kind == "final"


def lacked_memory(error: BaseException | None) -> bool:
    """Whether an error says that there was no memory, or comes of that: Python's own errors are such in practice."""
    while error is not None and not isinstance(error, ServiceError):
        if isinstance(error, MemoryError | SystemError) or any(words in str(error) for words in NO_THREAD):
            return True
        error = error.__cause__ or error.__context__
    return False


class StagedRunner:
    """Does the units of one worker process, one after the other."""

    def __init__(
        self,
        store: JobStore,
        batches: BatchStore,
        run: Run,
        call: Callable[[str], None],
        *,
        lease_seconds: float,
        timeout_seconds: float,
        check_timeout_seconds: float | None = None,
        stopping: Stopping | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        self._store = store
        self._batches = batches
        self._run = run
        self._call = call
        self._timeout_seconds = timeout_seconds
        self._check_timeout_seconds = check_timeout_seconds
        self._leases = LeaseKeeper(
            store, call, lease_seconds=lease_seconds, timeout_seconds=timeout_seconds, stopping=stopping,
            patience_seconds=patience_seconds,
        )  # fmt: skip

    def do(self, unit: BatchUnit) -> None:
        """Do a unit; whatever happens is the end of the unit, not of the worker.

        Raises:
            StoreUnavailable
        """
        began = time.perf_counter()
        with self._leases.keep(unit) as unwanted:
            try:
                if unit.spec.register is not None:
                    # The first check of a process imports what reads artifacts, which counts to none of its limits.
                    import worker.formats.skops  # noqa: F401

                    self._leases.progressed(timeout_seconds=self._check_timeout_seconds)
                self._patiently(unit, lambda: self._stopped(unwanted))
            except StoreUnavailable:
                raise  # the lease ends, and another worker does it again
            except Exception as error:  # noqa: BLE001  # whatever happens is the end of the unit, not of the worker
                if lacked_memory(error):
                    self._end_process(unit)
                self._ended(unit, error)
            finally:
                METER.add(f"busy_seconds_total {unit.queue}", micros(time.perf_counter() - began))

    def _ended(self, unit: BatchUnit, error: Exception) -> None:
        """What becomes of a unit that raised."""
        about = {"job_id": unit.job_id, "kind": unit.kind, "fence": unit.fence, **trace_id(unit.spec.traceparent)}
        if TRACING.on and not isinstance(error, Stopped | NewerSchema):  # these are given back, and no faults
            TRACING.fail(error)
        match error:
            case Stopped():
                log.info("unit.dropped", **about)
                self._give_back(unit, failure_outcome("internal", "The unit was stopped."), counts=False)
            case NewerSchema():
                leave_to_others(self._store, unit, error, self._call)
            case FileMissing():
                # Somebody else has done this unit and what it was made of is removed, or the input was removed.
                log.warning("unit.file_missing", reason=error.message, **about)
                if is_made_of_others(unit) and self._batches.begin_again(unit.job_id, unit):
                    log.warning("job.begun_again", **about)
                else:
                    self._give_back(unit, failure_outcome("input_gone", InputGone().message))
            case StorageFailed() if type(error) is StorageFailed:
                log.warning("unit.storage_failed", reason=error.message, **about)
                self._give_back(unit, failure_outcome(error.code, error.message), counts=False)
            case InvalidRequest():
                self._fail(unit, "invalid_input", error.message, error.errors)
            case ServiceError():
                log.warning("unit.failed", reason=error.message, **about)
                self._fail(unit, error.code, error.message, getattr(error, "errors", ()))
            case _:
                log.error("unit.crashed", exc_info=error, **about)
                self._fail(unit, "internal", "Something went wrong in the worker; its log has the details.")

    def _end_process(self, unit: BatchUnit) -> NoReturn:
        """Give a unit back for which there was no memory, and leave what follows to another process.

        Python itself may be in disorder where it had no memory for something small, so whatever fails here is let go.
        """
        try:
            log.warning("unit.out_of_memory", job_id=unit.job_id, kind=unit.kind, fence=unit.fence)
            message = "The job needs more memory than a worker has."
            self._give_back(unit, failure_outcome("out_of_memory", message))
        finally:
            os._exit(os.EX_OK)

    def _stopped(self, unwanted: Callable[[], frozenset[str]]) -> bool:
        """Asked between two steps, so the unit is not stuck."""
        self._leases.progressed()
        return self._leases.leaving or bool(unwanted())

    def _patiently(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        """Run a unit, again for a while if storage is away."""
        attempts = Retrying(
            retry=retry_if_exception(lambda error: type(error) is StorageFailed),
            wait=wait_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        )
        attempts(self._run, unit, stopped)

    def _give_back(self, unit: BatchUnit, outcome: bytes, *, counts: bool = True) -> None:
        ring, queue = self._store.release(unit.fence, outcome, counts=counts)
        if ring:
            self._call(queue)

    def _fail(self, unit: BatchUnit, code: str, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        if until_written(lambda: self._batches.fail(unit, code, message, errors), self._timeout_seconds):
            self._call(unit.queue)


class StagedWork:
    """The work of a queue whose units are those of jobs in stages; what they are is for who inherits it."""

    _batches: BatchStore
    _runner: StagedRunner

    def pull(self, worker: str, *, linger_seconds: float, answered: bool, lane: str) -> BatchUnit | None:
        """Lease a unit.

        Raises:
            StoreUnavailable
        """
        return self._batches.pull(worker, linger_seconds=linger_seconds, answered=answered)

    def pause(self, unit: BatchUnit) -> None:
        """Nothing gathers while we wait: a unit is large already."""

    def do(self, unit: BatchUnit) -> None:
        """Do a unit and commit it.

        Raises:
            StoreUnavailable
        """
        self._runner.do(unit)
