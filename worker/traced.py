"""A span for each unit, and one for each job of a micro-batch.

A unit of several jobs may belong to several traces, and a span to one only: it is in the trace of the first job that is
recorded, and linked to all of them; each job has a span in its own trace, which is linked to the unit's.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic

from shared.job import Spec, Status
from shared.records import BatchUnit, Committed, Leased, Outcome, Unit
from shared.tracing import TRACING, Attributes, wall_clock
from worker.drain import AnyUnit, Work

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext


class TracedWork(Generic[AnyUnit]):
    """The same work, each unit within a span."""

    def __init__(self, work: Work[AnyUnit]) -> None:
        self._work: Work[AnyUnit] = work

    def pull(self, worker: str, *, linger_seconds: float, answered: bool, lane: str) -> AnyUnit | None:
        """Lease a unit; a span for each time that there is none would say nothing."""
        return self._work.pull(worker, linger_seconds=linger_seconds, answered=answered, lane=lane)

    def do(self, unit: AnyUnit) -> None:
        """Do it."""
        span = _micro_batch(unit) if isinstance(unit, Unit) else _piece(unit)
        with TRACING.inside(span):
            self._work.do(unit)

    def pause(self, unit: AnyUnit) -> None:
        """Let more work gather."""
        self._work.pause(unit)


def _micro_batch(unit: Unit) -> Any:
    asked = [span for job in unit.jobs if (span := asked_by(job.spec)) is not None]
    recorded = [span for span in asked if span.trace_flags.sampled]
    about: Attributes = {
        **_received(unit.queue),
        "messaging.batch.message_count": len(unit.jobs),
        "foretell.model": unit.lane,
        "foretell.fence": unit.fence,
    }
    parent = next(iter(recorded or asked), None)
    return TRACING.start("foretell.micro_batch", about, kind="CONSUMER", context=TRACING.below(parent), links=asked)


def _piece(unit: BatchUnit) -> Any:
    """The span of a piece of a job in stages, in the job's trace."""
    spec = unit.spec
    name = "check" if spec.register else "fit" if spec.train and unit.kind == "chunk" else unit.kind
    about = {
        **_received(unit.queue),
        **_about(unit.job_id, spec),
        "foretell.attempt": unit.attempt,
        "foretell.fence": unit.fence,
    }
    return TRACING.start(f"foretell.{name}", about, kind="CONSUMER", context=TRACING.below(asked_by(spec)))


def tell_jobs(unit: Unit, outcomes: Sequence[Outcome], committed: Committed, began: float, ended: float) -> None:
    """A span for each job of a micro-batch, from its lease to its end, linked to the current one.

    Args:
        unit: the micro-batch.
        outcomes: what was to be written.
        committed: what was.
        began: by time.perf_counter.
        ended: the same.
    """
    here, outcome_of = TRACING.current(), {outcome.id: outcome for outcome in outcomes}
    links = [here] if here is not None else []
    for job in unit.jobs:
        if (outcome := outcome_of.get(job.id)) is not None:
            _tell_job(job, outcome, job.id in committed.kept, links, began, ended)


def _tell_job(
    job: Leased, outcome: Outcome, counts: bool, links: Sequence["SpanContext"], began: float, ended: float
) -> None:
    about = {
        **_about(job.id, job.spec),
        "foretell.rows": outcome.succeeded + outcome.failed,
        "foretell.rows.failed": outcome.failed,
        "foretell.wait_seconds": job.waited_millis / 1000,
        "foretell.attempt": job.attempt,
        # Of one that was cancelled meanwhile, or that another attempt has by now, the outcome counts for nothing.
        "foretell.job.status": outcome.status.value if counts else "not_counted",
    }
    span = TRACING.start(
        "foretell.job", about, kind="CONSUMER", context=TRACING.below(asked_by(job.spec)), links=links, began=began
    )
    if outcome.status is Status.FAILED:
        TRACING.fail((outcome.failure or {}).get("code", "failed"), span)
    span.end(wall_clock(ended))


def asked_by(spec: Spec) -> "SpanContext | None":
    """The span that submitted a job."""
    return TRACING.remote(spec.traceparent, spec.tracestate)


def _received(queue: str) -> dict[str, str]:
    return {
        "messaging.system": "foretell",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
    }


def _about(job_id: str, spec: Spec) -> dict[str, Any]:
    return {
        "foretell.job.id": job_id,
        "foretell.job.kind": spec.kind,
        "foretell.model": f"{spec.model}@{spec.version}" if spec.version else spec.model,
        "foretell.request.id": spec.request_id,
    }
