"""The files and models that the batch benchmark scores, the same bytes at every run, and the check of a result.

A row is an `id`, the string `r-0000001` and so on, and ten floats x1 to x10 of full precision: 206 bytes as CSV.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression

from benchmarks.connection import VoidRunError

FEATURES = [f"x{number}" for number in range(1, 11)]
GROUP_ROWS = 262_144
TRAINING_ROWS = 20_000
SAMPLE_ROWS = 200
CHECKED_ROWS = 5_000
# A matrix product may be summed in another order when a slice is of another size; trees give the same bits.
LINEAR_TOLERANCE = 1e-12

MODELS: dict[str, Callable[[], Any]] = {
    "linear": LinearRegression,
    "boosting": lambda: HistGradientBoostingRegressor(max_iter=100, random_state=0),
    "forest": lambda: RandomForestRegressor(n_estimators=100, max_depth=10, random_state=0),
}
FORMATS = ("csv", "parquet")

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """`sample` is a CSV file with a few rows of the features, from which the service takes the signature."""

    name: str
    artifact: Path
    sample: Path


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a result must hold: `rows` ids in order, and at the checked positions (from 0) these predictions."""

    rows: int
    positions: npt.NDArray[np.int64]
    predictions: Matrix
    tolerance: float


def prepare_file(folder: Path, format: str, rows: int) -> Path:
    """The file of so many rows, generated in pieces if it is not there from an earlier run."""
    path = folder / f"rows-{rows}.{format}"
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished")
    with _writer(unfinished, format) as writer:
        for first, features in _groups(rows):
            columns = [_ids(first, len(features)), *(pa.array(np.ascontiguousarray(x)) for x in features.T)]
            writer.write_table(pa.table(columns, schema=_schema()))
    unfinished.rename(path)
    return path


def prepare_model(folder: Path, name: str) -> ModelFile:
    """The fitted model as a joblib file, and its sample."""
    model = ModelFile(name=name, artifact=folder / f"{name}.joblib", sample=folder / f"{name}.sample.csv")
    features = next(_groups(TRAINING_ROWS, stream=1))[1]
    if not model.artifact.exists():
        random = np.random.default_rng(2)
        # Far from zero, where a relative tolerance means something.
        target = 500 + features @ np.arange(1, 11) + np.sin(features[:, 0] * 3) + random.normal(0, 0.1, TRAINING_ROWS)
        unfinished = model.artifact.with_suffix(".unfinished")
        joblib.dump(MODELS[name]().fit(features, target), unfinished)
        unfinished.rename(model.artifact)
    header = ",".join(FEATURES)
    np.savetxt(model.sample, features[:SAMPLE_ROWS], delimiter=",", header=header, comments="", fmt="%.17g")
    return model


def expect(model: ModelFile, rows: int) -> Expected:
    """What the model itself says of rows all over the file, the first and the last among them."""
    positions, features = _checked_rows(rows)
    return Expected(
        rows=rows,
        positions=positions,
        predictions=joblib.load(model.artifact).predict(features),
        tolerance=LINEAR_TOLERANCE if model.name == "linear" else 0.0,
    )


def check_result(result: Path, expected: Expected) -> None:
    """See that a CSV result has every row once, in order, and the right predictions.

    Raises:
        VoidRunError: a row is lost, doubled, out of order or wrong.
    """
    with result.open("rb") as lines:
        header = lines.readline().decode().strip().replace('"', "")
    if header != "id,prediction":
        raise VoidRunError(f"{result.name} has the header {header!r}")
    found: list[Matrix] = []
    row = 0
    for batch in _result_batches(result):
        ids, predictions = batch.column("id"), batch.column("prediction").to_numpy(zero_copy_only=False)
        if not ids.equals(_ids(row, batch.num_rows)):
            wrong = next(n for n, (a, b) in enumerate(zip(ids, _ids(row, batch.num_rows), strict=True)) if a != b)
            raise VoidRunError(f"row {row + wrong + 1} of {result.name} has the id {ids[wrong]}")
        first, last = np.searchsorted(expected.positions, [row, row + batch.num_rows])
        found.append(predictions[expected.positions[first:last] - row])
        row += batch.num_rows
    if row != expected.rows:
        raise VoidRunError(f"{result.name} has {row} rows, not {expected.rows}")
    right = np.isclose(np.concatenate(found), expected.predictions, rtol=expected.tolerance, atol=0)
    if not right.all():
        wrong = int(np.argmin(right))
        raise VoidRunError(
            f"row {expected.positions[wrong] + 1} of {result.name} has the prediction "
            f"{np.concatenate(found)[wrong]!r}, not {expected.predictions[wrong]!r}"
        )


def _result_batches(result: Path) -> Iterator[pa.RecordBatch]:
    types = {"id": pa.string(), "prediction": pa.float64()}
    convert = pyarrow.csv.ConvertOptions(column_types=types, null_values=[])
    try:
        yield from pyarrow.csv.open_csv(result, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise VoidRunError(f"{result.name} is no result: {error}") from error


@functools.cache
def _checked_rows(rows: int) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Positions, ascending, and their features as (n_positions, 10) float64."""
    random = np.random.default_rng(3)
    drawn = random.choice(rows, min(rows, CHECKED_ROWS), replace=False)
    positions = np.unique(np.append(drawn, [0, rows - 1]))
    pieces = []
    for first, features in _groups(rows):
        low, high = np.searchsorted(positions, [first, first + len(features)])
        pieces.append(features[positions[low:high] - first])
    return positions, np.concatenate(pieces)


def _groups(rows: int, stream: int = 0) -> Iterator[tuple[int, Matrix]]:
    """The features, a row group at a time, each with the position of its first row."""
    for first in range(0, rows, GROUP_ROWS):
        random = np.random.default_rng([stream, first])
        yield first, random.normal(size=(min(GROUP_ROWS, rows - first), len(FEATURES)))


def _ids(first: int, count: int) -> pa.Array:
    return pa.array([f"r-{number:07d}" for number in range(first + 1, first + count + 1)])


def _schema() -> pa.Schema:
    return pa.schema([("id", pa.string()), *((name, pa.float64()) for name in FEATURES)])


def _writer(path: Path, format: str) -> Any:
    """Something with `write_table`, closed by `with`."""
    if format == "parquet":
        return pyarrow.parquet.ParquetWriter(path, _schema())
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65_536)
    return pyarrow.csv.CSVWriter(path, _schema(), write_options=options)
