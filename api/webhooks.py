"""The routes of webhooks: the secret that signs them, what was delivered, and once more; tests of a receiver."""

import re
from typing import Annotated, Any, Final

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from api.access import caller
from api.documents import DeliveryDetail, DeliveryPage, SecretDocument, WebhooksDocument
from api.errors import RequestFault
from api.headers import json_response
from api.openapi import operation
from api.parameters import Parameter, choice, made_of, whole
from api.query import limit_of, only_known_parameters
from api.services import Services
from api.submission import ring
from api.wire import parse, read_json
from shared.api_keys import Scope
from shared.delivery import TEST, Attempt, Delivery, DeliveryStatus, delivery_id
from shared.errors import DeliveryNotFound, StoreFull, WebhookSecretMissing
from shared.event import trial_event
from shared.job import timestamp
from shared.queue import WEBHOOKS
from shared.receiver import LONGEST_URL

LIST_PARAMETERS: Final = {
    "job_id": Parameter(text="only that of this job"),
    "status": Parameter(text="only deliveries with this status", schema=choice("", *DeliveryStatus)),
    "limit": Parameter(text="deliveries a page; 50 by default", schema=whole(1, 200)),
    "cursor": Parameter(text="the `next` of the page before", schema=made_of("([0-9]{1,15}:msg_[0-9a-f-]{1,40})?")),
}


