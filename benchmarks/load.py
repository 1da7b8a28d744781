"""Closed-loop load: every client has one job at a time, and every answer is checked.

One process, one thread and raw sockets, because the load shares its cores with the servers that it measures.
"""

import math
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from benchmarks.connection import Connection, Response, VoidRunError

POLL_SECONDS = 0.005
LOST_AFTER_SECONDS = 60.0

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request body and the one prediction that is its right answer."""

    body: bytes
    prediction: float


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a system is asked: where to submit, with which header lines, and how its answers are read.

    `read` returns the predictions, or None while the job is unfinished; it raises VoidRunError for a failed one.
    """

    submit_path: str
    headers: tuple[str, ...] = ()
    read: Callable[[Document], list[float] | None]


class CpuSeconds(NamedTuple):
    """Spent so far by all server processes of a system, and by everything on the machine."""

    servers: float
    machine: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the jobs that ended within the measured window took, sorted; the CPU times are of that window."""

    seconds: float
    latencies_seconds: tuple[float, ...]
    cpu_seconds: CpuSeconds
    client_cpu_seconds: float

    @property
    def jobs(self) -> int:
        return len(self.latencies_seconds)

    def latency_ms(self, percent: float) -> float:
        """The nearest-rank percentile."""
        return self.latencies_seconds[max(0, math.ceil(self.jobs * percent / 100) - 1)] * 1000


class _Client:
    """One closed loop: what it waits for at the moment."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self.connection = Connection(port, selector, self)
        self.question: Question | None = None
        self.poll_request = b""
        self.submitted_at = 0.0


class Load:
    """A number of clients on one server; `read_cpu_seconds` is asked at both edges of the measured window."""

    def __init__(
        self,
        port: int,
        dialect: Dialect,
        questions: Sequence[Question],
        *,
        clients: int,
        read_cpu_seconds: Callable[[], CpuSeconds] = lambda: CpuSeconds(0.0, 0.0),
    ) -> None:
        self._dialect = dialect
        self._questions: Iterator[Question] = iter(questions)
        self._read_cpu_seconds = read_cpu_seconds
        self._selector = selectors.DefaultSelector()
        self._clients = [_Client(port, self._selector) for _ in range(clients)]
        self._polls: deque[tuple[float, _Client]] = deque()
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
        """Load the server, measure after the warm-up, and wait for every job that is still out."""
        try:
            for client in self._clients:
                self._submit(client)
            self._work_until(time.perf_counter() + warm_up_seconds)

            cpu_before, client_cpu_before = self._read_cpu_seconds(), time.process_time()
            self._latencies.clear()
            opened_at = time.perf_counter()
            self._work_until(opened_at + seconds)
            closed_at = time.perf_counter()
            cpu_after, client_cpu_after = self._read_cpu_seconds(), time.process_time()
            latencies = tuple(sorted(self._latencies))

            self._submitting = False
            self._work_until(math.inf)
        finally:
            for client in self._clients:
                client.connection.close()
            self._selector.close()
        return Outcome(
            seconds=closed_at - opened_at,
            latencies_seconds=latencies,
            cpu_seconds=CpuSeconds(
                cpu_after.servers - cpu_before.servers,
                cpu_after.machine - cpu_before.machine,
            ),
            client_cpu_seconds=client_cpu_after - client_cpu_before,
        )

    def _work_until(self, deadline: float) -> None:
        """Returns at the deadline, or when no client has a job out."""
        look_for_lost_at = 0.0
        while self._jobs_out and (now := time.perf_counter()) < deadline:
            while self._polls and self._polls[0][0] <= now:
                client = self._polls.popleft()[1]
                client.connection.send(client.poll_request, repeatable=True)
            if now >= look_for_lost_at:
                self._look_for_lost(now)
                look_for_lost_at = now + 1
            wake_at = min(deadline, self._polls[0][0] if self._polls else math.inf, now + 0.05)
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
        client.submitted_at = time.perf_counter()
        self._jobs_out += 1
        request = b"%b%d\r\n\r\n%b" % (self._submit_head, len(question.body), question.body)
        client.connection.send(request, repeatable=False)

    def _take(self, client: _Client, response: Response) -> None:
        if response.status not in (200, 202):
            raise VoidRunError(f"answered {response.status}: {response.body[:500]!r}")
        document: Document = orjson.loads(response.body)
        if not client.poll_request and "id" in document:
            self._accept(client, document["id"])
        predictions = self._dialect.read(document)
        if predictions is not None:
            self._finish(client, predictions)
        elif client.poll_request:
            self._polls.append((time.perf_counter() + POLL_SECONDS, client))
        else:
            raise VoidRunError(f"neither a prediction nor a job: {response.body[:500]!r}")

    def _accept(self, client: _Client, job_id: str) -> None:
        if job_id in self._job_ids:
            raise VoidRunError(f"two submits were answered with the same job {job_id}")
        self._job_ids.add(job_id)
        client.poll_request = f"GET /jobs/{job_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    def _finish(self, client: _Client, predictions: list[float]) -> None:
        finished_at = time.perf_counter()
        assert client.question is not None
        expected = client.question.prediction
        if len(predictions) != 1 or not math.isclose(predictions[0], expected, rel_tol=1e-9):
            raise VoidRunError(f"{client.question.body!r} was answered {predictions}, not {expected}")
        self._latencies.append(finished_at - client.submitted_at)
        client.question = None
        self._jobs_out -= 1
        if self._submitting:
            self._submit(client)

    def _look_for_lost(self, now: float) -> None:
        for client in self._clients:
            if client.question is not None and now - client.submitted_at > LOST_AFTER_SECONDS:
                raise VoidRunError(f"no answer within {LOST_AFTER_SECONDS:.0f} s to {client.question.body!r}")
