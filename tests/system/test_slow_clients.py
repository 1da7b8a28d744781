"""Clients that send a byte a second, or nothing, or do not read: they hold no thread for ever; others are served."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.kept import short_folder
from tests.processes import Answer
from tests.system.rows import LINEAR
from tests.system.service import Service, files_below, quick_settings, scored_file
from tests.wait import until

# Slower than this for 6 s is cut off: 5 s more than the longest wait.
QUICK = {"slow_client_seconds": 2, "max_wait_seconds": 1, "event_heartbeat_seconds": 1}
FILE = (
    "POST /jobs?model=linear HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    "Content-Length: 1000000\r\n\r\nx1,x2,x3\n"
)
CHUNKED_FILE = (
    "POST /files HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Encoding: gzip\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
    "2\r\n\x1f\x8b\r\n"
)
JSON = (
    "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    'Content-Length: 1000\r\n\r\n{"model": "lin'
)


class Slow:
    """Clients that have begun a request, of which some go on with a byte every now and then."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._dripping: list[socket.socket] = []
        self._thread = threading.Thread(target=self._drip)
        self._all = contextlib.ExitStack()

    def __enter__(self) -> "Slow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._all.close()

    def begin(self, request: str, *, drips: bool = False) -> socket.socket:
        """A client more."""
        connection = self._all.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=30))
        connection.sendall(request.encode("latin-1"))
        if drips:
            self._dripping.append(connection)
        return connection

    def _drip(self) -> None:
        while not self._stop.wait(0.5):
            for connection in list(self._dripping):
                with contextlib.suppress(OSError):  # it was cut off
                    connection.sendall(b"1")


def answered(connection: socket.socket) -> Answer:
    """What a client is told, and that nothing follows."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    answer = Answer(response.status, dict(response.getheaders()), response.read())
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    return answer


def code_of(connection: socket.socket) -> tuple[int, str]:
    answer = answered(connection)
    return answer.status, str(answer.json["code"])


@pytest.fixture(scope="module")
def one_process() -> Iterator[Service]:
    """A service whose API has 64 threads."""
    with short_folder() as folder:
        settings = quick_settings(
            folder / "var", **QUICK, api_processes=1, api_threads=64, max_waiting_threads=8, max_event_streams=4,
            max_bodies=10, max_uploads=30, max_downloads=8, stuck_client_seconds=3,
        )  # fmt: skip
        service = Service(settings)
        yield service
        service.stop()


@pytest.fixture
def cut(one_process: Service) -> Callable[[], list[str]]:
    """Tells why clients were cut off since the test began."""

    def since() -> list[str]:
        return [line["too_slowly"] for line in one_process.logged() if line["event"] == "client.cut_off"]

    before = len(since())
    return lambda: since()[before:]


def test_seventy_slow_uploads_leave_a_process_of_sixty_four_threads_to_others(
    one_process: Service, cut: Callable[[], list[str]]
) -> None:
    before = files_below(one_process, "jobs")
    with Slow(one_process.settings.port) as slow:
        first = [slow.begin(FILE, drips=number % 2 == 0) for number in range(30)]
        until(lambda: one_process.http("GET", "/limits").json["used"]["uploads"] == 30, what="all places are taken")
        others = [slow.begin(FILE, drips=number % 2 == 0) for number in range(40)]

        assert one_process.http("GET", "/healthz").status == 200
        job = one_process.http.done(one_process.http.submit("linear", [LINEAR])["id"])
        assert job["status"] == "succeeded"

        told, told_others = ([code_of(client) for client in clients] for clients in (first, others))
    assert set(told) == {(408, "body_too_slow")}
    # On a machine that is slow itself, some come when the first are cut off already, and have their places.
    assert set(told_others) - {(408, "body_too_slow")} == {(503, "too_many_uploads")}
    until(lambda: files_below(one_process, "jobs") <= before, what="nothing is left of the uploads")
    assert set(cut()) == {"sends"}


@pytest.mark.parametrize("drips", [True, False], ids=["dripping", "silent"])
@pytest.mark.parametrize(
    ("request_", "folder"),
    [
        pytest.param(JSON, "jobs", id="json"),
        pytest.param(CHUNKED_FILE, "files", id="chunked"),
    ],
)
def test_any_slow_body_is_cut_off(one_process: Service, request_: str, folder: str, drips: bool) -> None:
    job = one_process.http.done(one_process.http.submit("linear", [LINEAR])["id"])
    before = files_below(one_process, folder)
    with Slow(one_process.settings.port) as slow:
        waiting = slow.begin(f"GET /jobs/{job['id']} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert waiting.recv(12) == b"HTTP/1.1 200"

        answer = answered(slow.begin(request_, drips=drips))

    assert (answer.status, answer.json["code"]) == (408, "body_too_slow")
    assert answer.headers["connection"] == "close"
    assert files_below(one_process, folder) <= before


def test_clients_that_do_not_read_their_files_make_room_for_others(
    one_process: Service, cut: Callable[[], list[str]]
) -> None:
    data = "x1,x2,x3,pad\n" + f"0.06,0.02,0.04,{'p' * 1_000_000}\n" * 16
    job = scored_file(one_process.http, data.encode(), model="linear", include="pad")
    path = job["links"]["result"]
    with Slow(one_process.settings.port) as slow:
        for _ in range(8):
            stuck = slow.begin(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert stuck.recv(12) == b"HTTP/1.1 200"

        full = one_process.http("GET", path)
        assert (full.status, full.json["code"]) == (503, "too_many_downloads")
        assert one_process.http("GET", "/healthz").status == 200

        until(lambda: one_process.http("GET", path).status == 200, what="there is room again")

        until(lambda: cut() == ["reads"] * 8, what="each of them is cut off")
