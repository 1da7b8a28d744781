"""A look at a job: what is asked for, and the answer."""

from typing import Final

from api.access import Caller
from api.headers import JsonResponse, WithHeaders, known_revision, preferred_wait
from api.render import eta_seconds, job_response
from shared.frozen import frozen
from shared.job import Job

# If-None-Match for whatever there is (RFC 9110, section 13.1.2).
ANY: Final = "*"


@frozen
class Look:
    """Of whom, at which job, and for what."""

    job_id: str
    who: Caller
    known: int | None  # the revision that the client has; a wait is for another one then, and else for the end
    wait: float | None  # seconds

    def patience(self, job: Job | None, seconds: float) -> float:
        """How long, of so many seconds, to wait for a job though nobody asked to: until it ends, if that is soon."""
        if self.wait is not None or self.known is not None or job is None or job.done:
            return 0.0
        eta = eta_seconds(job)
        return seconds if eta is not None and eta <= seconds else 0.0

    def response(self, job: Job | None) -> JsonResponse:
        """The answer; None: the job is as it was known."""
        if job is None:
            return JsonResponse(b"", 304, [("ETag", f'"{self.known}"'), ("Retry-After", "1")])
        return job_response(job, 200)


def look_of(request: WithHeaders, job_id: str, who: Caller, most_seconds: float) -> Look | None:
    """What is asked for, with a wait of `most_seconds` at most; None: only whether there is such a job."""
    if request.headers.get("If-None-Match", "").strip() == ANY:
        return None
    return Look(job_id=job_id, who=who, known=known_revision(request), wait=preferred_wait(request, most_seconds))
