"""Prediction of a slice: a bad row fails alone, good ones as if it were not there, and answers become columns."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from shared.signature import Feature, Signature
from tests.unit.estimators import ONE_NUMBER, Answering, Doubling, Ranking
from worker.predict import Stopped
from worker.score import MOST_BLAMED_ROWS, Scorer, Scores, pack_table

SIGNATURE = replace(ONE_NUMBER, example=(1.0,))
DOUBLES = pa.schema({"prediction": pa.float64()})


def never() -> bool:
    return False


def numbers(n_rows: int) -> pa.Table:
    """The rows 0, 1, 2, ..."""
    return pa.table({"x": np.arange(n_rows, dtype=float)})


def score(estimator: Any, n_rows: int, schema: pa.Schema = DOUBLES, stopped: Callable[[], bool] = never) -> Scores:
    """What becomes of the rows 0, 1, 2, ..."""
    return Scorer(estimator, SIGNATURE, "predict", None).score(numbers(n_rows), schema, stopped)


def test_good_rows_are_predicted_in_one_call() -> None:
    estimator = Doubling()

    scores = score(estimator, 100)

    assert scores.table.to_pydict() == {"prediction": [2.0 * row for row in range(100)]}
    assert (scores.failures, scores.infinite, estimator.calls) == ({}, False, [100])


@given(n_rows=st.integers(1, 40), bad=st.sets(st.integers(0, 39)))
def test_bad_rows_fail_alone_and_good_ones_are_predicted_as_if_there_were_none(n_rows: int, bad: set[int]) -> None:
    refused = {row for row in bad if row < n_rows}
    undisturbed = score(Doubling(), n_rows).table

    scores = score(Doubling({float(row) for row in refused}), n_rows)

    assert scores.failures.keys() == refused
    assert {failure.message for failure in scores.failures.values()} <= {"The model refused the row: x is out of range"}
    assert scores.table.equals(undisturbed.take(pa.array(sorted(set(range(n_rows)) - refused), pa.int64())))


def test_a_slice_without_rows_is_never_shown_to_the_model() -> None:
    estimator = Doubling()

    scores = score(estimator, 0)

    assert (scores.table.num_rows, scores.table.schema, estimator.calls) == (0, DOUBLES, [])


@pytest.mark.parametrize("error", [ValueError("x is out of range"), SystemExit(3), MemoryError(), ZeroDivisionError()])
def test_whatever_a_model_raises_is_the_rows_failure(error: BaseException) -> None:
    scores = score(Doubling({2.0}, error), 4)

    assert list(scores.failures) == [2]
    assert scores.table.column("prediction").to_pylist() == [0.0, 2.0, 6.0]


def test_a_keyboard_interrupt_is_not_taken_for_a_bad_row() -> None:
    with pytest.raises(KeyboardInterrupt):
        score(Doubling({2.0}, KeyboardInterrupt()), 4)


def test_the_column_to_blame_is_named_for_the_first_failed_rows() -> None:
    scores = score(Doubling({float(row) for row in range(2, 12)}), 12)

    columns = [scores.failures[row].column for row in range(2, 12)]
    assert columns == ["x"] * MOST_BLAMED_ROWS + [None] * (10 - MOST_BLAMED_ROWS)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda n: np.zeros(n + 1), id="too-many"),
        pytest.param(lambda n: np.zeros(n - 1), id="too-few"),
        pytest.param(lambda n: np.zeros((n, 2)), id="another-number-of-columns"),
        pytest.param(lambda n: np.zeros((n, 1, 1)), id="three-dimensions"),
        pytest.param(lambda _: 1.0, id="one-number"),
        pytest.param(lambda _: None, id="nothing"),
        pytest.param(lambda n: [[1.0], [1.0, 2.0]] * n, id="ragged"),
        pytest.param(lambda n: np.array(["word"] * n), id="words-for-numbers"),
    ],
)
def test_an_answer_of_another_shape_or_type_is_the_models_fault(answer: Callable[[int], Any]) -> None:
    scores = score(Answering(answer), 3)

    assert scores.table.num_rows == 0
    assert [scores.failures[row].code for row in range(3)] == ["bad_model_output"] * 3


def test_whether_to_stop_is_asked_before_every_call() -> None:
    asked: Iterator[bool] = iter([False, False, True])
    estimator = Doubling({3.0})

    with pytest.raises(Stopped):
        score(estimator, 4, stopped=lambda: next(asked))

    assert estimator.calls == [4, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_null_and_is_told(value: float) -> None:
    scores = score(Answering(lambda n: np.array([1.0, value, 3.0][:n])), 3)

    assert (scores.table.column("prediction").to_pylist(), scores.infinite) == ([1.0, None, 3.0], True)


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        pytest.param(np.array([1, 2]), {"prediction": [1, 2]}, id="integers"),
        pytest.param(np.array([True, False]), {"prediction": [True, False]}, id="booleans"),
        pytest.param(np.array(["a", "b"]), {"prediction": ["a", "b"]}, id="strings"),
        pytest.param(np.array(["a", None], dtype=object), {"prediction": ["a", None]}, id="objects"),
        pytest.param(np.array(["2026-01-02"] * 2, "M8[D]"), {"prediction": ["2026-01-02"] * 2}, id="dates"),
        pytest.param([1.5, 2.5], {"prediction": [1.5, 2.5]}, id="list"),
        pytest.param(np.eye(2), {"prediction_0": [1.0, 0.0], "prediction_1": [0.0, 1.0]}, id="matrix"),
        pytest.param(
            scipy.sparse.csr_matrix(np.eye(2)), {"prediction_0": [1.0, 0.0], "prediction_1": [0.0, 1.0]}, id="sparse"
        ),
    ],
)
def test_an_answer_becomes_columns(answer: Any, columns: dict[str, list[Any]]) -> None:
    estimator = Answering(lambda n: answer[:n])
    schema = Scorer(estimator, SIGNATURE, "predict", None).schema()

    scores = score(estimator, 2, schema)

    assert scores.table.to_pydict() == columns


def test_the_most_probable_classes_come_with_their_probabilities() -> None:
    features = tuple(Feature(name=name, type="number") for name in "abc")
    signature = Signature(container="matrix", features=features, methods=("predict_proba",), example=(0.0, 0.0, 0.0))
    scorer = Scorer(Ranking(), signature, "predict_proba", 2)
    rows = pa.table({"a": [0.1, 0.25], "b": [0.7, 0.5], "c": [0.2, 0.25]})

    scores = scorer.score(rows, scorer.schema(), never)

    assert scores.table.to_pydict() == {
        "item_1": ["beech", "beech"],
        "score_1": [0.7, 0.5],
        "item_2": ["cedar", "ash"],
        "score_2": [0.2, 0.25],
    }


def test_a_matrix_has_missing_values_as_nan_and_truths_as_numbers() -> None:
    features = (Feature(name="x", type="number", nullable=True), Feature(name="flag", type="boolean", nullable=True))
    signature = Signature(container="matrix", features=features, methods=("predict",))

    matrix = pack_table(signature, pa.table({"x": [1.5, None], "flag": [True, None]}))

    np.testing.assert_array_equal(matrix, [[1.5, 1.0], [np.nan, np.nan]])
    assert (matrix.dtype, matrix.flags.c_contiguous) == (np.float64, True)
