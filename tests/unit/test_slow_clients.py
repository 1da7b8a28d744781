"""Which clients are too slow: what is seen of their connections, and of the threads that wait for them."""

import io
import select
import socket
from collections import deque
from contextlib import suppress
from typing import Any

import pytest

from api.bodies import Bodies, Body, Receiving
from api.errors import RequestFault
from api.slow_clients import Sample, SlowClients, sends_slowly
from shared.errors import TooManyUploads
from shared.settings import Settings
from tests.conftest import CaptureLogs


class Dozing(io.BytesIO):
    """A body that comes after so many seconds of a clock that the test keeps."""

    def __init__(self, data: bytes, clock: list[float], seconds: float) -> None:
        super().__init__(data)
        self._clock = clock
        self._seconds = seconds

    def read(self, size: int | None = -1) -> bytes:
        self._clock[0] += self._seconds
        return super().read(size)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows, which stands still."""
    shown = [1000.0]
    monkeypatch.setattr("api.bodies.time.monotonic", lambda: shown[0])
    return shown


@pytest.fixture
def bodies() -> Bodies:
    """Bodies that are slow at fewer than 100 bytes a second for 30 s, two files and a JSON document at a time."""
    return Bodies(
        Settings(slow_client_seconds=30, slow_client_bytes_per_second=100, max_wait_seconds=1, max_uploads=2,
                 max_bodies=1, event_heartbeat_seconds=1)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "slow"),
    [
        pytest.param([(0, 0, 500), (30, 0, 500)], True, id="nothing-comes"),
        pytest.param([(0, 0, 500), (10, 0, 900), (30, 0, 3499)], True, id="next-to-nothing-comes"),
        pytest.param([(0, 0, 500), (30, 0, 3500)], False, id="enough-comes"),
        pytest.param([(0, 0, 500), (29, 0, 500)], False, id="not-for-long-enough"),
        pytest.param([(0, 0, 500), (15, 100, 500), (31, 100, 500)], False, id="something-was-sent"),
        pytest.param([(0, 0, 500), (15, 100, 500), (46, 100, 500)], True, id="something-was-sent-long-ago"),
        pytest.param([(0, 0, 0), (30, 0, 90_000), (60, 0, 90_000)], True, id="much-came-long-ago"),
    ],
)
def test_a_connection_on_which_next_to_nothing_moved_for_long_is_slow(
    samples: list[tuple[float, int, int]], slow: bool
) -> None:
    seen: deque[Sample] = deque()
    for sample in samples:
        seen.append(Sample(*sample))
        found = sends_slowly(seen, 30, 100)

    assert found == slow


def test_what_is_long_past_is_not_kept() -> None:
    seen: deque[Sample] = deque()
    for at in range(1000):
        seen.append(Sample(at, 0, 1000 * at))
        sends_slowly(seen, 30, 100)

    assert len(seen) == 31


@pytest.mark.parametrize(
    ("reading", "working", "overdue"),
    [
        pytest.param([], [], False, id="nobody-reads"),
        pytest.param([31], [], True, id="one-waits-for-long"),
        pytest.param([29], [], False, id="one-waits-for-a-moment"),
        pytest.param([31], [29], True, id="others-work"),
        pytest.param([31], [31], False, id="another-keeps-its-client-waiting-as-long"),
    ],
)
def test_a_silent_connection_is_a_slow_client_only_if_no_answer_is_due(
    bodies: Bodies, reading: list[float], working: list[float], overdue: bool
) -> None:
    bodies.reading.update({number: 1000 - age for number, age in enumerate(reading)})
    bodies.working.update({10 + number: 1000 - age for number, age in enumerate(working)})

    assert bodies.overdue(1000) == overdue


@pytest.mark.parametrize(
    ("data", "length", "seconds", "refused"),
    [
        pytest.param(b"half", 8, 31, True, id="too-slow"),
        pytest.param(b"half", 8, 29, False, id="cut-off-by-its-sender"),
        pytest.param(b"whole", 5, 31, False, id="slow-but-whole"),
        pytest.param(b"half", None, 31, True, id="without-a-length"),
        pytest.param(b"x" * 4000, 8000, 31, False, id="slow-but-enough"),
    ],
)
def test_a_body_that_ended_for_its_slowness_is_said_to_be_slow(
    bodies: Bodies, clock: list[float], data: bytes, length: int | None, seconds: float, refused: bool
) -> None:
    body = Body(bodies, Dozing(data, clock, seconds), "text/csv", length)

    if refused:
        with pytest.raises(RequestFault, match="more slowly than 100 bytes a second for 30 s") as caught:
            body.read(10_000)
        assert (caught.value.status, caught.value.code) == (408, "body_too_slow")
    else:
        assert body.read(10_000) == data


def test_files_and_other_bodies_have_places_of_their_own_until_they_have_come(bodies: Bodies) -> None:
    files = [Body(bodies, io.BytesIO(b"x" * 20), "text/csv", 20) for _ in range(3)]
    for file in files[:2]:
        file.read(10)

    with pytest.raises(TooManyUploads):
        files[2].read(10)
    assert Body(bodies, io.BytesIO(b"{}"), "application/json", 2).read() == b"{}"
    files[0].read(20)  # to its end
    assert files[2].read(10) == b"x" * 10


def test_a_request_gives_its_place_back_whatever_becomes_of_it(bodies: Bodies) -> None:
    def crashing(environ: Any, start: Any) -> Any:
        environ["wsgi.input"].read(1)
        raise RuntimeError

    for _ in range(3):
        environ = {"CONTENT_LENGTH": "9", "CONTENT_TYPE": "text/csv", "wsgi.input": io.BytesIO(b"x" * 9)}
        with pytest.raises(RuntimeError):
            Receiving(crashing, bodies)(environ, lambda *_: lambda _: None)

    assert (bodies.reading, bodies.working) == ({}, {})


def test_the_rest_of_a_body_that_is_thrown_away_after_the_answer_counts_as_no_work(bodies: Bodies) -> None:
    def answer_early(environ: Any, _: Any) -> Any:
        return (environ["wsgi.input"].read(3) for _ in range(2))

    environ = {"wsgi.input": io.BytesIO(b"abcdef"), "CONTENT_TYPE": "text/csv", "CONTENT_LENGTH": "6"}
    answer = Receiving(answer_early, bodies)(environ, lambda *_: lambda _: None)

    assert b"".join(answer) == b"abcdef"
    assert (bodies.reading, bodies.working) == ({}, {})


def test_connections_are_looked_after_from_the_first_request_on_also_if_it_has_no_body(bodies: Bodies) -> None:
    begun: list[str] = []
    bodies.watch(lambda: begun.append("looks"))
    application = Receiving(lambda *_: [b""], bodies)

    for _ in range(2):
        application({}, lambda *_: lambda _: None)

    assert begun == ["looks"]


def test_a_download_whose_storage_is_slow_is_no_slow_client(bodies: Bodies, clock: list[float]) -> None:
    seen: list[bool] = []

    def download(*_: Any) -> Any:
        clock[0] += 31  # as long as storage takes
        bodies.reading[0] = clock[0] - 31  # elsewhere, of a client that sends nothing
        seen.append(bodies.overdue(clock[0]))
        yield b"block"

    answer: Any = Receiving(download, bodies)({}, lambda *_: lambda _: None)

    assert next(answer) == b"block"
    assert seen == [False]
    assert bodies.overdue(clock[0])  # now it is the client of the download who is waited for
    answer.close()


def test_a_client_that_does_not_read_its_download_is_cut_off_as_that_while_another_sends_slowly(
    bodies: Bodies, capture_logs: CaptureLogs
) -> None:
    bodies.reading[0] = 0.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as connection:
            connection.setblocking(False)
            # Until the client's system has taken all that it takes, which is a moment after nothing more can be sent.
            while select.select([], [connection], [], 0.5)[1]:
                with suppress(BlockingIOError):
                    connection.send(b"x" * 65_536)
            clients = SlowClients(bodies, port)

            with capture_logs() as logged:
                for at in (1000, 1031, 1062, 1093):
                    clients.look(at)
                patient = list(logged)
                clients.look(1121)

    assert patient == []
    assert [(line["event"], line["too_slowly"]) for line in logged] == [("client.cut_off", "reads")]
