"""Without keys the service is for programs of this machine, not for web pages that somebody visits on it."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.contract.conftest import MakeApp

# With Redis away a request that is let in is answered 503.
LET_IN, REFUSED = 503, 403
JOB = {"model": "linear", "instances": [[1, 2, 3]]}


def asked(client: FlaskClient, method: str = "GET", **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open("/jobs", method=method, json=JOB if method == "POST" else None, headers=sent)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:8000", "127.8.8.8:1", "[::1]", "[::1]:8000", "LOCALHOST:1"],
)
def test_every_name_of_this_machine_is_answered(client: FlaskClient, host: str) -> None:
    assert asked(client, Host=host).status_code == LET_IN


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("evil.example", id="a-name"),
        pytest.param("evil.example:8000", id="with-a-port"),
        pytest.param("127.0.0.1.evil.example", id="that-begins-like-us"),
        pytest.param("localhost.evil.example", id="that-begins-like-localhost"),
        pytest.param("evil-localhost", id="that-ends-like-localhost"),
        pytest.param("192.168.1.7:8000", id="an-address-of-the-network"),
        pytest.param("169.254.169.254", id="that-of-metadata"),
        pytest.param("0.0.0.0:8000", id="the-address-of-all"),
        pytest.param("2130706433", id="a-number"),
        pytest.param("[::]", id="all-of-ipv6"),
        pytest.param("[::1", id="no-address"),
        pytest.param("[localhost]", id="no-address-in-brackets"),
        pytest.param("localhost@evil.example", id="with-a-user"),
        pytest.param("evil.example/localhost", id="with-a-path"),
        pytest.param("", id="none"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_name_is_refused_as_after_dns_rebinding(client: FlaskClient, method: str, host: str) -> None:
    path = "/jobs/j1" if method == "DELETE" else "/jobs"

    response = client.open(path, method=method, json=JOB if method == "POST" else None, headers={"Host": host})

    assert response.status_code == REFUSED, response.text
    assert (response.json or {})["code"] == "forbidden"
    assert "keys create" in response.text


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("https://evil.example", id="another-site"),
        pytest.param("http://localhost:3000", id="another-port"),
        pytest.param("http://127.0.0.1:8000", id="another-name-of-this-machine"),
        pytest.param("null", id="a-sandbox-or-a-file"),
        pytest.param("http://localhost:8000.evil.example", id="that-begins-like-us"),
        pytest.param("http://[", id="nonsense"),
        pytest.param("", id="nothing"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_another_origin_is_refused(client: FlaskClient, method: str, origin: str) -> None:
    response = asked(client, method, Host="localhost:8000", Origin=origin)

    assert response.status_code == REFUSED
    assert (response.json or {})["detail"] == "Without keys the service does not answer to pages of other origins."


@pytest.mark.parametrize("header", [{"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}])
def test_who_comes_through_a_proxy_is_not_on_this_machine(client: FlaskClient, header: dict[str, str]) -> None:
    response = client.get("/jobs", headers={"Host": "localhost:8000"} | header)

    assert response.status_code == REFUSED
    assert "through a proxy" in response.text


@pytest.mark.parametrize("name", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_our_own_pages_and_programs_are_answered(client: FlaskClient, name: str) -> None:
    assert asked(client, "POST", Host=name, Origin=f"http://{name}").status_code == LET_IN
    assert asked(client, "POST", Host=name).status_code == LET_IN


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"model": "linear"}\r\n--b--\r\n',
            id="multipart",
        ),
        pytest.param("application/x-www-form-urlencoded", b"model=linear", id="urlencoded"),
        pytest.param("text/plain", b'{"model": "linear"}', id="text"),
        pytest.param("text/csv", b"x1\n1\n", id="csv"),
    ],
)
def test_a_form_of_another_site_is_refused_before_its_body_is_looked_at(
    client: FlaskClient, content_type: str, body: bytes
) -> None:
    headers = {"Host": "localhost:8000", "Origin": "https://evil.example"}

    response = client.post("/jobs?model=linear", data=body, content_type=content_type, headers=headers)

    assert response.status_code == REFUSED


@pytest.mark.parametrize("path", ["/healthz", "/version", "/openapi.json", "/docs/"])
def test_what_everybody_may_read_is_no_secret_to_a_page_either(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 200


def test_where_everybody_is_welcome_a_proxy_is_but_no_page_of_another_origin(make_app: MakeApp) -> None:
    client = make_app(host="0.0.0.0", allow_access_without_keys=True).test_client()  # noqa: S104  # nothing listens
    name: dict[str, Any] = {"Host": "foretell"}

    assert asked(client, **name).status_code == LET_IN
    assert asked(client, **name, X_Forwarded_For="203.0.113.7").status_code == LET_IN
    assert asked(client, **name, Origin="http://foretell").status_code == LET_IN
    assert asked(client, **name, Origin="https://evil.example").status_code == REFUSED


def test_an_address_that_others_can_reach_without_that_word_lets_nobody_in(make_app: MakeApp) -> None:
    client = make_app(host="0.0.0.0").test_client()  # noqa: S104  # nothing listens

    response = asked(client, Host="localhost")

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="foretell"'


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("evil.example:8000", REFUSED, id="a-site"),
        pytest.param("foretell.evil.example", REFUSED, id="a-name-below-a-site"),
        pytest.param("192.168.1.7:8000", LET_IN, id="an-address"),
        pytest.param("[fd00::1]:8000", LET_IN, id="an-ipv6-address"),
        pytest.param("api:8000", LET_IN, id="a-name-without-a-dot"),
        pytest.param("localhost", LET_IN, id="this-machine"),
    ],
)
def test_a_service_that_is_open_to_its_network_is_not_open_to_pages_of_the_world(
    make_app: MakeApp, host: str, status: int
) -> None:
    client = make_app(host="0.0.0.0", allow_access_without_keys=True).test_client()  # noqa: S104  # nothing listens

    response = client.get("/jobs", headers={"Host": host, "Origin": f"http://{host}"})

    assert response.status_code == status
