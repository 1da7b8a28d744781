"""The routes of operators: health, readiness, version."""

import platform
from typing import Any

import orjson
from flask import Blueprint, Response

from api.access import PUBLIC
from api.errors import problem
from api.headers import json_response
from api.openapi import operation
from api.services import Services
from shared import __version__
from shared.errors import StoreUnavailable


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("operations", __name__)

    @blueprint.get("/healthz")
    @operation("Whether this process answers", tag="operations", scope=PUBLIC, answers={200: dict})
    def healthz() -> Response:
        return json_response(b'{"status":"ok"}')

    @blueprint.get("/readyz")
    @operation(
        "Whether jobs can be done: Redis, storage, workers, scheduler",
        tag="operations",
        scope=PUBLIC,
        answers={200: dict},
        raises=(StoreUnavailable,),
    )
    def readyz() -> Response:
        checks = services.readiness.checked()
        return refused(checks) or json_response(orjson.dumps({"ready": True, "checks": checks}))

    @blueprint.get("/version")
    @operation("Which version this is", tag="operations", scope=PUBLIC, answers={200: dict})
    def version() -> Response:
        return json_response(
            orjson.dumps({"name": "foretell", "version": __version__, "python": platform.python_version()})
        )

    return blueprint


def refused(checks: dict[str, Any]) -> Response | None:
    """Why jobs cannot be done, in words; None if they can."""
    if "process" in checks:
        return not_ready("stopping", "This process stops; others go on.", checks)
    missing = ", ".join(name for name, check in checks.items() if not check["ready"])
    detail = f"Not ready: {missing}. Jobs that were accepted are kept, and done when it is back."
    return not_ready("not_ready", detail, checks) if missing else None


def not_ready(code: str, detail: str, checks: dict[str, Any]) -> Response:
    """Why no request should be sent here."""
    response = problem(503, code, detail, extra={"ready": False, "checks": checks})
    response.headers["Retry-After"] = "2"
    return response
