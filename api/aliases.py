"""The routes of aliases: where they point, their moves, and the way back."""

from typing import Annotated, Final

import orjson
from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ConfigDict, Field

from api.documents import AliasDocument, AliasHistoryDocument
from api.headers import expected_revisions, json_response
from api.openapi import operation
from api.render import alias_document, move_document
from api.services import Services
from api.wire import parse, read_json
from shared.aliases import ANY, PRODUCTION, AliasState, Move
from shared.errors import AliasConflict, ModelNotFound
from shared.registry import Registry

# How an alias is moved over HTTP stands in its history so.
WHO: Final = "http"
MOST_SHOWN: Final = 100
Why = Annotated[str, Field(max_length=500, description="for the history of the alias")]


class AliasRequest(BaseModel):
    """Where an alias shall point."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"version": 3, "why": "better on last week's rows"}}
    )

    version: Annotated[int, Field(ge=1, lt=10**9)]
    why: Why = ""


class RollbackRequest(BaseModel):
    """Why production goes back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    why: Why = ""


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("aliases", __name__)
    registry = services.registry

    @blueprint.get("/models/<name>/aliases/<alias>")
    @operation("Read an alias and its moves", tag="models", answers={200: AliasHistoryDocument})
    def show(name: str, alias: str) -> Response:
        state = registry.alias(name, alias)
        moves = [move_document(entry) for entry in registry.history(name, alias)[:MOST_SHOWN]]
        return _response(name, state, history=moves)

    @blueprint.put("/models/<name>/aliases/<alias>")
    @operation(
        "Point an alias at a version; it is made if there is none",
        tag="models",
        body=AliasRequest,
        answers={200: AliasDocument},
        headers=("If-Match",),
    )
    def put(name: str, alias: str) -> Response:
        wanted = parse(AliasRequest, read_json(request))
        move = Move(alias=alias, version=wanted.version, expected=ANY, who=WHO, why=wanted.why, details=_origin())
        return _response(name, registry.move(name, move, revision=_revision(registry, name, alias)))

    @blueprint.delete("/models/<name>/aliases/<alias>")
    @operation("Remove an alias; not production", tag="models", answers={204: None}, headers=("If-Match",))
    def delete(name: str, alias: str) -> Response:
        revision = _revision(registry, name, alias)
        registry.unalias(name, alias, who=WHO, why="removed", revision=revision, details=_origin())
        return Response(status=204)

    @blueprint.post("/models/<name>/rollback")
    @operation(
        "Point production back at the version before; twice goes two versions back",
        tag="models",
        body=RollbackRequest,
        answers={200: AliasDocument},
        headers=("If-Match",),
    )
    def rollback(name: str) -> Response:
        wanted = parse(RollbackRequest, read_json(request)) if request.get_data() else RollbackRequest()
        revision = _revision(registry, name, PRODUCTION)
        state = registry.rollback(name, who=WHO, why=wanted.why, revision=revision, details=_origin())
        return _response(name, state)

    return blueprint


def _origin() -> dict[str, str]:
    """The HTTP request, as the history names it."""
    return {"request_id": g.request_id}


def _revision(registry: Registry, name: str, alias: str) -> int | None:
    """The revision that an alias must still have when it moves; None without If-Match, or for any.

    Raises:
        AliasConflict: it has none of those that If-Match names.
        StoreUnavailable
    """
    named = expected_revisions(request)
    if named is None:
        return None
    try:
        state = registry.alias(name, alias)
    except ModelNotFound as error:
        registry.model(name)  # it may be the model that is missing
        raise AliasConflict(f"{alias} of {name} does not exist, so If-Match cannot hold.") from error
    if named == "*":
        return None
    if state.revision not in named:
        raise AliasConflict(
            f"{alias} of {name} was moved meanwhile: it points to {state.version} now, "
            f'and its ETag is "{state.revision}". Read it again, and decide anew.',
            version=state.version,
            revision=state.revision,
        )
    return state.revision


def _response(name: str, state: AliasState, **more: object) -> Response:
    """An alias with its ETag."""
    response = json_response(orjson.dumps(alias_document(name, state) | more))
    response.headers["ETag"] = f'"{state.revision}"'
    return response
