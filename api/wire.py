"""Bodies on the wire: requests are validated with these models, and the OpenAPI document shows them."""

import itertools
from typing import Annotated, Any, Literal, TypeVar

import orjson
from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import RequestFault
from shared.errors import InvalidRequest
from shared.signature import MOST_ERRORS, escaped

M = TypeVar("M", bound=BaseModel)


class JobRequest(BaseModel):
    """A prediction job; exactly one of instances, dataframe_split, dataframe_records, inputs."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"model": "linear", "instances": [[0.06, 0.02, 0.04]]}},
    )

    kind: Literal["predict"] = "predict"
    model: Annotated[str, Field(description="name, name@3 or name@production; the default alias is production")]
    # Rows are checked against the model's signature and not here: a validator would report every single one.
    instances: Annotated[Any, Field(description="rows as arrays in feature order, or as objects by column")] = None
    dataframe_split: Annotated[Any, Field(description='{"columns": [...], "data": [[...], ...]}')] = None
    dataframe_records: Annotated[Any, Field(description="rows as objects by column")] = None
    inputs: Annotated[Any, Field(description="rows as arrays or objects, or an object of columns")] = None
    method: Annotated[
        str, Field(description="predict, predict_proba, decision_function or transform, if the model has it")
    ] = "predict"
    top_k: Annotated[
        int | None, Field(ge=1, le=1000, description="the k most probable classes with their scores instead of one")
    ] = None
    priority: Literal["high", "normal", "low"] = "normal"
    deadline_seconds: Annotated[
        float | None, Field(gt=0, le=604_800, description="the job fails if it is not finished by then")
    ] = None
    result_ttl_seconds: Annotated[int | None, Field(ge=1, description="how long the finished job is kept")] = None
    metadata: Annotated[dict[str, Any] | None, Field(description="yours; comes back with the job")] = None


class RetryRequest(BaseModel):
    """Which rows to run again."""

    model_config = ConfigDict(extra="forbid")

    only: Literal["failed", "all"] = "failed"


class FaultDocument(BaseModel):
    """One fault in a request, or one failed row."""

    row: int | None = None
    column: str | None = None
    pointer: str | None = None
    code: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FaultDocument]
    job_id: str | None = None
    ready: bool | None = None
    checks: dict[str, Any] | None = None


class PinnedModel(BaseModel):
    """The version that a job was pinned to when it was submitted."""

    requested: str
    name: str
    version: int
    sha256: str


class CountsDocument(BaseModel):
    """Rows; total = pending + succeeded + failed + skipped."""

    total: int | None
    pending: int
    succeeded: int
    failed: int
    skipped: int


class ProgressDocument(BaseModel):
    """How far, and from the measured pace of the lane how long yet."""

    fraction: float
    rows_per_second: float | None
    eta_seconds: float | None


class FailureDocument(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    errors: list[FaultDocument]


class JobDocument(BaseModel):
    """A job."""

    id: str
    kind: Literal["predict"]
    status: Literal["queued", "running", "succeeded", "partially_succeeded", "failed", "cancelled"]
    done: bool
    phase: str | None
    revision: int
    model: PinnedModel
    method: str
    top_k: int | None
    priority: str
    counts: CountsDocument
    progress: ProgressDocument
    queue_position: int | None
    attempt: int
    cancel_requested: bool
    retry_of: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    result: dict[str, Any] | None
    failure: FailureDocument | None
    errors: list[FaultDocument]
    warnings: list[str]
    metadata: dict[str, Any]
    links: dict[str, str]


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobDocument]
    next: str | None


class ValidationDocument(BaseModel):
    """What would be done."""

    valid: Literal[True]
    model: PinnedModel
    rows: int
    queue_length: int
    estimated_seconds: float | None


class PredictionDocument(BaseModel):
    """The prediction for one row."""

    prediction: Any
    warnings: list[str] = []


class ResultDocument(BaseModel):
    """A stored result."""

    job_id: str
    model: PinnedModel
    counts: CountsDocument
    warnings: list[str]
    errors: list[FaultDocument]
    predictions: list[Any]


def read_json(request: Request) -> Any:
    """The body as JSON.

    Raises:
        RequestFault: 415 for another media type, 400 for a body that is cut off or no JSON.
        werkzeug.exceptions.RequestEntityTooLarge: it is larger than allowed.
    """
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise RequestFault(
            415,
            "unsupported_media_type",
            f"Send the body as application/json; this is {request.mimetype or 'of no type'}.",
        )
    body = request.get_data()
    announced, most = request.content_length, request.max_content_length
    if announced is None and most is not None and len(body) >= most:
        raise RequestEntityTooLarge  # chunked: what came after the limit was not read
    if announced is not None and len(body) != announced:
        raise RequestFault(400, "incomplete_body", f"{announced} bytes were announced, but {len(body)} came.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestFault(
            400,
            "malformed_json",
            f"The body is not JSON: {error}. NaN and Infinity are not JSON; send null for a missing value.",
        ) from error


def parse(model: type[M], raw: Any) -> M:
    """A validated body.

    Raises:
        InvalidRequest: with a pointer to each fault, up to 20.
    """
    if not isinstance(raw, dict):
        raise InvalidRequest("The body must be a JSON object.")
    unknown = list(itertools.islice((name for name in raw if name not in model.model_fields), MOST_ERRORS))
    if unknown:
        fields = ", ".join(model.model_fields)
        faults = [
            {
                "pointer": f"/{escaped(name)}",
                "code": "unknown_field",
                "message": f"{name[:100]} is not a field; the fields are {fields}.",
            }
            for name in unknown
        ]
        raise InvalidRequest(str(faults[0]["message"]), errors=faults)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = [
            {
                "pointer": "".join(f"/{escaped(part)}" for part in fault["loc"]),
                "code": fault["type"],
                "message": _message(fault),
            }
            for fault in error.errors(include_url=False, include_context=False)[:MOST_ERRORS]
        ]
        raise InvalidRequest(str(faults[0]["message"]), errors=faults) from error


def _message(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{place} is missing."
    return f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}."
