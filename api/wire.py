"""Bodies of requests: they are validated with these models, which the OpenAPI document shows."""

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_args

import orjson
from flask import Request, current_app
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import RequestFault
from shared.batch import Compression, Format
from shared.errors import InvalidRequest
from shared.json_depth import MOST_DEPTH, deeper_than
from shared.requests import FileOptions, JobOptions
from shared.signature import MOST_ERRORS, escaped

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

M = TypeVar("M", bound=BaseModel)
# Where a body that was read is kept, in the WSGI environment.
WHOLE_BODY: Final = "foretell.body"


class PredictionOptions(BaseModel):
    """What is asked of which model."""

    model: Annotated[str, Field(description="name, name@3 or name@production; the default alias is production")]
    method: Annotated[
        str, Field(description="predict, predict_proba, decision_function or transform, if the model has it")
    ] = "predict"
    top_k: Annotated[
        int | None, Field(ge=1, le=1000, description="the k most probable classes with their scores instead of one")
    ] = None


class CommonRequest(JobOptions, PredictionOptions):
    """What every prediction may say."""


class JobRequest(CommonRequest):
    """A prediction job; exactly one of instances, dataframe_split, dataframe_records, inputs."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "linear", "instances": [[0.06, 0.02, 0.04]]}})

    kind: Literal["predict"] = "predict"
    # Rows are checked against the model's signature and not here: a validator would report every single one.
    instances: Annotated[Any, Field(description="rows as arrays in feature order, or as objects by column")] = None
    dataframe_split: Annotated[Any, Field(description='{"columns": [...], "data": [[...], ...]}')] = None
    dataframe_records: Annotated[Any, Field(description="rows as objects by column")] = None
    inputs: Annotated[Any, Field(description="rows as arrays or objects, or an object of columns")] = None


class BatchRequest(CommonRequest, FileOptions):
    """A job over the rows of a file."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "linear", "input": {"file_id": "01a202dc-b4c8-7072-abbb-000000000000"}, "key": "id"}
        }
    )

    kind: Literal["batch"] = "batch"
    key: Annotated[
        str | None, Field(min_length=1, description="a column that the result and the errors repeat, to tell rows by")
    ] = None
    include: Annotated[
        Literal["all"] | list[str], Field(description='input columns that the result repeats: "all", or their names')
    ] = []  # pydantic copies it
    output_format: Annotated[Format | None, Field(description="of the result; by default that of the file")] = None
    output_compression: Annotated[Compression, Field(description="of the result; Parquet has its own")] = "none"
    keep_failed_rows: Annotated[
        bool, Field(description="leave failed rows in the result, with an empty prediction and a _status")
    ] = False


class RetryRequest(BaseModel):
    """Which rows to run again: `failed` are all without a prediction, `skipped` those that were never tried."""

    model_config = ConfigDict(extra="forbid")

    only: Literal["failed", "skipped", "all"] = "failed"


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
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        detail = f"Send JSON as it is, without Content-Encoding; only files may be compressed, not {encoding[:40]}."
        raise RequestFault(415, "unsupported_encoding", detail)
    return loads(whole_body(request))


def whole_body(request: Request) -> bytes:
    """The bytes of a body that is no file, as often as they are asked for.

    Raises:
        RequestFault: 400 for one that is cut off.
        werkzeug.exceptions.RequestEntityTooLarge: it is larger than allowed.
    """
    known: bytes | None = request.environ.get(WHOLE_BODY)
    if known is not None:
        return known
    announced, most = request.content_length, request.max_content_length
    if announced is None:
        body = request.get_data(cache=False)
        if most is not None and len(body) >= most:
            raise RequestEntityTooLarge  # chunked: what came after the limit was not read
    else:
        if most is not None and announced > most:
            raise RequestEntityTooLarge
        body = read_body(request.environ, announced)
    request.environ[WHOLE_BODY] = body
    return body


