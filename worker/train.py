"""The work of the train queue: trainings, whose fits are spread over the workers."""

import time
from collections.abc import Callable
from typing import Any

import structlog

from shared.batch_store import BatchStore
from shared.errors import FileMissing, ModelUnusable
from shared.inputs import Inputs
from shared.queue import TRAIN
from shared.records import BatchUnit
from shared.registry import Registry
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from shared.tracing import trace_id
from worker.drain import until_written
from worker.model_cache import LoadedModel, ModelCache
from worker.staged import StagedRunner, StagedWork
from worker.stopping import Stopping
from worker.training.challenge import Challenge
from worker.training.fit import FitRunner
from worker.training.plan import TrainPlanner, base_of, original

log = structlog.get_logger()

WORKER_LOST = (
    "At every attempt at this fit the worker process ended, or it took longer than a fit may "
    "(FORETELL_FIT_TIMEOUT_SECONDS); it may need more memory than there is."
)


class TrainWork(StagedWork):
    """Pulls units of train jobs and does them."""

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
        self._batches = BatchStore(store, settings, TRAIN)
        self._models = models
        self._call = call
        self._settings = settings
        self._planner = TrainPlanner(self._batches, storage, inputs, registry, models, settings)
        self._fits = FitRunner(storage)
        self._challenge = Challenge(self._batches, storage, registry, models, self._fits, settings)
        self._runner = StagedRunner(
            store, self._batches, self._run, call,
            lease_seconds=settings.lease_seconds, timeout_seconds=settings.fit_timeout_seconds, stopping=stopping,
        )  # fmt: skip

    def _run(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        began, about = time.perf_counter(), dict[str, Any]()
        match unit.kind:
            case "plan":
                self._planner.run(unit, stopped, self._call)
            case "chunk":
                about["counted"] = self._fit(unit)
            case "final":
                self._challenge.run(unit, stopped)
        log.info(
            "unit.committed", job_id=unit.job_id, kind=unit.kind, fence=unit.fence, request_id=unit.spec.request_id,
            run_ms=round((time.perf_counter() - began) * 1000, 2), **about, **trace_id(unit.spec.traceparent),
        )  # fmt: skip

    def _fit(self, unit: BatchUnit) -> bool:
        """Fit; False if another attempt has the fit by now."""
        if unit.attempt > self._settings.max_attempts:
            part: dict[str, Any] = {"score": None, "error": WORKER_LOST, "warnings": []}
        else:
            base = self._base(unit)
            part = self._fits.run(unit, original(base.estimator), base.manifest.signature)
        part |= {"succeeded": 0, "failed": 0}  # of rows, which are counted at the end
        return until_written(lambda: self._batches.commit_chunk(unit, part, {}), self._settings.unit_timeout_seconds)

    def _base(self, unit: BatchUnit) -> LoadedModel:
        name, version = base_of(unit.spec)
        try:
            return self._models.patiently(name, version)
        except FileMissing as error:
            raise ModelUnusable(f"The artifact of {name}@{version} is gone.") from error
