"""The routes of models and their versions."""

import orjson
from flask import Blueprint, Response

from api.access import caller
from api.changes import check_change, is_own
from api.documents import ModelDocument, ModelList, VersionDocument
from api.headers import json_response
from api.openapi import operation
from api.render import model_document, version_document
from api.services import Services
from shared.api_keys import Scope
from shared.errors import StorageFailed, VersionInUse


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("models", __name__)
    registry = services.registry

    @blueprint.get("/models")
    @operation("List models", tag="models", scope=Scope.MODELS_READ, answers={200: ModelList})
    def list_models() -> Response:
        models = map(registry.model, registry.names())
        shown = [model_document(model, own=is_own(caller(), model.owner)) for model in models]
        return json_response(orjson.dumps({"models": shown}))

    @blueprint.get("/models/<name>")
    @operation(
        "Read a model: its aliases and versions", tag="models", scope=Scope.MODELS_READ, answers={200: ModelDocument}
    )
    def show(name: str) -> Response:
        model = registry.model(name)
        document = model_document(model, services.residence.residents(), own=is_own(caller(), model.owner))
        return json_response(orjson.dumps(document | {"scheduled": services.schedules.exists(name)}))

    @blueprint.get("/models/<name>/versions/<int:version>")
    @operation(
        "Read a version: its signature, its training profile and where it comes from",
        tag="models",
        scope=Scope.MODELS_READ,
        answers={200: VersionDocument},
    )
    def show_version(name: str, version: int) -> Response:
        manifest = registry.manifest(name, version, fresh=True)
        _, owner = registry.owner(name)
        document = version_document(manifest, own=is_own(caller(), owner))
        return json_response(orjson.dumps({"name": name} | document))

    @blueprint.delete("/models/<name>")
    @operation(
        "Delete a model that no unfinished job needs: its versions, aliases, history, schedule and windows of drift",
        tag="models",
        scope=Scope.MODELS_WRITE,
        answers={204: None},
        raises=(VersionInUse, StorageFailed),
    )
    def delete_model(name: str) -> Response:
        check_change(registry, caller(), name)
        registry.delete_model(name, told=caller().owner)
        services.schedules.save(name)
        return Response(status=204)

    @blueprint.delete("/models/<name>/versions/<int:version>")
    @operation(
        "Delete a version that no alias and no unfinished job needs",
        tag="models",
        scope=Scope.MODELS_WRITE,
        answers={204: None},
        raises=(VersionInUse, StorageFailed),
    )
    def delete_version(name: str, version: int) -> Response:
        check_change(registry, caller(), name)
        registry.delete(name, version, told=caller().owner)
        services.schedules.save(name)  # it goes with the last version
        return Response(status=204)

    return blueprint