def read_body(environ: "WSGIEnvironment", announced: int) -> bytes:
    """The bytes of a body that is no file, of a length that is known.

    Raises:
        RequestFault: 400 for one that is cut off.
    """
    # Werkzeug's stream would be asked for it in pieces.
    body: bytes = environ["wsgi.input"].read(announced) if announced else b""
    if len(body) != announced:
        raise RequestFault(400, "incomplete_body", f"{announced} bytes were announced, but {len(body)} came.")
    return body


def loads(body: bytes, what: str = "The body", *, most: int | None = None) -> Any:
    """Bytes as JSON; `what` they are called in the message if they are none.

    `most`: how deeply they may be nested, where there is no request of Flask's to tell it.

    Raises:
        RequestFault: 400, they are none, or nested more deeply than is allowed.
    """
    if most is None:
        most = current_app.config.get("MAX_JSON_DEPTH", MOST_DEPTH) if current_app else MOST_DEPTH
    if deeper_than(body, most):
        detail = f"{what} has arrays and objects within each other more than {most} deep, which no request needs."
        raise RequestFault(400, "json_too_deep", detail)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestFault(
            400,
            "malformed_json",
            f"{what} is not JSON: {error}. NaN and Infinity are not JSON; send null for a missing value.",
        ) from error


def parse(model: type[M], raw: Any) -> M:
    """A validated body.

    Raises:
        InvalidRequest: with a pointer to each fault, up to 20.
    """
    if not isinstance(raw, dict):
        raise InvalidRequest("The body must be a JSON object.")
    fields = model.model_fields  # which is found anew each time
    unknown = [name for name in raw if name not in fields]
    if unknown:
        faults = [_unknown(f"/{escaped(name)}", name, model) for name in unknown[:MOST_ERRORS]]
        raise InvalidRequest(faults[0]["message"], errors=faults)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        if _made_whole(raw, error):
            return parse(model, raw)
        found = error.errors(include_url=False, include_context=False)[:MOST_ERRORS]
        faults = [_fault(fault, model) for fault in found]
        raise InvalidRequest(faults[0]["message"], errors=faults) from error


def _made_whole(raw: Any, error: ValidationError) -> bool:
    """Write numbers such as 3.0 as whole ones where such are wanted, since to JSON Schema they are; whether there were.

    (JSON Schema Core 2020-12, section 4.2.3)
    """
    made = False
    for fault in error.errors(include_url=False, include_context=False):
        if fault["type"] == "int_type" and isinstance(fault["input"], float) and fault["input"].is_integer():
            *outer, name = fault["loc"]
            holder = raw
            for part in outer:
                holder = holder[part]
            holder[name] = int(fault["input"])
            made = True
    return made


def _fault(fault: Any, model: type[BaseModel]) -> dict[str, str]:
    place, pointer = ".".join(map(str, fault["loc"])), "".join(f"/{escaped(part)}" for part in fault["loc"])
    match fault["type"]:
        case "extra_forbidden" if (inner := _within(model, fault["loc"][0])) is not None:
            return _unknown(pointer, place, inner)
        case "missing":
            message = f"{place} is missing."
        case "model_type":
            message = f"{place} must be a JSON object."
        case _:
            message = f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}."
    return {"pointer": pointer, "code": fault["type"], "message": message}


def _within(model: type[BaseModel], name: str | int) -> type[BaseModel] | None:
    """What a field holds, if that has fields itself."""
    field = model.model_fields.get(str(name))
    kind = None if field is None else field.annotation
    inner = (one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(inner, None)


def _unknown(pointer: str, place: str, model: type[BaseModel]) -> dict[str, str]:
    """The fault of a field that is none; `place` has those that it is within before it."""
    fields = list(model.model_fields)
    close = difflib.get_close_matches(place.rpartition(".")[2], fields, n=1)
    hint = f"did you mean {close[0]}? The" if close else "the"
    message = f"{place[:100]} is not a field; {hint} fields are {', '.join(fields)}."
    return {"pointer": pointer, "code": "unknown_field", "message": message}
