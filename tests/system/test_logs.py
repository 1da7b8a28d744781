"""Logs: a request can be followed through API and worker, and no line holds what was sent."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import HOME, LINEAR
from tests.system.service import Service
from tests.wait import until


@pytest.fixture
def request_id() -> str:
    return f"order-{uuid.uuid4().hex}"


def line_of(service: Service, event: str, has: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The line of an event, once it is there."""
    return until(
        lambda: next((line for line in service.logged() if line.get("event") == event and has(line)), {}),
        what=f"{event} is logged",
    )


def test_a_request_id_comes_back(http: Http, request_id: str) -> None:
    answers = [http("GET", path, X_Request_Id=request_id) for path in ("/healthz", "/nothing")]

    assert [answer.headers["x-request-id"] for answer in answers] == [request_id, request_id]
    assert answers[1].json["request_id"] == request_id


@pytest.mark.parametrize("unfit", ["two words", "x" * 129, 'quote"', ""], ids=["space", "long", "quote", "empty"])
def test_a_request_id_that_is_unfit_for_a_log_is_replaced(http: Http, unfit: str) -> None:
    answer = http("GET", "/healthz", X_Request_Id=unfit)

    assert answer.headers["x-request-id"] not in ("", unfit)


def test_a_request_without_an_id_is_given_one_of_its_own(http: Http) -> None:
    given = {http("GET", "/healthz").headers["x-request-id"] for _ in range(5)}

    assert len(given) == 5


def test_the_api_logs_the_request_id_with_the_job(service: Service, request_id: str) -> None:
    job_id = service.http("POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, X_Request_Id=request_id).json[
        "id"
    ]

    line = line_of(service, "job.accepted", lambda line: bool(line["job_id"] == job_id))

    assert (line["process"], line["request_id"]) == ("api", request_id)


def test_the_worker_logs_the_request_id_with_the_job(service: Service, request_id: str) -> None:
    job_id = service.http("POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, X_Request_Id=request_id).json[
        "id"
    ]

    line = line_of(service, "unit.committed", lambda line: job_id in line.get("job_ids", ()))

    assert line["process"] == "worker"
    assert (job_id, request_id) in zip(line["job_ids"], line["request_ids"], strict=True)


def test_a_refused_request_is_logged_with_its_id(service: Service, request_id: str) -> None:
    service.http("POST", "/jobs", {"model": "linear"}, X_Request_Id=request_id)

    line = line_of(service, "request.refused", lambda line: bool(line["request_id"] == request_id))

    assert (line["status"], line["path"]) == (422, "/jobs")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(lambda secret: {"model": "support", "instances": [secret]}, 200, id="predicted"),
        pytest.param(lambda secret: {"model": "linear", "instances": [[1, 2, secret]]}, 422, id="a-wrong-value"),
        pytest.param(lambda secret: {"model": "linear", "instances": [{secret: 1}]}, 422, id="a-wrong-column"),
        pytest.param(lambda secret: {"model": "linear", secret: []}, 422, id="an-unknown-field"),
        pytest.param(
            lambda secret: {"model": "linear", "instances": [LINEAR], "metadata": {"note": secret}}, 200, id="metadata"
        ),
        pytest.param(
            lambda secret: {"model": "home", "instances": [HOME | {"heating_mode": secret}]},
            200,
            id="refused-by-the-model",
        ),
        pytest.param(lambda secret: {"model": "lookup", "instances": [secret]}, 200, id="quoted-by-the-models-error"),
    ],
)
def test_no_line_holds_a_value_that_was_sent(
    service: Service, request_id: str, body: Callable[[str], dict[str, Any]], status: int
) -> None:
    secret = f"confidential{uuid.uuid4().hex}"

    answer = service.http("POST", "/jobs", body(secret), Prefer="wait=30", X_Request_Id=request_id)

    assert answer.status == status
    # By then everything about the request has been written.
    until(
        lambda: any(
            request_id in (line.get("request_id"), *line.get("request_ids", ()))
            and line["event"] in ("unit.committed", "request.refused")
            for line in service.logged()
        ),
        what="the end of the request is logged",
    )
    assert secret not in service.process.text()


def test_no_line_holds_a_body_that_could_not_be_read(service: Service, request_id: str) -> None:
    secret = f"confidential{uuid.uuid4().hex}"

    service.http(
        "POST", "/jobs", raw=f'{{"text": "{secret}'.encode(), Content_Type="application/json", X_Request_Id=request_id
    )

    line_of(service, "request.refused", lambda line: bool(line["request_id"] == request_id))
    assert secret not in service.process.text()


def test_no_line_holds_an_idempotency_key(service: Service, request_id: str) -> None:
    key = f"confidential{uuid.uuid4().hex}"

    service.http(
        "POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, Idempotency_Key=key, X_Request_Id=request_id
    )

    line_of(service, "job.accepted", lambda line: bool(line["request_id"] == request_id))
    assert key not in service.process.text()
