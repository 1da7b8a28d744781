"""Where the time of a small job and of a file's row goes, and the least that it could cost.

    python -m benchmarks.profile                       about a minute and a half
    python -m benchmarks.profile --json benchmarks/results/profile.json
    python -m benchmarks.page benchmarks/results/bench.json     puts it into docs/benchmarks.md, when it lies beside

The service is started as `make run` does, with two workers and the linear model of three features. 16 clients load it,
by poll and by wait, twice each: first undisturbed, for the CPU time of each kind of process, the client's apart; then
under a sampling profiler (spy.py), one process of the API and one of the online workers, for the parts of it
(parts.py). Samples are of the thread that holds the interpreter, so they share out only the user time of threads that
run Python; the kernel's time, and that of threads that never do, are counted by the kernel itself. Then a CSV file of
an id and ten floats a row is scored by the linear model; its steps are those of the workers' log. In the end each part
alone, in a loop in this process (alone.py): the least that it can cost.

Where no other process may be looked into, the parts are left out, and it says so. Every answer is checked.
"""

import argparse
import http.client
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import alone, batch_files, spy
from benchmarks.batch_rows import Rows
from benchmarks.batch_systems import Run, score_by_service
from benchmarks.ending import ended_by_signals, finding_void
from benchmarks.environment import UnavailableError
from benchmarks.load import CpuSeconds, Load, Outcome
from benchmarks.parts import parts_of
from benchmarks.processes import ProcessGroup
from benchmarks.profile_report import KERNEL, NO_PYTHON, text
from benchmarks.questions import BenchModel, prepare_model
from benchmarks.report import circumstances, figures
from benchmarks.sampling import cpu_seconds_by_kind, kind_of
from benchmarks.systems import OWN_SYSTEMS, register, serve_foretell
from shared.connection import Connections
from shared.settings import Settings

CLIENTS: Final = 16
MODES: Final = ("poll", "wait")
ROLES: Final = ("api", "online worker")
MODEL: Final = "linear-bench"
WARM_UP_ROWS: Final = 200_000
SPY_START_SECONDS: Final = 1.0
REDIS_SECONDS: Final = 5.0

