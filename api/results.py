"""The routes of what a finished job gave: its result, its failed rows, and over a file its manifest."""

from http import HTTPStatus

import orjson
from flask import Blueprint, Response, request

from api.access import caller
from api.documents import RegisteredDocument, ResultDocument
from api.downloads import serve
from api.errors import RequestFault
from api.headers import json_response
from api.openapi import operation
from api.render import result_document
from api.services import Services
from api.waiting import must_read
from shared.api_keys import Scope
from shared.errors import NoResult, ResultNotReady
from shared.job import Job
from shared.storage import result_key

CONDITIONS = ("Range", "If-Range", "If-Match", "If-None-Match")
NDJSON = "application/x-ndjson"


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """Add them to those of jobs."""

    @blueprint.get("/jobs/<job_id>/result")
    @operation(
        "The result by itself; of a job over a file the file, also what a failed or cancelled one had done; of a "
        "training the version that it made",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: (ResultDocument, RegisteredDocument), 206: None, 304: None},
        headers=CONDITIONS,
        downloads=True,
    )
    def result(job_id: str) -> Response:
        job = finished(services, job_id)
        if "result" in job.outputs:
            return serve(services.storage, job.outputs["result"], request, services.downloads)
        if job.registered is not None:
            return json_response(orjson.dumps({"job_id": job.id} | job.registered))
        if not job.has_result:
            failed = f"The job {job.status}; its failure says why."
            raise NoResult(failed if job.failure else "The job was cancelled before it had a result.")
        return predictions_response(services, job)

    @blueprint.get("/jobs/<job_id>/errors")
    @operation(
        "The failed rows, one JSON line each",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: NDJSON, 206: None, 304: None},
        headers=CONDITIONS,
    )
    def errors(job_id: str) -> Response:
        job = finished(services, job_id)
        if "errors" in job.outputs:
            return serve(services.storage, job.outputs["errors"], request, services.downloads)
        # Of a file that could not be read at all the job has faults that are no row's.
        rows = (error for error in job.errors if "row" in error)
        return json_response(b"".join(orjson.dumps(error) + b"\n" for error in rows), media_type=NDJSON)

    @blueprint.get("/jobs/<job_id>/manifest")
    @operation(
        "What a job over a file read and wrote, with checksums; 409 no_result for a job without files",
        tag="jobs",
        scope=Scope.JOBS_READ,
        answers={200: dict, 206: None, 304: None},
        headers=CONDITIONS,
    )
    def manifest(job_id: str) -> Response:
        job = finished(services, job_id)
        if "manifest" in job.outputs:
            return serve(services.storage, job.outputs["manifest"], request, services.downloads)
        if job.kind == "predict":
            raise NoResult("Only a job over a file has a manifest; this one's rows came with the request.")
        if job.kind == "register":
            raise NoResult(f"Only a job over a file has a manifest; this one checked an artifact{_outcome_of(job)}")
        raise NoResult("The job ended before it had written any file; its failure says why.")


def _outcome_of(job: Job) -> str:
    """Where to read what the check of an artifact came to; the rest of a sentence."""
    if job.registered is None:
        return ", and its failure says what was found." if job.failure else " and was cancelled."
    return f": GET /models/{job.spec.model}/versions/{job.registered['version']} is what came of it."


def finished(services: Services, job_id: str) -> Job:
    """A job that is done.

    Raises:
        ResultNotReady, JobNotFound, JobGone, StoreUnavailable
    """
    job = must_read(services, job_id, caller().owner)
    if not job.done:
        raise ResultNotReady
    return job


def stored_predictions(services: Services, job: Job) -> bytes:
    """The predictions of a job that has a result, as a JSON array.

    Raises:
        StorageFailed
    """
    return services.storage.get(result_key(job.id, job.attempt)) if job.predictions is None else job.predictions


def predictions_response(services: Services, job: Job) -> Response:
    """The result of a job whose rows came with the request, or a range of it.

    Raises:
        RequestFault: 412.
        StorageFailed
    """
    body = orjson.dumps(result_document(job, stored_predictions(services, job)))
    response = Response(body, content_type="application/json")
    response.set_etag(f"{job.id}-{job.revision}")
    environ = dict(request.environ)
    asked = environ.get("HTTP_RANGE", "")
    if not asked.startswith("bytes=") or "," in asked:
        # A server ignores units that it does not know, and may ignore Range (RFC 9110, section 14.2); Werkzeug
        # would answer both with 416.
        environ.pop("HTTP_RANGE", None)
    response.make_conditional(environ, accept_ranges=True, complete_length=len(body))
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        etag = response.headers["ETag"]
        raise RequestFault(412, "precondition_failed", f"If-Match names another version; this is {etag}.")
    return response
