"""The batch benchmark compares every row of a result with what the model itself says, in pieces."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks.batch_files import (
    PREDICTED_ROWS,
    Expected,
    ModelFile,
    check_result,
    expect,
    prepare_file,
    prepare_model,
)
from benchmarks.batch_rows import GROUP_ROWS, KINDS, Rows, ids
from benchmarks.connection import VoidRunError

ROWS = 1_000
NUMBERS = Rows(kind="numbers", count=ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch-results")


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelFile:
    return prepare_model(folder, "linear")


@pytest.fixture(scope="module")
def expected(model: ModelFile) -> Expected:
    return expect(model, NUMBERS)


@pytest.fixture
def lines(expected: Expected) -> list[str]:
    """A right result, without its header."""
    return right_lines(expected)


def right_lines(expected: Expected) -> list[str]:
    predictions = np.fromfile(expected.predictions)
    assert len(predictions) == expected.rows
    return [f"r-{row + 1:07d},{value!r}\n" for row, value in enumerate(predictions.tolist())]


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "result.csv"
    path.write_text("id,prediction\n" + "".join(lines))
    return path


def test_a_right_result_passes(tmp_path: Path, expected: Expected, lines: list[str]) -> None:
    result = write(tmp_path, lines)

    check_result(result, expected)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda lines: lines[:-1], id="the last row is lost"),
        pytest.param(lambda lines: lines[:400] + lines[401:], id="a row is lost"),
        pytest.param(lambda lines: lines[:401] + lines[400:], id="a row is doubled"),
        pytest.param(lambda lines: lines + lines[-1:], id="the last row is doubled"),
        pytest.param(lambda lines: lines[500:] + lines[:500], id="parts are joined in the wrong order"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1].split(",")[0] + ",1.5\n"], id="a prediction is wrong"),
        pytest.param(lambda lines: [*lines[:7], "id,prediction\n", *lines[7:]], id="a second header"),
        pytest.param(lambda lines: [lines[0].split(",")[0] + ",\n", *lines[1:]], id="a prediction is missing"),
        pytest.param(lambda _: [], id="no row at all"),
    ],
)
def test_a_wrong_result_voids_the_run(
    tmp_path: Path, expected: Expected, lines: list[str], spoil: Callable[[list[str]], list[str]]
) -> None:
    result = write(tmp_path, spoil(lines))

    with pytest.raises(VoidRunError):
        check_result(result, expected)


@pytest.fixture(scope="module")
def long_one(model: ModelFile) -> Expected:
    return expect(model, Rows(kind="numbers", count=30_000))


def with_prediction_of(line: str, other: str) -> str:
    return f"{line.split(',')[0]},{other.split(',')[1]}"


@pytest.mark.parametrize("row", [0, 12_344, 17_000, 29_999])
def test_a_single_wrong_prediction_is_found_wherever_it_is(tmp_path: Path, long_one: Expected, row: int) -> None:
    lines = right_lines(long_one)
    right = float(lines[row].split(",")[1])
    lines[row] = with_prediction_of(lines[row], f",{right * (1 + 1e-9)!r}\n")

    with pytest.raises(VoidRunError) as error:
        check_result(write(tmp_path, lines), long_one)

    assert f"row {row + 1} of" in str(error.value)
    assert repr(right * (1 + 1e-9)) in str(error.value)
    assert repr(right) in str(error.value)


def test_the_predictions_of_two_rows_that_changed_places_are_found(tmp_path: Path, long_one: Expected) -> None:
    lines = right_lines(long_one)
    first, second = lines[20_000], lines[20_001]
    lines[20_000:20_002] = [with_prediction_of(first, second), with_prediction_of(second, first)]

    with pytest.raises(VoidRunError, match="row 20001 of"):
        check_result(write(tmp_path, lines), long_one)


def test_a_prediction_of_trees_that_differs_in_its_last_bit_is_found(tmp_path: Path, folder: Path) -> None:
    expected = expect(prepare_model(folder, "mixed"), Rows(kind="mixed", count=ROWS))
    lines = right_lines(expected)
    check_result(write(tmp_path, lines), expected)
    next_to_it = np.nextafter(float(lines[500].split(",")[1]), np.inf)
    lines[500] = with_prediction_of(lines[500], f",{float(next_to_it)!r}\n")

    with pytest.raises(VoidRunError, match="row 501 of"):
        check_result(write(tmp_path, lines), expected)


@pytest.mark.parametrize("name", ["linear", "text", "mixed"])
def test_what_is_expected_is_what_the_model_says_of_the_file(tmp_path: Path, folder: Path, name: str) -> None:
    model = prepare_model(folder, name)
    rows = Rows(kind=model.kind, count=ROWS)
    file = pyarrow.parquet.read_table(prepare_file(tmp_path, rows, "parquet")).drop_columns(["id"])

    predictions = np.fromfile(expect(model, rows).predictions)

    own = joblib.load(model.artifact).predict(KINDS[model.kind].packed(file))
    np.testing.assert_allclose(predictions, own, rtol=1e-12 if name != "mixed" else 0)


class Counting:
    """A model that notes how many rows it was given at once; its prediction is the first column."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, matrix: Any) -> Any:
        self.calls.append(len(matrix))
        return matrix[:, 0]


def test_what_is_expected_is_made_once_and_in_pieces(
    tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, rows = Counting(), Rows(kind="numbers", count=2 * GROUP_ROWS + 1_000)
    artifact = tmp_path / "linear.joblib"
    artifact.write_bytes(model.artifact.read_bytes())
    own = ModelFile(name=model.name, kind=model.kind, artifact=artifact, sample=model.sample)
    monkeypatch.setattr(joblib, "load", lambda _: counting)

    first, second = expect(own, rows), expect(own, rows)

    assert first == second
    assert sum(counting.calls) == rows.count
    assert max(counting.calls) == PREDICTED_ROWS
    values = np.concatenate([features.column("x1").to_numpy() for _, features in rows.groups()])
    assert np.array_equal(np.fromfile(first.predictions), values)
    assert {path.suffix for path in tmp_path.iterdir()} == {".joblib", ".float64"}


def test_another_model_of_that_name_is_asked_anew(tmp_path: Path) -> None:
    model = prepare_model(tmp_path, "linear")
    first = expect(model, NUMBERS)
    fitted = joblib.load(model.artifact)
    fitted.intercept_ += 1
    joblib.dump(fitted, model.artifact)

    second = expect(model, NUMBERS)

    assert np.fromfile(second.predictions) == pytest.approx(np.fromfile(first.predictions) + 1)


def test_a_model_that_fails_leaves_nothing_to_be_taken_for_expected(
    tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tmp_path / "linear.joblib"
    artifact.write_bytes(b"no model")
    own = ModelFile(name=model.name, kind=model.kind, artifact=artifact, sample=model.sample)
    monkeypatch.setattr(joblib, "load", lambda _: None)

    with pytest.raises(AttributeError):
        expect(own, NUMBERS)

    assert list(tmp_path.glob("*.float64")) == []


def test_a_result_is_checked_in_pieces(tmp_path: Path) -> None:
    rows, result, known = 500_000, tmp_path / "result.csv", tmp_path / "known.float64"
    predictions = np.arange(float(rows))
    predictions.tofile(known)
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
    pyarrow.csv.write_csv(pa.table({"id": ids(0, rows), "prediction": predictions}), result, options)

    tracemalloc.start()
    try:
        check_result(result, Expected(rows=rows, predictions=known, tolerance=0.0))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < predictions.nbytes
