"""Trainings: does a second worker process halve a search, and do predictions notice that a training runs?

    python -m benchmarks.training                  about ten minutes
    python -m benchmarks.training --rounds 1       a look

- search: 12 candidates by 3 folds of GradientBoostingRegressor(n_estimators=150) over 3,000 rows of ten features, with
  one and with two worker processes, each in a service of its own, in turn, in reversed order every second round. `fits`
  is from the plan to the last of the 36 fits, which are spread over the processes; `job` is from the submission to the
  end, with the plan, the last fit on all rows, the comparison and the registration, which one process does. `fits at
  once` is how many ran at the same time on average, which does not depend on what else the machine does.
- latency: one client of linear-bench with `Prefer: wait=10`, in turn with and without a training in the background, in
  one service with two worker processes a queue. Trainings run at a lower priority (nice 10).

Every search must choose the same candidate, and every prediction must be right; else the run ends with exit code 1.
"""

import argparse
import http.client
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.csv
from sklearn.ensemble import GradientBoostingRegressor

from benchmarks.connection import VoidRunError
from benchmarks.dialects import FORETELL_WAIT
from benchmarks.load import Load
from benchmarks.processes import ProcessGroup
from benchmarks.questions import BenchModel, prepare_model
from benchmarks.report import aligned
from benchmarks.sampling import Observation
from benchmarks.systems import register, serve_foretell

ROWS, FEATURES, SAMPLE_ROWS = 3_000, 10, 100
FOLDS = 3
GRID = {"max_depth": [2, 3, 4], "learning_rate": [0.05, 0.1, 0.2, 0.3]}
WORKERS = (1, 2)
PREDICTED = "linear-bench"
SECONDS, WARM_UP_SECONDS = 8.0, 1.0
LONGEST_SECONDS = 900.0
POLL_SECONDS = 0.02
LOG_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Search:
    """What one search took, and the parameters that it chose."""

    job_seconds: float
    fits_seconds: float
    chosen: dict[str, Any]
    at_once: float  # fits that ran at the same time, on average: the sum of their times over `fits_seconds`
    others_cpu_percent: float  # of all cores, what went to neither the service nor its client


