"""The routes of models and their versions."""

import orjson
from flask import Blueprint, Response

from api.documents import ModelDocument, ModelList, VersionDocument
from api.headers import json_response
from api.openapi import operation
from api.render import model_document, version_document
from api.services import Services


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("models", __name__)
    registry = services.registry

    @blueprint.get("/models")
    @operation("List models", tag="models", answers={200: ModelList})
    def list_models() -> Response:
        return json_response(
            orjson.dumps({"models": [model_document(registry.model(name)) for name in registry.names()]})
        )

    @blueprint.get("/models/<name>")
    @operation("Read a model: its aliases and versions", tag="models", answers={200: ModelDocument})
    def show(name: str) -> Response:
        model = registry.model(name)
        return json_response(orjson.dumps(model_document(model, services.residence.residents())))

    @blueprint.get("/models/<name>/versions/<int:version>")
    @operation(
        "Read a version: its signature, its training profile and where it comes from",
        tag="models",
        answers={200: VersionDocument},
    )
    def show_version(name: str, version: int) -> Response:
        manifest = registry.manifest(name, version, fresh=True)
        return json_response(orjson.dumps({"name": name} | version_document(manifest)))

    @blueprint.delete("/models/<name>")
    @operation(
        "Delete a model that no unfinished job needs: its versions, aliases, history, schedule and windows of drift",
        tag="models",
        answers={204: None},
    )
    def delete_model(name: str) -> Response:
        registry.delete_model(name)
        services.schedules.save(name)
        return Response(status=204)

    @blueprint.delete("/models/<name>/versions/<int:version>")
    @operation("Delete a version that no alias and no unfinished job needs", tag="models", answers={204: None})
    def delete_version(name: str, version: int) -> Response:
        registry.delete(name, version)
        services.schedules.save(name)  # it goes with the last version
        return Response(status=204)

    return blueprint
