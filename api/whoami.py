"""The route that tells a client whom the service takes it for, and so what it may do."""

from typing import Any

import orjson
from flask import Blueprint, Response, g, request
from pydantic import BaseModel

from api.access import PUBLIC, Caller
from api.headers import json_response
from api.openapi import operation
from api.services import Services
from shared.api_keys import Scope
from shared.errors import Forbidden, StoreUnavailable, Unauthorized


class WhoamiDocument(BaseModel):
    """Whose key was sent; `owner` is null without a valid one, and `key_id` also while the service needs none."""

    owner: str | None
    key_id: str | None
    scopes: list[Scope]


def routes(services: Services) -> Blueprint:
    """The blueprint; `services` are of no use to it."""
    del services
    blueprint = Blueprint("whoami", __name__)

    @blueprint.get("/whoami")
    @operation(
        "Whose key this is, and what it may do",
        tag="operations",
        scope=PUBLIC,
        answers={200: WhoamiDocument},
        raises=(Forbidden, StoreUnavailable),
    )
    def whoami() -> Response:
        try:
            found: Caller | None = g.gate.identify(request)
        except Unauthorized:
            found = None
        return json_response(orjson.dumps(whoami_document(found)))

    return blueprint


def whoami_document(who: Caller | None) -> dict[str, Any]:
    """A caller as clients read it; None for somebody without a valid key."""
    if who is None:
        return {"owner": None, "key_id": None, "scopes": []}
    return {"owner": who.owner, "key_id": who.key_id, "scopes": sorted(who.scopes)}
