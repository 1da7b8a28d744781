"""A front in this process, and clients that send it bytes."""

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from werkzeug.serving import BaseWSGIServer

from api.front.client import Phase
from api.front.loop import Front
from tests.integration.apis import Api
from tests.integration.test_shortcut import ROWS
from tests.wait import until
from worker.online import OnlineWork


class Answer(NamedTuple):
    """What is told of an answer."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)


class Connection:
    """A client's connection, over which bytes are sent as they are."""

    def __init__(self, front: "Running") -> None:
        self.socket = socket.create_connection(("127.0.0.1", front.port), timeout=20)
        self._read = self.socket.makefile("rb")  # one for all answers, as several may come at once

    def send(self, data: bytes) -> None:
        """Send."""
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        status = int(self._read.readline().split()[1])
        fields = {name.lower(): value for name, value in http.client.parse_headers(self._read).items()}
        has_body = method != "HEAD" and status not in (204, 304)
        return Answer(status, fields, self._read.read(int(fields["content-length"])) if has_body else b"")

    def close(self) -> None:
        """Hang up."""
        self._read.close()
        self.socket.close()

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        """The answer to one request."""
        self.send(data)
        return self.answer(method)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A front of the application in this process, before another web server of the same."""

    api: Api
    front: Front
    port: int
    server: BaseWSGIServer  # the other one
    serving: threading.Thread  # which closes the server's socket when it ends
    path: str  # of its socket
    in_threads: list[str]  # the paths of what was not answered by the loop alone
    connections: ExitStack

    def connect(self) -> Connection:
        """A new client."""
        connection = Connection(self)
        self.connections.callback(connection.close)
        return connection


def submit(body: Mapping[str, Any] = ROWS, *fields: str) -> bytes:
    """A submit as it is sent."""
    return raw("POST", "/jobs", json.dumps(body).encode(), "Content-Type: application/json", *fields)


def raw(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    """A request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", *fields]
    if not any(field.startswith("Host:") for field in fields):
        lines.append("Host: localhost")
    if body and not any(field.startswith("Content-Length:") for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def is_piped(running: Running) -> bool:
    """Whether a submit and a look are answered by the loop alone, so that Redis knows their scripts too."""
    before, client = len(running.in_threads), running.connect()
    accepted = client.ask(submit())
    assert accepted.status == 202
    assert client.ask(raw("GET", accepted.fields["location"], b"", 'If-None-Match: "999"')).status == 200
    return len(running.in_threads) == before


def do_all(work: OnlineWork) -> None:
    """Do what waits."""
    while (unit := work.pull("test", linger_seconds=0, answered=False, lane="")) is not None:
        work.do(unit)


def answer_all(running: Running, work: OnlineWork) -> None:
    """Do what is waited for, also what is accepted in this moment."""

    def nobody_waits() -> bool:
        do_all(work)
        return running.api.services.waiters.waiting("default") == 0

    until(nobody_waits, what="all who wait are answered")


def ids(running: Running) -> list[str]:
    """All jobs that there are, the newest first."""
    return [job["id"] for job in (running.api.client.get("/jobs?limit=100").json or {})["jobs"]]


def signed(running: Running) -> None:
    """See to it that ends are announced."""
    store = running.api.services.store
    until(lambda: bool(store.connections.client.exists(store.keys.awaited)), what="ends are announced")


def phases(running: Running) -> list[Phase]:
    """What the open connections are at."""
    return [client.phase for client in running.front.clients]


def heard(running: Running, job_id: str) -> bool:
    """Whether the end of a job is kept for the first look."""
    expected = running.api.services.waiters.expected
    return job_id in expected._jobs and expected.awaits(job_id, "default") is None
