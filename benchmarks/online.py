"""Small jobs: Foretell beside its neighbours and what one would write without it, in one run on one machine.

    python -m benchmarks.online                    everything: about three hours
    python -m benchmarks.online --quick            the important ones, in some minutes
    python -m benchmarks.online --only foretell tutorial poll linear-bench 16 1-row --json result.json

Systems, one at a time, the others stopped, in turn for every model and round and in reversed order every second round:

- tutorial: Flask on gunicorn, one Celery task a job, Redis as broker and result backend (peers/tutorial.py);
- synchronous: Flask on gunicorn with the model in the web process (peers/synchronous.py);
- empty-task: a Celery task that does nothing, called and waited for without HTTP (round_trips.py);
- rq, bentoml-tasks, bentoml, bentoml-batching, mlserver, mlserver-batching, litserve, mlflow, ray-serve, ray-tasks: as
  their documents advise, each in an environment of its own that is installed on demand (peer_systems.py);
- foretell: `python -m deploy` with two workers.

All may use both cores, have the same model files and, where they need one, the same Redis server binary with an
append-only file. Clients (load.py) are closed loops, on connections that live as long as the server keeps them; no two
requests of a measurement are equal:

- poll: submit, then ask every 5 ms until done;
- wait: submit with `Prefer: wait=10`;
- sync: one request, one answer;
- call: of the empty task.

Measured after a warm-up: jobs a second, latency from submitting to holding the predictions, CPU seconds per 1,000 jobs
and memory of all server processes with Redis, the CPU that the load itself took, and the share of the machine that went
to neither. Every answer is compared with the model's own predictions; one that is wrong, lost or doubled ends the run
with exit code 1. Clients that are told when to come again (`Retry-After`) do so, and it counts as their latency. A
peer that does not install or start here, or refuses for good what it is asked, is named with its reason; if one of
our own does, the run is void.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.connection import VoidRunError
from benchmarks.ending import ended_by_signals, finding_void
from benchmarks.environment import UnavailableError, interpreter
from benchmarks.load import Load, RefusedError
from benchmarks.peer_systems import SYSTEMS
from benchmarks.processes import ProcessGroup
from benchmarks.questions import RECIPES, ROWS, BenchModel, prepare_model
from benchmarks.report import Cell, Figures, Measured, as_json, circumstances, figures, text
from benchmarks.round_trips import RoundTrips
from benchmarks.systems import System

CLIENTS = (1, 16, 64, 256)
MODES = ("poll", "wait", "sync", "call")
FIRST_CLIENTS, FIRST_ANSWERS_SECONDS = 8, 1.0
QUICK_SYSTEMS = ("tutorial", "synchronous", "bentoml-tasks", "litserve", "foretell")
# The empty task has neither model nor rows: it is measured once, beside one client of the smallest job.
IDLE = {"model": "linear-bench", "clients": 1, "rows": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.online", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, the medians and the ratios")
    options = parser.parse_args(arguments)
    complete_options(parser, options)
    plan = plan_of(options)
    if not plan:
        parser.error("nothing is left to measure: no system of these has such a mode")
    measured = Measured()
    with ended_by_signals():
        void = finding_void(lambda: measure(plan, options, measured))
    print(f"\nMedians of {options.rounds} rounds of {options.seconds:g} s\n\n{text(measured)}")
    if options.json:
        command = " ".join(["python -m benchmarks.online", *(sys.argv[1:] if arguments is None else arguments)])
        document = circumstances(command) | {"void": void} | as_json(measured, options)
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if void else 0


def measure(plan: Sequence[Cell], options: argparse.Namespace, measured: Measured) -> None:
    """Every cell of the plan once a round, noted as it ends. Raises VoidRunError."""
    systems = _installed([system for system in SYSTEMS if any(cell.system == system.name for cell in plan)], measured)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        names = list(dict.fromkeys(cell.model for cell in plan))
        prepared_seconds = options.seconds + options.warm_up
        models = {name: prepare_model(name, Path(folder), seconds=prepared_seconds) for name in names}
        for number in range(options.rounds):
            for model in models.values():
                for system in systems[::-1] if number % 2 else systems:
                    cells = [cell for cell in plan if (cell.system, cell.model) == (system.name, model.name)]
                    cells = [cell for cell in cells if cell not in measured.missing]
                    if cells:
                        print(f"round {number + 1}, {model.name}, {system.name}", flush=True)
                        _measure_system(system, model, cells, Path(folder), options, measured)


def _installed(systems: Sequence[System], measured: Measured) -> list[System]:
    """Those whose environment is there; of the others it is noted why not."""
    usable = []
    for system in systems:
        try:
            if system.environment:
                interpreter(system.environment)
        except UnavailableError as error:
            measured.unavailable[system.name] = str(error)
            print(f"{system.name} is left out: {error}", flush=True)
        else:
            usable.append(system)
    return usable


def _measure_system(
    system: System,
    model: BenchModel,
    cells: Sequence[Cell],
    folder: Path,
    options: argparse.Namespace,
    measured: Measured,
) -> None:
    """Start the system, measure the cells one by one, and stop it. Raises VoidRunError."""
    # A short name: sockets in it may have a path of 107 bytes at most.
    with tempfile.TemporaryDirectory(dir=folder) as own, ProcessGroup(Path(own)) as processes:
        try:
            port = system.start(processes, Path(own), model)
        except (RuntimeError, UnavailableError) as error:
            if not system.environment:
                raise
            for cell in cells:
                _leave_out(measured, cell, f"does not start: {error}\n{processes.log_tails()}")
            return
        # Every process answers the model before anything is measured: imports and loading happen here.
        first = replace(cells[0], clients=FIRST_CLIENTS)
        with contextlib.suppress(RefusedError):  # the cells will say so
            _load(system, first, port, model, None).run(warm_up_seconds=0, seconds=FIRST_ANSWERS_SECONDS)
        for cell in cells:
            try:
                load = _load(system, cell, port, model, processes)
                outcome = load.run(warm_up_seconds=options.warm_up, seconds=options.seconds)
                one = figures(outcome, memory_bytes=processes.memory_bytes())
            except (RefusedError, ValueError) as error:
                if isinstance(error, RefusedError) and not system.environment:
                    raise VoidRunError(f"{system.name}, {_named(cell)}: {error}") from error
                _leave_out(measured, cell, str(error))
            else:
                measured.rounds.setdefault(cell, []).append(one)
                print(f"  {_line(cell, one)}", flush=True)


def _load(
    system: System, cell: Cell, port: int, model: BenchModel, processes: ProcessGroup | None
) -> Load | RoundTrips:
    """What asks; that of a first look asks for no CPU times."""
    timed = {"read_cpu_seconds": processes.cpu_seconds} if processes else {}
    if cell.mode == "call":
        return RoundTrips(port, **timed)
    return Load(port, system.dialects[cell.mode], model.questions(cell.rows), clients=cell.clients, **timed)


def _leave_out(measured: Measured, cell: Cell, reason: str) -> None:
    """Of a cell that fails in one round, the other rounds do not count either."""
    measured.rounds.pop(cell, None)
    measured.missing[cell] = reason
    print(f"  {_named(cell)}: {reason}", flush=True)


def _line(cell: Cell, one: Figures) -> str:
    latencies = f"p50 {one.p50_ms:.1f}, p95 {one.p95_ms:.1f}, p99 {one.p99_ms:.1f}, p99.9 {one.p99_9_ms:.1f} ms"
    others = f"others' CPU {one.others_cpu_percent:.0f} %"
    return f"{_named(cell)}: {one.jobs_per_second:,.0f} jobs/s, {latencies}, {others}"


def _named(cell: Cell) -> str:
    return f"{cell.clients} clients, {cell.rows} rows a job, {cell.mode}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says how small jobs are measured; complete_options makes them whole."""
    words = [word for kind in job_words().values() for word in kind]
    parser.add_argument("--seconds", type=float, help="measured, a cell and round of small jobs (default 4, quick 3)")
    parser.add_argument("--warm-up", type=float, help="seconds before (default 1, quick 0.5)")
    parser.add_argument("--rounds", type=int, help="default 3, quick 2")
    parser.add_argument("--quick", action="store_true", help="the important ones in short rounds")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="measure only these systems, modes, models, numbers of clients or of rows: " + ", ".join(words),
    )


