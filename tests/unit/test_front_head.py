"""What of a connection's bytes is a request that the loop answers; everything else is left as it came."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.front.head import MOST_BODY_BYTES, MOST_HEAD_BYTES, Other, Request, environ_of, read_request

ID: Final = b"01a219cb-5970-7a73-9416-705b08a22ab8"
LOOK: Final = b"GET /jobs/" + ID + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
SUBMIT: Final = (
    b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


def submit(*lines: bytes, line: bytes = b"POST /jobs HTTP/1.1", body: bytes = b"") -> bytes:
    """A request with these header fields."""
    return b"\r\n".join((line, *lines)) + b"\r\n\r\n" + body


def must_read(data: bytes) -> Request:
    """A request that is whole."""
    request = read_request(data)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("data", "method", "path", "body"),
    [
        pytest.param(LOOK, "GET", f"/jobs/{ID.decode()}", b"", id="look"),
        pytest.param(SUBMIT, "POST", "/jobs", b"{}", id="submit"),
        pytest.param(submit(b"Host: a"), "POST", "/jobs", b"", id="no-body"),
    ],
)
def test_a_plain_request_is_read(data: bytes, method: str, path: str, body: bytes) -> None:
    request = must_read(data + b"GET / HTTP/1.1\r\n")

    assert (request.method, request.path, request.body) == (method, path, body)
    assert request.size_bytes == len(data)
    assert not request.closes


def test_fields_are_those_of_the_wsgi_environment() -> None:
    request = must_read(submit(b"Host:a", b"content-TYPE: application/json ", b"X-Request-Id:\tmine\t", b"Accept:"))

    environ = environ_of(request)

    assert {name: value for name, value in environ.items() if not name.startswith("wsgi.")} == {
        "HTTP_HOST": "a",
        "CONTENT_TYPE": "application/json",
        "HTTP_X_REQUEST_ID": "mine",
        "HTTP_ACCEPT": "",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/jobs",
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }


def test_a_body_is_read_as_often_as_it_is_long() -> None:
    body = environ_of(must_read(submit(b"Host: a", b"Content-Length: 5", body=b"12345")))["wsgi.input"]

    assert [body.read(2), body.read(), body.read(1)] == [b"12", b"345", b""]


@pytest.mark.parametrize("value", [b"close", b"Close"])
def test_a_client_may_want_no_further_answer(value: bytes) -> None:
    assert must_read(submit(b"Host: a", b"Connection: " + value)).closes


@pytest.mark.parametrize("data", [LOOK, SUBMIT], ids=["look", "submit"])
def test_a_part_of_a_request_is_waited_for(data: bytes) -> None:
    assert [read_request(data[:end]) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"PUT", id="method"),
        pytest.param(b"GET /health", id="path"),
        pytest.param(submit(b"Host: a", line=b"POST /jobs?a=1 HTTP/1.1"), id="query"),
        pytest.param(submit(b"Host: a", line=b"POST /jobs HTTP/1.0"), id="version"),
        pytest.param(submit(b"Host: a", line=b"GET /jobs HTTP/1.1"), id="list"),
        pytest.param(submit(b"Host: a", line=b"GET /jobs/" + ID.upper() + b" HTTP/1.1"), id="id"),
        pytest.param(submit(b"Host: a", line=b"GET /jobs/" + ID + b"/result HTTP/1.1"), id="deeper"),
        pytest.param(submit(b"Host: a", line=b"POST  /jobs HTTP/1.1"), id="spaces"),
        pytest.param(submit(), id="no-field"),
        pytest.param(submit(b"Accept: a"), id="no-host"),
        pytest.param(submit(b"Host: a", b"Host: b"), id="twice"),
        pytest.param(submit(b"Host: a", b"Content-Length: 1", b"Content-Length: 2", body=b"12"), id="two-lengths"),
        pytest.param(submit(b"Host: a", b"Content-Length: +1", body=b"1"), id="sign"),
        pytest.param(submit(b"Host: a", b"Content-Length: 1, 1", body=b"1"), id="list-of-lengths"),
        pytest.param(submit(b"Host: a", b"Content-Length: \xb2", body=b"1"), id="no-digit"),
        pytest.param(submit(b"Host: a", b"Content-Length: %d" % (MOST_BODY_BYTES + 1)), id="large"),
        pytest.param(submit(b"Host: a", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), id="chunked"),
        pytest.param(submit(b"Host: a", b"Transfer-Encoding : chunked"), id="space-before-colon"),
        pytest.param(submit(b"Host: a", b" folded"), id="folded"),
        pytest.param(submit(b"Host: a", b"X_Request_Id: b"), id="underscore"),
        pytest.param(submit(b"Host: a", b"Expect: 100-continue"), id="expect"),
        pytest.param(submit(b"Host: a", b"Connection: upgrade", b"Upgrade: h2c"), id="upgrade"),
        pytest.param(submit(b"Host: a", b"Connection: close, x"), id="connection"),
        pytest.param(submit(b"Host: a", b"Accept: \x00"), id="control"),
        pytest.param(submit(b"Host: a", b"Accept: \xe9"), id="not-ascii"),
        pytest.param(submit(b"Host: a\nb: c"), id="bare-line-feed"),
        pytest.param(submit(b"Host: a\rb: c"), id="bare-carriage-return"),
        pytest.param(
            submit(b"Host: a", b"Content-Length: 1", line=LOOK.partition(b"\r")[0], body=b"1"), id="look-body"
        ),
        pytest.param(submit(b"Host: a", b"Accept: " + b"a" * MOST_HEAD_BYTES), id="long-head"),
        pytest.param(b"POST /jobs HTTP/1.1\r\nAccept: " + b"a" * MOST_HEAD_BYTES, id="long-head-without-end"),
    ],
)
def test_all_else_is_granians(data: bytes) -> None:
    with pytest.raises(Other):
        read_request(data)


@given(st.binary(max_size=200), st.integers(0, len(SUBMIT)), st.integers(0, 50))
def test_whatever_comes_is_read_waited_for_or_left(noise: bytes, at: int, dropped: int) -> None:
    data = SUBMIT[:at] + noise + SUBMIT[at + dropped :]
    try:
        request = read_request(data)
    except Other:
        return
    assert request is None or request.size_bytes <= len(data)
