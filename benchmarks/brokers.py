"""Small jobs with messages through Redis and through a RabbitMQ, in turn.

    python -m benchmarks.brokers amqp://guest:guest@127.0.0.1:5672/foretell

The virtual host must be there, and nobody else use it. Both services run all the time, on the same machine as the
RabbitMQ. `alone` is one job at a time, each after a pause in which the last worker has gone to sleep, so that every job
needs a message; `busy` are 16 clients that send the next job when they have the result of the last. Latency is from the
request to the result in its answer (`Prefer: wait`); ratios are of neighbouring rounds, RabbitMQ to Redis, medians.
"""

import argparse
import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.processes import ProcessGroup
from benchmarks.report import aligned
from benchmarks.systems import serve_foretell

BODY: Final = json.dumps({"model": "linear", "instances": [[0.06, 0.02, 0.02]]}).encode()
HEADERS: Final = {"Content-Type": "application/json", "Prefer": "wait=30"}
LINGER_SECONDS: Final = 0.2
CLIENTS: Final = 16


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.brokers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rabbitmq", metavar="URL", help="of a RabbitMQ, as FORETELL_BROKER_URL takes it")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--jobs", type=int, default=40, help="one at a time, a round; default 40")
    parser.add_argument("--seconds", type=float, default=4.0, help="of the busy part of a round; default 4")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ft-"))) for _ in range(2)]
        settings = {"FORETELL_LINGER_SECONDS": str(LINGER_SECONDS), "FORETELL_WORKERS": "2"}
        ports = []
        for folder, broker in zip(folders, ({}, {"FORETELL_BROKER_URL": options.rabbitmq}), strict=True):
            processes = stack.enter_context(ProcessGroup(folder))
            ports.append(serve_foretell(processes, folder, settings | broker)[0])
        alone: list[list[float]] = []
        busy: list[list[float]] = []
        for _ in range(options.rounds):
            alone.append([median(one_at_a_time(port, options.jobs)) * 1000 for port in ports])
            busy.append([jobs_a_second(port, options.seconds) for port in ports])
    rows = [["", "Redis", "RabbitMQ", "ratio"]]
    for name, rounds in (("alone, ms", alone), ("busy, jobs/s", busy)):
        redis, rabbitmq = (median(found) for found in zip(*rounds, strict=True))
        ratio = median(one[1] / one[0] for one in rounds)
        rows.append([name, f"{redis:.1f}", f"{rabbitmq:.1f}", f"{ratio:.2f}"])
    print(aligned(rows))
    return 0


def one_at_a_time(port: int, jobs: int) -> list[float]:
    """The seconds that each job took, when nobody was awake for it."""
    found = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(jobs):
            time.sleep(2 * LINGER_SECONDS)
            began = time.perf_counter()
            ask(connection)
            found.append(time.perf_counter() - began)
    return found


def jobs_a_second(port: int, seconds: float) -> float:
    """Of all clients together."""
    end = time.perf_counter() + seconds

    def work() -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            done = 0
            while time.perf_counter() < end:
                ask(connection)
                done += 1
            return done

    with ThreadPoolExecutor(CLIENTS) as threads:
        return sum(job.result() for job in [threads.submit(work) for _ in range(CLIENTS)]) / seconds


def ask(connection: http.client.HTTPConnection) -> None:
    """One job, with its result. Raises RuntimeError for anything else."""
    connection.request("POST", "/jobs", BODY, HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or json.loads(body)["status"] != "succeeded":
        raise RuntimeError(f"{answer.status} {body[:300]!r}")


if __name__ == "__main__":
    raise SystemExit(main())
