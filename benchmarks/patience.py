"""Clients that never give up: they try again with the same Idempotency-Key until they have their prediction."""

import contextlib
import http.client
import itertools
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from benchmarks.dialects import FORETELL_WAIT, Question
from benchmarks.fleet import LONGEST_SECONDS

PAUSE_SECONDS: Final = 0.05
FILE_ROWS: Final = 200_000


@dataclass
class Seen:
    """What clients saw in a phase."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    not_mended: list[str] = field(default_factory=list)

    def latency_ms(self, percent: float) -> float:
        """The nearest-rank percentile; NaN without any."""
        latencies = sorted(self.latencies)
        return latencies[max(0, math.ceil(len(latencies) * percent / 100) - 1)] * 1000 if latencies else math.nan


class Client:
    """One closed loop that never gives up."""

    def __init__(self, port: int, questions: Iterator[Question], seen: Callable[[], Seen], number: int) -> None:
        self._port, self._questions, self._seen, self._number = port, questions, seen, number
        self._connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        """Ask until it is enough."""
        for count in itertools.count():
            if stop.wait(PAUSE_SECONDS):
                break
            self._ask(next(self._questions), f"{self._number}-{count}")
        self._close()

    def _ask(self, question: Question, key: str) -> None:
        began, ids = time.perf_counter(), set[str]()
        while time.perf_counter() - began < LONGEST_SECONDS:
            seen = self._seen()
            try:
                status, body = self._request(json.dumps(FORETELL_WAIT.encode(question)).encode(), key)
            except http.client.IncompleteRead:
                seen.not_mended.append(f"{key}: a part of an answer")
                self._close()
                continue
            except (OSError, http.client.HTTPException) as error:
                seen.errors[type(error).__name__] += 1
                self._close()
                time.sleep(0.02)
                continue
            if status == 503:
                seen.errors[f"503 {json.loads(body)['code']}"] += 1
                time.sleep(0.1)
                continue
            if status not in (200, 202):
                seen.not_mended.append(f"{key}: {status} {body[:300]!r}")
                return
            job = json.loads(body)
            ids.add(job["id"])
            if job["done"]:
                self._judge(key, ids, job, question, seen)
                seen.latencies.append(time.perf_counter() - began)
                return
        self._seen().not_mended.append(f"{key}: no prediction within {LONGEST_SECONDS:g} s")

    def _judge(self, key: str, ids: set[str], job: dict[str, Any], question: Question, seen: Seen) -> None:
        if len(ids) > 1:
            seen.not_mended.append(f"{key}: two jobs, {sorted(ids)}")
        predictions = (job["result"] or {}).get("predictions", [math.nan])
        if job["status"] != "succeeded" or not question.is_answered_by(predictions):
            seen.not_mended.append(f"{key}: {job['status']} {predictions}, not {question.predictions}")

    def _request(self, body: bytes, key: str) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"Content-Type": "application/json", "Prefer": "wait=10", "Idempotency-Key": key}
        self._connection.request("POST", "/jobs", body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Files:
    """One file after the other, each scored by the service."""

    def __init__(self, port: int, model: str, features: int) -> None:
        rows = np.round(np.random.default_rng(1).uniform(0, 10, (FILE_ROWS, features)), 6)
        header = ",".join(f"x{number + 1}" for number in range(features))
        self._data = f"{header}\n".encode() + "\n".join(",".join(map(str, row)) for row in rows.tolist()).encode()
        self._port, self._model = port, model
        self.ended: list[dict[str, Any]] = []

    def run(self, stop: threading.Event) -> None:
        """Send files until it is enough."""
        for number in itertools.count():
            if stop.is_set():
                return
            headers = {"Content-Type": "text/csv", "Idempotency-Key": f"file-{number}"}
            job = self._patiently("POST", f"/jobs?model={self._model}", self._data, headers)
            while not job["done"]:
                time.sleep(0.2)
                job = self._patiently("GET", f"/jobs/{job['id']}", None, {})
            self.ended.append(job)

    def _patiently(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
        end = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                document: dict[str, Any] = json.loads(response.read())
                if response.status in (200, 202):
                    return document
            time.sleep(0.1)
        raise RuntimeError(f"{method} {path} was not answered within {LONGEST_SECONDS:g} s")
