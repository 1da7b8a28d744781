"""`GET /jobs/<id>/events`: the job at every change, as server-sent events (HTML Living Standard, section 9.2)."""

import re
import time
from collections.abc import Iterator

import orjson
from flask import Blueprint, Response, request

from api.openapi import operation
from api.render import job_document
from api.services import Services
from api.waiting import must_read
from shared.errors import JobGone, JobNotFound
from shared.job import Job

# How long a stream waits for news before it sees whether a heartbeat is due.
TURN_SECONDS = 1.0


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/jobs/<job_id>/events")
    @operation(
        "Follow a job until it is done", tag="jobs", answers={200: "text/event-stream"}, headers=("Last-Event-ID",)
    )
    def events(job_id: str) -> Response:
        services.store.read(job_id, with_result=False)  # unknown and gone are answered before the stream begins
        stream = follow(services, job_id, last_event(request.headers.get("Last-Event-ID", "")))
        services.waiters.open_stream()
        response = Response(
            stream, content_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        response.call_on_close(services.waiters.close_stream)
        return response

    return blueprint


def last_event(given: str) -> int:
    """The revision in Last-Event-ID; 0 if it is none of ours, so that the stream begins with the job as it is."""
    return int(given) if re.fullmatch(r"[0-9]{1,18}", given) else 0


def follow(services: Services, job_id: str, last: int) -> Iterator[bytes]:
    """The events after revision `last`; a comment whenever nothing happened for a while."""
    with services.waiters.stream(job_id) as watch:
        try:
            job: Job | None = must_read(services, job_id)
        except (JobNotFound, JobGone):
            return
        if job is not None and job.done and job.revision <= last:
            return  # a client that came again has had everything
        quiet_since = time.monotonic()
        while True:
            if job is not None and job.revision > last:
                last, quiet_since = job.revision, time.monotonic()
                yield event(job)
                if job.done:
                    return
            elif time.monotonic() - quiet_since >= services.settings.event_heartbeat_seconds:
                quiet_since = time.monotonic()
                yield b": still there\n\n"
            try:
                job = watch.next(TURN_SECONDS)
            except JobGone:
                return


def event(job: Job) -> bytes:
    """One event; its id is the revision, so that a client that reconnects goes on where it was."""
    return b"id: %d\nevent: job\ndata: %s\n\n" % (job.revision, orjson.dumps(job_document(job)))
