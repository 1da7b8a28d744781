"""The route of drift: how far the rows of a model's batch jobs were from its training data."""

import re

import orjson
from flask import Blueprint, Response, request

from api.documents import DriftDocument
from api.errors import RequestFault
from api.headers import json_response
from api.openapi import operation
from api.query import only_known_parameters
from api.services import Services
from shared.drift import MOST_WINDOWS


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("drift", __name__)

    @blueprint.get("/models/<name>/drift")
    @operation(
        "See how far the rows of a model's batch jobs were from its training data",
        tag="models",
        answers={200: DriftDocument},
        query={"limit": f"windows, newest first, 1 to {MOST_WINDOWS}; 20 by default"},
    )
    def show(name: str) -> Response:
        most = limit()
        services.registry.model(name)  # which says so if there is none
        return json_response(
            orjson.dumps(
                {
                    "model": name,
                    "threshold": services.settings.drift_threshold,
                    "windows": services.drift.windows(name, most),
                }
            )
        )

    return blueprint


def limit() -> int:
    """How many windows are wanted.

    Raises:
        RequestFault: another number, or another parameter.
    """
    only_known_parameters("limit")
    given = request.args.get("limit", "20")
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= MOST_WINDOWS:
        raise RequestFault(
            400, "bad_parameter", f"limit must be a whole number from 1 to {MOST_WINDOWS}, not {given[:20]}."
        )
    return int(given)
