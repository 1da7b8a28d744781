"""Errors as RFC 9457 problem documents: the only place that knows which HTTP status an error has."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from api.neighbours import members
from shared import errors as e
from shared.errors import InvalidRequest, LimitReached, NotDoneInTime, QueueFull, ServiceError
from shared.meter import METER

log = structlog.get_logger()

STATUS: Final[Mapping[type[ServiceError], int]] = {
    e.StoreUnavailable: 503,
    e.StoreFull: 503,
    e.NewerSchema: 503,
    e.StorageFailed: 503,
    e.StorageFull: 507,
    e.FileMissing: 503,
    e.TooManyStreams: 503,
    e.TooManyUploads: 503,
    e.TooManyDownloads: 503,
    e.UploadLost: 503,
    e.QueueFull: 429,
    e.LimitReached: 429,
    e.Unauthorized: 401,
    e.Forbidden: 403,
    e.KeyNotFound: 404,
    e.KeyNeeded: 409,
    e.InvalidRequest: 422,
    e.UnknownMethod: 422,
    e.TooManyInstances: 422,
    e.WebhookSecretMissing: 422,
    e.IdempotencyKeyReused: 422,
    e.ModelNotFound: 404,
    e.AliasConflict: 412,
    e.AliasNeeded: 409,
    e.NothingToRollBack: 409,
    e.VersionInUse: 409,
    e.ScheduleNotFound: 404,
    e.ScheduleChanged: 412,
    e.JobNotFound: 404,
    e.JobGone: 410,
    e.JobFinished: 409,
    e.JobNotFinished: 409,
    e.ResultNotReady: 409,
    e.NoResult: 409,
    e.NotDoneInTime: 504,
    e.NothingToRetry: 409,
    e.DeliveryNotFound: 404,
    e.UnknownFile: 404,
    e.FileInUse: 409,
    e.InputGone: 410,
}
RETRY_AFTER_SECONDS: Final[Mapping[type[ServiceError], int]] = {
    e.StoreUnavailable: 2,
    e.StoreFull: 30,
    e.NewerSchema: 10,
    e.StorageFailed: 5,
    e.StorageFull: 30,
    e.FileMissing: 5,
    e.TooManyStreams: 5,
    e.TooManyUploads: 5,
    e.TooManyDownloads: 5,
    e.UploadLost: 1,
}
# Werkzeug's exceptions by status; others are `http_<status>`.
HTTP_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    404: "route_not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "body_too_slow",
    411: "length_required",
    413: "body_too_large",
    414: "query_too_long",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}
# The routes that make jobs.
SUBMITTING: Final = frozenset(
    {
        *("jobs.create", "jobs.predict", "jobs.retry", "artifacts.create", "training.retrain"),
        *("v2.infer", "v2.infer_of_version", "scoring.invocations", "openai_batches.create"),
    }
)


class RequestFault(Exception):
    """A fault of the HTTP request itself, that nothing below the API would know."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: tuple[Mapping[str, Any], ...] = (),
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """A problem document (RFC 9457, section 3), which clients of a neighbour's protocol can read too where they ask."""
    METER.add(f"refusals_total {code}")
    if request and request.endpoint in SUBMITTING and "job_id" not in (extra or {}):  # which names one that goes on
        METER.add(f"jobs_refused_total {code}")
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": getattr(g, "request_id", ""),
        "errors": list(errors),
        **members(request.path if request else "", status, code, detail, errors),
        **(extra or {}),
    }
    return Response(orjson.dumps(body), status=status, content_type="application/problem+json")


def install(app: Flask) -> None:
    """Answer every error of every route with a problem document."""

    @app.errorhandler(ServiceError)
    def service_error(error: ServiceError) -> Response:
        status = STATUS.get(type(error))
        if status is None:
            return unexpected(error)
        response = problem(
            status, error.code, error.message,
            errors=error.errors if isinstance(error, InvalidRequest | LimitReached) else (),
            extra={"job_id": error.job_id} if isinstance(error, NotDoneInTime) else None,
        )  # fmt: skip
        if isinstance(error, NotDoneInTime):
            response.headers["Location"] = f"/jobs/{error.job_id}"
        wait = RETRY_AFTER_SECONDS.get(type(error))
        if isinstance(error, QueueFull | LimitReached):
            wait = error.retry_after_seconds
        if status == 401:
            # RFC 6750, section 3: what is wrong with a key that was sent is all that tells it from none.
            wrong = ', error="invalid_token"' if "Authorization" in request.headers else ""
            response.headers["WWW-Authenticate"] = f'Bearer realm="foretell"{wrong}'
        if wait is not None:
            response.headers["Retry-After"] = str(wait)
        if status >= 500:
            log.warning(
                "request.failed", code=error.code, method=request.method, path=request.path, request_id=g.request_id
            )
        return response

    @app.errorhandler(RequestFault)
    def request_fault(error: RequestFault) -> Response:
        response = problem(error.status, error.code, error.detail)
        if error.status == 408:
            response.headers["Connection"] = "close"  # RFC 9110, section 15.5.9
        return response

    @app.errorhandler(HTTPException)
    def http_exception(error: HTTPException) -> Response:
        status = error.code or 500
        detail = error.description or HTTPStatus(status).phrase
        match error:
            case RequestEntityTooLarge():
                most = app.config["MAX_CONTENT_LENGTH"]
                detail = f"The body is larger than the {most} bytes that are allowed; send fewer rows at a time."
            case MethodNotAllowed(valid_methods=methods) if methods:
                detail = f"{request.path} does not take {request.method}; it takes {', '.join(sorted(methods))}."
            case _ if status == 404:
                detail = f"There is nothing at {request.path}; /docs shows what there is."
        response = problem(status, HTTP_CODES.get(status, f"http_{status}"), detail)
        for name, value in error.get_headers():
            if name not in ("Content-Type", "Content-Length"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error(
            "request.crashed",
            method=request.method,
            path=request.path,
            request_id=getattr(g, "request_id", ""),
            exc_info=error,
        )
        return problem(
            500, "internal", "Something went wrong in the service; its log has the details under this request_id."
        )
