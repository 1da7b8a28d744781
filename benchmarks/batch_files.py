"""The files and models that the batch benchmark scores, the same bytes at every run, and the check of a result.

A row is an `id`, the string `r-0000001` and so on, and what its kind has (batch_rows.py): ten floats x1 to x10 of full
precision, 206 bytes as CSV; a text of twelve words; or four readings, some missing, a count and two categories.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from benchmarks.batch_rows import KINDS, MIXED, Rows, ids
from benchmarks.connection import VoidRunError

TRAINING_ROWS = 20_000
SAMPLE_ROWS = 200
# Memory while the expected predictions are made is that of one row group for each thread, and so many rows predicted.
PREDICTED_ROWS = 65_536
PREDICTING_THREADS = min(4, os.cpu_count() or 1)
# A matrix product may be summed in another order when a slice is of another size; trees give the same bits.
LINEAR_TOLERANCE = 1e-12
# What the service itself allows a graph of 32 bits (worker/accelerate.py); other ways of accelerating are exact.
GRAPH_TOLERANCE = 1e-5

FORMATS = ("csv", "parquet")

Vector = npt.NDArray[np.float64]
ITEM_BYTES = np.dtype(np.float64).itemsize


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model to be, and how far a prediction may be from its own, as a share of it."""

    kind: str = "numbers"
    estimator: Callable[[], Any]
    tolerance: float = 0.0


def _mixed() -> Any:
    """Categories one-hot, numbers as they are with what is missing, and trees: as the example `home`."""
    categories = [name for name, type in MIXED.items() if pa.types.is_string(type)]
    numbers = [name for name in MIXED if name not in categories]
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(sparse_output=False), categories),
            ("numbers", FunctionTransformer(), numbers),
        ]
    )
    return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=100, random_state=0))


MODELS: dict[str, Recipe] = {
    "linear": Recipe(estimator=LinearRegression, tolerance=LINEAR_TOLERANCE),
    "boosting": Recipe(estimator=lambda: HistGradientBoostingRegressor(max_iter=100, random_state=0)),
    "forest": Recipe(estimator=lambda: RandomForestRegressor(n_estimators=100, max_depth=10, random_state=0)),
    "text": Recipe(
        kind="text", estimator=lambda: make_pipeline(TfidfVectorizer(), Ridge()), tolerance=LINEAR_TOLERANCE
    ),
    "mixed": Recipe(kind="mixed", estimator=_mixed),
}
# Whose predictions come from trees, at the end.
TREES = ("boosting", "forest", "mixed")


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """`sample` is a CSV file with a few rows of the features, from which the service takes the signature."""

    name: str
    kind: str
    artifact: Path
    sample: Path


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a result must hold: `rows` ids in order, and their predictions, a float64 for each row in a file."""

    rows: int
    predictions: Path
    tolerance: float


def path_of(folder: Path, rows: Rows, format: str) -> Path:
    """Where the file of these rows is, once it is made."""
    rounded = "" if rows.decimals is None else f"-{rows.decimals}-decimals"
    return folder / f"{rows.kind}-{rows.count}{rounded}.{format}"


def prepare_file(folder: Path, rows: Rows, format: str) -> Path:
    """The file of these rows, generated in pieces if it is not there from an earlier run."""
    path = path_of(folder, rows, format)
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished")
    with _writer(unfinished, rows.schema(), format) as writer:
        for first, features in rows.groups():
            writer.write_table(pa.table([ids(first, len(features)), *features.columns], schema=rows.schema()))
    unfinished.rename(path)
    return path


def prepare_model(folder: Path, name: str) -> ModelFile:
    """The fitted model as a joblib file, and its sample."""
    recipe = MODELS[name]
    kind = KINDS[recipe.kind]
    model = ModelFile(
        name=name, kind=recipe.kind, artifact=folder / f"{name}.joblib", sample=folder / f"{name}.sample.csv"
    )
    _, features = next(Rows(kind=recipe.kind, count=TRAINING_ROWS).groups(stream=1))
    if not model.artifact.exists():
        target = kind.target(features) + np.random.default_rng(2).normal(0, 0.1, TRAINING_ROWS)
        unfinished = model.artifact.with_suffix(".unfinished")
        joblib.dump(recipe.estimator().fit(kind.packed(features), target), unfinished)
        unfinished.rename(model.artifact)
    with _writer(model.sample, features.schema, "csv") as writer:
        writer.write_table(features.slice(0, SAMPLE_ROWS))
    return model


def expect(model: ModelFile, rows: Rows, *, accelerate: str = "") -> Expected:
    """What the model itself says of every row, predicted once and kept beside the model.

    `accelerate`: how the service was told to be faster; only a graph may differ for it.
    """
    digest = hashlib.sha256(model.artifact.read_bytes()).hexdigest()[:16]
    path = path_of(model.artifact.parent, rows, f"{model.name}-{digest}.float64")
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        _predict_all(model, rows, unfinished)
        unfinished.rename(path)
    tolerance = MODELS[model.name].tolerance
    return Expected(rows=rows.count, predictions=path, tolerance=GRAPH_TOLERANCE if accelerate == "onnx" else tolerance)


def _predict_all(model: ModelFile, rows: Rows, path: Path) -> None:
    """Write the model's own prediction of every row; each thread makes, predicts and writes row groups of its own."""
    estimator, packed = joblib.load(model.artifact), KINDS[model.kind].packed
    path.write_bytes(b"")

    def predict(first: int) -> None:
        features = rows.group(first)
        with path.open("r+b") as file:
            file.seek(first * ITEM_BYTES)
            for start in range(0, len(features), PREDICTED_ROWS):
                predictions: Vector = estimator.predict(packed(features.slice(start, PREDICTED_ROWS)))
                file.write(predictions.astype(np.float64).tobytes())

    with ThreadPoolExecutor(PREDICTING_THREADS) as pool:
        for _ in pool.map(predict, rows.firsts()):
            pass


