"""Closed-loop load: every client has one job at a time, and every answer is checked.

One process, one thread and raw sockets, because the load shares its cores with the servers that it measures.
"""

import heapq
import itertools
import math
import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from benchmarks.connection import Connection, Response, VoidRunError
from benchmarks.dialects import Dialect, Predictions, Question, Step

POLL_SECONDS = 0.005
# 256 clients of the slowest system wait for one another, a minute and more where something else runs.
LOST_AFTER_SECONDS = 300.0
SHOWN_CHARACTERS = 300


class CpuSeconds(NamedTuple):
    """Spent so far by all server processes of a system, and by everything on the machine."""

    servers: float
    machine: float


NO_CPU_SECONDS = CpuSeconds(0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured within a window of so many seconds.

    `jobs` ended within it; `latencies_seconds`, sorted, are of those and of the jobs that were out at its end, which
    else would be left out the more surely the longer they took; those end on a server that gets no more. `refusals` are
    answers within the window that asked to come again later, as clients then did.
    """

    seconds: float
    jobs: int
    latencies_seconds: tuple[float, ...]
    cpu_seconds: CpuSeconds
    client_cpu_seconds: float
    refusals: int = 0

    def latency_ms(self, percent: float) -> float:
        """The nearest-rank percentile."""
        taken = self.latencies_seconds
        return taken[max(0, math.ceil(len(taken) * percent / 100) - 1)] * 1000


class RefusedError(Exception):
    """The server answered that it does not do it, for good: nothing wrong was said, and nothing is measured."""


class _Client:
    """One closed loop: what it waits for at the moment."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self.connection = Connection(port, selector, self)
        self.question: Question | None = None
        self.request = b""
        self.poll_request = b""
        self.result_request = b""
        self.submitted_at = 0.0


class Load:
    """A number of clients on one server; `read_cpu_seconds` is asked at both edges of the measured window."""

    def __init__(
        self,
        port: int,
        dialect: Dialect,
        questions: Iterable[Question],
        *,
        clients: int,
        read_cpu_seconds: Callable[[], CpuSeconds] = lambda: NO_CPU_SECONDS,
    ) -> None:
        self._dialect = dialect
        self._questions: Iterator[Question] = iter(questions)
        self._read_cpu_seconds = read_cpu_seconds
        self._selector = selectors.DefaultSelector()
        self._clients = [_Client(port, self._selector) for _ in range(clients)]
        self._later: list[tuple[float, int, _Client, bytes]] = []  # a heap: what clients send when
        self._order = itertools.count()
        self._refusals = 0
        self._job_ids: set[str] = set()
        self._latencies: list[float] = []
        self._submit_head = "\r\n".join(
            [
                f"POST {dialect.submit_path} HTTP/1.1",
                "Host: 127.0.0.1",
                "Content-Type: application/json",
                *dialect.headers,
                "Content-Length: ",
            ]
        ).encode()
        self._submitting = True
        self._jobs_out = 0

    def run(self, *, warm_up_seconds: float, seconds: float) -> Outcome:
        """Load the server, measure after the warm-up, and wait for every job that is still out.

        Raises VoidRunError and RefusedError.
        """
        try:
            for client in self._clients:
                self._submit(client)
            self._work_until(time.perf_counter() + warm_up_seconds)

            cpu_before, client_cpu_before = self._read_cpu_seconds(), time.process_time()
            self._latencies.clear()
            self._refusals = 0
            opened_at = time.perf_counter()
            self._work_until(opened_at + seconds)
            closed_at = time.perf_counter()
            cpu_after, client_cpu_after = self._read_cpu_seconds(), time.process_time()
            jobs, refusals = len(self._latencies), self._refusals

            self._submitting = False
            self._work_until(math.inf)
        finally:
            for client in self._clients:
                client.connection.close()
            self._selector.close()
        return Outcome(
            seconds=closed_at - opened_at,
            jobs=jobs,
            latencies_seconds=tuple(sorted(self._latencies)),
            cpu_seconds=CpuSeconds(
                cpu_after.servers - cpu_before.servers,
                cpu_after.machine - cpu_before.machine,
            ),
            client_cpu_seconds=client_cpu_after - client_cpu_before,
            refusals=refusals,
        )

    def _work_until(self, deadline: float) -> None:
        """Returns at the deadline, or when no client has a job out."""
        look_for_lost_at = 0.0
        while self._jobs_out and (now := time.perf_counter()) < deadline:
            while self._later and self._later[0][0] <= now:
                _, _, client, request = heapq.heappop(self._later)
                self._send(client, request)
            if now >= look_for_lost_at:
                self._look_for_lost(now)
                look_for_lost_at = now + 1
            wake_at = min(deadline, self._later[0][0] if self._later else math.inf, now + 0.05)
            for key, _ in self._selector.select(max(0.0, wake_at - now)):
                client = key.data
                response = client.connection.receive()
                if response is not None:
                    self._take(client, response)

    def _submit(self, client: _Client) -> None:
        question = next(self._questions, None)
        if question is None:
            raise RuntimeError("more jobs than distinct questions: prepare more of them")
        client.question = question
        client.poll_request = b""
        body = orjson.dumps(self._dialect.encode(question))
        client.submitted_at = time.perf_counter()
        self._jobs_out += 1
        self._send(client, b"%b%d\r\n\r\n%b" % (self._submit_head, len(body), body))

    def _take(self, client: _Client, response: Response) -> None:
        if response.retry_after_seconds is not None:
            self._refusals += 1
            self._send_later(client, client.request, response.retry_after_seconds)
            return
        if response.status not in (200, 202):
            raise RefusedError(f"answered {response.status}: {response.body[:500]!r}")
        document = _document(response)
        if not client.poll_request and isinstance(document, dict) and self._dialect.job_id in document:
            self._accept(client, document[self._dialect.job_id])
        found = self._dialect.read(document)
        if not isinstance(found, Step):
            self._finish(client, found)
        elif not client.poll_request:
            raise VoidRunError(f"neither a prediction nor a job: {response.body[:500]!r}")
        elif found is Step.FETCH:
            self._send(client, client.result_request)
        else:
            self._send_later(client, client.poll_request, POLL_SECONDS)

    def _send(self, client: _Client, request: bytes) -> None:
        """Send it now; a GET is sent again if the server hangs up on it."""
        client.request = request
        client.connection.send(request, repeatable=request.startswith(b"GET "))

    def _send_later(self, client: _Client, request: bytes, seconds: float) -> None:
        heapq.heappush(self._later, (time.perf_counter() + seconds, next(self._order), client, request))

    def _accept(self, client: _Client, job_id: str) -> None:
        if job_id in self._job_ids:
            raise VoidRunError(f"two submits were answered with the same job {job_id}")
        self._job_ids.add(job_id)
        client.poll_request = _get(self._dialect.poll_path.format(id=job_id))
        client.result_request = _get(self._dialect.result_path.format(id=job_id))

    def _finish(self, client: _Client, predictions: Predictions) -> None:
        finished_at = time.perf_counter()
        question = client.question
        assert question is not None
        if not question.is_answered_by(predictions):
            raise VoidRunError(f"{_shown(question)} was answered {predictions}, not {question.predictions}")
        self._latencies.append(finished_at - client.submitted_at)
        client.question = None
        self._jobs_out -= 1
        if self._submitting:
            self._submit(client)

    def _look_for_lost(self, now: float) -> None:
        for client in self._clients:
            if client.question is not None and now - client.submitted_at > LOST_AFTER_SECONDS:
                raise VoidRunError(f"no answer within {LOST_AFTER_SECONDS:.0f} s to {_shown(client.question)}")


def _document(response: Response) -> Any:
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise VoidRunError(f"no JSON: {response.body[:500]!r}") from error


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def _shown(question: Question) -> str:
    return f"{question.model} {question.instances!r}"[:SHOWN_CHARACTERS]
