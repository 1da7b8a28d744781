"""Which errors an operation may be answered with: told by what it takes, and by the errors that it names itself."""

from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from api.access import Public
from api.errors import HTTP_CODES, STATUS
from shared import errors as e
from shared.errors import ServiceError

PROBLEM: Final = "application/problem+json"
SECONDS: Final = {"type": "integer", "minimum": 1, "maximum": 120}
REQUEST_ID: Final = {
    "required": True,
    "description": "the X-Request-Id of the request, or a new one",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,128}$"},
}
# What the variable part of a path names may not be there.
MISSING: Final[Mapping[str, tuple[type[ServiceError], ...]]] = {
    "job_id": (e.JobNotFound, e.JobGone),
    "file_id": (e.UnknownFile,),
    "batch_id": (e.JobNotFound, e.JobGone),
    "content_id": (e.UnknownFile, e.JobGone),
    "name": (e.ModelNotFound,),
    "key_id": (e.KeyNotFound,),
    "delivery_id": (e.DeliveryNotFound,),
}
# Faults of a request itself, which are found before anything is looked up: see api.errors.RequestFault.
OF_ANY: Final = (414,)
OF_A_QUERY: Final = (400,)
OF_A_BODY: Final = (400, 408, 413, 415)
OF_A_FILE: Final = (411,)
# Errors of operations that need a key, and so the job store.
OF_CALLERS: Final = (e.Unauthorized, e.Forbidden, e.LimitReached, e.StoreUnavailable)
OF_STORED_FILES: Final = (e.StorageFailed, e.StorageFull, e.UploadLost, e.TooManyUploads)
OF_SUBMISSIONS: Final = (e.QueueFull, e.StoreFull, e.IdempotencyKeyReused, e.ModelNotFound)


def refusals(variables: Collection[str], about: Mapping[str, Any]) -> list[int]:
    """The statuses from 400 on that an operation is known to answer, ascending.

    Args:
        variables: the variable parts of its path.
        about: what `api.openapi.operation` was told.
    """
    classes = {error for name in variables for error in MISSING.get(name, ())} | set(_errors(about))
    return sorted({*(STATUS[error] for error in classes), *_faults(about)})


def _errors(about: Mapping[str, Any]) -> Iterator[type[ServiceError]]:
    yield from about["raises"]
    if not isinstance(about["scope"], Public):
        yield from OF_CALLERS
    if about["body"] is not None:
        yield e.InvalidRequest
    if about["upload"] is not None:
        yield from (e.InvalidRequest, *OF_STORED_FILES)
    if "Idempotency-Key" in about["headers"]:
        yield from OF_SUBMISSIONS
    if "Range" in about["headers"]:
        yield from (e.ResultNotReady, e.NoResult, e.StorageFailed, e.TooManyDownloads)


def _faults(about: Mapping[str, Any]) -> Iterator[int]:
    yield from OF_ANY
    if about["query"] or "Idempotency-Key" in about["headers"]:
        yield from OF_A_QUERY
    if about["body"] is not None or about["upload"] is not None:
        yield from OF_A_BODY
    if about["upload"] is not None:
        yield from OF_A_FILE
    if "If-Match" in about["headers"]:
        yield 412
    if "Range" in about["headers"]:
        yield 416


def problems() -> dict[str, Any]:
    """A response of the document for each status, by the name that operations refer to it by."""
    statuses = {*STATUS.values(), *HTTP_CODES, *OF_ANY, *OF_A_BODY, *OF_A_FILE}
    return {component(status): _problem(status) for status in sorted(statuses)}


def component(status: int) -> str:
    """The name of the response with this status."""
    return f"Problem{status}"


def _problem(status: int) -> dict[str, Any]:
    codes = {error.code for error, number in STATUS.items() if number == status}
    codes |= {HTTP_CODES[status]} if status in HTTP_CODES else set()
    shown = f": {', '.join(sorted(codes))}" if codes else ""
    return {
        "description": f"{HTTPStatus(status).phrase}{shown}",
        "headers": headers_of_problem(status),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }


def headers_of_problem(status: int) -> dict[str, Any]:
    """The headers of an error."""
    found = {"X-Request-Id": REQUEST_ID}
    if status in (429, 503):
        found["Retry-After"] = {"required": True, "description": "seconds", "schema": SECONDS}
    if status == 401:
        found["WWW-Authenticate"] = {"required": True, "schema": {"type": "string", "pattern": "^Bearer "}}
    if status == 416:
        found["Content-Range"] = {"required": True, "schema": {"type": "string", "pattern": r"^bytes \*/[0-9]+$"}}
    return found
