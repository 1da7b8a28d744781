"""The work of the batch queue: plans, chunks and ends of jobs whose rows are in a file, and checks of artifacts.

The checks are here, since a chunk is over in seconds, while behind the fits of trainings they might wait for hours.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import structlog

from shared.batch_store import BatchStore
from shared.errors import (
    FileMissing,
    ModelUnusable,
    StorageFailed,
)
from shared.inputs import Inputs
from shared.meter import METER, micros
from shared.records import BatchUnit
from shared.registry import Manifest, Registry
from shared.settings import Settings
from shared.storage import Storage, unpacked_key
from shared.store import JobStore
from shared.tracing import TRACING, trace_id
from worker.admission import Admission
from worker.chunk import ChunkRunner, Part
from worker.drain import until_written
from worker.finalise import Finaliser
from worker.model_cache import LoadedModel, ModelCache
from worker.plan import Planner
from worker.staged import StagedRunner, StagedWork
from worker.stopping import Stopping

log = structlog.get_logger()


class BatchWork(StagedWork):
    """Pulls units of batch and register jobs and does them."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        inputs: Inputs,
        registry: Registry,
        models: ModelCache,
        call: Callable[[str], None],
        settings: Settings,
        stopping: Stopping | None = None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._batches = BatchStore(store, settings)
        self._models = models
        self._registry = registry
        self._call = call
        self._settings = settings
        self._planner = Planner(self._batches, storage, inputs, registry, settings)
        self._chunks = ChunkRunner(storage, inputs, settings)
        self._finaliser = Finaliser(storage, inputs, settings)
        self._admission = Admission(self._batches, storage, registry, settings)
        self._runner = StagedRunner(
            store, self._batches, self._run, call,
            lease_seconds=settings.lease_seconds, timeout_seconds=settings.unit_timeout_seconds,
            check_timeout_seconds=settings.check_timeout_seconds,
            stopping=stopping, patience_seconds=settings.drain_seconds,
        )  # fmt: skip

    def _run(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        began = time.perf_counter()
        match unit.kind:
            case _ if unit.spec.register is not None:
                self._admission.run(unit)
                self._log(unit, {"check": time.perf_counter() - began})
            case "plan":
                self._planner.run(unit, stopped, self._call)
                self._log(unit, {"cut": time.perf_counter() - began})
            case "chunk":
                self._chunk(unit, stopped)
            case "final":
                self._final(unit, stopped)

    def _chunk(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        part = self._chunks.run(unit, self._model(unit), stopped)
        record: dict[str, Any] = {
            "slices": len(unit.slices),
            "fence": unit.fence,
            "succeeded": part.succeeded,
            "failed": part.failed,
            "result_bytes": sum(map(len, part.result)),
            "errors_bytes": sum(map(len, part.errors)),
            "columns": part.columns,
        }
        record |= {"infinite": True} if part.infinite else {}
        record |= {"drift": part.drift} if part.drift else {}
        began = time.perf_counter()
        counted = until_written(
            lambda: self._batches.commit_chunk(unit, record, part.reasons), self._settings.unit_timeout_seconds
        )
        committed = time.perf_counter()
        part.seconds["commit"] = committed - began
        if TRACING.on:
            TRACING.note("foretell.commit", {"foretell.counted": bool(counted)}, began, committed)
        METER.observe(("predict_seconds", "batch ", (micros(part.seconds["predict"]),)))
        self._log(unit, part.seconds, part, counted=counted)
        if counted and unit.layout is not None and unit.layout.unpacked:
            with contextlib.suppress(StorageFailed):  # then they go with the job's parts
                for piece in unit.slices:
                    self._storage.delete(unpacked_key(unit.job_id, piece.start))

    def _final(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        began, schema = time.perf_counter(), None
        manifest = self._registry.manifest(unit.spec.model, unit.spec.version)
        try:
            schema = self._chunks.scorer(unit, self._model(unit))[1]
        except (ModelUnusable, MemoryError) as error:  # what is done is written all the same
            log.warning("model.not_loaded", job_id=unit.job_id, reason=str(error))
        ended = self._join(unit, manifest, schema, stopped)
        if not ended:
            self._join(replace(unit, stop="cancelled"), manifest, schema, stopped)
        self._log(unit, {"join": time.perf_counter() - began})

    def _join(self, unit: BatchUnit, manifest: Manifest, schema: pa.Schema | None, stopped: Callable[[], bool]) -> bool:
        """Write the output and end the job; False if it was cancelled meanwhile."""
        slices = partial(self._batches.slices, unit.job_id)
        status, outcome, window = self._finaliser.run(unit, manifest, schema, stopped, slices)
        commit = partial(self._batches.commit_final, unit, status, outcome, window=window)
        began = time.perf_counter()
        ended = until_written(commit, self._settings.unit_timeout_seconds)
        if TRACING.on:
            status_now = status.value if ended else "not_counted"
            TRACING.note("foretell.commit", {"foretell.job.status": status_now}, began, time.perf_counter())
        return ended

    def _model(self, unit: BatchUnit) -> LoadedModel:
        try:
            return self._models.patiently(unit.spec.model, unit.spec.version)
        except FileMissing as error:
            raise ModelUnusable(f"The artifact of {unit.spec.model}@{unit.spec.version} is gone.") from error

    def _log(
        self, unit: BatchUnit, seconds: Mapping[str, float], part: Part | None = None, *, counted: bool = True
    ) -> None:
        if TRACING.on:
            TRACING.mark({f"foretell.{step}_seconds": round(value, 6) for step, value in seconds.items()})
            if part is not None:
                rows = part.succeeded + part.failed
                TRACING.mark({"foretell.rows": rows, "foretell.rows.failed": part.failed})
        log.info(
            "unit.committed",
            job_id=unit.job_id,
            kind=unit.kind,
            fence=unit.fence,
            request_id=unit.spec.request_id,
            **trace_id(unit.spec.traceparent),
            **(
                {}
                if part is None
                else {
                    "slices": len(unit.slices),
                    "rows": part.succeeded + part.failed,
                    "failed_rows": part.failed,
                    # Not if another attempt has the chunk by now.
                    "counted": counted,
                }
            ),
            **{f"{step}_ms": round(value * 1000, 2) for step, value in seconds.items()},
        )
