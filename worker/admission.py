"""The check of an artifact that was sent: it is audited, loaded and tried here before it becomes a version."""

from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from shared.batch import Input
from shared.batch_store import BatchStore
from shared.errors import InvalidRequest, ModelNotFound
from shared.job import Status
from shared.records import BatchUnit, LeaseLost
from shared.registry import PRODUCTION, Registry
from shared.settings import Settings
from shared.storage import Storage
from worker.drain import until_written
from worker.predict import Stopped
from worker.registration import register

LONGEST_REASON: Final = 200
READERS: Final = {
    "csv": pyarrow.csv.read_csv,
    "ndjson": pyarrow.json.read_json,
    "parquet": pyarrow.parquet.read_table,
}


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
            InvalidRequest, ModelUnusable, StorageFailed, StoreUnavailable
            worker.predict.Stopped: somebody else has the job by now, or it was cancelled.
        """
        options, name = unit.spec.register, unit.spec.model
        assert options is not None  # noqa: S101  # the unit is of a register job
        self._batches.tell_phase(unit, "loading")
        alias = options.alias if options.alias is not None else self._first_alias(name)
        try:
            manifest = register(
                self._registry,
                name,
                self._storage.get(options.key),
                format=options.format,
                sample=None if options.sample is None else self._sample(options.sample),
                description=options.description,
                alias=alias,
                accelerate=options.accelerate,
                who="http",
                why=f"uploaded by job {unit.job_id}",
                token=unit.job_id,
                fence=unit.fence,
                settings=self._settings,
            )
        except LeaseLost as error:
            raise Stopped from error
        registered: dict[str, Any] = {
            "model": name,
            "version": manifest.version,
            "sha256": manifest.sha256,
            "alias": alias,
            "promoted": alias == PRODUCTION,
        }
        until_written(
            lambda: self._batches.commit_final(unit, Status.SUCCEEDED, {"registered": registered}),
            self._settings.unit_timeout_seconds,
        )

    def _first_alias(self, name: str) -> str | None:
        """Production, as long as it points nowhere: a first version is used at once, others when somebody wants it."""
        try:
            self._registry.resolve(f"{name}@{PRODUCTION}", fresh=True)
        except ModelNotFound:
            return PRODUCTION
        return None

    def _sample(self, sample: Input) -> pa.Table:
        """The rows that the artifact is tried on.

        Raises:
            InvalidRequest: they cannot be read.
        """
        assert sample.key is not None  # noqa: S101  # it came with the artifact
        data = self._storage.get(sample.key)
        if not data.strip():
            raise _bad_sample("The sample is empty; send a few rows of what the model predicts.")
        try:
            return READERS[sample.format or "csv"](pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            # Arrow quotes what it could not read.
            reason = "".join(character if character.isprintable() else " " for character in str(error))
            message = f"The sample cannot be read as {sample.format or 'csv'}: {reason[:LONGEST_REASON]}"
            raise _bad_sample(message) from error


def _bad_sample(message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": "/sample", "code": "bad_sample", "message": message}])
