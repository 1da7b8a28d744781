"""What requests take while more and more finished jobs are kept: over HTTP, and their calls of the job store alone."""

import http.client
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from benchmarks.processes import ProcessGroup, clean_environment, free_port, port_answers
from benchmarks.store_jobs import SEED, end_all, finish, measured, register_models, store, submit
from benchmarks.store_server import StoreServer
from deploy.commands import api_command
from shared.measures import Measures
from shared.settings import Settings, environment_of
from shared.store import JobStore

ROUNDS: Final = 5
RECENT: Final = 100  # jobs that clients still poll
USUAL_HZ: Final = 10  # how often a second a server looks after itself
FAST_HZ: Final = 500
START_SECONDS: Final = 60.0
BODY: Final = orjson.dumps({"model": "m0@1", "instances": [[1.0, 2.0, 3.0]]})

Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A server that keeps finished jobs, and what is asked of it."""

    server: StoreServer
    ids: list[str]
    bytes_a_job: float
    calls: dict[str, Call]
    end: Call  # the jobs that calls made


def finished(sizes: Sequence[int]) -> list[list[str]]:
    """The table of finished jobs: servers of all sizes, measured in turn."""
    rows = [["jobs", "call", "latency us", "ratio", "us of Redis", "bytes a job"]]
    with ExitStack() as stack:
        kept = [filled(stack, size) for size in sizes]
        for name in kept[0].calls:
            rounds = []
            for _ in range(ROUNDS):
                rounds.append([measured(one.server, one.calls[name]) for one in kept])
                for one in kept:
                    one.end()
            for number, one in enumerate(kept):
                latency = median(each[number].latency_us for each in rounds)
                ratio = median(each[number].latency_us / each[0].latency_us for each in rounds)
                redis = median(each[number].redis_us for each in rounds)
                cells = [f"{latency:.0f}", f"{ratio:.2f}", f"{redis:.0f}", f"{one.bytes_a_job:.0f}"]
                rows.append([f"{len(one.ids):,}", name, *cells])
    return rows


def filled(stack: ExitStack, size: int) -> Kept:
    """Start a server and an API, and finish so many jobs."""
    server, jobs = stack.enter_context(store())
    client = server.connections.client
    register_models(server, jobs, 1)
    empty, ids = int(client.info("memory")["used_memory"]), list[str]()
    while len(ids) < size:
        ids += finish(jobs, min(1_024, size - len(ids)), number=len(ids))
    used = int(client.info("memory")["used_memory"])
    settle(client)
    calls = requests_to(started_api(stack, server.settings), ids) | calls_of(jobs, ids)
    return Kept(server=server, ids=ids, bytes_a_job=(used - empty) / size, calls=calls, end=partial(end_all, jobs))


def settle(client: Any) -> None:
    """Wait until what a server does about its growth is done, such as moving its keys into a larger table."""
    client.config_set("hz", FAST_HZ)
    while client.info("persistence")["aof_rewrite_in_progress"] or client.memory_stats()["db.dict.rehashing.count"]:
        time.sleep(0.5)
    client.config_set("hz", USUAL_HZ)


def started_api(stack: ExitStack, settings: Settings) -> http.client.HTTPConnection:
    """Start one process of the API on the server of these settings; a connection to it."""
    settings = settings.model_copy(update={"port": free_port(), "api_processes": 1})
    group = stack.enter_context(ProcessGroup(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ft-")))))
    group.start("api", api_command(settings), clean_environment() | environment_of(settings))
    group.wait_until(lambda: port_answers(settings.port), "the API answers", seconds=START_SECONDS)
    return stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", settings.port, timeout=30)))


def requests_to(api: http.client.HTTPConnection, ids: Sequence[str]) -> dict[str, Call]:
    """What users ask for, one after the other on one connection."""
    order = random.Random(SEED)  # which job is read is no secret

    def answered(method: str, path: str, body: bytes | None = None, *, has: str = "") -> None:
        api.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        with api.getresponse() as response:
            told = response.read()
        if response.status not in (200, 202) or has.encode() not in told:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {told[:500]!r}")

    return {
        "POST /jobs": lambda: answered("POST", "/jobs", BODY),
        "GET /jobs/<id>": lambda: answered("GET", f"/jobs/{order.choice(ids[-RECENT:])}", has='"status":"succeeded"'),
        "GET /jobs": lambda: answered("GET", "/jobs", has='"id":'),
    }


def calls_of(jobs: JobStore, ids: Sequence[str]) -> dict[str, Call]:
    """What these and others ask of the job store."""
    order = random.Random(SEED)
    return {
        "submit": lambda: submit(jobs),
        "poll": lambda: jobs.read(order.choice(ids[-RECENT:])),
        "read of any": lambda: jobs.read(order.choice(ids)),
        "list": lambda: jobs.page(limit=50),
        "list of failed": lambda: jobs.page(limit=50, status="failed"),
        "scrape": Measures(jobs, Settings()).look,
    }
