"""Small jobs, one row each: Foretell beside what one would write without it, in one run on one machine.

    python -m benchmarks.online                    about a quarter of an hour
    python -m benchmarks.online --quick            a look, in two minutes
    python -m benchmarks.online --only foretell tutorial poll linear-bench 16 --json result.json

Systems, one at a time, the others stopped, in turn for every round and in reversed order every second one:

- tutorial: Flask on gunicorn, one Celery task a job, Redis as broker and result backend (peers/tutorial.py);
- synchronous: Flask on gunicorn with the model in the web process (peers/synchronous.py);
- foretell: `python -m deploy` with two workers.

All have two processes that predict, the same model files and, but for the synchronous one, the same Redis server
binary with an append-only file. Clients (load.py) are closed loops, on connections that live as long as the server
keeps them; each request of a run has values of its own:

- poll: submit, then ask every 5 ms until done;
- wait: submit with `Prefer: wait=10`;
- sync: one request, one answer.

Measured after a warm-up: jobs a second, latency from submitting to holding the prediction, CPU seconds per 1,000 jobs
and memory of all server processes with Redis, the CPU that the load itself took, and the share of the machine that went
to neither. Every answer is compared with the model's own prediction; one that is wrong, lost, doubled or refused ends
the run with exit code 1.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks.connection import VoidRunError
from benchmarks.load import Load
from benchmarks.processes import ProcessGroup
from benchmarks.questions import RECIPES, BenchModel, prepare_model
from benchmarks.report import Cell, Figures, Rounds, as_json, figures, text
from benchmarks.systems import SYSTEMS, System

CLIENTS = (1, 16, 64)
MODES = ("poll", "wait", "sync")
FIRST_ANSWERS_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        rounds = measure(options.plan, rounds=options.rounds, seconds=options.seconds, warm_up=options.warm_up)
    except VoidRunError as error:
        print("void:", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process has ended", file=sys.stderr)
        return 130
    print(f"\nMedians of {options.rounds} rounds of {options.seconds:g} s\n\n{text(rounds)}")
    if options.json:
        command = " ".join(["python -m benchmarks.online", *(sys.argv[1:] if arguments is None else arguments)])
        options.json.write_text(json.dumps(as_json(rounds, command=command), indent=2) + "\n")
    return 0


def measure(plan: Sequence[Cell], *, rounds: int, seconds: float, warm_up: float) -> Rounds:
    """Every cell of the plan once a round. Raises VoidRunError."""
    measured: Rounds = {cell: [] for cell in plan}
    systems = [system for system in SYSTEMS if any(cell.system == system.name for cell in plan)]
    with tempfile.TemporaryDirectory(prefix="online-benchmark-") as folder:
        names = sorted({cell.model for cell in plan})
        models = {name: prepare_model(name, Path(folder), seconds=seconds + warm_up) for name in names}
        for number in range(rounds):
            for system in systems[::-1] if number % 2 else systems:
                print(f"round {number + 1}, {system.name}", flush=True)
                with tempfile.TemporaryDirectory(prefix=f"{system.name}-", dir=folder) as own_folder:
                    found = _measure_system(system, plan, models, Path(own_folder), seconds, warm_up)
                    with contextlib.closing(found):
                        for cell, one in found:
                            measured[cell].append(one)
                            print(f"  {_line(cell, one)}", flush=True)
    return measured


def _measure_system(
    system: System, plan: Sequence[Cell], models: dict[str, BenchModel], folder: Path, seconds: float, warm_up: float
) -> Generator[tuple[Cell, Figures]]:
    cells = [cell for cell in plan if cell.system == system.name]
    with ProcessGroup(folder) as processes:
        port = system.start(processes, folder, list(models.values()))
        for model in models.values():
            # Every process answers each model before anything is measured: imports and loading happen here.
            dialect = system.dialects[cells[0].mode]
            Load(port, dialect, model.questions, clients=4).run(warm_up_seconds=0, seconds=FIRST_ANSWERS_SECONDS)
        for cell in cells:
            load = Load(
                port,
                system.dialects[cell.mode],
                models[cell.model].questions,
                clients=cell.clients,
                read_cpu_seconds=processes.cpu_seconds,
            )
            outcome = load.run(warm_up_seconds=warm_up, seconds=seconds)
            yield cell, figures(outcome, memory_bytes=processes.memory_bytes())


def _line(cell: Cell, one: Figures) -> str:
    latencies = f"p50 {one.p50_ms:.1f}, p95 {one.p95_ms:.1f}, p99 {one.p99_ms:.1f} ms"
    others = f"others' CPU {one.others_cpu_percent:.0f} %"
    return (
        f"{cell.model}, {cell.clients} clients, {cell.mode}: {one.jobs_per_second:,.0f} jobs/s, {latencies}, {others}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    words = {
        "system": [system.name for system in SYSTEMS],
        "mode": list(MODES),
        "model": list(RECIPES),
        "clients": [str(number) for number in CLIENTS],
    }
    all_words = [word for kind in words.values() for word in kind]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.online", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="measured, a cell and round (default 8, quick 2)")
    parser.add_argument("--warm-up", type=float, help="seconds before (default 2, quick 0.5)")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, the medians and the ratios")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=all_words,
        metavar="WORD",
        help="measure only these systems, modes, models or numbers of clients: " + ", ".join(all_words),
    )
    options = parser.parse_args(arguments)
    for name, usual, quick in (("seconds", 8.0, 2.0), ("warm_up", 2.0, 0.5), ("rounds", 3, 1)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
    if options.seconds <= 0 or options.warm_up < 0 or options.rounds < 1:
        parser.error("--seconds must be above 0, --warm-up at least 0, --rounds at least 1")

    chosen = {kind: [word for word in known if word in options.only] or known for kind, known in words.items()}
    options.plan = [
        Cell(model=model, clients=int(clients), system=system.name, mode=mode)
        for system in SYSTEMS
        for model in chosen["model"]
        for clients in chosen["clients"]
        for mode in system.dialects
        if system.name in chosen["system"] and mode in chosen["mode"]
    ]
    if not options.plan:
        parser.error("nothing is left to measure: no system of these has such a mode")
    return options


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
