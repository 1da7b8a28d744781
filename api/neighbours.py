"""What clients of other protocols read of an error: members beside those of the problem document that it is.

RFC 9457, section 3.2, lets a problem document have further members, so one body serves both kinds of readers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

INFERENCE: Final = "/v2"
OPENAI: Final = "/v1"
SCORING: Final = ("/invocations", "/ping", "/health")
# Of mlflow.protos.databricks_pb2.ErrorCode; other faults of a request are BAD_REQUEST, and of ours INTERNAL_ERROR.
SCORING_CODES: Final[Mapping[int, str]] = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# As OpenAI's documentation of error codes has them.
OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def members(path: str, status: int, code: str, detail: str, errors: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The members for who asks for a path; none where the path is our own."""
    if is_below(path, INFERENCE):
        return {"error": detail}
    if is_below(path, OPENAI):
        return {"error": openai_error(status, code, detail, errors)}
    if path in SCORING:
        return {
            "error_code": SCORING_CODES.get(status, "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"),
            "message": detail,
        }
    return {}


def openai_error(
    status: int, code: str, detail: str, errors: Sequence[Mapping[str, Any]] = ()
) -> dict[str, str | None]:
    """The object `error` of OpenAI's API."""
    first = errors[0] if errors else {}
    kind = OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": detail, "type": kind, "param": first.get("column") or first.get("pointer"), "code": code}


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is a prefix, or goes on below it."""
    return path == prefix or path.startswith(f"{prefix}/")
