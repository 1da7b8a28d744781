"""Growth: what a submit, a poll, a list and a scrape take when there are many jobs, lanes or workers.

    python -m benchmarks.growth                     some minutes
    python -m benchmarks.growth --jobs 1000000      with a million finished jobs too; some minutes more, and 2 GiB

- finished: so many jobs of one row have ended and are kept. Each request is made over HTTP, as users make it, then what
  it asks of the job store, alone. A poll reads one of the last hundred, as clients do; any other is memory that nobody
  has looked at for long. It begins when Redis has moved all keys into tables of the size that they have by then.
  `ratio` is the median latency over that with the fewest jobs; bytes are those of Redis' memory, a job.
- waiting: 10,000 jobs wait, in one lane or in a thousand; against ten in one lane. Pulls take up to 64 jobs. A scrape
  is what `GET /metrics` asks Redis for, at most once a second.
- models: jobs come one at a time, each for the next of so many models in turn, to one worker that pulls, predicts with
  the model of that job, and commits. `ratio` is over one model. `loads` are of artifacts, a job: 0 while all of them
  fit into the cache of the worker (`FORETELL_MODEL_CACHE_MB`); a second line has room for a tenth of them. `first` is
  the job that loads its model.
- workers: jobs come one at a time while so many worker processes are idle; what each costs Redis, from the submit to
  the pull after the commit that finds nothing. The first wall, on paper, from that: a unit is a micro-batch, here of
  one job with its submit; so many units a second take all of Redis' main thread, and so many worker processes make
  them where a unit keeps each busy for so long. Polls come on top; micro-batches of several jobs move it out.

All of it runs on one core, where the system allows that: to wake a process on another one takes as long as a call in a
virtual machine, and it is chance which of the servers that happens to.
Latency is what the caller waits for, of Redis over a unix socket; `us of Redis` is processor time of the server's main
thread, on average, sockets included.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.kept_jobs import finished
from benchmarks.report import aligned
from benchmarks.store_jobs import CALLS, add_models, commit, measured, pull, register_models, store, submit
from benchmarks.store_server import StoreServer
from shared.job import Status
from shared.measures import Measures
from shared.records import Unit
from shared.registry import Registry
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from worker.micro_batch import MicroBatchRunner
from worker.model_cache import ModelCache

SIZES: Final = (1_000, 10_000, 100_000)
WAITING: Final = 10_000
LANES: Final = 1_000
WORKERS: Final = (1, 2, 4, 8)
MODELS: Final = (1, 10, 100)
BUSY_MS: Final = (1, 5, 20, 100)  # for which a unit may keep a worker process busy


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, help="finish so many jobs too")
    wanted = parser.parse_args(arguments).jobs
    if hasattr(os, "sched_setaffinity"):  # Linux; servers inherit it
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sizes = [*SIZES, *([wanted] if wanted and wanted > SIZES[-1] else [])]
    print(f"finished\n{aligned(finished(sizes))}\n", flush=True)
    print(f"waiting\n{aligned(waiting())}\n", flush=True)
    print(f"models\n{aligned(models())}\n", flush=True)
    idle = workers()
    print(f"workers\n{aligned(idle)}\n\nThe first wall, on paper\n{aligned(wall(idle))}")
    return 0


def waiting() -> list[list[str]]:
    """The table of jobs that wait."""
    rows = [["waiting", "lanes", "call", "latency us", "us of Redis", "jobs a call"]]
    for count, lanes in ((10, 1), (WAITING, 1), (WAITING, LANES)):
        with store() as (server, jobs):
            add_models(server, jobs, lanes)
            for number in range(count):
                submit(jobs, number % lanes)
            took = measured(server, lambda jobs=jobs: submit(jobs))  # type: ignore[misc]  # of this round
            rows.append([f"{count:,}", f"{lanes:,}", "submit", f"{took.latency_us:.0f}", f"{took.redis_us:.0f}", "1"])
            took = measured(server, Measures(jobs, Settings()).look, calls=20)
            rows.append([f"{count:,}", f"{lanes:,}", "scrape", f"{took.latency_us:.0f}", f"{took.redis_us:.0f}", "-"])
            units: list[Unit] = []

            def pulled(jobs: JobStore = jobs, units: list[Unit] = units) -> None:
                unit = pull(jobs, "w")
                if unit is not None:
                    units.append(unit)

            took = measured(server, pulled, calls=max(1, min(100, count // 64)))
            each = sum(len(unit.jobs) for unit in units) / max(1, len(units))
            cells = [f"{took.latency_us:.0f}", f"{took.redis_us:.0f}", f"{each:.1f}"]
            rows.append([f"{count:,}", f"{lanes:,}", "pull", *cells])
    return rows


def models() -> list[list[str]]:
    """The table of models that jobs are for in turn, predicted in this process with what a worker does it with."""
    rows = [["models", "room for", "predict ms", "ratio", "loads a job", "first ms", "us of Redis a job"]]
    alone = math.nan
    for count in MODELS:
        with store() as (server, jobs):
            size_bytes = register_models(server, jobs, count)
            for room in dict.fromkeys((count, max(1, count // 10))):
                turn = in_turn(server, jobs, count, room * size_bytes)
                middle = median(turn.took_ms)
                alone = middle if count == 1 else alone
                cells = [f"{middle:.2f}", f"{middle / alone:.2f}", f"{turn.loads / CALLS:.2f}"]
                cells.append(f"{median(turn.loaded_ms):.1f}")
                rows.append([f"{count:,}", f"{room:,}", *cells, f"{turn.redis_us:.0f}"])
    return rows


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Jobs for one model after the other: what each took, and the first one of each model, which loads it."""

    took_ms: list[float]
    loaded_ms: list[float]
    loads: int  # among those that are measured
    redis_us: float


