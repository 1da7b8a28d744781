"""What browsers are told: a strict policy on every answer, and nothing to pages of other origins unless it is set."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.browsers import told
from api.headers import EXPOSED, TAKEN
from shared.errors import BadSetting
from shared.settings import load_settings
from tests.contract.conftest import MakeApp
from tests.contract.test_error_shape import ROUTES

PAGE = "https://app.example.com"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
UNSAFE = ("unsafe-inline", "unsafe-eval", "*", "http:", "https:", "data: 'self'")


@pytest.fixture(scope="module")
def shared_app(make_app: MakeApp) -> Flask:
    """An API that pages of one origin may use."""
    return make_app(cors_origins=f"{PAGE} http://localhost:3000")


@pytest.mark.parametrize("name", ROUTES)
def test_every_answer_tells_browsers_to_keep_to_it(client: FlaskClient, name: str) -> None:
    method, path, body, _ = ROUTES[name]

    headers = client.open(path, method=method, json=body).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert not any(source in policy for source in UNSAFE)
    assert "Cache-Control" in headers
    assert not [header for header in headers.keys() if header.startswith("Access-Control")]  # noqa: SIM118


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_a_page_that_is_asked_for_again_keeps_its_policy(client: FlaskClient, path: str) -> None:
    tag = client.get(path).headers["ETag"]

    again = client.get(path, headers={"If-None-Match": tag})

    # A browser would take a policy of this answer for that of the page that it kept.
    assert again.status_code == 304
    assert "Content-Security-Policy" not in again.headers
    assert again.headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_may_use_what_is_ours_and_nothing_else(client: FlaskClient) -> None:
    policy = client.get("/docs/").headers["Content-Security-Policy"]

    assert dict(part.strip().split(" ", 1) for part in policy.split(";")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], "no-store", id="anything"),
        pytest.param([("ETag", '"1"')], "private, no-cache", id="with-a-tag"),
        pytest.param([("etag", '"1"')], "private, no-cache", id="in-any-case"),
        pytest.param([("Cache-Control", "public, max-age=3600")], None, id="said-already"),
    ],
)
def test_what_may_be_kept_is_said_once(headers: list[tuple[str, str]], expected: str | None) -> None:
    assert dict(told(headers)).get("Cache-Control") == expected


def test_without_the_setting_a_preflight_is_given_no_permission(client: FlaskClient) -> None:
    answer = client.options("/jobs", headers=PREFLIGHT)

    assert not [header for header in answer.headers.keys() if header.startswith("Access-Control")]  # noqa: SIM118


def test_a_page_of_an_allowed_origin_may_send_what_clients_send(shared_app: Flask) -> None:
    answer = shared_app.test_client().options("/jobs", headers=PREFLIGHT)

    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"GET", "POST", "PUT", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert answer.headers["Access-Control-Allow-Headers"].split(", ") == list(TAKEN)
    assert "Authorization" in TAKEN
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/version", "/nothing", "/jobs/j1"])
def test_a_page_of_an_allowed_origin_may_read_answers_and_errors(shared_app: Flask, path: str) -> None:
    answer = shared_app.test_client().get(path, headers={"Origin": PAGE})

    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Expose-Headers"].split(", ") == list(EXPOSED)
    assert {"Location", "ETag", "Retry-After", "Link", "RateLimit", "RateLimit-Policy"} <= set(EXPOSED)
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-page"),
        pytest.param({"Origin": "https://evil.example"}, id="another"),
        pytest.param({"Origin": f"{PAGE}.evil.example"}, id="one-that-begins-so"),
        pytest.param({"Origin": f"{PAGE}:444"}, id="another-port"),
        pytest.param({"Origin": "http://app.example.com"}, id="another-scheme"),
        pytest.param({"Origin": "null"}, id="null"),
    ],
)
def test_pages_of_other_origins_may_not(shared_app: Flask, headers: dict[str, str]) -> None:
    client = shared_app.test_client()

    for answer in (client.get("/version", headers=headers), client.options("/jobs", headers=PREFLIGHT | headers)):
        if "Origin" in headers or answer.request.method == "GET":
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Origin" in answer.headers["Vary"]


def test_any_origin_may_be_allowed(make_app: MakeApp) -> None:
    client = make_app(cors_origins="*").test_client()

    answer = client.get("/version", headers={"Origin": "https://whoever.example"})

    assert answer.headers["Access-Control-Allow-Origin"] == "https://whoever.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origins",
    ["app.example.com", "https://app.example.com/", "https://App.example.com", "https://*.example.com", "null"],
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(BadSetting, match="is no origin"):
        load_settings({"FORETELL_CORS_ORIGINS": origins})
