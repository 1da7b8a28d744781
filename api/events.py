"""`GET /jobs/<id>/events`: the job at every change, as server-sent events (HTML Living Standard, section 9.2)."""

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

import orjson
from flask import Blueprint, Response, request

from api.access import caller, still_let_in
from api.openapi import operation
from api.render import job_document
from api.services import Services
from api.waiting import must_read
from shared.api_keys import Scope
from shared.errors import JobGone, JobNotFound, TooManyStreams
from shared.job import Job

# How long a stream waits for news before it sees whether a heartbeat is due.
TURN_SECONDS = 1.0
# The end of a stream whose job goes on: the process stops, and the client shall come again, with Last-Event-ID.
COME_AGAIN = b"retry: 1000\n: this process stops, come again\n\n"


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/jobs/<job_id>/events")
    @operation(
        "Follow a job until it is done",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: "text/event-stream"},
        headers=("Last-Event-ID",),
        raises=(TooManyStreams,),
    )
    def events(job_id: str) -> Response:
        who = caller()
        owner = who.owner
        services.store.read(
            job_id, owner=owner, with_result=False
        )  # unknown and gone are answered before the stream begins
        last = last_event(request.headers.get("Last-Event-ID", ""))
        stream = follow(services, job_id, owner, last, still_let_in())
        services.waiters.open_stream(owner, who.limits.event_streams)
        response = Response(
            stream, content_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        response.call_on_close(partial(services.waiters.close_stream, owner))
        return response

    return blueprint


def last_event(given: str) -> int:
    """The revision in Last-Event-ID; 0 if it is none of ours, so that the stream begins with the job as it is."""
    return int(given) if re.fullmatch(r"[0-9]{1,18}", given) else 0


def follow(services: Services, job_id: str, owner: str, last: int, allowed: Callable[[], bool]) -> Iterator[bytes]:
    """The events after revision `last`; a comment whenever nothing happened for a while.

    It ends when it is not `allowed` any more, since the key was revoked or has expired.
    """
    with services.waiters.stream(job_id) as watch:
        try:
            job: Job | None = must_read(services, job_id, owner)
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
            if watch.ended:
                yield COME_AGAIN
                return
            try:
                job = watch.next(TURN_SECONDS)
            except JobGone:
                return
            if not allowed():
                return


def event(job: Job) -> bytes:
    """One event; its id is the revision, so that a client that reconnects goes on where it was."""
    return b"id: %d\nevent: job\ndata: %s\n\n" % (job.revision, orjson.dumps(job_document(job)))
