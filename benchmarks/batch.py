"""Files: Foretell beside a script with no service around it and two naive ways, in one run on the same files.

    python -m benchmarks.batch --folder /tmp/bench                         everything: about three quarters of an hour
    python -m benchmarks.batch --only floor foretell --models linear --formats csv
    python -m benchmarks.batch --only foretell --workers 1,2               two workers against one
    python -m benchmarks.batch --only foretell --rows 1000000,5000000      does memory grow with the file?
    python -m benchmarks.batch --rows 100000 --rows-naive 50000 --rounds 1 a look

The files: an id, the string `r-0000001` and so on, and ten floats a row, as CSV and as Parquet with row groups of
262,144 (batch_files.py). The models: LinearRegression, HistGradientBoostingRegressor(max_iter=100) and
RandomForestRegressor(n_estimators=100, max_depth=10). The result is a CSV file with id and prediction, also of Parquet.
The systems, in turn for every file and model, in reversed order every second round, one running and all others stopped:

- pandas: read_csv in chunks of 50,000 rows, predict, to_csv; one process (peers/pandas_loop.py);
- celery: a group of tasks with 10,000 rows each as JSON through Redis, two workers that have the model loaded
  (peers/task_group.py);
- floor: a script with pyarrow and one process for each worker (peers/floor.py);
- foretell: `python -m deploy` with that many workers, warm, the file sent as a raw body.

pandas and celery score CSV only, and a shorter file, --rows-naive; what they would take for the longer one is their
start, once, and their work in proportion to the rows. Each of their processes
has one thread, since more of them only hinder each other where something else runs.

Seconds are from start to end for the scripts, imports included, and from the accepted upload to the result being ready
for Foretell; upload and download stand apart. The peak of memory is that of all processes of the system, Redis included
(sampling.py). Every result is checked: each id once and in order, and the predictions of 5,000 rows all over the file,
exactly for trees and within 1e-12 for the linear model; a wrong, lost or doubled row ends the run with exit code 1.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from benchmarks.batch_files import FORMATS, MODELS, check_result, expect, prepare_file, prepare_model
from benchmarks.batch_report import Cell, Figures, Rounds, as_json, figures, text
from benchmarks.batch_systems import SYSTEMS, System
from benchmarks.connection import VoidRunError
from benchmarks.processes import ProcessGroup

# Enough for several slices, so that every worker gets one before anything is measured.
WARM_UP_ROWS = 200_000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as stack:
            folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-benchmark-"))
            rounds = measure(options.plan, Path(folder), rounds=options.rounds)
    except VoidRunError as error:
        print("void:", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process has ended", file=sys.stderr)
        return 130
    print(f"\n{options.rounds} rounds\n\n{text(rounds)}")
    if options.json:
        command = " ".join(["python -m benchmarks.batch", *(sys.argv[1:] if arguments is None else arguments)])
        options.json.write_text(json.dumps(as_json(rounds, command=command), indent=2) + "\n")
    return 0


def measure(plan: Sequence[Cell], folder: Path, *, rounds: int) -> Rounds:
    """Every cell of the plan once a round; files and models are made in the folder if they are not there.

    Raises:
        VoidRunError: a result is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured: Rounds = {cell: [] for cell in plan}
    for cell in plan:
        prepare_file(folder, cell.format, cell.rows)
        prepare_model(folder, cell.model)
    systems = {system.name: system for system in SYSTEMS}
    # Cells of one file and model stay together, so that what is compared was measured within a minute or two.
    for number in range(rounds):
        for model, format in dict.fromkeys((cell.model, cell.format) for cell in plan):
            cells = [cell for cell in plan if (cell.model, cell.format) == (model, format)]
            for cell in cells[::-1] if number % 2 else cells:
                one = _measure(cell, systems[cell.system], folder)
                measured[cell].append(one)
                print(f"round {number + 1}, {_line(cell, one)}", flush=True)
    return measured


def _measure(cell: Cell, system: System, folder: Path) -> Figures:
    model = prepare_model(folder, cell.model)
    source = prepare_file(folder, cell.format, cell.rows)
    warm_up = prepare_file(folder, "csv", WARM_UP_ROWS)
    expected = expect(model, cell.rows)
    with tempfile.TemporaryDirectory(prefix=f"{system.name}-", dir=folder) as own_folder:
        result = Path(own_folder) / "result.csv"
        with ProcessGroup(Path(own_folder)) as processes:
            score = system.open(processes, Path(own_folder), model, warm_up, cell.workers)
            run = score(source, result)
        check_result(result, expected)
    return figures(run)


def _line(cell: Cell, one: Figures) -> str:
    return (
        f"{cell.model}, {cell.format}, {cell.rows:,} rows, {cell.system} with {cell.workers}: {one.seconds:.2f} s, "
        f"{cell.rows / one.seconds:,.0f} rows/s, {one.peak_mib:,.0f} MiB, others' CPU {one.others_cpu_percent:.0f} %"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=_numbers, default=[5_000_000], metavar="N,...", help="default 5000000")
    parser.add_argument("--rows-naive", type=int, default=500_000, metavar="N", help="default 500000")
    parser.add_argument("--workers", type=_numbers, default=[2], metavar="N,...", help="default 2")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    names = [system.name for system in SYSTEMS]
    for option, words in (("--only", names), ("--models", list(MODELS)), ("--formats", list(FORMATS))):
        parser.add_argument(option, nargs="+", default=words, choices=words, help="default: all of them")
    parser.add_argument("--folder", type=Path, help="keep files and models here; default: a temporary folder, removed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, the medians and the ratios")
    options = parser.parse_args(arguments)
    if min(*options.rows, *options.workers, options.rows_naive, options.rounds) < 1:
        parser.error("--rows, --rows-naive, --workers and --rounds must be at least 1")
    options.plan = list(dict.fromkeys(_plan(options)))
    if not options.plan:
        parser.error("nothing is left to measure: pandas and celery score CSV only")
    return options


def _plan(options: argparse.Namespace) -> list[Cell]:
    return [
        Cell(
            model=model,
            format=format,
            rows=options.rows_naive if system.naive_workers else rows,
            system=system.name,
            workers=system.naive_workers or workers,
        )
        for model in options.models
        for format in options.formats
        for rows in options.rows
        for system in SYSTEMS
        for workers in options.workers
        if system.name in options.only and not (system.naive_workers and format != "csv")
    ]


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
