"""The check of an artifact that was sent: it is audited, loaded and tried here before it becomes a version.

Whatever was killed on the way, one job makes one version: what an attempt before has registered is found under the
job's id, and only told.
"""

from typing import Any

from shared.aliases import ANY, PRODUCTION, Any_
from shared.batch_store import BatchStore
from shared.errors import AliasConflict, ModelNotFound
from shared.job import Status
from shared.manifest import Manifest
from shared.records import BatchUnit, LeaseLost
from shared.registry import Registry
from shared.settings import Settings
from shared.storage import Storage
from shared.training import RegisterOptions
from worker.drain import until_written
from worker.predict import Stopped
from worker.registration import register
from worker.sample import read_sample


class Admission:
    """Checks the artifacts of register jobs."""

    def __init__(self, batches: BatchStore, storage: Storage, registry: Registry, settings: Settings) -> None:
        self._batches = batches
        self._storage = storage
        self._registry = registry
        self._settings = settings

    def run(self, unit: BatchUnit) -> None:
        """Register the artifact of a job, and end the job.

        Raises:
            InvalidRequest, ModelUnusable, StorageFailed, StoreUnavailable, StoreFull
            worker.predict.Stopped: somebody else has the job by now, or it was cancelled.
        """
        options, name = unit.spec.register, unit.spec.model
        assert options is not None  # noqa: S101  # the unit is of a register job
        if unit.stop == "cancelled":
            self._commit(unit, Status.CANCELLED, {})
            return
        if unit.stop:  # the check was lost at every attempt
            self._commit(unit, Status.FAILED, {"failure": unit.outcome.get("failure")})
            return
        manifest = self._registry.made(name, unit.job_id) or self._checked(unit, options)
        alias = options.alias or PRODUCTION
        moved = any(move["job_id"] == unit.job_id for move in self._registry.history(name, alias))
        registered = {
            "model": name,
            "version": manifest.version,
            "sha256": manifest.sha256,
            "alias": alias if moved else None,
            "promoted": moved and alias == PRODUCTION,
        }
        self._commit(unit, Status.SUCCEEDED, {"registered": registered, "warnings": list(manifest.warnings)})

    def _checked(self, unit: BatchUnit, options: RegisterOptions) -> Manifest:
        """Load and try the artifact, and register it."""
        self._batches.tell_phase(unit, "loading")
        try:
            if options.alias is not None or not self._is_first(unit.spec.model):
                return self._register(unit, options, options.alias, ANY)
            # A first version is used at once, others when somebody wants it.
            try:
                return self._register(unit, options, PRODUCTION, None)
            except AliasConflict:  # another one was the first meanwhile
                return self._register(unit, options, None, ANY)
        except LeaseLost as error:
            raise Stopped from error

    def _register(
        self, unit: BatchUnit, options: RegisterOptions, alias: str | None, expected: Any_ | None
    ) -> Manifest:
        sample = options.sample
        return register(
            self._registry,
            unit.spec.model,
            self._storage.get(options.key),
            format=options.format,
            sample=None if sample is None else read_sample(self._storage.get(sample.key or ""), sample.format or "csv"),
            description=options.description,
            alias=alias,
            expected=expected,
            accelerate=options.accelerate,
            who=unit.spec.submitted_by or "http",
            why=f"uploaded by job {unit.job_id}",
            token=unit.job_id,
            fence=unit.fence,
            settings=self._settings,
            schema=unit.spec.schema,
        )

    def _is_first(self, name: str) -> bool:
        """Whether production points nowhere yet."""
        try:
            self._registry.alias(name, PRODUCTION)
        except ModelNotFound:
            return True
        return False

    def _commit(self, unit: BatchUnit, status: Status, outcome: dict[str, Any]) -> None:
        seconds, commit = self._settings.unit_timeout_seconds, self._batches.commit_final
        if not until_written(lambda: commit(unit, status, outcome), seconds):  # it was cancelled meanwhile
            until_written(lambda: commit(unit, Status.CANCELLED, {}), seconds)
