"""What comparing a file with the training data costs, beside scoring it.

CPU seconds of one worker process over all chunks of a file, from storage and back to it, with a linear model of ten
floats that has a training profile, and with the same model without one. The two take turns, so that a machine that
slows down slows both. Slices as a job has them by default. Two numbers:

- the ratio: of the CPU seconds of the two, the median over the rounds;
- the step: the seconds of the comparison alone over those of all other steps, which varies less.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from sklearn.linear_model import LinearRegression

from benchmarks.cutting import NAMES, SIGNATURE, content, cuts
from shared.batch import BatchOptions, Format, Input, Layout, Slice
from shared.dialect import Dialect
from shared.inputs import Inputs
from shared.job import Spec
from shared.records import BatchUnit
from shared.registry import Manifest
from shared.settings import Settings
from shared.storage import Storage, input_key
from worker.chunk import ChunkRunner, Part
from worker.drift import DRIFT_ROWS
from worker.model_cache import LoadedModel
from worker.profile import profile_of

JOB: Final = "bench"
TRAINING_ROWS: Final = 10_000
FORMATS: Final[tuple[Format, ...]] = ("csv", "parquet")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=200, help="size of the CSV file, MiB; default 200")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each; default 9")
    options = parser.parse_args(arguments)
    print("file     rows/s of CPU without, with a profile  cost by the ratio, %  by the step, %")
    for format in FORMATS:
        found = measure(format, options.mib * 2**20, options.rounds)
        pace = [found.rows / min(seconds) for seconds in (found.without, found.with_profile)]
        print(f"{format:8} {pace[0]:22,.0f} {pace[1]:14,.0f} {found.ratio:21.2f} {found.step:15.2f}")
    return 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU seconds of each round, and the share of the step in the seconds of those with a profile."""

    rows: int
    without: list[float]
    with_profile: list[float]
    shares: list[float]

    @property
    def ratio(self) -> float:
        """The cost by the ratio, %."""
        pairs = zip(self.with_profile, self.without, strict=True)
        return 100 * (statistics.median(more / less for more, less in pairs) - 1)

    @property
    def step(self) -> float:
        """The cost by the step, %."""
        return 100 * statistics.median(self.shares)


def measure(format: Format, size_bytes: int, rounds: int) -> Measured:
    """Score a file with and without a profile, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        storage = Storage.of(settings)
        units = prepare(storage, format, size_bytes, settings.max_chunk_slices)
        plain, profiled = models()
        seconds: dict[bool, list[float]] = {False: [], True: []}
        shares = []
        runner = ChunkRunner(storage, Inputs(settings, storage), settings)
        for number in range(-1, rounds):  # the first, which warms up, does not count
            for with_profile in (number % 2 == 0, number % 2 == 1):
                began = time.process_time()
                parts = [runner.run(unit, profiled if with_profile else plain, lambda: False) for unit in units]
                if number >= 0:
                    seconds[with_profile].append(time.process_time() - began)
                check(units, parts, with_profile)
                if with_profile and number >= 0:
                    steps = sum((Counter(part.seconds) for part in parts), Counter[str]())
                    shares.append(steps["drift"] / (steps.total() - steps["drift"]))
        rows = sum(piece.rows for unit in units for piece in unit.slices)
        return Measured(rows=rows, without=seconds[False], with_profile=seconds[True], shares=shares)


def prepare(storage: Storage, format: Format, size_bytes: int, chunk_slices: int) -> list[BatchUnit]:
    """Put the file of a job into storage; its chunks."""
    data = content("plain", size_bytes)
    pieces = [cut.slice for cut in cuts("plain", data)]
    if format == "parquet":
        table = arrow_csv.read_csv(
            pa.BufferReader(data), read_options=arrow_csv.ReadOptions(column_names=["id", *NAMES], block_size=2**24)
        )
        sink = io.BytesIO()
        group_rows = Settings().slice_rows
        pq.write_table(table, sink, row_group_size=group_rows)
        data = sink.getvalue()
        starts = range(0, table.num_rows, group_rows)
        counts = [min(group_rows, table.num_rows - start) for start in starts]
        pieces = [
            Slice(start=0, stop=count, rows=count, first_row=start, group=group)
            for group, (start, count) in enumerate(zip(starts, counts, strict=True))
        ]
    storage.put(input_key(JOB), data)
    batch = BatchOptions(input=Input(key=input_key(JOB)), key_column="id")
    unit = BatchUnit(
        fence="1", job_id=JOB, queue="batch", kind="chunk", ring=False, attempt=1,
        spec=Spec(requested="m", model="m", version=1, sha256="", method="predict", batch=batch),
        layout=Layout(format=format, names=("id", *NAMES), key="id", include=(), dialect=Dialect()),
        position={}, stop="", outcome={}, rows=0, counted=True,
    )  # fmt: skip
    return [
        replace(unit, first=first, slices=tuple(pieces[first : first + chunk_slices]))
        for first in range(0, len(pieces), chunk_slices)
    ]


def models() -> tuple[LoadedModel, LoadedModel]:
    """The model without and with a training profile."""
    rows = np.random.default_rng(1).normal(size=(TRAINING_ROWS, len(NAMES)))
    estimator = LinearRegression().fit(rows, rows.sum(axis=1))
    manifest = Manifest(
        model="m", version=1, format="joblib", sha256="", size_bytes=0,
        signature=replace(SIGNATURE, example=tuple(rows[0].tolist())), estimator="", libraries={}, created_at="",
    )  # fmt: skip
    profile = profile_of(pa.table(dict(zip(NAMES, rows.T, strict=True))), SIGNATURE)
    plain = LoadedModel(manifest, estimator)
    return plain, replace(plain, manifest=replace(manifest, profile=profile))


def check(units: Sequence[BatchUnit], parts: Sequence[Part], with_profile: bool) -> None:
    """See that all rows were scored, and as many compared as should be.

    Raises:
        ValueError: something else was measured than is said.
    """
    for unit, part in zip(units, parts, strict=True):
        rows = [piece.rows for piece in unit.slices]
        wanted = sum(min(count, DRIFT_ROWS) for count in rows) if with_profile else 0
        if part.succeeded != sum(rows) or sum(part.drift.get(NAMES[0], [0])) != wanted:
            raise ValueError(f"the chunk at slice {unit.first} was not scored as it should be")


if __name__ == "__main__":
    sys.exit(main())