def in_turn(server: StoreServer, jobs: JobStore, count: int, budget_bytes: int) -> Turn:
    """Predict a job of each model, then as many as are measured."""
    storage = Storage.of(server.settings)
    cache = ModelCache(Registry(server.connections, jobs.keys, storage), budget_bytes)
    runner = MicroBatchRunner(cache, storage, most_rows=1_000, inline_bytes=2**20)

    def predicted(number: int) -> float:
        submit(jobs, number % count)
        unit = pull(jobs, "w")
        assert unit is not None
        start = time.perf_counter()
        outcomes = runner.run(unit, frozenset)
        took_ms = 1000 * (time.perf_counter() - start)
        assert all(outcome.status is Status.SUCCEEDED for outcome in outcomes)
        jobs.commit(unit.fence, outcomes)
        return took_ms

    loaded_ms = [predicted(number) for number in range(count)]
    took_ms, loads, began = list[float](), 0, server.cpu_micros()
    for number in range(CALLS):
        loads += (f"m{number % count}", 1) not in cache
        took_ms.append(predicted(number))
    return Turn(took_ms=took_ms, loaded_ms=loaded_ms, loads=loads, redis_us=(server.cpu_micros() - began) / CALLS)


def wall(idle: Sequence[Sequence[str]]) -> list[list[str]]:
    """The table of worker processes that one Redis can keep busy, from that of idle workers."""
    rows = [["workers", "units/s of one Redis", *(f"workers of {busy} ms" for busy in BUSY_MS)]]
    for count, redis_us, _ in idle[1:]:
        units_a_second = 1e6 / float(redis_us)
        rows.append([count, f"{units_a_second:,.0f}", *(f"{units_a_second * busy / 1000:,.0f}" for busy in BUSY_MS)])
    return rows


def workers() -> list[list[str]]:
    """The table of idle workers."""
    rows = [["workers", "us of Redis a job", "commands a job"]]
    for count in WORKERS:
        with store() as (server, jobs):
            add_models(server, jobs, 1)
            names = [f"w{number}" for number in range(count)]
            for name in names:
                pull(jobs, name)  # finds nothing, and lingers
            server.connections.client.config_resetstat()
            began = server.cpu_micros()
            for number in range(CALLS):
                name = names[number % count]
                submit(jobs)
                unit = pull(jobs, name)
                assert unit is not None
                commit(jobs, unit, Status.SUCCEEDED)
                pull(jobs, name)
            spent = server.cpu_micros() - began
            commands = sum(one["calls"] for one in server.connections.client.info("commandstats").values())
            rows.append([str(count), f"{spent / CALLS:.0f}", f"{commands / CALLS:.1f}"])
    return rows


if __name__ == "__main__":
    sys.exit(main())
