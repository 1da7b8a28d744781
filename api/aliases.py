"""The routes of aliases: where they point, their moves, and the way back."""

from typing import Annotated, Final

import orjson
from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ConfigDict, Field

from api.access import caller
from api.changes import check_change
from api.documents import AliasDocument, AliasHistoryDocument
from api.headers import expected_revisions, json_response
from api.openapi import operation
from api.render import alias_document, move_document
from api.services import Services
from api.wire import parse, read_json, whole_body
from shared.aliases import ANY, PRODUCTION, AliasState, Move
from shared.api_keys import Scope
from shared.errors import AliasConflict, AliasNeeded, ModelNotFound, NothingToRollBack, StoreFull
from shared.registry import Registry

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
    @operation(
        "Read an alias and its moves", tag="models", scope=Scope.MODELS_READ, answers={200: AliasHistoryDocument}
    )
    def show(name: str, alias: str) -> Response:
        state = registry.alias(name, alias)
        moves = [move_document(entry) for entry in registry.history(name, alias)[:MOST_SHOWN]]
        return _response(name, state, history=moves)

    @blueprint.put("/models/<name>/aliases/<alias>")
    @operation(
        "Point an alias at a version; it is made if there is none",
        tag="models",
        scope=Scope.MODELS_WRITE,
        body=AliasRequest,
        answers={200: AliasDocument},
        headers=("If-Match",),
        raises=(StoreFull,),
    )
    def put(name: str, alias: str) -> Response:
        wanted = parse(AliasRequest, read_json(request))
        check_change(registry, caller(), name)
        move = Move(
            alias=alias, version=wanted.version, expected=ANY, who=caller().who, why=wanted.why, details=_origin()
        )
        return _response(name, registry.move(name, move, revision=_revision(registry, name, alias)))

    @blueprint.delete("/models/<name>/aliases/<alias>")
    @operation(
        "Remove an alias; not production",
        tag="models",
        scope=Scope.MODELS_WRITE,
        answers={204: None},
        headers=("If-Match",),
        raises=(AliasNeeded,),
    )
    def delete(name: str, alias: str) -> Response:
        check_change(registry, caller(), name)
        revision = _revision(registry, name, alias)
        registry.unalias(name, alias, who=caller().who, why="removed", revision=revision, details=_origin())
        return Response(status=204)

    @blueprint.post("/models/<name>/rollback")
    @operation(
        "Point production back at the version before; twice goes two versions back",
        tag="models",
        scope=Scope.MODELS_WRITE,
        body=RollbackRequest,
        answers={200: AliasDocument},
        headers=("If-Match",),
        raises=(NothingToRollBack, StoreFull),
    )
    def rollback(name: str) -> Response:
        wanted = parse(RollbackRequest, read_json(request)) if whole_body(request) else RollbackRequest()
        check_change(registry, caller(), name)
        revision = _revision(registry, name, PRODUCTION)
        state = registry.rollback(name, who=caller().who, why=wanted.why, revision=revision, details=_origin())
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
