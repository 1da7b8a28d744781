"""Every error of every route is an RFC 9457 problem document with a request id."""

import io
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.access import public
from api.documents import ProblemDocument
from api.errors import HTTP_CODES, STATUS
from shared.errors import InvalidRequest, QueueFull, ServiceError, UnsafeArtifact
from tests.conftest import CaptureLogs
from tests.contract.conftest import MakeApp

JOB = {"model": "linear", "instances": [[1, 2, 3]]}
TRAINING = {"input": {"file_id": "f1"}, "target": "price"}
SCHEDULE = {"cron": "0 3 * * *", "input": {"file_id": "f1"}, "target": "price"}
BATCH = {"input_file_id": "f1", "endpoint": "/v1/predictions", "completion_window": "24h"}
TENSORS = {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}]}
# Method, path, JSON body, and whether the route needs the store.
ROUTES: dict[str, tuple[str, str, Any, bool]] = {
    "submit": ("POST", "/jobs", JOB, True),
    "validate": ("POST", "/jobs?validate_only=true", JOB, True),
    "predict": ("POST", "/predict", {"x1": 1}, True),
    "list-jobs": ("GET", "/jobs", None, True),
    "show-job": ("GET", "/jobs/j1", None, True),
    "cancel": ("POST", "/jobs/j1/cancel", None, True),
    "retry": ("POST", "/jobs/j1/retry", {"only": "all"}, True),
    "delete": ("DELETE", "/jobs/j1", None, True),
    "result": ("GET", "/jobs/j1/result", None, True),
    "errors": ("GET", "/jobs/j1/errors", None, True),
    "manifest": ("GET", "/jobs/j1/manifest", None, True),
    "send-file": ("POST", "/files", None, True),
    "show-file": ("GET", "/files/f1", None, True),
    "delete-file": ("DELETE", "/files/f1", None, True),
    "events": ("GET", "/jobs/j1/events", None, True),
    "list-models": ("GET", "/models", None, True),
    "show-model": ("GET", "/models/linear", None, True),
    "delete-model": ("DELETE", "/models/linear", None, True),
    "send-artifact": ("POST", "/models/linear/versions", None, True),
    "retrain": ("POST", "/models/linear/retrain", TRAINING, True),
    "show-version": ("GET", "/models/linear/versions/1", None, True),
    "delete-version": ("DELETE", "/models/linear/versions/1", None, True),
    "show-alias": ("GET", "/models/linear/aliases/production", None, True),
    "move-alias": ("PUT", "/models/linear/aliases/production", {"version": 1}, True),
    "delete-alias": ("DELETE", "/models/linear/aliases/production", None, True),
    "rollback": ("POST", "/models/linear/rollback", {"why": "worse"}, True),
    "drift": ("GET", "/models/linear/drift", None, True),
    "keep-schedule": ("PUT", "/models/linear/schedule", SCHEDULE, True),
    "show-schedule": ("GET", "/models/linear/schedule", None, True),
    "delete-schedule": ("DELETE", "/models/linear/schedule", None, True),
    "make-key": ("POST", "/keys", {"name": "k", "scopes": ["admin"]}, True),
    "list-keys": ("GET", "/keys", None, True),
    "show-key": ("GET", "/keys/k1", None, True),
    "rotate-key": ("POST", "/keys/k1/rotate", {"overlap_seconds": 0}, True),
    "revoke-key": ("DELETE", "/keys/k1", None, True),
    "limits": ("GET", "/limits", None, True),
    "overview": ("GET", "/overview", None, True),
    "metrics": ("GET", "/metrics", None, True),
    "webhooks": ("GET", "/webhooks", None, True),
    "webhook-secret": ("POST", "/webhooks/secret", None, True),
    "test-webhook": ("POST", "/webhooks/test", {"url": "https://example.com/"}, True),
    "deliveries": ("GET", "/webhooks/deliveries", None, True),
    "delivery": ("GET", "/webhooks/deliveries/msg_1", None, True),
    "redeliver": ("POST", "/webhooks/deliveries/msg_1/redeliver", None, True),
    "v2-model": ("GET", "/v2/models/linear", None, True),
    "v2-model-ready": ("GET", "/v2/models/linear/ready", None, True),
    "v2-infer": ("POST", "/v2/models/linear/infer", TENSORS, True),
    "v2-version": ("GET", "/v2/models/linear/versions/1", None, True),
    "v2-version-ready": ("GET", "/v2/models/linear/versions/1/ready", None, True),
    "v2-infer-by-version": ("POST", "/v2/models/linear/versions/1/infer", TENSORS, True),
    "v2-ready": ("GET", "/v2/health/ready", None, True),
    "v2-live": ("GET", "/v2/health/live", None, False),
    "v2-server": ("GET", "/v2", None, False),
    "invocations": ("POST", "/invocations", {"inputs": [[1, 2, 3]]}, True),
    "ping": ("GET", "/ping", None, True),
    "health": ("GET", "/health", None, True),
    "v1-send-file": ("POST", "/v1/files", None, True),
    "v1-files": ("GET", "/v1/files", None, True),
    "v1-file": ("GET", "/v1/files/f1", None, True),
    "v1-delete-file": ("DELETE", "/v1/files/f1", None, True),
    "v1-content": ("GET", "/v1/files/f1/content", None, True),
    "v1-batch": ("POST", "/v1/batches", BATCH, True),
    "v1-batches": ("GET", "/v1/batches", None, True),
    "v1-show-batch": ("GET", "/v1/batches/b1", None, True),
    "v1-cancel": ("POST", "/v1/batches/b1/cancel", None, True),
    "v1-models": ("GET", "/v1/models", None, True),
    "v1-model": ("GET", "/v1/models/linear", None, True),
    "ready": ("GET", "/readyz", None, True),
    "healthy": ("GET", "/healthz", None, False),
    "version": ("GET", "/version", None, False),
    "document": ("GET", "/openapi.json", None, False),
    "docs": ("GET", "/docs/", None, False),
    "docs-script": ("GET", "/docs/docs.js", None, False),
    "home": ("GET", "/", None, False),
    "dashboard-script": ("GET", "/dashboard/app.js", None, False),
    "whoami": ("GET", "/whoami", None, False),
}
NEEDING_THE_STORE = [
    pytest.param(method, path, body, id=name)
    for name, (method, path, body, needs) in ROUTES.items()
    # Readiness has an answer of its own, and a test below; so have files, which are no JSON.
    if needs and name not in ("ready", "v2-ready", "ping", "health", "send-file", "v1-send-file", "send-artifact")
]
WITHOUT_THE_STORE = [
    pytest.param(method, path, id=name) for name, (method, path, _, needs) in ROUTES.items() if not needs
]
NOT_TAKEN = [
    pytest.param(path, method, id=f"{method}-{name}")
    for name, (_, path, _, _) in ROUTES.items()
    for method in ("PUT", "PATCH", "TRACE", "BREW")
    if all((method, path) != (taken, other) for taken, other, _, _ in ROUTES.values())
]
TAKING_JSON = [
    pytest.param(method, path, id=name)
    for name, (method, path, body, _) in ROUTES.items()
    if method in ("POST", "PUT") and body
]
# Clients of the inference protocol send JSON without saying so.
TAKING_NOTHING_ELSE = [case for case in TAKING_JSON if not str(case.values[1]).startswith("/v2/")]


