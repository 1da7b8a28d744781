"""The span of a submit, which the spans of the job itself have as their parent."""

from collections.abc import Callable
from dataclasses import replace

from shared.records import Accepted, Submission
from shared.tracing import TRACING

Again = Callable[[], Submission]
Stored = tuple[Submission, Accepted]


def submitted(job: Submission, store: Callable[[Submission, Again], Stored], again: Again) -> Stored:
    """Store a job within a span, which is what the job's own spans have as their parent.

    Args:
        job: the checked request.
        store: keeps it.
        again: makes it anew, with the alias as it is now.
    """
    spec = job.spec
    about = {
        "messaging.system": "foretell",
        "messaging.operation.type": "send",
        "messaging.destination.name": job.queue,
        "foretell.job.id": job.id,
        "foretell.job.kind": spec.kind,
        "foretell.request.id": spec.request_id,
    }
    with TRACING.inside(TRACING.start("foretell.submit", about, kind="PRODUCER")) as span:
        carried = TRACING.carried()

        def carrying(job: Submission) -> Submission:
            if carried is None:
                return job
            return replace(job, spec=replace(job.spec, traceparent=carried[0], tracestate=carried[1]))

        stored, accepted = store(carrying(job), lambda: carrying(again()))
        span.set_attributes(
            {"foretell.model": f"{stored.spec.model}@{stored.spec.version}", "foretell.job.created": accepted.created}
        )
        if stored.total is not None:
            span.set_attribute("foretell.rows", stored.total)
        return stored, accepted
