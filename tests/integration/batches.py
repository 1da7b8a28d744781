"""Batch jobs for tests of the job store: submitted, planned and scored by hand, without any worker."""

from collections.abc import Sequence
from typing import Any

from shared.batch import BatchOptions, Input, Layout, Slice
from shared.batch_store import BatchStore
from shared.dialect import Dialect
from shared.job import Spec, new_job_id
from shared.queue import BATCH
from shared.records import BatchUnit, Submission
from shared.schema import SCHEMA
from shared.store import JobStore

LAYOUT = Layout(format="csv", names=("x",), key=None, include=(), dialect=Dialect())
ROWS = 10


def submit(
    store: JobStore, *, priority: str = "normal", deadline: float | None = None, schema: int = SCHEMA, **options: Any
) -> str:
    """A batch job; its id."""
    spec = Spec(
        requested="m", model="m", version=1, sha256="0", method="predict", priority=priority,
        batch=BatchOptions(input=Input(key="nowhere"), **options), schema=schema,
    )  # fmt: skip
    job_id = new_job_id()
    store.submit(Submission(id=job_id, spec=spec, alias=None, queue=BATCH, ttl_seconds=60, deadline_seconds=deadline))
    return job_id


def slices(count: int, first: int = 0) -> list[Slice]:
    """Slices of ten rows each."""
    return [
        Slice(start=100 * number, stop=100 * number + 100, rows=ROWS, first_row=ROWS * number)
        for number in range(first, first + count)
    ]


def pull(batches: BatchStore, worker: str = "w") -> BatchUnit:
    """A unit, which must be there."""
    unit = batches.pull(worker, linger_seconds=0, answered=False)
    assert unit is not None
    return unit


def nothing(batches: BatchStore, worker: str = "w") -> bool:
    """Whether there is no unit."""
    return batches.pull(worker, linger_seconds=0, answered=False) is None


def plan(batches: BatchStore, unit: BatchUnit, count: int, mode: str = "done", *, first: int = 0) -> bool:
    """Add slices to a job."""
    rows = ROWS * (first + count)
    goes_on, _, _ = batches.plan(unit, "w", mode, LAYOUT, {"rows": rows}, slices(count, first), known=first, rows=rows)
    return goes_on


def commit(batches: BatchStore, unit: BatchUnit, failed: int = 0, reasons: Sequence[str] = ()) -> bool:
    """Say that a chunk is done."""
    rows = sum(piece.rows for piece in unit.slices)
    part = {"slices": len(unit.slices), "fence": unit.fence, "succeeded": rows - failed, "failed": failed}
    return batches.commit_chunk(unit, part, dict.fromkeys(reasons, failed))


def planned(store: JobStore, batches: BatchStore, count: int, **options: Any) -> str:
    """A job with so many slices, ready to be scored."""
    (job_id,) = all_planned(store, batches, count, options)
    return job_id


def all_planned(store: JobStore, batches: BatchStore, count: int, *jobs: dict[str, Any]) -> list[str]:
    """Several of them, before any of their chunks is handed out."""
    job_ids = [submit(store, **options) for options in jobs]
    for unit in [pull(batches) for _ in jobs]:
        assert unit.kind == "plan"
        plan(batches, unit, count)
    return job_ids
