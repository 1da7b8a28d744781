"""Receivers of webhooks for tests: real servers on loopback that keep what they get, and answer as they are told."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from standardwebhooks import Webhook

from tests.wait import until


@dataclass(frozen=True, kw_only=True)
class Got:
    """A request as it came."""

    path: str
    headers: dict[str, str]  # by their names in small letters
    body: bytes

    @property
    def id(self) -> str:
        """The delivery's."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        """The body."""
        return orjson.loads(self.body)

    def verified(self, secret: str) -> Any:
        """The event, if the signature is right; raises standardwebhooks.WebhookVerificationError otherwise."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """An HTTP server. `answer` gives a status for the how-manieth request it is, from 1; None: no answer at all."""

    def __init__(self, answer: Callable[[int], int | None] = lambda number: 200, *, port: int = 0) -> None:
        self.got: list[Got] = []
        self._stopped = threading.Event()
        lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    receiver.got.append(Got(path=self.path, headers=headers, body=body))
                    number = len(receiver.got)
                status = answer(number)
                if status is None:
                    receiver._stopped.wait(120)
                    return
                with contextlib.suppress(OSError):  # whoever asked may be gone
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("Location", receiver.url("/elsewhere"))
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Its address."""
        return f"http://{host}:{self.port}{path}"

    def wait(self, number: int, seconds: float = 30) -> list[Got]:
        """The requests, once there are so many."""
        until(lambda: len(self.got) >= number, seconds, f"{number} requests came")
        return list(self.got)

    def stop(self) -> None:
        """Close it."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does with each connection what it is told, one after the other; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the end
            with connection, contextlib.suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        # Closing alone would not end an accept that is under way.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