def check_problem(response: TestResponse, status: int, code: str | None = None) -> dict[str, Any]:
    """See that an answer is a problem document with this status; the document."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = orjson.loads(response.get_data())
    assert {name for name, field in ProblemDocument.model_fields.items() if field.is_required()} <= set(body)
    ProblemDocument.model_validate(body, strict=True)
    assert body["status"] == status
    assert body["detail"]
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", body["code"])
    assert body["request_id"] == response.headers["X-Request-Id"] != ""
    if status in (429, 503):
        assert 1 <= int(response.headers["Retry-After"]) <= 120
    if code is not None:
        assert body["code"] == code
    return body


def test_every_route_is_tried_below(app: Flask) -> None:
    adapter = app.url_map.bind("localhost")
    tried = {adapter.match(path.partition("?")[0], method)[0] for method, path, _, _ in ROUTES.values()}

    assert {rule.endpoint for rule in app.url_map.iter_rules()} <= tried


@pytest.mark.parametrize(("method", "path", "body"), NEEDING_THE_STORE)
def test_a_store_that_is_away_is_a_503_that_says_when_to_come_back(
    client: FlaskClient, method: str, path: str, body: Any
) -> None:
    response = client.open(path, method=method, json=body)

    check_problem(response, 503, "store_unavailable")


@pytest.mark.parametrize("path", ["/jobs?model=linear", "/files", "/models/linear/retrain?target=y"])
def test_a_file_that_comes_while_the_store_is_away_is_a_503(client: FlaskClient, path: str) -> None:
    response = client.post(path, data=b"x1,x2,x3\n1,2,3\n", content_type="text/csv")

    check_problem(response, 503, "store_unavailable")


def test_an_artifact_that_comes_while_the_store_is_away_is_a_503(client: FlaskClient) -> None:
    form = {"artifact": (io.BytesIO(b"PK"), "model.skops"), "sample": (io.BytesIO(b"x1\n1\n"), "rows.csv")}

    response = client.post("/models/linear/versions", data=form)

    check_problem(response, 503, "store_unavailable")


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready", "/ping", "/health"])
def test_a_service_that_is_not_ready_says_what_is_missing_and_when_to_come_back(client: FlaskClient, path: str) -> None:
    response = client.get(path)

    body = check_problem(response, 503)
    assert body["ready"] is False
    assert (body["checks"]["redis"]["ready"], body["checks"]["storage"]["ready"]) == (False, True)


def test_why_storage_is_not_ready_is_for_the_log_and_told_it_once(
    make_app: MakeApp, tmp_path: Path, capture_logs: CaptureLogs
) -> None:
    place = tmp_path / "private-name"
    app = make_app(storage=place.as_uri())
    place.touch()  # a file, where a folder should be

    with capture_logs() as logged:
        answers = [app.test_client().get("/readyz") for _ in range(2)]

    checks = [check_problem(answer, 503)["checks"]["storage"] for answer in answers]
    assert checks == 2 * [{"ready": False, "reason": "The file storage cannot be read or written."}]
    told = [line for line in logged if line["event"] == "readiness.failed" and line["check"] == "storage"]
    assert len(told) == 1
    assert told[0]["reason"] != checks[0]["reason"]


@pytest.mark.parametrize(("method", "path"), WITHOUT_THE_STORE)
def test_a_route_that_does_not_need_the_store_answers_without_it(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method, follow_redirects=True)

    assert response.status_code == 200
    assert response.headers["X-Request-Id"]


@pytest.mark.parametrize(("path", "method"), NOT_TAKEN)
def test_a_method_that_a_route_does_not_take_is_a_405_that_lists_those_it_takes(
    client: FlaskClient, path: str, method: str
) -> None:
    response = client.open(path, method=method)

    body = check_problem(response, 405, "method_not_allowed")
    assert method not in response.headers["Allow"]
    assert all(allowed in body["detail"] for allowed in response.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/nothing", id="unknown"),
        pytest.param("/jobs/j1/nothing", id="below-a-job"),
        pytest.param("/models/m/versions/three", id="version-in-words"),
        pytest.param("/models/m/versions/-1", id="negative-version"),
        pytest.param("/docs/nothing.css", id="below-the-docs"),
        pytest.param("/docs/../../etc/passwd", id="outside-the-docs"),
        pytest.param("/%ff", id="not-utf-8"),
        pytest.param("/" + "x" * 5000, id="long"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_a_404(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method)

    if path == "/docs/nothing.css" and method != "GET":
        check_problem(response, 405)
    else:
        check_problem(response, 404, "route_not_found")


@pytest.mark.parametrize(("method", "path"), TAKING_NOTHING_ELSE)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_media_type_is_a_415(client: FlaskClient, method: str, path: str, media_type: str) -> None:
    response = client.open(path, method=method, data=b"x=1", content_type=media_type)

    check_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(("method", "path"), TAKING_JSON)
@pytest.mark.parametrize("body", [b"{", b"[NaN]", b'["\xff"]'], ids=["cut-off", "nan", "not-utf-8"])
def test_malformed_json_is_a_400(client: FlaskClient, method: str, path: str, body: bytes) -> None:
    response = client.open(path, method=method, data=body, content_type="application/json")

    check_problem(response, 400, "malformed_json")


@pytest.mark.parametrize(("method", "path"), TAKING_JSON)
@pytest.mark.parametrize("body", [[], "x", 1, None], ids=["array", "string", "number", "null"])
def test_a_body_that_is_no_object_is_a_422(client: FlaskClient, method: str, path: str, body: Any) -> None:
    response = client.open(path, method=method, data=orjson.dumps(body), content_type="application/json")

    check_problem(response, 422, "invalid_request")


@pytest.mark.parametrize(("method", "path"), TAKING_JSON)
def test_a_body_past_the_limit_is_a_413_that_says_the_limit(make_app: MakeApp, method: str, path: str) -> None:
    client = make_app(max_body_bytes=100).test_client()

    response = client.open(path, method=method, data=b" " * 101, content_type="application/json")

    body = check_problem(response, 413, "body_too_large")
    assert "100 bytes" in body["detail"]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=0", id="limit"),
        pytest.param("status=done", id="status"),
        pytest.param("created_after=soon", id="time"),
        pytest.param("cursor=x", id="cursor"),
        pytest.param("colour=red", id="unknown"),
    ],
)
def test_a_query_that_is_not_allowed_is_a_400(client: FlaskClient, query: str) -> None:
    check_problem(client.get(f"/jobs?{query}"), 400)


@pytest.mark.parametrize("key", ["", "k" * 256], ids=["empty", "long"])
@pytest.mark.parametrize(("method", "path"), TAKING_JSON[:1])
def test_an_idempotency_key_that_is_not_allowed_is_a_400(client: FlaskClient, method: str, path: str, key: str) -> None:
    response = client.open(path, method=method, json=JOB, headers={"Idempotency-Key": key})

    check_problem(response, 400, "bad_idempotency_key")


@pytest.mark.parametrize("status", [*HTTP_CODES, 408, 429, 503])
def test_every_error_of_the_framework_is_answered_with_a_code(make_app: MakeApp, status: int) -> None:
    app = make_app()
    app.add_url_rule("/fail", view_func=public(lambda: abort(status, description="Because.")))

    response = app.test_client().get("/fail")

    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert (response.json or {})["code"] == HTTP_CODES.get(status, f"http_{status}")


@pytest.fixture
def failing(make_app: MakeApp) -> FlaskClient:
    """An application with a route that fails as its path says."""
    app = make_app()
    errors: dict[str, Exception] = {
        **{error.__name__: error() for error in STATUS},
        "crash": RuntimeError("the password is hunter2"),
        "unmapped": UnsafeArtifact("the password is hunter2"),
        "busy": QueueFull("10 jobs are waiting.", retry_after_seconds=7),
        "faulty": InvalidRequest("Row 2 is wrong.", errors=[{"row": 2, "code": "wrong", "message": "Row 2 is wrong."}]),
    }

    @app.get("/fail/<how>")
    @public
    def fail(how: str) -> str:
        raise errors[how]

    return app.test_client()


@pytest.mark.parametrize("error", [pytest.param(error, id=error.__name__) for error in STATUS])
def test_every_error_of_ours_is_answered_with_its_code_and_message(
    failing: FlaskClient, error: type[ServiceError]
) -> None:
    response = failing.get(f"/fail/{error.__name__}")

    body = check_problem(response, STATUS[error], error.code)
    assert body["detail"] == error().message


@pytest.mark.parametrize("how", ["crash", "unmapped"])
def test_what_nobody_expected_is_a_500_that_tells_nothing(failing: FlaskClient, how: str) -> None:
    response = failing.get(f"/fail/{how}")

    body = check_problem(response, 500, "internal")
    assert "hunter2" not in response.text
    assert body["errors"] == []


def test_a_full_lane_says_how_long_its_pace_takes(failing: FlaskClient) -> None:
    response = failing.get("/fail/busy")

    check_problem(response, 429, "queue_full")
    assert response.headers["Retry-After"] == "7"


def test_the_faults_of_a_request_are_listed(failing: FlaskClient) -> None:
    response = failing.get("/fail/faulty")

    body = check_problem(response, 422)
    assert body["errors"] == [{"row": 2, "code": "wrong", "message": "Row 2 is wrong."}]


@pytest.mark.parametrize("path", ["/jobs", "/nothing", "/healthz"])
def test_the_request_id_of_the_client_comes_back(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers={"X-Request-Id": "order-42"})

    assert response.headers["X-Request-Id"] == "order-42"
    assert response.status_code == 200 or (response.json or {})["request_id"] == "order-42"


def test_a_request_id_that_cannot_be_logged_is_replaced(client: FlaskClient) -> None:
    response = client.get("/healthz", headers={"X-Request-Id": 'x"} {"'})

    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-Id"])


def test_head_is_answered_like_get_without_a_body(client: FlaskClient) -> None:
    response = client.head("/jobs")

    assert (response.status_code, response.content_type, response.get_data()) == (503, "application/problem+json", b"")
    assert response.headers["Retry-After"]
