"""The routes that make jobs: from rows, from files, from earlier jobs."""

from collections.abc import Callable
from typing import Final

import orjson
from flask import Blueprint, Request, Response, request

from api.access import caller
from api.batches import from_form, from_raw, from_reference
from api.documents import JobDocument, PredictionDocument, ValidationDocument
from api.headers import JsonResponse, here, json_response, preferred_wait, this_request, traceparent
from api.media import FORM, FORMATS, is_json, unsupported
from api.openapi import operation
from api.options import FILE_QUERY, QUERY, TRAIN_QUERY, kind_of
from api.outcomes import refusal
from api.parameters import FLAG, JOB_HEADERS, Parameter
from api.query import flag, only_known_parameters
from api.render import job_response
from api.repeats import unless_repeated
from api.results import stored_predictions
from api.retry import retried
from api.services import Services
from api.submission import Draft, Origin, draft
from api.uploads import answer_early
from api.waiting import must_read, submit_and_wait
from api.wire import BatchRequest, JobRequest, RetryRequest, parse, read_json, whole_body
from shared.api_keys import Scope
from shared.errors import InputGone, InvalidRequest, JobNotFinished, NoResult, NothingToRetry
from shared.job import Job
from shared.records import Submission
from shared.requests import TrainRequest

DEFAULT_PREDICT_WAIT_SECONDS: Final = 10.0
DEFAULT_MODEL: Final = "linear"
VALIDATE_ONLY: Final = {"validate_only": Parameter(text="true: check everything, start nothing", schema=FLAG)}


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """Add them to those of jobs."""
    longest_wait = services.settings.max_wait_seconds
    blueprint.after_request(answer_early)

    @blueprint.post("/jobs")
    @operation(
        "Submit a job: rows, or a file with its options in the part `job` or in the query",
        tag="jobs",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        body=(JobRequest, BatchRequest, TrainRequest),
        answers={200: (JobDocument, ValidationDocument), 202: JobDocument},
        headers=JOB_HEADERS,
        query=VALIDATE_ONLY | dict(FILE_QUERY),
        upload="job",
    )
    def create() -> Response:
        asked = this_request()
        if flag("validate_only"):
            return validation(services, draft_of(services, asked, validate_only=True).first)
        wait = preferred_wait(asked, longest_wait)
        return accept(services, lambda: draft_of(services, asked, validate_only=False), wait)

    @blueprint.post("/predict")
    @operation(
        "Predict one row and wait for it",
        tag="jobs",
        scope=Scope.JOBS_WRITE,
        body=dict,
        answers={200: PredictionDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        query={"model": "the model; default: linear"},
        raises=(NoResult,),
    )
    def predict() -> Response:
        only_known_parameters("model")
        row = read_json(request)
        wait = preferred_wait(request, longest_wait)
        wait = DEFAULT_PREDICT_WAIT_SECONDS if wait is None else wait
        return prediction_response(services, submit_and_wait(services, lambda: draft_of_row(services, row), wait))

    @blueprint.post("/jobs/<job_id>/retry")
    @operation(
        "Run the failed rows of a job again, or all, as a new job",
        tag="jobs",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        body=RetryRequest,
        answers={200: JobDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        raises=(JobNotFinished, NothingToRetry, InputGone),
    )
    def retry(job_id: str) -> Response:
        body = parse(RetryRequest, read_json(request)) if whole_body(request) else RetryRequest()
        origin, raw = origin_of(request), whole_body(request)

        def drafted() -> Draft:
            first = retried(services, must_read(services, job_id, origin.caller.owner), body.only, origin, raw)
            return Draft(first=first, again=lambda: first)

        wait = preferred_wait(request, longest_wait)
        return accept(services, lambda: unless_repeated(services, origin, raw, drafted), wait)


def origin_of(request: Request) -> Origin:
    """Where a job comes from."""
    return Origin(
        request_id=here().request_id,
        traceparent=traceparent(request),
        key=request.headers.get("Idempotency-Key"),
        target=(request.path.encode(), request.query_string),
        caller=caller(),
    )


def draft_of(services: Services, request: Request, *, validate_only: bool) -> Draft:
    """The job that `POST /jobs` asks for, in whichever form; its file, if it came along, lies in storage then.

    Raises:
        RequestFault, InvalidRequest, UnknownFile, ModelNotFound, StoreUnavailable, StorageFailed, UploadLost
    """
    origin, media_type = origin_of(request), request.mimetype
    if media_type in FORMATS:
        query = TRAIN_QUERY if request.args.get("kind") == "train" else QUERY
        only_known_parameters(*VALIDATE_ONLY, *query)
        return from_raw(services, origin, request, validate_only=validate_only, query=query)
    if media_type != FORM and not is_json(media_type):
        raise unsupported(media_type, ("application/json", *FORMATS, FORM))
    only_known_parameters(*VALIDATE_ONLY)
    if media_type == FORM:
        return from_form(services, origin, request, validate_only=validate_only)
    raw = read_json(request)
    kind = kind_of(raw)
    if kind != "predict":
        body = whole_body(request)
        wanted = parse(BatchRequest, raw) if kind == "batch" else parse(TrainRequest, raw)
        return unless_repeated(services, origin, body, lambda: from_reference(services, origin, wanted, body))
    return draft_of_rows(services, origin, parse(JobRequest, raw), whole_body(request), fresh=validate_only)


def draft_of_rows(services: Services, origin: Origin, body: JobRequest, raw: bytes, *, fresh: bool = False) -> Draft:
    """The job for rows in the request, whose body `raw` is.

    Raises:
        RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable
    """
    key = None if fresh else origin.idempotency(raw)

    def drafted(*, fresh: bool) -> Submission:
        return draft(services, body, origin, idempotency=key, fresh=fresh)

    if key is None:
        return Draft(first=drafted(fresh=fresh), again=lambda: drafted(fresh=True))
    first = unless_repeated(services, origin, raw, lambda: drafted(fresh=False))
    return Draft(first=first, again=lambda: drafted(fresh=True))


def draft_of_row(services: Services, row: object) -> Draft:
    """The job for the one row of `POST /predict`.

    Raises:
        RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable
    """
    if not isinstance(row, dict):
        raise InvalidRequest('Send one flat object of features, such as {"x1": 1, "x2": 2, "x3": 3}.')
    body = JobRequest(model=request.args.get("model", DEFAULT_MODEL), instances=[row])
    try:
        return draft_of_rows(services, origin_of(request), body, whole_body(request))
    except InvalidRequest as error:
        raise flat(error) from error


def flat(error: InvalidRequest) -> InvalidRequest:
    """The same error for a body that is the row itself."""
    error.errors = tuple(
        fault | {"pointer": fault["pointer"].removeprefix("/instances/0")} if "pointer" in fault else fault
        for fault in error.errors
    )
    return error


def accept(services: Services, drafted: Callable[[], Draft], wait: float | None) -> JsonResponse:
    """Store a job and answer with it, or with its outcome if the client waits for it."""
    return accepted_response(submit_and_wait(services, drafted, wait), wait)


def accepted_response(job: Job, wait: float | None) -> JsonResponse:
    """A job that was accepted, or its outcome if the client waited for it."""
    response = job_response(job, 200 if job.done and wait is not None else 202)
    response.add(("Location", f"/jobs/{job.id}"))
    if job.done and wait is not None:
        response.add(("Preference-Applied", f"wait={wait:g}"))
    return response


def prediction_response(services: Services, job: Job) -> Response:
    """The one prediction of a job, why there is none, or the job if it is not done."""
    if not job.done:
        response: Response = job_response(job, 202)
    elif job.has_result:
        answer = {"prediction": orjson.Fragment(stored_predictions(services, job)[1:-1])}
        response = json_response(orjson.dumps(answer | ({"warnings": job.warnings} if job.warnings else {})))
    else:
        response = refusal(job)
    response.headers["Location"] = f"/jobs/{job.id}"
    return response


def validation(services: Services, submission: Submission) -> Response:
    """What a submission would do; how many rows a file has is not known before a worker has looked."""
    body = {"valid": True, "model": submission.spec.pinned(), "rows": submission.total, "queue_length": None}
    estimate = None
    if submission.spec.kind == "predict":
        waiting, rate = services.store.lane_length(
            submission.spec.model, submission.spec.version, owner=submission.spec.owner
        )
        body["queue_length"] = waiting
        estimate = round((waiting + 1) / rate, 3) if rate else None
    return json_response(orjson.dumps(body | {"estimated_seconds": estimate}))
