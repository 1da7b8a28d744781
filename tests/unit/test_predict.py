"""Prediction of stacked rows: a bad one fails alone, and every answer becomes plain JSON."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from shared.signature import Feature, Signature
from tests.unit.estimators import ONE_NUMBER, Answering, Doubling, Ranking
from worker.predict import Prediction, RowFailure, Stopped, WrongShape, encode, plain, predict_rows

REFUSED = RowFailure("prediction_failed", "The model refused the row: x is out of range")
THREE_NUMBERS = Signature(
    container="matrix",
    features=tuple(Feature(name=name, type="number") for name in ("a", "b", "c")),
    methods=("predict_proba",),
)


def predict(estimator: Any, n_rows: int, most_rows: int = 1000, **options: Any) -> list[Prediction]:
    """Predictions of the rows 0, 1, 2, ..."""
    return predict_rows(
        estimator,
        ONE_NUMBER,
        [[row] for row in range(n_rows)],
        method="predict",
        top_k=None,
        most_rows=most_rows,
        **options,
    )


def test_good_rows_are_predicted_in_one_call() -> None:
    estimator = Doubling()

    predictions = predict(estimator, 100)

    assert predictions == [2 * row for row in range(100)]
    assert estimator.calls == [100]


def test_a_call_has_no_more_rows_than_allowed() -> None:
    estimator = Doubling()

    predictions = predict(estimator, 10, most_rows=4)

    assert predictions == [2 * row for row in range(10)]
    assert estimator.calls == [4, 4, 2]


@pytest.mark.parametrize("bad", [0, 1, 499, 500, 998, 999])
def test_one_bad_row_among_many_is_found_and_only_that(bad: int) -> None:
    estimator = Doubling({bad})

    predictions = predict(estimator, 1000)

    assert predictions == [REFUSED if row == bad else 2 * row for row in range(1000)]
    assert len(estimator.calls) <= 2 * math.ceil(math.log2(1000)) + 1


def test_rows_that_are_all_bad_all_fail() -> None:
    estimator = Doubling(range(5))

    assert predict(estimator, 5) == [REFUSED] * 5


@given(n_rows=st.integers(1, 60), bad=st.sets(st.integers(0, 59)), most_rows=st.integers(1, 70))
def test_exactly_the_bad_rows_fail_and_the_others_are_right(n_rows: int, bad: set[int], most_rows: int) -> None:
    estimator = Doubling(bad)

    predictions = predict(estimator, n_rows, most_rows)

    assert predictions == [REFUSED if row in bad else 2 * row for row in range(n_rows)]
    assert max(estimator.calls) <= most_rows


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        pytest.param(
            ValueError("x is negative\nat line 7"),
            RowFailure("prediction_failed", "The model refused the row: x is negative"),
            id="value-error",
        ),
        pytest.param(
            TypeError("no str"), RowFailure("prediction_failed", "The model refused the row: no str"), id="type-error"
        ),
        pytest.param(
            ValueError(),
            RowFailure("prediction_failed", "The model raised ValueError for this row."),
            id="value-error-without-words",
        ),
        pytest.param(
            ValueError("x" * 1000),
            RowFailure("prediction_failed", f"The model refused the row: {'x' * 300}"),
            id="value-error-with-many-words",
        ),
        pytest.param(
            KeyError("/srv/secret"),
            RowFailure("prediction_failed", "The model raised KeyError for this row."),
            id="another-error-hides-its-words",
        ),
        pytest.param(
            MemoryError(),
            RowFailure("out_of_memory", "The row needs more memory than the worker has."),
            id="memory-error",
        ),
        pytest.param(
            SystemExit(3),
            RowFailure("prediction_failed", "The model raised SystemExit for this row."),
            id="system-exit",
        ),
        pytest.param(
            RecursionError("too deep"),
            RowFailure("prediction_failed", "The model raised RecursionError for this row."),
            id="recursion-error",
        ),
        pytest.param(
            StopIteration(),
            RowFailure("prediction_failed", "The model raised StopIteration for this row."),
            id="stop-iteration",
        ),
    ],
)
def test_whatever_a_model_raises_is_a_failure_of_its_row(error: BaseException, failure: RowFailure) -> None:
    estimator = Doubling({1}, error)

    assert predict(estimator, 3) == [0, failure, 4]


def test_an_interrupt_is_not_taken_for_a_bad_row() -> None:
    estimator = Doubling({1}, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        predict(estimator, 3)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda n_rows: np.zeros(n_rows + 1), id="one-too-many"),
        pytest.param(lambda n_rows: np.zeros(n_rows - 1), id="one-too-few"),
        pytest.param(lambda n_rows: np.float64(0), id="no-array"),
        pytest.param(lambda n_rows: None, id="nothing"),
        pytest.param(lambda n_rows: [np.zeros(n_rows), np.zeros(n_rows + 1)], id="one-output-too-long"),
        pytest.param(lambda n_rows: [], id="no-outputs"),
        pytest.param(lambda n_rows: scipy.sparse.csr_matrix((n_rows + 1, 2)), id="sparse"),
    ],
)
def test_a_wrong_number_of_predictions_fails_every_row(answer: Callable[[int], Any]) -> None:
    predictions = predict(Answering(answer), 3)

    assert [prediction.code for prediction in predictions] == ["bad_model_output"] * 3


def test_a_model_that_is_only_wrong_about_many_rows_is_asked_for_fewer() -> None:
    forgetful = Answering(lambda n_rows: np.zeros(min(n_rows, 2)))

    assert predict(forgetful, 5) == [0.0] * 5


def test_nothing_is_predicted_when_nobody_wants_it() -> None:
    estimator = Doubling()

    with pytest.raises(Stopped):
        predict(estimator, 10, stopped=lambda: True)

    assert estimator.calls == []


def test_a_stop_is_noticed_between_two_calls() -> None:
    estimator = Doubling()

    with pytest.raises(Stopped):
        predict(estimator, 10, most_rows=2, stopped=lambda: len(estimator.calls) == 3)

    assert estimator.calls == [2, 2, 2]


def test_a_stop_is_noticed_while_a_bad_row_is_looked_for() -> None:
    estimator = Doubling({9})

    with pytest.raises(Stopped):
        predict(estimator, 10, stopped=lambda: len(estimator.calls) == 2)

    assert estimator.calls == [10, 5]


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        pytest.param(np.array([1, 2]), [1, 2], id="integers"),
        pytest.param(np.array([1.5, 2.5], np.float32), [1.5, 2.5], id="float32"),
        pytest.param(np.array([True, False]), [True, False], id="booleans"),
        pytest.param(np.array(["a", "b"]), ["a", "b"], id="strings"),
        pytest.param(np.array(["a", None], object), ["a", None], id="objects"),
        pytest.param(np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], id="several-outputs"),
        pytest.param(
            [np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([[1.0], [1.0]])],
            [[[0.1, 0.9], [1.0]], [[0.2, 0.8], [1.0]]],
            id="probabilities-of-several-outputs",
        ),
        pytest.param(scipy.sparse.csr_matrix([[0, 1], [2, 0]]), [[0, 1], [2, 0]], id="sparse"),
        pytest.param(np.array(["2026-01-31", "2026-02-01"], "datetime64[D]"), ["2026-01-31", "2026-02-01"], id="dates"),
        pytest.param(np.array([1, 2], "timedelta64[s]"), ["1 seconds", "2 seconds"], id="durations"),
    ],
)
def test_an_answer_becomes_a_plain_value_for_each_row(answer: Any, values: list[Any]) -> None:
    assert plain(answer, 2) == values


def test_an_answer_for_another_number_of_rows_is_refused() -> None:
    with pytest.raises(WrongShape, match=r"gave \(3,\) predictions for 2 rows"):
        plain(np.zeros(3), 2)


def test_top_k_gives_the_most_probable_classes_with_their_scores() -> None:
    rows = [[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]]

    predictions = predict_rows(Ranking(), THREE_NUMBERS, rows, method="predict", top_k=2, most_rows=10)

    assert predictions == [
        [{"item": "beech", "score": 0.5}, {"item": "cedar", "score": 0.3}],
        [{"item": "ash", "score": 0.6}, {"item": "cedar", "score": 0.4}],
    ]


def test_equally_probable_classes_keep_the_order_of_the_model() -> None:
    names = [f"class {number:02d}" for number in range(50)]
    ranking = Ranking()
    ranking.classes_ = np.array(names)
    wide = replace(THREE_NUMBERS, features=tuple(Feature(name=name, type="number") for name in names))

    predictions = predict_rows(ranking, wide, [[0.02] * 50], method="predict", top_k=50, most_rows=10)

    assert [best["item"] for best in predictions[0]] == names


def test_top_k_beyond_the_number_of_classes_gives_all_of_them() -> None:
    predictions = predict_rows(Ranking(), THREE_NUMBERS, [[0.2, 0.5, 0.3]], method="predict", top_k=9, most_rows=10)

    assert [best["item"] for best in predictions[0]] == ["beech", "cedar", "ash"]


@pytest.mark.parametrize(
    ("predictions", "shown"),
    [
        pytest.param([1.0, math.nan], [1.0, None], id="nan"),
        pytest.param([math.inf, 2.0], [None, 2.0], id="infinity"),
        pytest.param([-math.inf], [None], id="minus-infinity"),
        pytest.param([[1.0, math.nan]], [[1.0, None]], id="in-a-list"),
        pytest.param([[[math.nan]]], [[[None]]], id="in-a-list-of-lists"),
        pytest.param([[{"item": "a", "score": math.nan}]], [[{"item": "a", "score": None}]], id="in-a-score"),
    ],
)
def test_a_number_that_is_not_finite_is_null_and_reported(predictions: list[Any], shown: list[Any]) -> None:
    encoded, infinite = encode(predictions)

    assert orjson.loads(encoded) == shown
    assert infinite


@pytest.mark.parametrize(
    ("predictions", "shown"),
    [
        pytest.param([1.5, 2], [1.5, 2], id="numbers"),
        pytest.param(["nan", "inf"], ["nan", "inf"], id="words-that-look-like-it"),
        pytest.param([None, True], [None, True], id="null-and-true"),
        pytest.param([RowFailure("prediction_failed", "no"), 1.0], [None, 1.0], id="failed-row"),
    ],
)
def test_an_answer_without_such_a_number_reports_nothing(predictions: list[Any], shown: list[Any]) -> None:
    encoded, infinite = encode(predictions)

    assert orjson.loads(encoded) == shown
    assert not infinite


@pytest.mark.parametrize(
    ("value", "shown", "infinite"),
    [
        pytest.param(np.float64(1.5), 1.5, False, id="float"),
        pytest.param(np.int64(3), 3, False, id="integer"),
        pytest.param(np.bool_(True), True, False, id="boolean"),
        pytest.param(np.float64("nan"), None, True, id="nan"),
    ],
)
def test_a_number_in_an_array_of_objects_stays_a_number(value: Any, shown: Any, infinite: bool) -> None:
    answer = np.array([value], dtype=object)

    encoded, found_infinite = encode(plain(answer, 1))

    assert orjson.loads(encoded) == [shown]
    assert found_infinite is infinite
