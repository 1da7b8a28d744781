"""The routes of operators: health, readiness, version."""

import platform
from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, redirect
from redis.exceptions import RedisError
from werkzeug.wrappers import Response as BaseResponse

from api.errors import problem
from api.headers import json_response
from api.openapi import operation
from api.services import Services
from shared import __version__
from shared.errors import ServiceError
from shared.heartbeat import SCHEDULER, living
from shared.queue import SERVED


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("operations", __name__)

    @blueprint.get("/")
    def home() -> BaseResponse:
        return redirect("/docs/")  # werkzeug's Response, which Flask takes

    @blueprint.get("/healthz")
    @operation("Whether this process answers", tag="operations", answers={200: dict})
    def healthz() -> Response:
        return json_response(b'{"status":"ok"}')

    @blueprint.get("/readyz")
    @operation("Whether jobs can be done: Redis, storage, workers, scheduler", tag="operations", answers={200: dict})
    def readyz() -> Response:
        redis = state(lambda: services.store.check_room())
        checks = {"redis": redis, "storage": state(services.storage.check)}
        if redis["ready"]:
            checks |= {f"workers_{queue}": alive(services, queue) for queue in SERVED}
            checks["scheduler"] = alive(services, SCHEDULER)
        ready = all(check["ready"] for check in checks.values())
        if ready:
            return json_response(orjson.dumps({"ready": True, "checks": checks}))
        missing = ", ".join(name for name, check in checks.items() if not check["ready"])
        detail = f"Not ready: {missing}. Jobs that were accepted are kept, and done when it is back."
        response = problem(503, "not_ready", detail, extra={"ready": False, "checks": checks})
        response.headers["Retry-After"] = "2"
        return response

    @blueprint.get("/version")
    @operation("Which version this is", tag="operations", answers={200: dict})
    def version() -> Response:
        return json_response(
            orjson.dumps({"name": "foretell", "version": __version__, "python": platform.python_version()})
        )

    return blueprint


def state(check: Callable[[], Any]) -> dict[str, Any]:
    """Whether a check passes, and its reason if not."""
    try:
        check()
    except ServiceError as error:
        return {"ready": False, "reason": error.message}
    except (RedisError, OSError):
        return {"ready": False, "reason": "Redis cannot be reached"}
    return {"ready": True}


def alive(services: Services, role: str) -> dict[str, Any]:
    """Whether somebody works for a role."""
    try:
        number = living(services.connections, services.keys, role)
    except (RedisError, OSError):
        return {"ready": False, "reason": "Redis cannot be reached"}
    return (
        {"ready": True, "alive": number}
        if number
        else {"ready": False, "alive": 0, "reason": "no process of it was heard of lately"}
    )
