"""The routes of keys: who may use the service, and for what."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from api.documents import KeyDocument, KeyList, NewKeyDocument
from api.headers import json_response
from api.openapi import operation
from api.services import Services
from api.wire import parse, read_json, whole_body
from shared.api_keys import ApiKey, Scope, Wish
from shared.errors import KeyNotFound
from shared.job import timestamp
from shared.owner import DEFAULT_OWNER

DAY_SECONDS = 86_400


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"name": "nightly scoring", "owner": "team-a", "scopes": ["jobs:read", "jobs:write"]}
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=100, description="what it is for; histories show it")]
    owner: Annotated[str, Field(description="whose jobs, files and models are worked with")] = DEFAULT_OWNER
    scopes: Annotated[list[str], Field(min_length=1, max_length=6, description=f"of {', '.join(Scope)}")]
    expires_in_seconds: Annotated[
        int | None, Field(ge=1, le=36_500 * DAY_SECONDS, description="by default it does not expire")
    ] = None
    limits: Annotated[dict[str, Any], Field(description="in place of the owner_ settings, by name; 0: no limit")] = {}


class RotationRequest(BaseModel):
    """How a key gets a new secret."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_seconds: Annotated[
        int, Field(ge=0, le=365 * DAY_SECONDS, description="how long the secret before stays valid too")
    ] = DAY_SECONDS


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("keys", __name__)
    api_keys = services.api_keys

    @blueprint.post("/keys")
    @operation(
        "Make a key; this answer alone shows it",
        tag="keys",
        scope=Scope.ADMIN,
        body=KeyRequest,
        answers={201: NewKeyDocument},
    )
    def create() -> Response:
        wanted = parse(KeyRequest, read_json(request))
        seconds = wanted.expires_in_seconds
        wish = Wish(
            name=wanted.name,
            owner=wanted.owner,
            scopes=wanted.scopes,
            lifetime=None if seconds is None else timedelta(seconds=seconds),
            limits=wanted.limits,
        )
        return _shown_once(*api_keys.create(wish), status=201)

    @blueprint.get("/keys")
    @operation("List keys without their secrets, newest first", tag="keys", scope=Scope.ADMIN, answers={200: KeyList})
    def list_keys() -> Response:
        return json_response(orjson.dumps({"keys": [key_document(key) for key in api_keys.all()]}))

    @blueprint.get("/keys/<key_id>")
    @operation("Read a key without its secret", tag="keys", scope=Scope.ADMIN, answers={200: KeyDocument})
    def show(key_id: str) -> Response:
        return json_response(orjson.dumps(key_document(api_keys.get(key_id))))

    @blueprint.post("/keys/<key_id>/rotate")
    @operation(
        "Give a key a new secret; this answer alone shows it",
        tag="keys",
        scope=Scope.ADMIN,
        body=RotationRequest,
        answers={200: NewKeyDocument},
        raises=(KeyNotFound,),
    )
    def rotate(key_id: str) -> Response:
        wanted = parse(RotationRequest, read_json(request)) if whole_body(request) else RotationRequest()
        return _shown_once(*api_keys.rotate(key_id, timedelta(seconds=wanted.overlap_seconds)), status=200)

    @blueprint.delete("/keys/<key_id>")
    @operation("Revoke a key; it stays in the list", tag="keys", scope=Scope.ADMIN, answers={204: None})
    def revoke(key_id: str) -> Response:
        api_keys.revoke(key_id)
        return Response(status=204)

    return blueprint


def key_document(key: ApiKey) -> dict[str, Any]:
    """A key on the wire."""
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": sorted(key.scopes),
        "limits": dict(key.limits),
        "state": key.state(datetime.now(UTC)),
        "created_at": timestamp(key.created_at),
        "expires_at": timestamp(key.expires_at),
        "last_used_at": timestamp(key.last_used_at),
        "revoked_at": timestamp(key.revoked_at),
        "previous_valid_until": timestamp(key.previous_until),
        "links": {"self": f"/keys/{key.id}", "rotate": f"/keys/{key.id}/rotate"},
    }


def _shown_once(key: ApiKey, token: str, *, status: int) -> Response:
    response = json_response(orjson.dumps(key_document(key) | {"key": token}), status)
    response.headers["Cache-Control"] = "no-store"
    if status == 201:
        response.headers["Location"] = f"/keys/{key.id}"
    return response