class TestRequest(BaseModel):
    """A receiver to be tried."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"url": "https://example.com/foretell"}}
    )

    url: Annotated[str, Field(max_length=LONGEST_URL, description="where to")]


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("webhooks", __name__)
    _add_secret(blueprint, services)
    _add_reading(blueprint, services)
    _add_sending(blueprint, services)
    return blueprint


def _add_secret(blueprint: Blueprint, services: Services) -> None:
    @blueprint.post("/webhooks/secret")
    @operation(
        "Make the secret that signs your webhooks, or another one; this answer alone shows it",
        tag="webhooks",
        scope=Scope.JOBS_WRITE,
        answers={201: SecretDocument},
    )
    def rotate() -> Response:
        secret, about = services.webhooks.rotate_secret(caller().owner)
        document = {
            "secret": secret,
            "created_at": timestamp(about.created_at),
            "previous_valid_until": timestamp(about.previous_valid_until),
        }
        response = json_response(orjson.dumps(document), 201)
        response.headers["Cache-Control"] = "no-store"
        return response

    @blueprint.get("/webhooks")
    @operation(
        "What there is of your webhooks; never the secret",
        tag="webhooks",
        scope=Scope.JOBS_READ,
        answers={200: WebhooksDocument},
    )
    def overview() -> Response:
        there = services.webhooks.overview(caller().owner)
        secret = there.secret and {
            "created_at": timestamp(there.secret.created_at),
            "previous_valid_until": timestamp(there.secret.previous_valid_until),
        }
        links = {"self": "/webhooks", "deliveries": "/webhooks/deliveries"}
        body = {"secret": secret, "waiting": there.waiting, "ended": there.ended, "links": links}
        return json_response(orjson.dumps(body))


def _add_reading(blueprint: Blueprint, services: Services) -> None:
    @blueprint.get("/webhooks/deliveries")
    @operation(
        "List deliveries, newest first",
        tag="webhooks",
        scope=Scope.JOBS_READ,
        answers={200: DeliveryPage},
        query=LIST_PARAMETERS,
    )
    def list_deliveries() -> Response:
        wanted, job_id = list_filter(), request.args.get("job_id")
        if job_id is None:
            found, following = services.webhooks.page(caller().owner, **wanted)
        else:
            found, following = _of_job(services, job_id, wanted["status"]), None
        body = {"deliveries": [delivery_document(delivery) for delivery in found], "next": following}
        return json_response(orjson.dumps(body))

    @blueprint.get("/webhooks/deliveries/<delivery_id>")
    @operation(
        "Read a delivery, with what was sent and what came of each attempt",
        tag="webhooks",
        scope=Scope.JOBS_READ,
        answers={200: DeliveryDetail},
    )
    def show(delivery_id: str) -> Response:
        return detail_response(services.webhooks.get(caller().owner, delivery_id), 200)


def _add_sending(blueprint: Blueprint, services: Services) -> None:
    @blueprint.post("/webhooks/deliveries/<delivery_id>/redeliver")
    @operation(
        "Send a delivery once more, with the same id and payload",
        tag="webhooks",
        scope=Scope.JOBS_WRITE,
        answers={202: DeliveryDetail},
    )
    def redeliver(delivery_id: str) -> Response:
        if services.webhooks.redeliver(caller().owner, delivery_id):
            ring(services, WEBHOOKS)
        return detail_response(services.webhooks.get(caller().owner, delivery_id), 202)

    @blueprint.post("/webhooks/test")
    @operation(
        "Have an event of type webhook.test sent",
        tag="webhooks",
        scope=Scope.JOBS_WRITE,
        body=TestRequest,
        answers={202: DeliveryDetail},
        raises=(WebhookSecretMissing, StoreFull),
    )
    def test() -> Response:
        wanted, owner = parse(TestRequest, read_json(request)), caller().owner
        services.webhooks.check(owner, wanted.url, "/url")
        made, call = services.webhooks.put(owner, wanted.url, TEST, orjson.dumps(trial_event()))
        if call:
            ring(services, WEBHOOKS)
        return detail_response(services.webhooks.get(owner, made), 202)


def _of_job(services: Services, job_id: str, status: str) -> list[Delivery]:
    try:
        found = services.webhooks.get(caller().owner, delivery_id(job_id))
    except DeliveryNotFound:
        return []
    return [found] if status in ("", found.status) else []


def list_filter() -> dict[str, Any]:
    """The query of `GET /webhooks/deliveries`, but for the job.

    Raises:
        RequestFault: a parameter is not allowed.
    """
    arguments = request.args
    status, cursor = arguments.get("status", ""), arguments.get("cursor", "")
    only_known_parameters(*LIST_PARAMETERS)
    limit = limit_of(50, 200)
    if status and status not in list(DeliveryStatus):
        known = ", ".join(DeliveryStatus)
        raise RequestFault(400, "bad_parameter", f"status must be one of {known}, not {status[:20]}.")
    if cursor and not re.fullmatch(r"[0-9]{1,15}:msg_[0-9a-f-]{1,40}", cursor):
        raise RequestFault(400, "bad_parameter", "cursor must be the `next` of an earlier page.")
    return {"limit": limit, "status": status, "cursor": cursor}


def detail_response(delivery: Delivery, status: int) -> Response:
    """A delivery with its payload and its log."""
    document = delivery_document(delivery) | {
        "payload": None if delivery.payload is None else orjson.Fragment(delivery.payload),
        "log": [attempt_document(attempt) for attempt in delivery.log],
    }
    response = json_response(orjson.dumps(document), status)
    if status == 202:
        response.headers["Location"] = f"/webhooks/deliveries/{delivery.id}"
    return response


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """A delivery as lists show it."""
    here = f"/webhooks/deliveries/{delivery.id}"
    links = {"self": here, "redeliver": f"{here}/redeliver"}
    if delivery.job_id is not None:
        links["job"] = f"/jobs/{delivery.job_id}"
    return {
        "id": delivery.id,
        "type": delivery.type,
        "job_id": delivery.job_id,
        "url": delivery.url,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "created_at": timestamp(delivery.created_at),
        "next_attempt_at": timestamp(delivery.next_attempt_at),
        "ended_at": timestamp(delivery.ended_at),
        "links": links,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """An attempt on the wire."""
    return {
        "attempt": attempt.attempt,
        "at": timestamp(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "milliseconds": attempt.milliseconds,
    }
