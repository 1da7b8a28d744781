"""The routes of operators: health, readiness, version."""

import platform
from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, redirect
from redis.exceptions import RedisError
from werkzeug.wrappers import Response as BaseResponse

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
    @operation(
        "Whether jobs can be done: Redis, storage, workers, scheduler", tag="operations", answers={200: dict, 503: dict}
    )
    def readyz() -> Response:
        checks = {
            "redis": state(services.connections.client.ping),
            "storage": state(services.storage.check),
            **{f"workers_{queue}": alive(services, queue) for queue in SERVED},
            "scheduler": alive(services, SCHEDULER),
        }
        ready = all(check["ready"] for check in checks.values())
        return json_response(orjson.dumps({"ready": ready, "checks": checks}), 200 if ready else 503)

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
