"""The route of drift: how far the rows of a model's batch jobs were from its training data."""

import orjson
from flask import Blueprint, Response

from api.documents import DriftDocument
from api.headers import json_response
from api.openapi import operation
from api.parameters import Parameter, whole
from api.query import limit_of, only_known_parameters
from api.services import Services
from shared.api_keys import Scope
from shared.drift import MOST_WINDOWS


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("drift", __name__)

    @blueprint.get("/models/<name>/drift")
    @operation(
        "See how far the rows of a model's batch jobs were from its training data",
        tag="models",
        scope=Scope.MODELS_READ,
        answers={200: DriftDocument},
        query={"limit": Parameter(text="windows, newest first; 20 by default", schema=whole(1, MOST_WINDOWS))},
    )
    def show(name: str) -> Response:
        only_known_parameters("limit")
        most = limit_of(20, MOST_WINDOWS)
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
