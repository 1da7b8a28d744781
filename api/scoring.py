"""The door of MLflow's scoring protocol: what a model server of MLflow takes under /invocations becomes a job."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import orjson
from flask import Blueprint, Request, Response, request
from pydantic import BaseModel, ConfigDict, Field

from api.access import PUBLIC
from api.batches import from_raw
from api.documents import JobDocument
from api.downloads import sent
from api.headers import json_response
from api.instances import FORMS
from api.intake import DEFAULT_MODEL, draft_of_rows, origin_of
from api.lines import blocks_of_lines
from api.media import is_json, unsupported
from api.openapi import operation
from api.operations import refused
from api.outcomes import below, outcome, refusal
from api.parameters import JOB_HEADERS, Parameter
from api.query import only_known_parameters
from api.results import stored_predictions
from api.services import Services
from api.submission import Draft
from api.uploads import answer_early
from api.wire import JobRequest, PredictionOptions, parse, read_json, whole_body
from shared.api_keys import Scope
from shared.errors import InvalidRequest, NoResult, NotDoneInTime, StorageFailed, TooManyDownloads
from shared.job import Job, Status
from shared.requests import JobOptions, fault
from shared.signature import escaped

CSV: Final = "text/csv"
QUERY: Final = {"model": Parameter(text="the model; default: linear")}
# What `params` may say, as POST /jobs takes it.
PARAMS: Final = (*(name for name in PredictionOptions.model_fields if name != "model"), *JobOptions.model_fields)


class InvocationRequest(BaseModel):
    """Rows as MLflow's clients send them; exactly one of the four forms."""

    model_config = ConfigDict(json_schema_extra={"example": {"inputs": [[0.06, 0.02, 0.04]]}})

    dataframe_split: Annotated[Any, Field(description='{"columns": [...], "data": [[...], ...]}')] = None
    dataframe_records: Annotated[Any, Field(description="rows as objects by column")] = None
    instances: Annotated[Any, Field(description="rows as arrays in feature order, or as objects by column")] = None
    inputs: Annotated[Any, Field(description="rows as arrays or objects, or an object of columns")] = None
    params: Annotated[
        dict[str, Any] | None, Field(description="method, top_k and options of the job, as POST /jobs takes them")
    ] = None


class InvocationDocument(BaseModel):
    """The predictions, one for each row."""

    predictions: list[Any]


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("scoring", __name__)
    blueprint.after_request(answer_early)

    @blueprint.post("/invocations")
    @operation(
        "Predict rows, as model servers of MLflow do; with Prefer: respond-async as a job",
        tag="mlflow",
        scope=Scope.JOBS_WRITE,
        body=InvocationRequest,
        answers={200: InvocationDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        query=QUERY,
        upload="rows",
        raises=(NoResult, NotDoneInTime, TooManyDownloads),
    )
    def invocations() -> Response:
        only_known_parameters(*QUERY)
        return outcome(services, lambda: draft_of(services, request), lambda job: answer(services, job))

    for path in ("/ping", "/health"):
        blueprint.add_url_rule(path, path[1:], _health(services), methods=["GET"])
    return blueprint


def _health(services: Services) -> Callable[[], Response]:
    @operation(
        "Whether jobs can be done, as /readyz says", tag="mlflow", scope=PUBLIC, answers={200: "text/plain"},
        raises=(StorageFailed,),
    )  # fmt: skip
    def health() -> Response:
        # A line break is what MLflow's own server answers.
        return refused(services.readiness.checked()) or Response("\n", content_type="text/plain")

    return health


def draft_of(services: Services, request: Request) -> Draft:
    """The job for rows in JSON, or for those of a CSV file, which are rows of a file as any.

    Raises:
        Repeated, RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable, StorageFailed, UploadLost
    """
    model = request.args.get("model", DEFAULT_MODEL)
    if request.mimetype == CSV:
        fixed = {"model": model, "output_format": "ndjson"}
        return from_raw(services, origin_of(request), request, validate_only=False, query={}, fixed=fixed)
    if not is_json(request.mimetype):
        raise unsupported(request.mimetype, ("application/json", CSV), "add -H 'Content-Type: application/json'")
    asked = parse(InvocationRequest, read_json(request))
    rows = {form: getattr(asked, form) for form in FORMS}
    given = asked.params or {}
    unknown = next((name for name in given if name not in PARAMS), None)
    if unknown is not None:
        message = f"{unknown[:100]} is no param; there are {', '.join(PARAMS)}."
        raise fault(f"/params/{escaped(unknown)}", "unknown_field", message)
    try:
        # Rows are put in afterwards: to be validated they would be copied.
        job = parse(JobRequest, {"model": model, **given}).model_copy(update=rows)
        return draft_of_rows(services, origin_of(request), job, whole_body(request))
    except InvalidRequest as error:
        raise below(error, "/params", PARAMS) from error


def answer(services: Services, job: Job) -> Response:
    """The predictions of a job that is done, or why there are not all of them.

    Raises:
        StorageFailed, TooManyDownloads
        InvalidRequest: a file without rows.
    """
    if job.status is not Status.SUCCEEDED:
        return refusal(job)
    if "result" not in job.outputs:
        return json_response(b'{"predictions":%b}' % stored_predictions(services, job))
    if not job.counts.total:
        raise fault("", "no_rows", "There are no rows; send at least one.")
    return sent(lambda: _rendered(services, job), services.downloads, headers={"Content-Type": "application/json"})


def _rendered(services: Services, job: Job) -> Iterator[bytes]:
    """The result of a job over a file, NDJSON, as predictions: its values, or arrays of several outputs."""
    before = b'{"predictions":['
    for lines in blocks_of_lines(services.storage, job.outputs["result"]):
        values = (list(orjson.loads(line).values()) for line in lines)
        yield before + b",".join(orjson.dumps(row[0] if len(row) == 1 else row) for row in values)
        before = b","
    yield b"]}"
