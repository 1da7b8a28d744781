"""The routes of jobs."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response, g, request

from api.errors import RequestFault, problem
from api.headers import json_response, known_revision, preferred_wait, traceparent
from api.openapi import JOB_HEADERS, LIST_PARAMETERS, operation
from api.render import job_document, pinned, result_document, retry_after_seconds
from api.services import Services
from api.submission import draft, idempotency_of
from api.waiting import await_job, must_read, poll, submit_and_wait
from api.wire import (
    JobDocument,
    JobPage,
    JobRequest,
    PredictionDocument,
    ResultDocument,
    RetryRequest,
    ValidationDocument,
    parse,
    read_json,
)
from shared.errors import InvalidRequest, JobNotFinished, NoResult, NothingToRetry, ResultNotReady
from shared.job import Job, Status, new_job_id
from shared.queue import ONLINE
from shared.records import Submission
from shared.storage import job_prefix, result_key

DEFAULT_PREDICT_WAIT_SECONDS = 10.0
# A failed row of these is the sender's to mend.
FAULTS_OF_ROWS = ("prediction_failed",)


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("jobs", __name__)
    settings, store = services.settings, services.store

    def drafted(body: JobRequest, idempotency: tuple[str, str] | None = None, *, fresh: bool = False) -> Submission:
        return draft(
            services,
            body,
            request_id=g.request_id,
            traceparent=traceparent(request),
            idempotency=idempotency,
            fresh=fresh,
        )

    def wanted_key() -> tuple[str, str] | None:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return None
        return idempotency_of(key, request.path.encode(), request.query_string, request.get_data())

    @blueprint.post("/jobs")
    @operation(
        "Submit a prediction job",
        tag="jobs",
        body=JobRequest,
        answers={200: (JobDocument, ValidationDocument), 202: JobDocument},
        headers=JOB_HEADERS,
        query={"validate_only": "true: check everything, start nothing"},
    )
    def create() -> Response:
        only_known_parameters("validate_only")
        body = parse(JobRequest, read_json(request))
        if flag("validate_only"):
            return validation(services, drafted(body, fresh=True))
        key = wanted_key()
        return accept(
            drafted(body, key),
            lambda: drafted(body, key, fresh=True),
            preferred_wait(request, settings.max_wait_seconds),
        )

    def accept(first: Submission, again: Callable[[], Submission], wait: float | None) -> Response:
        job = submit_and_wait(services, first, again, wait)
        response = job_response(job, 200 if job.done and wait is not None else 202)
        response.headers["Location"] = f"/jobs/{job.id}"
        if job.done and wait is not None:
            response.headers["Preference-Applied"] = f"wait={wait:g}"
        return response

    @blueprint.post("/predict")
    @operation(
        "Predict one row and wait for it",
        tag="jobs",
        body=dict,
        answers={200: PredictionDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        query={"model": "the model; default: linear"},
    )
    def predict() -> Response:
        only_known_parameters("model")
        row = read_json(request)
        if not isinstance(row, dict):
            raise InvalidRequest('Send one flat object of features, such as {"x1": 1, "x2": 2, "x3": 3}.')
        body = JobRequest(model=request.args.get("model", "linear"), instances=[row])
        key = wanted_key()
        wait = preferred_wait(request, settings.max_wait_seconds)
        try:
            first = drafted(body, key)
        except InvalidRequest as error:
            raise flat(error) from error
        job = submit_and_wait(
            services,
            first,
            lambda: drafted(body, key, fresh=True),
            DEFAULT_PREDICT_WAIT_SECONDS if wait is None else wait,
        )
        if not job.done:
            response = job_response(job, 202)
        elif job.has_result:
            answer = {"prediction": orjson.Fragment(stored_predictions(services, job)[1:-1])}
            response = json_response(orjson.dumps(answer | ({"warnings": job.warnings} if job.warnings else {})))
        else:
            failure = job.failure or {"code": "cancelled", "message": "The job was cancelled."}
            status = 422 if failure["code"] in FAULTS_OF_ROWS else 500
            response = problem(status, failure["code"], failure["message"], errors=job.errors, extra={"job_id": job.id})
        response.headers["Location"] = f"/jobs/{job.id}"
        return response

    @blueprint.get("/jobs")
    @operation("List jobs, newest first", tag="jobs", answers={200: JobPage}, query=LIST_PARAMETERS)
    def list_jobs() -> Response:
        jobs, following = store.page(**list_filter())
        response = json_response(orjson.dumps({"jobs": [job_document(job) for job in jobs], "next": following}))
        if following:
            arguments = request.args.copy()
            arguments["cursor"] = following
            response.headers["Link"] = f'</jobs?{urlencode(list(arguments.items()))}>; rel="next"'
        return response

    @blueprint.get("/jobs/<job_id>")
    @operation(
        "Read a job, or wait for its next change",
        tag="jobs",
        answers={200: JobDocument, 304: None},
        headers=("Prefer", "If-None-Match"),
    )
    def show(job_id: str) -> Response:
        known, wait = known_revision(request), preferred_wait(request, settings.max_wait_seconds)
        if request.headers.get("If-None-Match", "").strip() == "*":
            store.read(job_id, with_result=False)
            return Response(status=304)
        job = poll(services, job_id, known) if wait is None else await_job(services, job_id, known, wait)
        if job is None:
            return Response(status=304, headers={"ETag": f'"{known}"', "Retry-After": "1"})
        return job_response(job, 200)

    @blueprint.post("/jobs/<job_id>/cancel")
    @operation("Cancel a job", tag="jobs", answers={200: JobDocument, 202: JobDocument})
    def cancel(job_id: str) -> Response:
        already = store.cancel(job_id)
        return job_response(must_read(services, job_id), 200 if already else 202)

    @blueprint.post("/jobs/<job_id>/retry")
    @operation(
        "Run the failed rows of a job again, or all, as a new job",
        tag="jobs",
        body=RetryRequest,
        answers={200: JobDocument, 202: JobDocument},
        headers=JOB_HEADERS,
    )
    def retry(job_id: str) -> Response:
        body = parse(RetryRequest, read_json(request)) if request.get_data() else RetryRequest()
        job = must_read(services, job_id)
        first = retried(services, job, body.only, wanted_key())
        return accept(first, lambda: first, preferred_wait(request, settings.max_wait_seconds))

    @blueprint.delete("/jobs/<job_id>")
    @operation("Remove a finished job", tag="jobs", answers={204: None})
    def delete(job_id: str) -> Response:
        if store.delete(job_id):
            services.storage.delete(job_prefix(job_id))
        return Response(status=204)

    @blueprint.get("/jobs/<job_id>/result")
    @operation(
        "The result by itself",
        tag="jobs",
        answers={200: ResultDocument, 206: None, 304: None},
        headers=("Range", "If-None-Match"),
    )
    def result(job_id: str) -> Response:
        job = must_read(services, job_id)
        if not job.done:
            raise ResultNotReady
        if not job.has_result:
            failed = f"The job {job.status}; its failure says why."
            raise NoResult(failed if job.failure else "The job was cancelled before it had a result.")
        response = Response(
            orjson.dumps(result_document(job, stored_predictions(services, job))), content_type="application/json"
        )
        response.set_etag(f"{job.id}-{job.revision}")
        environ = dict(request.environ)
        asked = environ.get("HTTP_RANGE", "")
        if not asked.startswith("bytes=") or "," in asked:
            # A server ignores units that it does not know, and may ignore Range (RFC 9110, section 14.2); Werkzeug
            # would answer both with 416.
            environ.pop("HTTP_RANGE", None)
        response.make_conditional(environ, accept_ranges=True, complete_length=len(response.get_data()))
        return response

    @blueprint.get("/jobs/<job_id>/errors")
    @operation("The failed rows, one JSON line each", tag="jobs", answers={200: "application/x-ndjson"})
    def errors(job_id: str) -> Response:
        job = must_read(services, job_id)
        if not job.done:
            raise ResultNotReady
        return json_response(
            b"".join(orjson.dumps(error) + b"\n" for error in job.errors), media_type="application/x-ndjson"
        )

    return blueprint


def only_known_parameters(*known: str) -> None:
    """Refuse a query parameter that would do nothing.

    Raises:
        RequestFault
    """
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        there = ", ".join(known)
        raise RequestFault(400, "unknown_parameter", f"{unknown[0][:100]} is not a parameter; there are {there}.")


def flag(name: str) -> bool:
    """A query parameter that is true or false; false without it.

    Raises:
        RequestFault: it is something else.
    """
    given = request.args.get(name, "false").lower()
    if given not in ("true", "1", "false", "0"):
        raise RequestFault(400, "bad_parameter", f"{name} must be true or false, not {given[:20]}.")
    return given in ("true", "1")


def flat(error: InvalidRequest) -> InvalidRequest:
    """The same error for a body that is the row itself."""
    error.errors = tuple(
        fault | {"pointer": fault["pointer"].removeprefix("/instances/0")} if "pointer" in fault else fault
        for fault in error.errors
    )
    return error


def stored_predictions(services: Services, job: Job) -> bytes:
    """The predictions of a job that has a result, as a JSON array.

    Raises:
        StorageFailed
    """
    return services.storage.get(result_key(job.id, job.attempt)) if job.predictions is None else job.predictions


def list_filter() -> dict[str, Any]:
    """The query of `GET /jobs`.

    Raises:
        RequestFault: a parameter is not allowed.
    """
    arguments = request.args
    limit, status, kind = arguments.get("limit", "50"), arguments.get("status", ""), arguments.get("kind", "predict")
    only_known_parameters(*LIST_PARAMETERS)
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= 200:
        raise RequestFault(400, "bad_parameter", f"limit must be a whole number from 1 to 200, not {limit[:20]}.")
    if status and status not in list(Status):
        raise RequestFault(400, "bad_parameter", f"status must be one of {', '.join(Status)}, not {status}.")
    if kind != "predict":
        raise RequestFault(400, "bad_parameter", f"kind must be predict, not {kind}.")
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
        "limit": int(limit),
        "cursor": cursor,
        "status": status,
        "model": arguments.get("model", ""),
        "created_after": created_after,
    }


def validation(services: Services, submission: Submission) -> Response:
    """What a submission would do."""
    waiting, rate = services.store.lane_length(submission.spec.model, submission.spec.version)
    estimate = round((waiting + 1) / rate, 3) if rate else None
    body = {
        "valid": True,
        "model": pinned(submission.spec),
        "rows": submission.total,
        "queue_length": waiting,
        "estimated_seconds": estimate,
    }
    return json_response(orjson.dumps(body))


def job_response(job: Job, status: int) -> Response:
    """A job with its ETag, and when to look again."""
    response = json_response(orjson.dumps(job_document(job)), status)
    response.headers["ETag"] = f'"{job.revision}"'
    if not job.done:
        response.headers["Retry-After"] = str(retry_after_seconds(job))
    return response


def retried(services: Services, job: Job, only: str, idempotency: tuple[str, str] | None) -> Submission:
    """A new job with the failed rows of a finished one, or all of them, on the same version.

    Raises:
        JobNotFinished, NothingToRetry, JobGone, StoreUnavailable
    """
    if not job.done:
        raise JobNotFinished
    rows = services.store.rows(job.id)
    numbers = list(job.spec.retry_rows or range(1, len(rows) + 1))
    if only == "failed":
        failed = {error["row"] for error in job.errors}
        if job.counts.skipped == 0 and not failed:
            raise NothingToRetry
        if job.counts.skipped == 0:
            kept = [index for index, number in enumerate(numbers) if number in failed]
            rows, numbers = [rows[index] for index in kept], [numbers[index] for index in kept]
    spec = replace(
        job.spec, retry_of=job.id, retry_rows=tuple(numbers), request_id=g.request_id, traceparent=traceparent(request)
    )
    return Submission(
        id=new_job_id(), spec=spec, rows=orjson.dumps(rows), total=len(rows), alias=None, queue=ONLINE,
        ttl_seconds=services.settings.result_ttl_seconds, idempotency=idempotency,
    )  # fmt: skip
