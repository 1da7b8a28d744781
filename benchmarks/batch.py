"""Files: Foretell beside a script with no service around it and two naive ways, in one run on the same files.

    python -m benchmarks.batch --folder /tmp/bench                         everything: about three quarters of an hour
    python -m benchmarks.batch --only floor foretell --models linear --formats csv
    python -m benchmarks.batch --only foretell --workers 1,2               two workers against one
    python -m benchmarks.batch --only foretell --rows 1000000,5000000      does memory grow with the file?
    python -m benchmarks.batch --only floor foretell --models text mixed --formats csv
    python -m benchmarks.batch --only floor foretell --models forest --accelerate forest=onnx
    python -m benchmarks.batch --only foretell --models linear --formats csv --rows 5000000,50000000 --decimals 2
    python -m benchmarks.batch --rows 100000 --rows-naive 50000 --rounds 1 a look

The files: an id, the string `r-0000001` and so on, and ten floats a row, as CSV and as Parquet with row groups of
262,144 (batch_rows.py). The models: LinearRegression, HistGradientBoostingRegressor(max_iter=100) and
RandomForestRegressor(n_estimators=100, max_depth=10); `text`, a TfidfVectorizer with Ridge over a text of twelve words,
and `mixed`, the same boosting over a ColumnTransformer of four floats, some missing, a count and two categories. The
result is a CSV file with id and prediction, also of Parquet.
The systems, in turn for every file and model, in reversed order every second round, one running and all others stopped:

- pandas: read_csv in chunks of 50,000 rows, predict, to_csv; one process (peers/pandas_loop.py);
- celery: a group of tasks with 10,000 rows each as JSON through Redis, two workers that have the model loaded
  (peers/task_group.py);
- mlflow: the same with the model as MLflow stores it, in its environment (peers/mlflow_file.py, environment.py);
- ray-data: map_batches with two actors that have the model, in its environment (peers/ray_data.py);
- floor: a script with pyarrow and one process for each worker (peers/floor.py);
- foretell: `python -m deploy` with that many workers, warm, the file sent as a raw body.

All but floor and foretell score CSV of numbers only, and a shorter file, --rows-naive; what they would take for the
longer one is their start, once, and their work in proportion to the rows, and such a ratio names the rows that were
scored. Each of their processes has one thread, since more of them only hinder each other where something else runs.

Seconds are from start to end for the scripts, imports included, and from the accepted upload to the result being ready
for Foretell; upload and download stand apart. Beside the ratio to the floor stands the one with its imports and the
loading of its model left out. The peak of memory is that of all processes of the system, Redis included
(sampling.py). Every result is checked in every row: each id once and in order, and each prediction against that of the
plain model, exactly for trees and within 1e-12 for linear models (1e-5 for a graph of --accelerate ...=onnx); a wrong,
lost or doubled row ends the run with exit code 1. What the plain model predicts is kept beside the files, so it is made
once for a file and a model. A peer that does not install or does not do it is named with its reason, and so is a model
that is not accelerated.

Files are made, sent, predicted and checked piece by piece, so memory does not grow with them, but the disk must hold
the file, the service's copy of it, the result about three times, and what the model predicts: 26 GB for 50 million rows
of CSV. Where it is shorter of room, `--decimals 2` rounds the numbers, which makes lines a third as long (and parsing
them cheaper: compare only runs of one choice), and with `--by-reference` the service reads the file where it lies
instead of being sent a copy.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.batch_files import (
    FORMATS,
    ITEM_BYTES,
    MODELS,
    check_result,
    expect,
    path_of,
    prepare_file,
    prepare_model,
)
from benchmarks.batch_report import Cell, Figures, Measured, as_json, figures, text
from benchmarks.batch_rows import Rows
from benchmarks.batch_systems import SYSTEMS, Setup, System
from benchmarks.ending import ended_by_signals, finding_void
from benchmarks.environment import UnavailableError
from benchmarks.processes import ProcessGroup
from benchmarks.report import circumstances

# Enough for several slices, so that every worker gets one before anything is measured.
WARM_UP_ROWS = 200_000
# A row of a result: its parts, the file that they are joined in, and the copy that is checked, some 30 bytes each, and
# the prediction that it is compared with.
RESULT_BYTES = 3 * 30 + ITEM_BYTES
MEASURED_ROWS = 2_000  # whose bytes tell those of a file
PACKAGES = ("celery", "granian", "joblib", "numpy", "obstore", "pandas", "pyarrow", "redis", "scikit-learn")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    measured = Measured()
    with ended_by_signals():
        void = finding_void(
            lambda: measure(
                options.plan,
                measured,
                folder=options.folder,
                rounds=options.rounds,
                decimals=options.decimals,
                by_reference=options.by_reference,
            )
        )
    print(f"\n{options.rounds} rounds\n\n{text(measured)}")
    if options.json:
        command = " ".join(["python -m benchmarks.batch", *(sys.argv[1:] if arguments is None else arguments)])
        document = circumstances(command, PACKAGES) | {"void": void, "rounds": options.rounds} | as_json(measured)
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if void else 0


def measure(
    plan: Sequence[Cell],
    measured: Measured,
    *,
    folder: Path | None,
    rounds: int,
    decimals: int | None = None,
    by_reference: bool = False,
) -> None:
    """Every cell of the plan once a round, noted as it ends; what they need and must give is made in the folder once.

    Without a folder they are made in a temporary one.

    Raises:
        VoidRunError: a result is wrong.
        RuntimeError: the disk has no room for a file of the plan.
    """
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        place.mkdir(parents=True, exist_ok=True)
        files = Files(place, decimals, by_reference)
        for cell in plan:
            files.prepare(cell)
            expect(prepare_model(place, cell.model), files.rows(cell))
        # Cells of one file and model stay together, so that what is compared was measured within a minute or two.
        for number in range(rounds):
            for model, format in dict.fromkeys((cell.model, cell.format) for cell in plan):
                cells = [cell for cell in plan if (cell.model, cell.format) == (model, format)]
                for cell in cells[::-1] if number % 2 else cells:
                    if _left_out_as(cell) not in measured.unavailable:
                        print(f"round {number + 1}, {_noted(cell, files, measured)}", flush=True)


class Files:
    """The folder of a run, and how its files are made and handed over."""

    def __init__(self, folder: Path, decimals: int | None, by_reference: bool) -> None:
        self.folder, self._decimals, self.by_reference = folder, decimals, by_reference

    def rows(self, cell: Cell) -> Rows:
        """Those of the file that a cell scores."""
        return Rows(kind=MODELS[cell.model].kind, count=cell.rows, decimals=self._decimals)

    def prepare(self, cell: Cell) -> Path:
        """The file that a cell scores. Raises RuntimeError if the disk has no room for what becomes of it."""
        rows = self.rows(cell)
        few = replace(rows, count=min(rows.count, MEASURED_ROWS))
        with tempfile.TemporaryDirectory(dir=self.folder) as own:
            bytes_a_row = prepare_file(Path(own), few, cell.format).stat().st_size / few.count
        copies = (0 if path_of(self.folder, rows, cell.format).exists() else 1) + (0 if self.by_reference else 1)
        needed, free = rows.count * (copies * bytes_a_row + RESULT_BYTES), shutil.disk_usage(self.folder).free
        if needed > free:
            raise RuntimeError(
                f"{rows.count:,} rows of {cell.format} need {needed / 1e9:.1f} GB in {self.folder}, which has "
                f"{free / 1e9:.1f} GB; shorter lines: --decimals 2; without the service's copy: --by-reference"
            )
        return prepare_file(self.folder, rows, cell.format)


def _noted(cell: Cell, files: Files, measured: Measured) -> str:
    """Measure a cell, and say what came out. Raises VoidRunError."""
    system = next(system for system in SYSTEMS if system.name == cell.system)
    try:
        one = _measure(cell, system, files)
    except (RuntimeError, UnavailableError) as error:
        if not system.environment and not cell.accelerate:
            raise
        name = _left_out_as(cell)
        for other in [other for other in measured.rounds if _left_out_as(other) == name]:
            del measured.rounds[other]
        measured.unavailable[name] = "\n".join([str(error), *getattr(error, "__notes__", ())])
        return f"{name} is left out: {measured.unavailable[name]}"
    measured.rounds.setdefault(cell, []).append(one)
    return _line(cell, one)


def _left_out_as(cell: Cell) -> str:
    """A peer that fails is left out altogether, an accelerated model alone."""
    return f"{cell.who}, {cell.model}" if cell.accelerate else cell.system


def _measure(cell: Cell, system: System, files: Files) -> Figures:
    model = prepare_model(files.folder, cell.model)
    source = files.prepare(cell)
    setup = Setup(
        model=model,
        warm_up=files.prepare(replace(cell, rows=WARM_UP_ROWS, format="csv")),
        workers=cell.workers,
        accelerate=cell.accelerate,
        shared_folder=files.folder if files.by_reference else None,
    )
    expected = expect(model, files.rows(cell), accelerate=cell.accelerate)
    with tempfile.TemporaryDirectory(dir=files.folder) as own_folder:
        result = Path(own_folder) / "result.csv"
        with ProcessGroup(Path(own_folder)) as processes:
            score = system.open(processes, Path(own_folder), setup)
            run = score(source, result)
        check_result(result, expected)
    return figures(run)


def _line(cell: Cell, one: Figures) -> str:
    return (
        f"{cell.model}, {cell.format}, {cell.rows:,} rows, {cell.who} with {cell.workers}: {one.seconds:.2f} s, "
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
    parser.add_argument(
        "--accelerate",
        nargs="+",
        type=_accelerated,
        default=[],
        metavar="MODEL=HOW",
        help="by Foretell, too; such as forest=onnx",
    )
    parser.add_argument(
        "--decimals", type=int, metavar="N", help="round numbers to so many digits; default: not at all"
    )
    parser.add_argument("--by-reference", action="store_true", help="Foretell reads the file where it lies")
    parser.add_argument("--folder", type=Path, help="keep files and models here; default: a temporary folder, removed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, the medians and the ratios")
    options = parser.parse_args(arguments)
    if min(*options.rows, *options.workers, options.rows_naive, options.rounds) < 1:
        parser.error("--rows, --rows-naive, --workers and --rounds must be at least 1")
    options.plan = plan_of(options)
    if not options.plan:
        parser.error("nothing is left to measure: naive systems and peers score CSV of numbers only")
    return options


def plan_of(options: argparse.Namespace) -> list[Cell]:
    """The cells that `only`, `models`, `formats`, `rows`, `rows_naive`, `workers` and `accelerate` choose."""
    cells = [
        Cell(
            model=model,
            format=format,
            rows=options.rows_naive if system.naive_workers else rows,
            system=system.name,
            workers=system.naive_workers or workers,
            accelerate=how,
        )
        for model in options.models
        for format in options.formats
        for rows in options.rows
        for system in SYSTEMS
        for workers in options.workers
        for how in ("", *(how for name, how in options.accelerate if (name, system.name) == (model, "foretell")))
        if system.name in options.only
        # Naive systems and peers are made for CSV of numbers.
        if not system.naive_workers or (format, MODELS[model].kind) == ("csv", "numbers")
    ]
    return list(dict.fromkeys(cells))


def _accelerated(words: str) -> tuple[str, str]:
    model, _, how = words.partition("=")
    if model not in MODELS or not how:
        raise argparse.ArgumentTypeError(f"{words!r} is not a model, `=`, and a word of --accelerate, as forest=onnx")
    return model, how


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


if __name__ == "__main__":
    sys.exit(main())
