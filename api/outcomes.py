"""What came of a job that a client waits for, where the answer is its predictions and not the job."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from flask import Response, request

from api.errors import problem
from api.headers import preferred_wait, prefers_async
from api.render import job_response
from api.services import Services
from api.submission import Draft
from api.waiting import submit_and_wait
from shared.errors import InvalidRequest, NotDoneInTime
from shared.job import Job, Status

# Of a job that failed or was cancelled; others are 500.
STATUSES: Final[Mapping[str, int]] = {
    "prediction_failed": 422,
    "invalid_input": 422,
    "all_rows_failed": 422,
    "too_many_rows": 422,
    "unpacks_to_too_much": 422,
    "cancelled": 409,
    "deadline_exceeded": 504,
}
# Failures of a single row that are not the sender's to mend.
FAULTS_OF_OURS: Final = ("bad_model_output", "out_of_memory", "worker_lost")


def outcome(services: Services, drafted: Callable[[], Draft], answer: Callable[[Job], Response]) -> Response:
    """Accept a job, wait for it as long as may be or as `Prefer` says, and give its `answer`.

    With `Prefer: respond-async` it is not waited for, unless `wait` says so, and is answered itself (RFC 7240).

    Raises:
        LimitReached: there is no place to wait at; nothing is stored.
        NotDoneInTime, and what `drafted`, api.submission.submit and `answer` raise
    """
    longest = services.settings.max_wait_seconds
    wait, in_background = preferred_wait(request, longest), prefers_async(request)
    if wait is None and not in_background:
        wait = longest
    # Who cannot be answered otherwise than with the outcome needs a place to wait at.
    job = submit_and_wait(services, drafted, wait, must_wait=not in_background)
    if job.done:
        response = answer(job)
    elif in_background:
        response = job_response(job, 202)
        response.headers["Preference-Applied"] = "respond-async"
    else:
        raise NotDoneInTime(
            f"Job {job.id} was accepted and goes on, but was not done while it was waited for: read /jobs/{job.id}. To "
            "have its outcome in this form, send the same request under the same Idempotency-Key again; to be answered "
            "with the job at once, send Prefer: respond-async.",
            job_id=job.id,
        )
    response.headers["Location"] = f"/jobs/{job.id}"
    return response


def refusal(job: Job) -> Response:
    """Why a job that is done has not predicted all of its rows."""
    if job.status is Status.PARTIALLY_SUCCEEDED:
        first = job.errors[0]
        more = f", and {job.counts.failed - 1} more" if job.counts.failed > 1 else ""
        failure = {"code": first["code"], "message": f"{first['message']} (row {first['row']}{more})"}
        status = 500 if first["code"] in FAULTS_OF_OURS else 422
    else:
        failure = job.failure or {"code": "cancelled", "message": "The job was cancelled."}
        status = STATUSES.get(failure["code"], 500)
    return problem(status, failure["code"], failure["message"], errors=job.errors, extra={"job_id": job.id})


def below(error: InvalidRequest, pointer: str, names: Collection[str]) -> InvalidRequest:
    """The same error, where the members `names` of a job are at `pointer` in the body."""
    error.errors = tuple(
        one | {"pointer": f"{pointer}{one['pointer']}"} if _member(one) in names else one for one in error.errors
    )
    return error


def _member(fault: Mapping[str, object]) -> str:
    """The member of the body that a fault points into."""
    return str(fault.get("pointer", "")).removeprefix("/").partition("/")[0]
