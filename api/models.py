"""The routes of models."""

import orjson
from flask import Blueprint, Response

from api.headers import json_response
from api.openapi import operation
from api.render import model_document, version_document
from api.services import Services


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("models", __name__)
    registry = services.registry

    @blueprint.get("/models")
    @operation("List models", tag="models", answers={200: dict})
    def list_models() -> Response:
        return json_response(
            orjson.dumps({"models": [model_document(registry.model(name)) for name in registry.names()]})
        )

    @blueprint.get("/models/<name>")
    @operation("Read a model: its aliases and versions", tag="models", answers={200: dict})
    def show(name: str) -> Response:
        return json_response(orjson.dumps(model_document(registry.model(name))))

    @blueprint.get("/models/<name>/versions/<int:version>")
    @operation("Read a version: its signature and where it comes from", tag="models", answers={200: dict})
    def show_version(name: str, version: int) -> Response:
        return json_response(orjson.dumps({"name": name} | version_document(registry.manifest(name, version))))

    return blueprint
