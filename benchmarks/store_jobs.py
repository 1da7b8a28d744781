"""Jobs of one row for benchmarks of the job store: submitted, pulled and ended without an API or a worker."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import joblib
import numpy as np
import pyarrow as pa
from sklearn.linear_model import LinearRegression

from benchmarks.store_server import StoreServer, store_server
from shared.job import Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.records import Outcome, Submission, Unit
from shared.registry import Registry
from shared.storage import Storage
from shared.store import JobStore
from worker.model_cache import bytes_of
from worker.registration import register

MOST_WAITING: Final = 100_000
CALLS: Final = 200  # of each kind, measured
SAMPLE_ROWS: Final = 100
FAILED_EVERY: Final = 1_000  # the micro-batches that fail, which a filtered list looks for, have one of these
SEED: Final = 7


@dataclass(frozen=True, kw_only=True)
class Took:
    """Calls of one kind."""

    latency_us: float  # median
    redis_us: float  # mean


@contextmanager
def store() -> Iterator[tuple[StoreServer, JobStore]]:
    """A server without jobs, and a store that keeps all and takes as many as come."""
    with store_server() as server:
        settings = server.settings.model_copy(
            update={"max_waiting_jobs": MOST_WAITING, "redis_max_memory_mb": 8_000, "result_ttl_seconds": 86_400}
        )
        server.connections.client.config_set("maxmemory", "8000mb")
        yield server, JobStore(server.connections, settings)


def register_models(server: StoreServer, jobs: JobStore, count: int) -> int:
    """Register so many linear models of three features; the bytes that one takes in a cache."""
    registry = Registry(server.connections, jobs.keys, Storage.of(server.settings))
    features = np.random.default_rng(SEED).normal(size=(SAMPLE_ROWS, 3))
    fitted, sample = io.BytesIO(), pa.table({f"x{n + 1}": features[:, n] for n in range(3)})
    joblib.dump(LinearRegression().fit(features, features.sum(axis=1)), fitted)
    for number in range(count):
        manifest = register(
            registry, f"m{number}", fitted.getvalue(), format="joblib", sample=sample, settings=server.settings
        )
    return bytes_of(manifest)


def measured(server: StoreServer, call: Callable[[], Any], calls: int = CALLS) -> Took:
    """Call it so often."""
    latencies, began = [], server.cpu_micros()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - start)
    return Took(latency_us=1e6 * median(latencies), redis_us=(server.cpu_micros() - began) / calls)


def add_models(server: StoreServer, jobs: JobStore, count: int) -> None:
    """Models that jobs may name; there are no artifacts."""
    for number in range(count):
        server.connections.client.hset(jobs.keys.model(f"m{number}"), "v:1", 1)
        server.connections.client.sadd(jobs.keys.models, f"m{number}")


def submit(jobs: JobStore, model: int = 0) -> str:
    """A job of one row; its id."""
    name = f"m{model}"
    spec = Spec(requested=name, model=name, version=1, sha256="0" * 64, method="predict", request_id="0" * 16)
    job_id = new_job_id()
    jobs.submit(
        Submission(id=job_id, spec=spec, rows=b"[[1.0,2.0,3.0]]", total=1, alias=None, queue=ONLINE, ttl_seconds=86_400)
    )
    return job_id


def pull(jobs: JobStore, worker: str) -> Unit | None:
    """A micro-batch, if there is one."""
    return jobs.pull(ONLINE, worker, linger_seconds=60, answered=True)


def commit(jobs: JobStore, unit: Unit, status: Status) -> None:
    """End a micro-batch."""
    failed = status is Status.FAILED
    jobs.commit(
        unit.fence,
        [
            Outcome(id=job_id, status=status, succeeded=1 - failed, failed=int(failed), result=b"[215.318]")
            for job_id in unit.job_ids
        ],
    )


def finish(jobs: JobStore, count: int, *, number: int) -> list[str]:
    """Submit so many jobs and end all that wait; their ids. `number` are there already."""
    ids = [submit(jobs) for _ in range(count)]
    end_all(jobs, number=number)
    return ids


def end_all(jobs: JobStore, *, number: int = 1) -> None:
    """End all jobs that wait; `number` were there before. A micro-batch with each thousandth job fails."""
    while (unit := pull(jobs, "w")) is not None:
        rare = any(one % FAILED_EVERY == 0 for one in range(number, number + len(unit.jobs)))
        number += len(unit.jobs)
        commit(jobs, unit, Status.FAILED if rare else Status.SUCCEEDED)
