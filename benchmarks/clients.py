"""Many clients that wait: a thousand long polls, a thousand event streams, and who else is served meanwhile.

    python -m benchmarks.clients                       about a minute
    python -m benchmarks.clients --clients 200 --processes 1

Redis and the API run as processes; this one is the worker, so that it knows the moment at which a job has ended.
Clients open raw connections, ask for jobs that run (`Prefer: wait` of GET /jobs/<id>, or its events), and wait. `one
job`: all wait for the same. `own jobs`: each for its own, which end in micro-batches as large as the service's.
Measured:

- told, ms: from the end of a job, its commit in Redis, to a client's having read it, the nearest-rank percentiles and
  the last one; the clients share this process and the cores with the service, so theirs is part of it;
- refused: answers 503 with Retry-After to clients that came, which then came again;
- KiB and CPU a client: what the API processes have grown by, and what they spend in a second, while all wait;
- submit, ms: the median of POST /jobs by one client more, before and meanwhile.

By default an API process lets 1,000 clients wait and keeps 16 streams open, each of which holds a thread, of 128
(docs/configuration.md). The settings that so many need are printed first. A client that is not
told within a minute voids the run.
"""

import argparse
import json
import math
import re
import resource
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
import psutil

from benchmarks.connection import Connection, Response, VoidRunError
from benchmarks.dialects import FORETELL_POLL, Question
from benchmarks.ending import ended_by_signals, finding_void
from benchmarks.fleet import Fleet
from benchmarks.processes import ProcessGroup
from benchmarks.questions import prepare_model
from benchmarks.report import aligned, circumstances
from benchmarks.systems import register
from shared.connection import Connections
from shared.job import Status
from shared.queue import ONLINE
from shared.records import Outcome, Unit
from shared.settings import PREFIX
from shared.store import JobStore

