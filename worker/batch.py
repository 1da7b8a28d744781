"""The work of the batch queue: plans, chunks and ends of jobs whose rows are in a file."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from shared.batch_store import BatchStore
from shared.errors import FileMissing, InputGone, InvalidRequest, ServiceError, StorageFailed, StoreUnavailable
from shared.inputs import Inputs
from shared.records import BatchUnit, failure_outcome
from shared.registry import Registry
from shared.settings import Settings
from shared.storage import Storage, parts_prefix, unpacked_key, unpacked_prefix
from shared.store import JobStore
from worker.chunk import ChunkRunner, Part
from worker.drain import until_written
from worker.finalise import Finaliser
from worker.lease import LeaseKeeper
from worker.model_cache import LoadedModel, ModelCache
from worker.plan import Planner
from worker.predict import Stopped
from worker.slices import WrongCount

log = structlog.get_logger()

# How long storage that is away for the moment is tried again within a unit.
PATIENCE_SECONDS: Final = 60


class BatchWork:
    """Pulls units of batch jobs and does them."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        inputs: Inputs,
        registry: Registry,
        models: ModelCache,
        call: Callable[[str], None],
        settings: Settings,
    ) -> None:
        self._store = store
        self._storage = storage
        self._batches = BatchStore(store, settings)
        self._models = models
        self._call = call
        self._settings = settings
        self._planner = Planner(self._batches, storage, inputs, registry, settings)
        self._chunks = ChunkRunner(storage, inputs, settings)
        self._finaliser = Finaliser(storage)
        self._leases = LeaseKeeper(
            store, call, lease_seconds=settings.lease_seconds, timeout_seconds=settings.unit_timeout_seconds
        )

    def pull(self, worker: str, *, linger_seconds: float, answered: bool, lane: str) -> BatchUnit | None:
        """Lease a unit.

        Raises:
            StoreUnavailable
        """
        return self._batches.pull(worker, linger_seconds=linger_seconds, answered=answered)

    def pause(self, unit: BatchUnit) -> None:
        """Nothing gathers while we wait: a unit is large already."""

    def do(self, unit: BatchUnit) -> None:
        """Do a unit and commit it; what cannot go on ends its job, and what is away for the moment is given back.

        Raises:
            StoreUnavailable
        """
        with self._leases.keep(unit) as unwanted:
            try:
                self._patiently(unit, lambda: self._stopped(unwanted))
            except StoreUnavailable:
                raise  # the lease ends, and another worker does it again
            except Stopped:
                self._give_back(unit, failure_outcome("internal", "The unit was stopped at every attempt."))
            except FileMissing as error:
                # Somebody else has done this unit and has removed what it was made of, or the input was removed.
                log.warning("unit.file_missing", job_id=unit.job_id, kind=unit.kind, reason=error.message)
                self._give_back(unit, failure_outcome("input_gone", InputGone().message))
            except MemoryError:
                log.warning("unit.out_of_memory", job_id=unit.job_id, kind=unit.kind)
                self._give_back(unit, failure_outcome("out_of_memory", "The file needs more memory than a worker has."))
            except InvalidRequest as error:
                self._fail(unit, "invalid_input", error.message, error.errors)
            except WrongCount as error:
                log.warning("unit.wrong_count", job_id=unit.job_id, reason=str(error))
                self._fail(unit, "input_changed", "The file is not what it was when the job began; send it again.")
            except ServiceError as error:
                log.warning("unit.failed", job_id=unit.job_id, kind=unit.kind, reason=error.message)
                self._fail(unit, error.code, error.message)
            except Exception:
                log.exception("unit.crashed", job_id=unit.job_id, kind=unit.kind)
                self._fail(unit, "internal", "Something went wrong in the worker; its log has the details.")

    def _stopped(self, unwanted: Callable[[], frozenset[str]]) -> bool:
        """Asked between two steps, so the unit is not stuck."""
        self._leases.progressed()
        return bool(unwanted())

    def _patiently(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        """Run a unit, again for a while if storage is away."""
        attempts = Retrying(
            retry=retry_if_exception(lambda error: type(error) is StorageFailed),
            wait=wait_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        )
        attempts(self._run, unit, stopped)

    def _run(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        match unit.kind:
            case "plan":
                began = time.perf_counter()
                self._planner.run(unit, self._leases.progressed, self._call)
                self._log(unit, {"cut": time.perf_counter() - began})
            case "chunk":
                self._chunk(unit, stopped)
            case "final":
                self._final(unit, stopped)

    def _chunk(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        part = self._chunks.run(unit, self._model(unit), stopped)
        record = {
            "slices": len(unit.slices),
            "fence": unit.fence,
            "succeeded": part.succeeded,
            "failed": part.failed,
            "result_bytes": sum(map(len, part.result)),
            "errors_bytes": sum(map(len, part.errors)),
        } | ({"infinite": True} if part.infinite else {})
        began = time.perf_counter()
        counted = until_written(
            lambda: self._batches.commit_chunk(unit, record, part.reasons), self._settings.unit_timeout_seconds
        )
        if counted and unit.layout is not None and unit.layout.unpacked:
            for piece in unit.slices:
                self._storage.delete(unpacked_key(unit.job_id, piece.start))
        part.seconds["commit"] = time.perf_counter() - began
        self._log(unit, part.seconds, part)

    def _final(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        began = time.perf_counter()
        model = self._model(unit)
        _, schema = self._chunks.scorer(unit, model)
        status, outcome = self._finaliser.run(
            unit, model.manifest, schema, stopped, lambda: self._batches.slices(unit.job_id)
        )
        counted = until_written(
            lambda: self._batches.commit_final(unit, status, outcome), self._settings.unit_timeout_seconds
        )
        if counted:
            self._remove_parts(unit)
        self._log(unit, {"join": time.perf_counter() - began})

    def _model(self, unit: BatchUnit) -> LoadedModel:
        return self._models.patiently(unit.spec.model, unit.spec.version)

    def _give_back(self, unit: BatchUnit, outcome: bytes) -> None:
        ring, queue = self._store.release(unit.fence, outcome)
        if ring:
            self._call(queue)

    def _fail(self, unit: BatchUnit, code: str, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        if until_written(lambda: self._batches.fail(unit, code, message, errors), self._settings.unit_timeout_seconds):
            self._call(unit.queue)
        job = self._store.read(unit.job_id, with_result=False)
        if job is None or job.done:
            # Nobody will join what there is, and it may be what has filled the storage.
            with contextlib.suppress(StorageFailed):  # then it goes with the job
                self._remove_parts(unit)

    def _remove_parts(self, unit: BatchUnit) -> None:
        for prefix in (parts_prefix(unit.job_id), unpacked_prefix(unit.job_id)):
            self._storage.delete(prefix)

    def _log(self, unit: BatchUnit, seconds: Mapping[str, float], part: Part | None = None) -> None:
        log.info(
            "unit.committed",
            job_id=unit.job_id,
            kind=unit.kind,
            fence=unit.fence,
            request_id=unit.spec.request_id,
            **(
                {}
                if part is None
                else {"slices": len(unit.slices), "rows": part.succeeded + part.failed, "failed_rows": part.failed}
            ),
            **{f"{step}_ms": round(value * 1000, 2) for step, value in seconds.items()},
        )
