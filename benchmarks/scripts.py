"""What a small job costs Redis: CPU time of its main thread for one call of each script, with one owner.

    python -m benchmarks.scripts --rounds 60

The least of all rounds, each of 512 submits, 8 pulls and commits of 64 jobs, and 128 of two jobs; sockets included.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.store_server import StoreServer, store_server
from shared.job import Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.records import Outcome, Submission, Unit
from shared.store import JobStore

JOBS: Final = 512
PAIRS: Final = 128


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scripts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="default 20")
    rounds = parser.parse_args(arguments).rounds
    with store_server() as server:
        store = JobStore(server.connections, server.settings)
        server.connections.client.hset(store.keys.model("m"), "v:1", 1)
        measured = [measure(server, store) for _ in range(rounds)]
    print("script        CPU of Redis, us")
    for name in measured[0]:
        print(f"{name:13} {min(costs[name] for costs in measured):16.0f}")
    return 0


def measure(server: StoreServer, store: JobStore) -> dict[str, float]:
    """Microseconds of one call of each script, on average."""
    costs: dict[str, float] = {}
    began = server.cpu_micros()
    for _ in range(JOBS):
        submit(store)
    costs["submit"] = (server.cpu_micros() - began) / JOBS
    began = server.cpu_micros()
    units = [pull(store) for _ in range(JOBS // 64)]
    costs["pull of 64"] = (server.cpu_micros() - began) / len(units)
    costs["commit of 64"] = commit(server, store, units)
    spent, pairs = 0.0, []
    for _ in range(PAIRS):
        submit(store)
        submit(store)
        began = server.cpu_micros()
        pairs.append(pull(store))
        spent += server.cpu_micros() - began
    costs["pull of 2"] = spent / PAIRS
    costs["commit of 2"] = commit(server, store, pairs)
    return costs


def submit(store: JobStore) -> None:
    """A job of one row."""
    spec = Spec(requested="m", model="m", version=1, sha256="0" * 64, method="predict")
    store.submit(
        Submission(id=new_job_id(), spec=spec, rows=b"[[1.0]]", total=1, alias=None, queue=ONLINE, ttl_seconds=60)
    )


def pull(store: JobStore) -> Unit:
    """The next micro-batch."""
    unit = store.pull(ONLINE, "w", linger_seconds=0, answered=True)
    assert unit is not None
    return unit


def commit(server: StoreServer, store: JobStore, units: Sequence[Unit]) -> float:
    """End units; microseconds of one."""
    began = server.cpu_micros()
    for unit in units:
        done = [
            Outcome(id=job_id, status=Status.SUCCEEDED, succeeded=1, failed=0, result=b"[2.0]")
            for job_id in unit.job_ids
        ]
        store.commit(unit.fence, done)
    return (server.cpu_micros() - began) / len(units)


if __name__ == "__main__":
    sys.exit(main())