# Of each thread, by its number at the kernel.
Times = dict[int, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What was spent so far: by kind of process, and by process and thread of those that are looked into."""

    kinds: dict[str, float]
    threads: dict[int, Times]


@dataclass(kw_only=True)
class Window:
    """Reads what is spent at both edges of a measured window."""

    group: ProcessGroup
    moments: list[Moment] = field(default_factory=list)

    def read(self) -> CpuSeconds:
        """What a load asks for."""
        threads = {}
        for process in self.group.processes():
            if kind_of(process) in ROLES:
                threads[process.pid] = {one.id: (one.user_time, one.system_time) for one in process.threads()}
        self.moments.append(Moment(kinds=cpu_seconds_by_kind(self.group), threads=threads))
        return self.group.cpu_seconds()

    def kinds(self) -> dict[str, float]:
        """Seconds of each kind of process within the window."""
        before, after = (moment.kinds for moment in self.moments)
        return {kind: seconds - before.get(kind, 0.0) for kind, seconds in after.items()}

    def threads(self, pid: int) -> Times:
        """Seconds of each thread of a process within the window, user and system; nothing if it is another by now."""
        before, after = (moment.threads.get(pid, {}) for moment in self.moments)
        return {
            number: (user - before.get(number, (0.0, 0.0))[0], system - before.get(number, (0.0, 0.0))[1])
            for number, (user, system) in after.items()
        }


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    command = " ".join(["python -m benchmarks.profile", *(sys.argv[1:] if arguments is None else arguments)])
    document: dict[str, Any] = {"command": command, "began_at": datetime.now(UTC).isoformat(timespec="seconds")}
    with ended_by_signals():
        void = finding_void(lambda: measure(options, document))
    document |= {"void": void} | circumstances(
        command, ("flask", "granian", "numpy", "pyarrow", "redis", "scikit-learn")
    )
    if not void:
        print(f"\n{text(document)}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if void else 0


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Fill the document. Raises VoidRunError."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ProcessGroup(Path(folder)) as group:
        loads_seconds = len(MODES) * (2 + options.seconds + len(ROLES) * (options.samples + SPY_START_SECONDS))
        model = prepare_model(MODEL, Path(folder), seconds=loads_seconds)
        port, environment = serve_foretell(group, Path(folder), {"FORETELL_WORKERS": "2"})
        register(environment, model.name, model.artifact, model.sample)
        jobs = Jobs(group, port, model)
        document["jobs"] = {}
        for mode in MODES:
            print(f"{mode}, {CLIENTS} clients", flush=True)
            document["jobs"][mode] = jobs.measure(mode, options.seconds, options.samples)
        document |= {"clients": CLIENTS, "seconds": options.seconds, "not_traced": jobs.not_traced}
        print(f"a file of {options.rows:,} rows", flush=True)
        document["file"] = measure_file(group, Path(folder), port, environment, options.rows)
        print("alone", flush=True)
        body, answer = one_job(port, jobs)
        with_settings = Settings(data_dir=Path(environment["FORETELL_DATA_DIR"]))
        connections = Connections(with_settings.redis_address, timeout_seconds=REDIS_SECONDS)
        parts = alone.of_a_job(model.artifact, body, answer, model.rows[: alone.BATCH_JOBS], connections)
        document["alone_us"] = parts
        document["least_us"] = alone.least_us(parts)


class Jobs:
    """The small jobs of a profile: loads of one service, of which no two ask the same."""

    def __init__(self, group: ProcessGroup, port: int, model: BenchModel) -> None:
        self._group, self._port = group, port
        self.questions = model.questions()
        self.dialects = next(system for system in OWN_SYSTEMS if system.name == "foretell").dialects
        self.not_traced = ""

    def measure(self, mode: str, seconds: float, samples_seconds: float) -> dict[str, Any]:
        """One mode, undisturbed and then under the profiler. Raises VoidRunError."""
        window = Window(group=self._group)
        outcome = self._load(mode, window).run(warm_up_seconds=1, seconds=seconds)
        told = figures(outcome, memory_bytes=self._group.memory_bytes())
        measured = {
            "jobs_per_second": told.jobs_per_second,
            "p50_ms": told.p50_ms,
            "others_cpu_percent": told.others_cpu_percent,
            "us": {kind: spent / outcome.jobs * 1e6 for kind, spent in window.kinds().items()}
            | {"client": outcome.client_cpu_seconds / outcome.jobs * 1e6},
        }
        if samples_seconds and not self.not_traced:
            try:
                measured |= self._parts(mode, window, outcome, samples_seconds)
            except UnavailableError as error:
                self.not_traced = str(error)
                print(self.not_traced, flush=True)
        return measured

    def _load(self, mode: str, window: Window | None = None) -> Load:
        timed = {"read_cpu_seconds": window.read} if window else {}
        return Load(self._port, self.dialects[mode], self.questions, clients=CLIENTS, **timed)

    def _parts(self, mode: str, window: Window, outcome: Outcome, seconds: float) -> dict[str, Any]:
        """Microseconds a job of each part of a role, and how many samples say so. Raises UnavailableError."""
        busiest = {role: self._busiest(role, window) for role in ROLES}
        with ThreadPoolExecutor(1) as other:
            # One after the other: profilers of several processes would take a core for themselves.
            looking = other.submit(lambda: {role: spy.sampled(busiest[role], seconds) for role in ROLES})
            self._load(mode).run(warm_up_seconds=0.5, seconds=len(ROLES) * (seconds + SPY_START_SECONDS))
            stacks = looking.result()
        parts = {}
        for role in ROLES:
            spent: defaultdict[str, float] = defaultdict(float)
            for pid in self._pids(role, window):
                python = spy.python_threads(pid)
                for number, (user, system) in window.threads(pid).items():
                    spent[KERNEL if number in python else NO_PYTHON] += system
                    spent["user" if number in python else NO_PYTHON] += user
            user = spent.pop("user", 0.0)
            shared = {part: share * user for part, share in parts_of(role, stacks[role]).items()} | dict(spent)
            parts[role] = {part: one / outcome.jobs * 1e6 for part, one in shared.items()}
        counts = {role: sum(stack.samples for stack in stacks[role]) for role in ROLES}
        return {"parts_us": parts, "samples": counts}

    def _pids(self, role: str, window: Window) -> list[int]:
        """Those of a role that did anything: the parents of the others sleep."""
        return [
            process.pid
            for process in self._group.processes()
            if kind_of(process) == role and _spent(window.threads(process.pid)) > 0
        ]

    def _busiest(self, role: str, window: Window) -> int:
        pids = self._pids(role, window)
        if not pids:
            raise UnavailableError(f"no process of the {role} did anything that could be looked into")
        return max(pids, key=lambda pid: _spent(window.threads(pid)))


def _spent(threads: Times) -> float:
    return sum(user + system for user, system in threads.values())


def measure_file(
    group: ProcessGroup, folder: Path, port: int, environment: dict[str, str], rows: int
) -> dict[str, Any]:
    """Nanoseconds a row: by step, by kind of process, and of each part alone. Raises VoidRunError."""
    model = batch_files.prepare_model(folder, "linear")
    register(environment, model.name, model.artifact, model.sample)
    log, result = folder / "foretell.log", folder / "result.csv"
    warm_up = batch_files.prepare_file(folder, Rows(kind=model.kind, count=WARM_UP_ROWS), "csv")
    score_by_service(group, log, port, model.name, warm_up, result)
    scored = Rows(kind=model.kind, count=rows)
    source = batch_files.prepare_file(folder, scored, "csv")
    run: Run = score_by_service(group, log, port, model.name, source, result)
    batch_files.check_result(result, batch_files.expect(model, scored))
    return {
        "rows": rows,
        "bytes_a_row": source.stat().st_size / rows,
        "seconds": run.seconds,
        "steps_ns": {step: seconds / rows * 1e9 for step, seconds in run.steps_seconds.items()},
        "cpu_ns": {kind: seconds / rows * 1e9 for kind, seconds in run.observation.cpu_seconds.items()},
        "others_cpu_percent": run.observation.others_cpu_fraction * 100,
        "alone_ns": alone.of_a_row(model.artifact, source, folder, rows),
    }


def one_job(port: int, jobs: Jobs) -> tuple[bytes, bytes]:
    """The body of a request, and that of its answer."""
    dialect = jobs.dialects["wait"]
    body = orjson.dumps(dialect.encode(next(jobs.questions)))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/jobs", body, {"Content-Type": "application/json", "Prefer": "wait=10"})
        return body, connection.getresponse().read()
    finally:
        connection.close()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each undisturbed load (default 5)")
    parser.add_argument(
        "--samples", type=float, default=6.0, metavar="SECONDS", help="of each profile (default 6; 0: none)"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the file (default 1000000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.samples < 0 or options.rows < 1:
        parser.error("--seconds and --rows must be more than 0, and --samples at least 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
