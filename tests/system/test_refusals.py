"""What is refused before anybody looks at rows: size, media type, broken bodies, unknown routes."""

import http.client
import json
import socket
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from tests.processes import Answer, Http
from tests.system.rows import LINEAR_RECORD
from tests.system.service import Service

JSON = "application/json"
UNKNOWN_JOB = "/jobs/01a202dc-b4c8-7072-abbb-000000000000"


def exchange(port: int, headers: dict[str, str], parts: Iterable[bytes] = (), *, cut: bool = False) -> Answer | None:
    """Send a `POST /jobs` byte by byte; None if the server hangs up without an answer.

    `cut`: the client closes its side after the last part.
    """
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n".encode())
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            cut = False  # it has answered already
        if cut:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return None


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def job_body(tag: str) -> bytes:
    return json.dumps({"model": "linear", "instances": [LINEAR_RECORD], "metadata": {"tag": tag}}).encode()


def accepted(client: Http, tag: str) -> bool:
    jobs = client("GET", "/jobs?limit=200").json["jobs"]
    return any(job["metadata"] == {"tag": tag} for job in jobs)


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(service: Service) -> None:
    length = str(service.settings.max_body_bytes + 1)

    answer = exchange(service.settings.port, {"Content-Type": JSON, "Content-Length": length})

    assert answer is not None
    assert answer.status == 413, answer.body
    assert answer.json["code"] == "body_too_large"


def test_a_body_that_turns_out_too_large_is_refused(service: Service, tag: str) -> None:
    padding = b" " * service.settings.max_body_bytes
    parts = [chunk(job_body(tag)), chunk(padding), b"0\r\n\r\n"]

    answer = exchange(service.settings.port, {"Content-Type": JSON, "Transfer-Encoding": "chunked"}, parts)

    assert answer is not None
    assert answer.status == 413, answer.body
    assert answer.json["code"] == "body_too_large"
    assert not accepted(service.http, tag)


def test_a_body_of_the_largest_size_is_taken(service: Service, tag: str) -> None:
    body = job_body(tag).ljust(service.settings.max_body_bytes)

    answer = service.http("POST", "/jobs", raw=body, Content_Type=JSON)

    assert answer.status == 202


def test_a_body_without_a_length_is_taken(service: Service, tag: str) -> None:
    body = job_body(tag)
    parts = [chunk(body[:20]), chunk(body[20:]), b"0\r\n\r\n"]

    answer = exchange(service.settings.port, {"Content-Type": JSON, "Transfer-Encoding": "chunked"}, parts)

    assert answer is not None
    assert answer.status == 202


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        pytest.param({"Content-Length": "500"}, [], id="before-its-first-byte"),
        pytest.param({"Content-Length": "500"}, ["half"], id="in-the-middle"),
        pytest.param({"Content-Length": "500"}, ["whole"], id="after-what-would-be-a-whole-job"),
    ],
)
def test_a_body_that_is_cut_off_is_not_accepted(
    service: Service, tag: str, headers: dict[str, str], parts: list[str]
) -> None:
    body = job_body(tag)
    forms = {"half": body[:30], "whole": body, "chunked": chunk(body)}

    answer = exchange(
        service.settings.port, {"Content-Type": JSON, **headers}, [forms[part] for part in parts], cut=True
    )

    assert answer is None or answer.status == 400
    assert not accepted(service.http, tag)


@pytest.mark.parametrize("path", ["/jobs", "/predict"])
@pytest.mark.parametrize("media_type", ["text/html", "text/plain", "application/x-www-form-urlencoded", None])
def test_another_media_type_is_refused(http: Http, path: str, media_type: str | None) -> None:
    headers: dict[str, Any] = {} if media_type is None else {"Content_Type": media_type}

    answer = http("POST", path, raw=b"x1,x2,x3\n1,2,3\n", **headers)

    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "application/vnd.acme+json", "Application/JSON"]
)
def test_json_is_recognised_by_any_of_its_names(http: Http, media_type: str) -> None:
    answer = http("POST", "/jobs", raw=job_body("named"), Content_Type=media_type)

    assert answer.status == 202


@pytest.mark.parametrize("path", ["/jobs", "/predict"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"x1=1", id="a-form"),
        pytest.param(b"{'x1': 1}", id="single-quotes"),
        pytest.param(b'{"x1": 1}{"x1": 2}', id="two-documents"),
        pytest.param(b'{"x1": NaN, "x2": 0, "x3": 0}', id="NaN"),
        pytest.param(b'{"x1": -Infinity, "x2": 0, "x3": 0}', id="infinity"),
        pytest.param(b'{"model": "linear", "instances": [{"x1": NaN, "x2": 0, "x3": 0}]}', id="NaN-within"),
        pytest.param('{"text": "für"}'.encode("latin-1"), id="latin-1"),
        pytest.param(b"\x1f\x8b\x08", id="compressed"),
    ],
)
def test_what_is_no_json_is_refused(http: Http, path: str, body: bytes) -> None:
    answer = http("POST", path, raw=body, Content_Type=JSON)

    assert (answer.status, answer.json["code"]) == (400, "malformed_json")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "route_not_found"),
        ("GET", "/jobs/a/b/c", 404, "route_not_found"),
        ("PUT", "/jobs", 405, "method_not_allowed"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("GET", UNKNOWN_JOB, 404, "job_not_found"),
        ("GET", "/docs/nothing.js", 404, "route_not_found"),
    ],
)
def test_every_refusal_is_a_problem_document(http: Http, method: str, path: str, status: int, code: str) -> None:
    answer = http(method, path)

    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = answer.json
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]


def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(http: Http) -> None:
    answer = http("PUT", "/jobs")

    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
