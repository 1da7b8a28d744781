"""The routes of jobs: read, list, cancel, remove; and with them those that make jobs, and those of results."""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from api import intake, results
from api.access import caller
from api.documents import JobDocument, JobPage
from api.errors import RequestFault
from api.headers import this_request
from api.looks import look_of
from api.openapi import operation
from api.parameters import JOB_KINDS, LIST_PARAMETERS
from api.query import limit_of, only_known_parameters
from api.render import job_document, job_response
from api.services import Services
from api.tags import tagged
from api.waiting import must_read, see
from shared.api_keys import Scope
from shared.errors import JobFinished, JobNotFinished, StorageFailed
from shared.job import Status
from shared.storage import job_prefix


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("jobs", __name__)
    intake.add_routes(blueprint, services)
    _add_reading(blueprint, services)
    _add_ending(blueprint, services)
    results.add_routes(blueprint, services)
    return blueprint


def _add_reading(blueprint: Blueprint, services: Services) -> None:
    store, settings = services.store, services.settings

    @blueprint.get("/jobs")
    @operation(
        "List jobs, newest first",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: JobPage, 304: None},
        headers=("If-None-Match",),
        query=LIST_PARAMETERS,
    )
    def list_jobs() -> Response:
        jobs, following = store.page(owner=caller().owner, **list_filter())
        response = tagged({"jobs": [job_document(job) for job in jobs], "next": following}, request)
        if following:
            arguments = request.args.copy()
            arguments["cursor"] = following
            response.headers["Link"] = f'</jobs?{urlencode(list(arguments.items()))}>; rel="next"'
        return response

    @blueprint.get("/jobs/<job_id>")
    @operation(
        "Read a job, or wait for its next change",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: JobDocument, 304: None},
        headers=("Prefer", "If-None-Match"),
    )
    def show(job_id: str) -> Response:
        who = caller()
        look = look_of(this_request(), job_id, who, settings.max_wait_seconds)
        if look is None:
            store.read(job_id, owner=who.owner, with_result=False)
            return Response(status=304)
        return look.response(see(services, look))


def _add_ending(blueprint: Blueprint, services: Services) -> None:
    @blueprint.post("/jobs/<job_id>/cancel")
    @operation(
        "Cancel a job",
        tag="jobs",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        answers={200: JobDocument, 202: JobDocument},
        raises=(JobFinished,),
    )
    def cancel(job_id: str) -> Response:
        already = services.store.cancel(job_id, owner=caller().owner)
        return job_response(must_read(services, job_id, caller().owner), 200 if already else 202)

    @blueprint.delete("/jobs/<job_id>")
    @operation(
        "Remove a finished job",
        tag="jobs",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        answers={204: None},
        raises=(JobNotFinished, StorageFailed),
    )
    def delete(job_id: str) -> Response:
        try:
            stored = services.store.delete(job_id, owner=caller().owner)
        finally:  # it may have been deleted also if no answer came
            services.waiters.expected.forget((job_id,))
        if stored:
            services.storage.delete(job_prefix(job_id))
        return Response(status=204)


def list_filter() -> dict[str, Any]:
    """The query of `GET /jobs`.

    Raises:
        RequestFault: a parameter is not allowed.
    """
    arguments = request.args
    status, kind = arguments.get("status", ""), arguments.get("kind", "")
    only_known_parameters(*LIST_PARAMETERS)
    limit = limit_of(50, 200)
    if status and status not in list(Status):
        raise RequestFault(400, "bad_parameter", f"status must be one of {', '.join(Status)}, not {status}.")
    if kind not in ("", *JOB_KINDS):
        raise RequestFault(400, "bad_parameter", f"kind must be one of {', '.join(JOB_KINDS)}, not {kind[:20]}.")
    after = arguments.get("created_after")
    try:
        created_after = None if after is None else datetime.fromisoformat(after)
    except ValueError as error:
        raise RequestFault(
            400, "bad_parameter", f"created_after must be a time such as 2026-01-31T12:00:00Z, not {after}."
        ) from error
    if created_after is not None and created_after.tzinfo is None:
        created_after = created_after.replace(tzinfo=UTC)
    cursor = arguments.get("cursor", "")
    if cursor and not re.fullmatch(r"[1-9][0-9]{0,17}-[0-9]{1,18}", cursor):
        raise RequestFault(400, "bad_parameter", "cursor must be the `next` of an earlier page.")
    return {
        "limit": limit,
        "cursor": cursor,
        "status": status,
        "kind": kind,
        "model": arguments.get("model", ""),
        "created_after": created_after,
    }
