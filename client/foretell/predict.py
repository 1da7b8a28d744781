"""Predictions of rows: one job, or several in their order where there are more rows than a job may have."""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from foretell.errors import (
    PROBLEMS,
    BodyTooLarge,
    InvalidRows,
    JobFailed,
    Problem,
    RowsFailed,
    ServiceFault,
    TooManyInstances,
)
from foretell.flow import Answer, Flow, send
from foretell.options import written
from foretell.rows import Rows
from foretell.waiting import Document, deadline_of, preferred_wait, wait

# Of one job: below FORETELL_MAX_INSTANCES and FORETELL_MAX_BODY_BYTES; a service with less says so.
MOST_ROWS: Final = 5_000
MOST_BYTES: Final = 8 * 2**20
# Jobs of one call that wait at a time.
MOST_JOBS: Final = 8

OnFailedRows = Literal["raise", "keep"]
Piece = tuple[int, int]


def new_key() -> str:
    """An idempotency key for one call, however often it is sent."""
    return str(uuid.uuid4())


def submit_rows(
    model: str, rows: Rows, options: Mapping[str, Any], key: str, piece: Piece | None = None, wait_seconds: int = 0
) -> Flow[Document]:
    """A job over rows, or a piece of them."""
    start, stop = piece or (0, rows.count)
    if start == stop:
        raise InvalidRows("There are no rows to predict.")
    return (yield from _submit(rows.payload({"model": model} | written(options), start, stop), key, wait_seconds))


def _submit(content: bytes, key: str, wait_seconds: int, deadline: float | None = None) -> Flow[Document]:
    headers = {"Idempotency-Key": key} | ({"Prefer": f"wait={wait_seconds}"} if wait_seconds else {})
    answer = yield from send(
        "POST", "/jobs", content=content, headers=headers, patience_seconds=wait_seconds, deadline=deadline
    )
    return answer.json  # type: ignore[no-any-return]


class _Pieces:
    """The rows of a call on their way: pieces that are to be sent, and jobs that wait, in the order of the rows."""

    def __init__(self, model: str, rows: Rows, options: Mapping[str, Any], key: str) -> None:
        self._rows = rows
        self._options = options
        self._key = key
        self.model = model
        starts = range(0, max(rows.count, 1), MOST_ROWS)
        self.left = deque((start, min(start + MOST_ROWS, rows.count)) for start in starts)
        self.jobs: deque[tuple[int, Document]] = deque()

    def submit(self, deadline: float | None) -> Flow[None]:
        """Submit the next piece, or halve it if it is too much for the service."""
        start, stop = self.left.popleft()
        if start == stop:
            raise InvalidRows("There are no rows to predict.")
        content = self._rows.payload({"model": self.model} | written(self._options), start, stop)
        if len(content) > MOST_BYTES and stop - start > 1:
            return self._halve(start, stop)
        only = not self.left and not self.jobs
        try:
            key, wait_seconds = f"{self._key}:{start}-{stop}", preferred_wait(deadline) if only else 0
            job = yield from _submit(content, key, wait_seconds, deadline)
        except (TooManyInstances, BodyTooLarge):
            if stop - start == 1:
                raise
            return self._halve(start, stop)
        # An alias may move meanwhile, and one call has one version.
        self.model = f"{job['model']['name']}@{job['model']['version']}"
        self.jobs.append((start, job))
        return None

    def _halve(self, start: int, stop: int) -> None:
        middle = (start + stop) // 2
        self.left.extendleft(((middle, stop), (start, middle)))


def predict(
    model: str, rows: Rows, options: Mapping[str, Any], *, key: str, timeout: float | None, on_failed_rows: OnFailedRows
) -> Flow[Any]:
    """Predictions in the kind of the rows.

    Raises:
        InvalidRows, StillRunning, JobFailed, RowsFailed, Problem
    """
    deadline, pieces = deadline_of(timeout), _Pieces(model, rows, options, key)
    predictions: list[Any] = []
    errors: list[dict[str, Any]] = []
    while pieces.left or pieces.jobs:
        if pieces.left and len(pieces.jobs) < MOST_JOBS:
            yield from pieces.submit(deadline)
            continue
        start, job = pieces.jobs.popleft()
        job = yield from wait(job, deadline)
        count = job["counts"]["total"]
        if job["status"] == "failed" and len(job["errors"]) == count:
            predictions += [None] * count  # every row failed by itself
        else:
            predictions += yield from predictions_of(job)
        errors += [error | {"row": error["row"] + start} for error in job["errors"]]
    made = yield from in_kind(rows, predictions, pieces.model, options.get("method"))
    if errors and on_failed_rows == "raise":
        raise RowsFailed(_told(errors, len(predictions)), predictions=made, errors=errors)
    return made


def in_kind(rows: Rows, predictions: Sequence[Any], model: str, method: str | None) -> Flow[Any]:
    """Predictions of a version, `name@version`, in the kind of its rows."""
    names = None
    if rows.kind in ("pandas", "polars", "arrow") and method == "predict_proba":
        names = yield from _classes(model)
    return rows.in_kind(predictions, names)


def predictions_of(job: Document) -> Flow[Sequence[Any]]:
    """The predictions of a job over rows that is done; None of a failed row.

    Raises:
        JobFailed
    """
    if job["status"] not in ("succeeded", "partially_succeeded"):
        raise failed(job)
    if "predictions" in job["result"]:
        return job["result"]["predictions"]  # type: ignore[no-any-return]
    answer: Answer = yield from send("GET", job["result"]["href"])
    return answer.json["predictions"]  # type: ignore[no-any-return]


def failed(job: Document) -> JobFailed:
    """Why a job has not what was asked for."""
    failure = job["failure"] or {"code": job["status"], "message": "Somebody cancelled it."}
    return JobFailed(
        f"Job {job['id']} {'was cancelled' if job['status'] == 'cancelled' else 'failed'}: {failure['message']}",
        job_id=job["id"], status=job["status"], code=failure["code"],
        errors=failure.get("errors") or job["errors"],
    )  # fmt: skip


def refused(job: Document) -> Problem | JobFailed:
    """Why an artifact has not become a version: as the service says it at once when the check is quick."""
    failure = job["failure"] or {}
    kind = PROBLEMS.get(failure.get("code", ""))
    if kind is None or kind.retryable or kind is ServiceFault:
        return failed(job)
    document = {"code": failure["code"], "detail": failure["message"], "errors": job["errors"], "job_id": job["id"]}
    return kind(failure["message"], status=422, errors=job["errors"], document=document)


def _told(errors: Sequence[Mapping[str, Any]], total: int) -> str:
    first = errors[0]
    where = f"row {first['row']}" + (f", column {first['column']}" if first.get("column") else "")
    rows = "row" if len(errors) == 1 else "rows"
    return (
        f"{len(errors):,} of {total:,} {rows} failed; the first is {where}: {first['message']} "
        "The others are in `predictions` of this error; on_failed_rows='keep' returns them."
    )


def _classes(model: str) -> Flow[list[str] | None]:
    """What columns of probabilities are called, as in a result file, if the key may read that."""
    name, _, version = model.partition("@")
    try:
        answer = yield from send("GET", f"/models/{name}/versions/{version}")
    except Problem:
        return None  # the scope models:read is not needed to predict; or it was deleted since
    classes = answer.json["signature"]["classes"]
    return [f"probability_{one}" for one in classes] if classes else None