class Service:
    """A running service as its client sees it, with the model `boosting` and the rows to train it on."""

    def __init__(self, processes: ProcessGroup, folder: Path, workers: int) -> None:
        self._processes, self._log = processes, folder / "foretell.log"
        settings = {"FORETELL_WORKERS": str(workers), "FORETELL_DEMO_MODELS": "false"}
        self.port, self.environment = serve_foretell(processes, folder, settings)
        rows = labelled_rows()
        sample = folder / "sample.csv"
        pyarrow.csv.write_csv(rows.drop_columns(["y"]).slice(0, SAMPLE_ROWS), sample)
        artifact = folder / "boosting.joblib"
        features, target = rows.drop_columns(["y"]).to_pandas().to_numpy(), rows.column("y").to_numpy()
        joblib.dump(GradientBoostingRegressor(n_estimators=150, random_state=0).fit(features, target), artifact)
        register(self.environment, "boosting", artifact, sample)
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(rows, sink)
        self._file_id = self.ask("POST", "/files", bytes(sink.getvalue()), "text/csv")["id"]

    def ask(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json") -> Any:
        """One request, which must succeed; its answer. Raises VoidRunError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": media_type} if body else {})
            answer = connection.getresponse()
            document = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise VoidRunError(f"{method} {path} was answered {answer.status}: {document[:500]!r}")
        return json.loads(document)

    def submit(self, grid: dict[str, Any]) -> str:
        """A search of a grid; the id of its job."""
        wanted = {
            "kind": "train", "model": "boosting", "target": "y", "promote": "never",
            "input": {"file_id": self._file_id}, "recipe": {"param_grid": grid, "folds": FOLDS},
        }  # fmt: skip
        job_id: str = self.ask("POST", "/jobs", json.dumps(wanted).encode())["id"]
        return job_id

    def until(self, job_id: str, reached: Callable[[Any], bool]) -> Any:
        """The job once it has got that far. Raises VoidRunError."""
        end = time.perf_counter() + LONGEST_SECONDS
        while not reached(job := self.ask("GET", f"/jobs/{job_id}")):
            if job["done"] or time.perf_counter() > end:
                raise VoidRunError(f"a training ended {job['status']}: {job['failure']}")
            time.sleep(POLL_SECONDS)
        return job

    def search(self, grid: dict[str, Any]) -> Search:
        """Have a search done. Raises VoidRunError."""
        with Observation(self._processes) as seen:
            began = time.perf_counter()
            job_id = self.submit(grid)
            total = fits_of(self.until(job_id, lambda job: fits_of(job)[1] > 0))[1]
            planned = time.perf_counter()
            self.until(job_id, lambda job: job["done"] or fits_of(job)[0] == fits_of(job)[1])
            fitted = time.perf_counter()
            job = self.until(job_id, lambda job: bool(job["done"]))
            ended = time.perf_counter()
        if job["status"] != "succeeded":
            raise VoidRunError(f"a training ended {job['status']}: {job['failure']}")
        return Search(
            job_seconds=ended - began,
            fits_seconds=fitted - planned,
            chosen=job["result"]["params"],
            at_once=self._fits_seconds(job_id, total) / (fitted - planned),
            others_cpu_percent=seen.others_cpu_fraction * 100,
        )

    def _fits_seconds(self, job_id: str, total: int) -> float:
        """The times of all fits of a search together, as the workers logged them. Raises VoidRunError."""
        end = time.perf_counter() + LOG_SECONDS
        while True:
            lines = [json.loads(line) for line in self._log.read_bytes().splitlines() if job_id.encode() in line]
            times = [line["run_ms"] for line in lines if line["event"] == "unit.committed" and line["kind"] == "chunk"]
            if len(times) == total:
                return float(sum(times)) / 1000
            if time.perf_counter() > end:
                raise VoidRunError(f"the log has {len(times)} of {total} fits of {job_id}")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def training(self) -> Iterator[None]:
        """With fits in the background all the time."""
        job_id = self.submit({"max_depth": [4], "learning_rate": np.linspace(0.01, 0.5, 300).tolist()})
        self.until(job_id, lambda job: fits_of(job)[0] > 0)
        yield
        self.until(job_id, lambda job: not job["done"])  # else it has ended too soon
        self.ask("POST", f"/jobs/{job_id}/cancel")
        self.until(job_id, lambda job: bool(job["done"]))


def labelled_rows() -> pa.Table:
    """ROWS rows of x1 to x10 and y, the same at every run."""
    random = np.random.default_rng(0)
    features = random.normal(size=(ROWS, FEATURES))
    target = features[:, 0] * features[:, 1] + np.sin(3 * features[:, 2]) + features[:, 3] + random.normal(0, 0.3, ROWS)
    return pa.table({f"x{number + 1}": features[:, number] for number in range(FEATURES)} | {"y": target})


def fits_of(job: Any) -> tuple[int, int]:
    """Fits of its search that are done, and all of them; none before the plan."""
    fits = job["progress"]["fits"] or {"done": 0, "total": 0}
    return int(fits["done"]), int(fits["total"])


def measure_searches(rounds: int) -> dict[int, list[Search]]:
    """Searches by worker processes. Raises VoidRunError."""
    measured: dict[int, list[Search]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        for workers in WORKERS[::-1] if number % 2 else WORKERS:
            with tempfile.TemporaryDirectory(prefix="training-") as name, ProcessGroup(Path(name)) as processes:
                service = Service(processes, Path(name), workers)
                service.search({"max_depth": [2]})  # so that every process has its modules and the model
                one = service.search(GRID)
            measured[workers].append(one)
            print(
                f"round {number + 1}, {workers} processes: fits {one.fits_seconds:.2f} s, job {one.job_seconds:.2f} s, "
                f"{one.at_once:.2f} fits at once, others' CPU {one.others_cpu_percent:.0f} %",
                flush=True,
            )
    if len({json.dumps(one.chosen, sort_keys=True) for searches in measured.values() for one in searches}) != 1:
        raise VoidRunError("the searches chose different candidates")
    return measured


def measure_latencies(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """p50 and p99 in milliseconds, idle and with a training. Raises VoidRunError."""
    measured: dict[str, list[tuple[float, float]]] = {"idle": [], "training": []}
    with tempfile.TemporaryDirectory(prefix="training-") as name, ProcessGroup(Path(name)) as processes:
        service = Service(processes, Path(name), 2)
        model = prepare_model(PREDICTED, Path(name), seconds=4)
        register(service.environment, model.name, model.artifact, model.sample)
        for number in range(rounds):
            for state in ("idle", "training") if number % 2 == 0 else ("training", "idle"):
                if state == "training":
                    with service.training():
                        one = _latency(service, model)
                else:
                    one = _latency(service, model)
                measured[state].append(one)
                print(f"round {number + 1}, {state}: p50 {one[0]:.2f} ms, p99 {one[1]:.2f} ms", flush=True)
    return measured


def _latency(service: Service, model: BenchModel) -> tuple[float, float]:
    load = Load(service.port, FORETELL_WAIT, model.questions(), clients=1)
    outcome = load.run(warm_up_seconds=WARM_UP_SECONDS, seconds=SECONDS)
    return outcome.latency_ms(50), outcome.latency_ms(99)


def report(searches: dict[int, list[Search]], latencies: dict[str, list[tuple[float, float]]]) -> str:
    """Medians over the rounds, and ratios of one round with their lowest and highest."""
    lines = [["search", "fits s", "job s", "fits at once", "others' CPU %"]]
    for workers, found in searches.items():
        fields = ("fits_seconds", "job_seconds", "at_once", "others_cpu_percent")
        medians = (statistics.median(getattr(one, field) for one in found) for field in fields)
        lines.append([f"{workers} processes", *(f"{median:.2f}" for median in medians)])
    ratios = [
        _ratio(name, [getattr(one, field) / getattr(two, field) for one, two in zip(*searches.values(), strict=True)])
        for name, field in (("fits: 1 / 2", "fits_seconds"), ("job: 1 / 2", "job_seconds"))
    ]
    ratios.append(
        _ratio("fits at once: 2 / 1", [two.at_once / one.at_once for one, two in zip(*searches.values(), strict=True)])
    )
    times = [["latency", "p50 ms", "p99 ms"]]
    for state, rounds in latencies.items():
        times.append([state, *(f"{statistics.median(values):.2f}" for values in zip(*rounds, strict=True))])
    ratios += [
        _ratio(name, [busy[at] / idle[at] for idle, busy in zip(*latencies.values(), strict=True)])
        for at, name in enumerate(("p50: training / idle", "p99: training / idle"))
    ]
    tables = (lines, times, [["ratio", "median", "lowest", "highest"], *ratios])
    return "\n\n".join(aligned(table) for table in tables)


def _ratio(name: str, values: list[float]) -> list[str]:
    return [name, *(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        searches, latencies = measure_searches(options.rounds), measure_latencies(options.rounds)
    except VoidRunError as error:
        print("void:", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process has ended", file=sys.stderr)
        return 130
    print(f"\nMedians of {options.rounds} rounds\n\n{report(searches, latencies)}")
    return 0


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
