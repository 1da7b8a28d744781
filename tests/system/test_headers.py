"""Requests with too many headers, or with too much in them: refused before they cost anything."""

import http.client
import socket

import pytest

from tests.system.service import Service


def status_of(port: int, request: bytes) -> int | None:
    """The status of the answer; None if the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
        except (BrokenPipeError, ConnectionResetError):  # it was answered before all had come, and the answer lost
            return None
        return response.status


def with_headers(count: int, length: int = 1, path: str = "/version") -> bytes:
    """A request with so many headers beside Host, each of so many bytes."""
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"a" * length) for number in range(count))
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path.encode(), lines)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(with_headers(99), (200,), id="as-many-as-may-be"),
        pytest.param(with_headers(100), (431,), id="one-too-many"),
        pytest.param(with_headers(10_000), (431, None), id="ten-thousand"),
        pytest.param(with_headers(1, 30_000), (200,), id="a-long-one"),
        pytest.param(with_headers(1, 2**20), (431, None), id="one-of-a-megabyte"),
        pytest.param(with_headers(90, 10_000), (431, None), id="many-long-ones"),
        pytest.param(with_headers(0, path=f"/version?{'a' * 16_384}"), (200,), id="a-long-query"),
        pytest.param(with_headers(0, path=f"/version?{'a' * 16_385}"), (414,), id="a-query-that-is-too-long"),
        pytest.param(with_headers(0, path=f"/{'a' * 100_000}"), (414, None), id="an-address-that-is-too-long"),
    ],
)
def test_headers_and_queries_are_bounded(service: Service, request_: bytes, expected: tuple[int | None, ...]) -> None:
    assert status_of(service.settings.port, request_) in expected
    assert service.http("GET", "/healthz").status == 200


def test_a_form_of_many_parts_is_refused_at_the_first_that_is_none(service: Service) -> None:
    part = b'--X\r\nContent-Disposition: form-data; name="p%d"\r\n\r\nx\r\n'
    body = b"".join(part % number for number in range(10_000)) + b"--X--\r\n"

    answer = service.http("POST", "/jobs", raw=body, Content_Type="multipart/form-data; boundary=X")

    assert (answer.status, answer.json["errors"][0]["code"]) == (422, "unknown_part")


def test_a_part_of_many_headers_is_refused(service: Service) -> None:
    headers = b"".join(b"x-%d: a\r\n" % number for number in range(200_000))
    body = b'--X\r\nContent-Disposition: form-data; name="file"\r\n' + headers + b"\r\nx1\r\n--X--\r\n"

    answer = service.http("POST", "/files", raw=body, Content_Type="multipart/form-data; boundary=X")

    assert (answer.status, answer.json["code"]) == (400, "malformed_form")
