"""Clients that wait are told, come again when they are asked to, and are cut off by nobody without a word."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks import clients, growth
from benchmarks.connection import VoidRunError
from shared.settings import Settings

DONE = b'HTTP/1.1 200 OK\r\ncontent-length: 34\r\n\r\n{"status":"succeeded","done":true}'
FAILED = b'HTTP/1.1 200 OK\r\ncontent-length: 31\r\n\r\n{"status":"failed","done":true}'
RUNS = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"done":false}'
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\ncontent-length: 0\r\n\r\n"

Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that gives each connection the next of some answers, and hangs up; its port."""
    listeners = []

    def start(*answers: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer_all() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        threading.Thread(target=answer_all, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for listener in listeners:
        listener.close()


def waiting(port: int, *, streams: bool = False) -> clients.Waiting:
    return clients.Waiting(port, [("a", clients.request_of("long poll", "a"))], streams=streams)


def test_a_client_that_is_told_is_noted_once(serve: Serve) -> None:
    told = waiting(serve(DONE))

    told.read_for(10)

    assert list(told.told) == [0]
    told.close()


def test_a_client_that_is_refused_comes_again(serve: Serve) -> None:
    told = waiting(serve(REFUSED, DONE))

    told.read_for(10)

    assert (told.refused, list(told.told)) == (1, [0])
    told.close()


@pytest.mark.parametrize(
    ("answer", "streams"),
    [
        pytest.param(RUNS, False, id="a poll that ends before the job does"),
        pytest.param(b"", False, id="no answer"),
        pytest.param(RUNS, True, id="a stream that ends before the job does"),
    ],
)
def test_a_client_that_is_not_told_voids_the_run(serve: Serve, answer: bytes, streams: bool) -> None:
    port = serve(answer)

    with pytest.raises(VoidRunError, match="not told"):
        waiting(port, streams=streams).read_for(10)


def test_a_client_that_is_told_of_another_end_voids_the_run(serve: Serve) -> None:
    port = serve(FAILED)

    with pytest.raises(VoidRunError, match="another end"):
        waiting(port).read_for(10)


def test_the_settings_let_every_client_wait_at_one_process() -> None:
    settings = Settings(**clients.settings_for(1_000, processes=2))

    assert min(settings.max_waiters, settings.max_event_streams) == 1_000


def test_the_first_wall_is_where_units_take_all_of_redis() -> None:
    lines = growth.wall([["workers", "us of Redis a job", "commands a job"], ["2", "500", "40.0"]])

    assert dict(zip(*lines, strict=True)) == {
        "workers": "2",
        "units/s of one Redis": "2,000",
        "workers of 1 ms": "2",
        "workers of 5 ms": "10",
        "workers of 20 ms": "40",
        "workers of 100 ms": "200",
    }
