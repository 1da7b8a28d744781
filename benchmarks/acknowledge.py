"""What it costs to acknowledge a job only once a replica has it: `python -m benchmarks.acknowledge`.

The submission of the job store, without HTTP, to a primary on loopback with one replica; with and without waiting by
turns, so that what else the machine does hits both alike. Between machines a round trip to the replica comes on top.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import orjson
import redis

from benchmarks.processes import ProcessGroup
from deploy.commands import redis_command
from shared.connection import Connections
from shared.job import Spec, new_job_id
from shared.keys import Keys
from shared.queue import ONLINE
from shared.records import Submission
from shared.settings import Settings
from shared.store import JobStore


def submission() -> Submission:
    """A job of one row, with an Idempotency-Key of its own."""
    job_id = new_job_id()
    spec = Spec(requested="m", model="m", version=1, sha256="0" * 64, method="predict")
    rows = orjson.dumps([[0.1, 0.2, 0.3]])
    key = (job_id, "0" * 64)
    return Submission(
        id=job_id, spec=spec, alias=None, queue=ONLINE, ttl_seconds=600, rows=rows, total=1, idempotency=key
    )


def measured(store: JobStore, jobs: int) -> list[float]:
    """Seconds of each of some submissions, one after the other."""
    times = []
    for _ in range(jobs):
        job = submission()
        began = time.perf_counter()
        store.submit(job)
        times.append(time.perf_counter() - began)
    return times


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acknowledge", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="%(default)s")
    parser.add_argument("--jobs", type=int, default=200, help="of each round and kind; %(default)s")
    parser.add_argument("--port", type=int, default=16379, help="of the primary on loopback; %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ft-") as name, ProcessGroup(Path(name)) as group:
        primary, behind = (Settings(data_dir=Path(name) / folder, max_waiting_jobs=10**6) for folder in ("one", "two"))
        for settings in (primary, behind):
            settings.redis_socket.parent.mkdir(parents=True)
        quick = ["--port", str(given.port), "--repl-diskless-sync-delay", "0"]
        group.start("primary", [*redis_command(primary), *quick], {})
        group.start("replica", [*redis_command(behind), "--replicaof", "127.0.0.1", str(given.port)], {})
        client = Connections(behind.redis_address, timeout_seconds=5).client

        def follows() -> bool:
            try:
                return bool(client.info("replication").get("master_link_status") == "up")
            except redis.RedisError:
                return False

        group.wait_until(follows, "the replica follows", seconds=30)
        kinds = (primary, primary.model_copy(update={"replicas_acknowledge": 1}))
        stores = [JobStore(Connections(each.redis_address, timeout_seconds=5), each) for each in kinds]
        stores[0].connections.client.hset(Keys(primary.redis_prefix).model("m"), "v:1", 1)
        times: list[list[float]] = [[], []]
        for _ in range(given.rounds):
            for kind, store in enumerate(stores):
                times[kind] += measured(store, given.jobs)
    medians = [statistics.median(each) * 1000 for each in times]
    print(f"median of {len(times[0])} submissions: {medians[0]:.3f} ms, with one replica {medians[1]:.3f} ms", end="; ")
    print(f"ratio {medians[1] / medians[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