MODEL: Final = "linear-bench"
WAITS: Final = ("long poll", "event stream")
SHARED: Final = ("one job", "own jobs")
SUBMITS: Final = 100
HOLD_SECONDS: Final = 3.0  # over which CPU is counted while all wait
QUIET_SECONDS: Final = 0.5
QUIET_CPU: Final = 0.1  # of a core: less, and no request is being taken any more
LONGEST_SECONDS: Final = 60.0
MORE_THREADS: Final = 128  # than the clients hold
DONE: Final = b'"done":true'
SUCCEEDED: Final = b'"status":"succeeded"'
REFUSED: Final = re.compile(rb"HTTP/1.1 503 .*?\r\nretry-after: (\d+)\r\n", re.DOTALL | re.IGNORECASE)
# Between two that come: a burst of hundreds is another question.
PACE_SECONDS: Final = 0.004
NOT_DONE: Final = b'"done":false'
SUBMIT: Final = "POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
REDIS_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one way of waiting."""

    waits: str
    jobs: str
    clients: int
    p50_ms: float
    p99_ms: float
    last_ms: float
    refused: int
    client_kib: float
    client_cpu_us_a_second: float
    submit_before_ms: float
    submit_meanwhile_ms: float


class Waiting:
    """Clients that wait, each on a connection of its own; one that is asked to come again later does."""

    def __init__(self, port: int, requests: Sequence[tuple[str, bytes]], *, streams: bool) -> None:
        self._port, self._requests = port, requests
        self._streams = streams  # which tell of a job that is not done, too
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[int, socket.socket] = {}
        self._read: dict[int, bytearray] = {}
        self._later: list[tuple[float, int]] = []  # who comes again, and when
        self.refused = 0
        self.told: dict[int, float] = {}  # by the number of the request
        for number in range(len(requests)):
            self._ask(number)
            self.read_for(PACE_SECONDS)

    def _ask(self, number: int) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=LONGEST_SECONDS)
        connection.sendall(self._requests[number][1])
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, number)
        self._sockets[number], self._read[number] = connection, bytearray()

    def read_for(self, seconds: float) -> None:
        """Read what comes until all are told, or for so long. Raises VoidRunError if one is cut off or not told."""
        end = time.perf_counter() + seconds
        while True:
            now = time.perf_counter()
            due, self._later = [n for at, n in self._later if at <= now], [one for one in self._later if one[0] > now]
            for number in due:
                self._ask(number)
            for key, _ in self._selector.select(max(0.0, min(0.05, end - now))):
                self._take(key.data)
            if time.perf_counter() >= end or len(self.told) == len(self._requests):
                return

    def _take(self, number: int) -> None:
        connection, read = self._sockets[number], self._read[number]
        data = connection.recv(65_536)
        read += data
        if DONE in read:
            if SUCCEEDED not in read:
                raise VoidRunError(f"a client was told of another end of its job: {bytes(read[-2000:])!r}")
            self.told[number] = time.perf_counter()
            self._selector.unregister(connection)
        elif found := REFUSED.match(read):
            self.refused += 1
            self._selector.unregister(connection)
            connection.close()
            self._later.append((time.perf_counter() + int(found[1]), number))
        elif not data or (NOT_DONE in read and not self._streams):
            raise VoidRunError(f"a client was not told of the end of its job: {bytes(read[:300])!r}")

    @property
    def all_asked(self) -> bool:
        """Whether nobody was asked to come again later who has not."""
        return not self._later

    def close(self) -> None:
        """Hang up."""
        for connection in self._sockets.values():
            connection.close()
        self._selector.close()


class Submitter:
    """A client that submits jobs and is told of none."""

    def __init__(self, port: int, questions: Iterator[Question]) -> None:
        self._selector, self._questions = selectors.DefaultSelector(), questions
        self._connection = Connection(port, self._selector, None)

    def submit(self) -> tuple[str, float]:
        """The id of a new job, and how long it took to be given it, seconds. Raises VoidRunError."""
        body = orjson.dumps(FORETELL_POLL.encode(next(self._questions)))
        head = f"{SUBMIT}Content-Length: {len(body)}\r\n\r\n"
        began, response = time.perf_counter(), None
        self._connection.send(head.encode() + body, repeatable=False)
        while response is None:
            if not self._selector.select(LONGEST_SECONDS):
                raise VoidRunError(f"no answer to a submit within {LONGEST_SECONDS:g} s")
            response = self._connection.receive()
        return self._id(response), time.perf_counter() - began

    def _id(self, response: Response) -> str:
        if response.status != 202:
            raise VoidRunError(f"a submit was answered {response.status}: {response.body[:300]!r}")
        return str(orjson.loads(response.body)["id"])

    def close(self) -> None:
        self._connection.close()


class Service:
    """Redis and an API, and what a worker would do."""

    def __init__(self, processes: ProcessGroup, folder: Path, settings: dict[str, int]) -> None:
        fleet = Fleet(processes, folder, **settings)
        model = prepare_model(MODEL, folder, seconds=1)
        register(fleet.environment, model.name, model.artifact, model.sample)
        self.api = fleet.start("api")
        self.port = fleet.settings.port
        connections = Connections(fleet.settings.redis_address, timeout_seconds=REDIS_SECONDS)
        self._store = JobStore(connections, fleet.settings)
        self.submitter = Submitter(self.port, model.questions())

    def running(self, count: int) -> tuple[list[str], list[Unit]]:
        """So many jobs that run, and the units that they run in."""
        wanted, units = [self.submitter.submit()[0] for _ in range(count)], list[Unit]()
        while len({job_id for unit in units for job_id in unit.job_ids} & set(wanted)) < count:
            unit = self._store.pull(ONLINE, "benchmark", linger_seconds=0, answered=True)
            if unit is None:
                raise VoidRunError("jobs are lost")
            units.append(unit)
        return wanted, units

    def end(self, units: Sequence[Unit]) -> dict[str, float]:
        """End all jobs of units; when each was known to have ended."""
        ended: dict[str, float] = {}
        for unit in units:
            outcomes = [
                Outcome(id=job_id, status=Status.SUCCEEDED, succeeded=1, failed=0, result=b"[1.0]")
                for job_id in unit.job_ids
            ]
            self._store.commit(unit.fence, outcomes)
            ended |= dict.fromkeys(unit.job_ids, time.perf_counter())
        return ended

    def _processes(self) -> list[psutil.Process]:
        return [self.api, *self.api.children(recursive=True)]

    def memory_bytes(self) -> int:
        """Of the API, proportional where the system tells it."""
        told = [process.memory_full_info() for process in self._processes()]
        return sum(getattr(one, "pss", one.rss) for one in told)

    def cpu_seconds(self) -> float:
        """Of the API so far."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(one.user + one.system for one in times)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    settings = settings_for(options.clients, options.processes)
    print(*(f"{PREFIX}{name.upper()}={value}" for name, value in settings.items()), flush=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    measured: list[Told] = []
    with ended_by_signals():
        void = finding_void(lambda: measure(options.clients, settings, measured))
    print(f"\n{text(measured)}")
    if options.json:
        command = " ".join(["python -m benchmarks.clients", *(sys.argv[1:] if arguments is None else arguments)])
        found = {"void": void, "settings": settings, "told": [asdict(one) for one in measured]}
        options.json.write_text(json.dumps(circumstances(command) | found, indent=1) + "\n")
    return 1 if void else 0


def settings_for(clients: int, processes: int) -> dict[str, int]:
    """With which each API process would take all of them: which one a connection comes to is chance."""
    return {
        "api_processes": processes,
        "api_threads": clients + MORE_THREADS,
        "max_waiters": clients,
        "max_event_streams": clients,
        "max_wait_seconds": round(2 * LONGEST_SECONDS),
    }


def measure(clients: int, settings: dict[str, int], measured: list[Told]) -> None:
    """Each way of waiting, noted as it ends. Raises VoidRunError."""
    for waits in WAITS:
        for jobs in SHARED:
            # Anew each time: what threads have left behind would count for the next.
            with tempfile.TemporaryDirectory(prefix="bench-") as folder, ProcessGroup(Path(folder)) as processes:
                service = Service(processes, Path(folder), settings)
                measured.append(one_way(service, waits, jobs, clients))
                print(f"{waits}, {jobs}: the last of {clients} told after {measured[-1].last_ms:.0f} ms", flush=True)


def one_way(service: Service, waits: str, jobs: str, clients: int) -> Told:
    """Let all wait, and end what they wait for. Raises VoidRunError."""
    before = _submits(service)
    ids, units = service.running(1 if jobs == "one job" else clients)
    asked = [(ids[number % len(ids)], request_of(waits, ids[number % len(ids)])) for number in range(clients)]
    memory = service.memory_bytes()
    waiting = Waiting(service.port, asked, streams=waits == "event stream")
    try:
        _settle(service, waiting)
        grown = service.memory_bytes() - memory
        cpu, began = service.cpu_seconds(), time.perf_counter()
        waiting.read_for(HOLD_SECONDS)
        cpu_a_second = (service.cpu_seconds() - cpu) / (time.perf_counter() - began)
        meanwhile = _submits(service)
        ended: dict[str, float] = {}
        worker = threading.Thread(target=lambda: ended.update(service.end(units)))
        worker.start()
        waiting.read_for(LONGEST_SECONDS)
        worker.join()
        if len(waiting.told) < clients:
            raise VoidRunError(f"{clients - len(waiting.told)} clients were not told within {LONGEST_SECONDS:g} s")
        took = sorted(1000 * (at - ended[asked[number][0]]) for number, at in waiting.told.items())
    finally:
        waiting.close()
        service.submitter.close()
    return Told(
        waits=waits,
        jobs=jobs,
        clients=clients,
        p50_ms=percentile(took, 50),
        p99_ms=percentile(took, 99),
        last_ms=took[-1],
        refused=waiting.refused,
        client_kib=grown / clients / 1024,
        client_cpu_us_a_second=cpu_a_second / clients * 1e6,
        submit_before_ms=before,
        submit_meanwhile_ms=meanwhile,
    )


def request_of(waits: str, job_id: str) -> bytes:
    """What a client sends."""
    if waits == "event stream":
        return f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    return f"GET /jobs/{job_id} HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait={2 * LONGEST_SECONDS:.0f}\r\n\r\n".encode()


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank one."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def _submits(service: Service) -> float:
    """The median of some submits, milliseconds."""
    return median(service.submitter.submit()[1] for _ in range(SUBMITS)) * 1000


def _settle(service: Service, waiting: Waiting) -> None:
    """Wait until the API does nothing any more: then all requests have been taken. Raises VoidRunError."""
    end, spent = time.perf_counter() + LONGEST_SECONDS, service.cpu_seconds()
    while time.perf_counter() < end:
        waiting.read_for(QUIET_SECONDS)
        before, spent = spent, service.cpu_seconds()
        if waiting.all_asked and spent - before < QUIET_CPU * QUIET_SECONDS:
            return
    raise VoidRunError(f"the API has not taken all clients within {LONGEST_SECONDS:g} s")


def text(measured: Sequence[Told]) -> str:
    """A line for each way of waiting."""
    heads = ["waits by", "for", "clients", "told p50 ms", "p99", "last", "refused", "KiB a client", "CPU us/s a client"]
    rows = [[*heads, "submit ms, before", "meanwhile"]]
    for one in measured:
        told = [*(f"{value:.1f}" for value in (one.p50_ms, one.p99_ms, one.last_ms)), str(one.refused)]
        rest = [
            f"{one.client_kib:.0f}",
            f"{one.client_cpu_us_a_second:.0f}",
            f"{one.submit_before_ms:.2f}",
            f"{one.submit_meanwhile_ms:.2f}",
        ]
        rows.append([one.waits, one.jobs, f"{one.clients:,}", *told, *rest])
    return aligned(rows)


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000, metavar="N", help="that wait at a time (default 1000)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="of the API (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    options = parser.parse_args(arguments)
    if min(options.clients, options.processes) < 1:
        parser.error("--clients and --processes must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
