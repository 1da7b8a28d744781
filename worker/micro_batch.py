"""A micro-batch: several small jobs of one model version, predicted in one call, each with an outcome of its own."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
import structlog

from shared.errors import NewerSchema, ServiceError
from shared.job import Status
from shared.records import Leased, Outcome, Unit
from shared.storage import Storage, result_key
from shared.store import JobStore
from shared.tracing import TRACING, Attributes
from worker.model_cache import LoadedModel, ModelCache
from worker.predict import Prediction, RowFailure, Stopped, blamed, checked, encode, predict_rows

log = structlog.get_logger()

# Failed rows of a job for which the column to blame is looked for, and how long a micro-batch may spend on that: it
# takes a predict call a column.
MOST_BLAMED_ROWS: Final = 5
BLAME_SECONDS: Final = 1.0
NOT_FINITE: Final = "Some predictions were not finite numbers (NaN or infinity); they are null in the result."


class MicroBatchRunner:
    """Runs the micro-batches of one worker process."""

    def __init__(self, models: ModelCache, storage: Storage, *, most_rows: int, inline_bytes: int) -> None:
        self._models = models
        self._storage = storage
        self._most_rows = most_rows
        self._inline_bytes = inline_bytes

    def run(self, unit: Unit, unwanted: Callable[[], frozenset[str]]) -> list[Outcome]:
        """An outcome for each job; `unwanted` tells which jobs have been cancelled or lost by now.

        Raises:
            NewerSchema: another worker can read what is known of the model.
        """
        spec = unit.jobs[0].spec
        try:
            model = self._models.patiently(spec.model, spec.version)
        except NewerSchema:
            raise
        except (ServiceError, MemoryError) as error:
            log.exception("model.not_loaded", model=spec.model, version=spec.version)
            return [_failed(job, *_load_failure(error)) for job in unit.jobs]
        groups: defaultdict[tuple[str, int | None], list[Leased]] = defaultdict(list)
        for job in unit.jobs:
            groups[job.spec.method, job.spec.top_k].append(job)
        return [
            outcome
            for (method, top_k), jobs in groups.items()
            for outcome in self._group(model, jobs, method, top_k, unwanted)
        ]

    def discard(self, unit: Unit, outcomes: Sequence[Outcome], kept: frozenset[str], store: JobStore) -> None:
        """Remove the large results that were written and that nobody can come to need.

        A commit that kept nothing may repeat one that did, and after a failover another worker may have the same
        attempt, and with it the same file. So each job itself is asked.

        Raises:
            StoreUnavailable: the files stay.
        """
        attempts = {job.id: job.attempt for job in unit.jobs}
        unsure = [one.id for one in outcomes if one.stored_bytes is not None and one.id not in kept]
        for job_id, job in store.read_many(unsure, skip_newer=True).items():
            if job is None or job.attempt > attempts[job_id] or (job.done and job.stored_bytes is None):
                self._storage.delete(result_key(job_id, attempts[job_id]))

    def _group(
        self,
        model: LoadedModel,
        jobs: Sequence[Leased],
        method: str,
        top_k: int | None,
        unwanted: Callable[[], frozenset[str]],
    ) -> list[Outcome]:
        """Jobs that ask the same of the model: all rows in one call."""
        parsed = [orjson.loads(job.rows) for job in jobs]
        ids = frozenset(job.id for job in jobs)
        began = time.perf_counter() if TRACING.on else 0.0
        try:
            predictions = predict_rows(
                model.estimator, model.manifest.signature, [row for rows in parsed for row in rows],
                method=method, top_k=top_k, most_rows=self._most_rows, stopped=lambda: ids <= unwanted(),
            )  # fmt: skip
        except Stopped:
            # Every commit of these is refused or becomes `cancelled`, whatever it says.
            return [_failed(job, "cancelled", "The job was cancelled.") for job in jobs]
        if TRACING.on:
            about: Attributes = {"foretell.method": method, "foretell.rows": len(predictions)}
            TRACING.note("foretell.predict", about, began, time.perf_counter())
        outcomes, start, end = [], 0, time.monotonic() + BLAME_SECONDS
        for job, rows in zip(jobs, parsed, strict=True):
            outcomes.append(self._outcome(job, _with_columns(model, job, rows, predictions[start:][: len(rows)], end)))
            start += len(rows)
        return outcomes

    def _outcome(self, job: Leased, predictions: Sequence[Prediction]) -> Outcome:
        try:
            result, infinite = encode(predictions)
        except TypeError:
            predictions = checked(predictions)
            result, infinite = encode(predictions)
        errors: list[dict[str, Any]] = [
            _row_error(_row_number(job, index), prediction)
            for index, prediction in enumerate(predictions)
            if isinstance(prediction, RowFailure)
        ]
        if len(errors) == len(predictions):
            code, message = errors[0]["code"], errors[0]["message"]
            failure = {
                "code": code,
                "message": message if len(errors) == 1 else f"All {len(errors)} rows failed; the first: {message}",
            }
            return Outcome(
                id=job.id, status=Status.FAILED, succeeded=0, failed=len(errors), failure=failure, errors=errors
            )
        stored_bytes = None
        if len(result) > self._inline_bytes:
            try:
                self._storage.put(result_key(job.id, job.attempt), result)
            except ServiceError as error:
                log.exception("result.not_stored", job_id=job.id)
                return _failed(
                    job, error.code, "The result is too large for Redis and could not be written to the file storage."
                )
            stored_bytes = len(result)
        return Outcome(
            id=job.id,
            status=Status.PARTIALLY_SUCCEEDED if errors else Status.SUCCEEDED,
            succeeded=len(predictions) - len(errors),
            failed=len(errors),
            result=result if stored_bytes is None else None,
            stored_bytes=stored_bytes,
            errors=errors,
            warnings=(NOT_FINITE,) if infinite else (),
        )


def _with_columns(
    model: LoadedModel, job: Leased, rows: Sequence[Any], predictions: Sequence[Prediction], end: float
) -> list[Prediction]:
    """The predictions of one job, where its first failed rows name the column that is to blame."""
    named = list(predictions)
    failed = [index for index, prediction in enumerate(predictions) if isinstance(prediction, RowFailure)]
    for index in failed[:MOST_BLAMED_ROWS]:
        if time.monotonic() > end:
            break
        named[index] = blamed(
            predictions[index],
            model.estimator,
            model.manifest.signature,
            rows[index],
            method=job.spec.method,
            top_k=job.spec.top_k,
        )
    return named


def _row_error(row: int, failure: RowFailure) -> dict[str, Any]:
    column = {"column": failure.column} if failure.column is not None else {}
    return {"row": row, **column, "code": failure.code, "message": failure.message}


def _row_number(job: Leased, index: int) -> int:
    """The number of a row in the job that it first came with, from 1."""
    rows = job.spec.retry_rows
    return index + 1 if rows is None else rows[index]


def _failed(job: Leased, code: str, message: str) -> Outcome:
    return Outcome(id=job.id, status=Status.FAILED, succeeded=0, failed=0, failure={"code": code, "message": message})


def _load_failure(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ServiceError):
        return error.code, f"The model could not be loaded: {error.message}"
    return "out_of_memory", "The model needs more memory than the worker has."