def check_result(result: Path, expected: Expected) -> None:
    """See that a CSV result has every row once, in order, and the right prediction in each; a piece at a time.

    Raises:
        VoidRunError: a row is lost, doubled, out of order or wrong.
    """
    with result.open("rb") as lines:
        header = lines.readline().decode().strip().replace('"', "")
    if header != "id,prediction":
        raise VoidRunError(f"{result.name} has the header {header!r}")
    row = 0
    with expected.predictions.open("rb") as known:
        for batch in _result_batches(result):
            names, found = batch.column("id"), batch.column("prediction").to_numpy(zero_copy_only=False)
            if not names.equals(ids(row, batch.num_rows)):
                wrong = next(n for n, (a, b) in enumerate(zip(names, ids(row, batch.num_rows), strict=True)) if a != b)
                raise VoidRunError(f"row {row + wrong + 1} of {result.name} has the id {names[wrong]}")
            right = np.fromfile(known, np.float64, batch.num_rows)
            if len(right) < batch.num_rows:
                raise VoidRunError(f"{result.name} has more than the {row + len(right)} rows that were expected")
            same = np.isclose(found, right, rtol=expected.tolerance, atol=0)
            if not same.all():
                wrong = int(np.argmin(same))
                raise VoidRunError(
                    f"row {row + wrong + 1} of {result.name} has the prediction {found[wrong]!r}, not {right[wrong]!r}"
                )
            row += batch.num_rows
    if row != expected.rows:
        raise VoidRunError(f"{result.name} has {row} rows, not {expected.rows}")


def _result_batches(result: Path) -> Iterator[pa.RecordBatch]:
    types = {"id": pa.string(), "prediction": pa.float64()}
    convert = pyarrow.csv.ConvertOptions(column_types=types, null_values=[])
    try:
        yield from pyarrow.csv.open_csv(result, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise VoidRunError(f"{result.name} is no result: {error}") from error


def _writer(path: Path, schema: pa.Schema, format: str) -> Any:
    """Something with `write_table`, closed by `with`."""
    if format == "parquet":
        return pyarrow.parquet.ParquetWriter(path, schema)
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65_536)
    return pyarrow.csv.CSVWriter(path, schema, write_options=options)