def complete_options(parser: argparse.ArgumentParser, options: argparse.Namespace, *, also: Sequence[str] = ()) -> None:
    """Put in what was not given; `also` are words that somebody else knows. Ends the program if they make no sense."""
    for name, usual, quick in (("seconds", 4.0, 3.0), ("warm_up", 1.0, 0.5), ("rounds", 3, 2)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
    if options.seconds <= 0 or options.warm_up < 0 or options.rounds < 1:
        parser.error("--seconds must be above 0, --warm-up at least 0, --rounds at least 1")
    known = {word for kind in job_words().values() for word in kind} | set(also)
    if unknown := [word for word in options.only if word not in known]:
        parser.error(f"--only does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}")


def plan_of(options: argparse.Namespace) -> list[Cell]:
    """The cells that the options choose: of each kind of word those that are named, or all of it."""
    named = {kind: [word for word in known if word in options.only] for kind, known in job_words().items()}
    chosen = {kind: named[kind] or known for kind, known in job_words().items()}
    cells = [
        Cell(model=model, clients=int(clients), rows=int(rows.split("-")[0]), system=system.name, mode=mode)
        for system in SYSTEMS
        for model in chosen["model"]
        for rows in chosen["rows"]
        for clients in chosen["clients"]
        for mode in system.dialects
        if system.name in chosen["system"] and mode in chosen["mode"]
    ]
    return [cell for cell in cells if _makes_sense(cell) and (not options.quick or named["system"] or _is_quick(cell))]


def job_words() -> dict[str, list[str]]:
    """What `--only` knows of small jobs, by kind."""
    return {
        "system": [system.name for system in SYSTEMS],
        "mode": list(MODES),
        "model": list(RECIPES),
        "clients": [str(number) for number in CLIENTS],
        "rows": [f"{rows}-row" if rows == 1 else f"{rows}-rows" for rows in ROWS],
    }


def _makes_sense(cell: Cell) -> bool:
    return cell.mode != "call" or _is_idle(cell)


def _is_quick(cell: Cell) -> bool:
    usual = cell.system in QUICK_SYSTEMS and cell.clients == 16 and cell.rows == 1 and cell.model != "text-bench"
    return usual or (_is_idle(cell) and cell.mode in ("wait", "call"))


def _is_idle(cell: Cell) -> bool:
    return {"model": cell.model, "clients": cell.clients, "rows": cell.rows} == IDLE


if __name__ == "__main__":
    sys.exit(main())
