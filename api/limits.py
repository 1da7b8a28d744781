"""The route of limits: what the caller may use, and what it uses."""

from dataclasses import asdict

import orjson
from flask import Blueprint, Response, g

from api.access import Caller, caller
from api.documents import LimitsDocument
from api.headers import json_response
from api.openapi import operation
from api.quotas import Quota
from api.services import Services
from shared.api_keys import Scope


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("limits", __name__)

    @blueprint.get("/limits")
    @operation(
        "What the owner of the key may use, and what it uses",
        tag="operations",
        scope=Scope.JOBS_READ,
        answers={200: LimitsDocument},
    )
    def show() -> Response:
        who = caller()
        limits = asdict(who.limits)
        return json_response(orjson.dumps({"owner": who.owner, "limits": limits, "used": used(services, who)}))

    return blueprint


def used(services: Services, who: Caller) -> dict[str, int | None]:
    """What an owner uses, by the names of the limits; None for what is counted only while there is a limit.

    Raises:
        StoreUnavailable
    """
    requests: Quota | None = g.get("quotas", {}).get("requests")
    found = dict(services.usage.of(who.owner))
    sent = found.pop("upload_bytes_per_day")
    return {
        **found,
        "requests_per_second": None if requests is None else requests.most - requests.left,
        "upload_bytes_per_day": sent if who.limits.upload_bytes_per_day else None,
        "uploads": services.uploads.taken(who.owner),
        "waiters": services.waiters.waiting(who.owner),
        "event_streams": services.waiters.streams(who.owner),
        "models": services.registry.count_owned(who.owner),
    }
