"""What cannot be trained on is refused before any fit, by column; what is only odd is told."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from shared.errors import InvalidRequest
from worker.training.checks import LEAST_HELD_OUT, LEAST_TRAINING_ROWS, check
from worker.training.labelled import Columns

NAMES = Columns(target="price", sample_weight="share", group="shop", time="day")


def every_fifth(n_rows: int) -> Any:
    return np.arange(n_rows) % 5 == 4


def features_of(n_rows: int) -> pa.Table:
    return pa.table({"x": np.random.default_rng(0).normal(size=n_rows)})


def warnings_of(target: Any, features: pa.Table | None = None, **options: Any) -> list[str]:
    features = features or features_of(len(target))
    return check(target, features, **{"held_out": every_fifth(len(target)), **options}, names=NAMES)


def faults(target: Any, features: pa.Table | None = None, **options: Any) -> list[tuple[str, str, str]]:
    """Column, code and message of each fault."""
    with pytest.raises(InvalidRequest) as raised:
        warnings_of(target, features, **options)
    errors = raised.value.errors
    assert raised.value.message.startswith(errors[0]["message"])
    return [(error["column"], error["code"], error["message"]) for error in errors]


@pytest.mark.parametrize("folds", [None, 5], ids=["one-fit", "search"])
@pytest.mark.parametrize(
    ("load", "task"),
    [(load_diabetes, "regression"), (load_breast_cancer, "binary"), (load_wine, "multiclass")],
    ids=["diabetes", "breast-cancer", "wine"],
)
def test_good_rows_pass_without_a_word(load: Any, task: Any, folds: int | None) -> None:
    data = load(as_frame=True)
    n_rows = len(data.target)

    warnings = check(
        np.asarray(data.target),
        pa.Table.from_pandas(data.data),
        task=task,
        held_out=np.arange(n_rows) % 3 == 0,
        weights=np.ones(n_rows),
        folds=folds,
        classes=None if task == "regression" else np.unique(data.target),
    )

    assert warnings == []


NUMBERS = np.arange(100.0)
WORDS = pa.array(["no", "yes"] * 50)


@pytest.mark.parametrize(
    ("target", "options", "column", "code", "words"),
    [
        pytest.param(
            pa.array([None if row in (3, 8) else float(row) for row in range(100)]),
            {"task": "regression"},
            "price",
            "missing_target",
            "missing in 2 of 100 rows, first in row 4",
            id="missing",
        ),
        pytest.param(
            np.where(NUMBERS == 5, np.nan, NUMBERS),
            {"task": "regression"},
            "price",
            "missing_target",
            "first in row 6",
            id="nan",
        ),
        pytest.param(
            np.where(NUMBERS == 5, np.inf, NUMBERS),
            {"task": "regression"},
            "price",
            "not_finite",
            "in row 6",
            id="infinite",
        ),
        pytest.param(
            WORDS, {"task": "regression"}, "price", "not_a_number", "must be a number for this regressor", id="texts"
        ),
        pytest.param(
            np.where(every_fifth(100), NUMBERS, 7.0),
            {"task": "regression"},
            "price",
            "constant_target",
            "is 7 in all rows to train on",
            id="constant",
        ),
        pytest.param(
            np.zeros(100, int),
            {"task": "binary"},
            "price",
            "one_class",
            "one class in price, 0; a classifier needs at least two",
            id="one-class",
        ),
        pytest.param(
            every_fifth(100), {"task": "binary"}, "price", "one_class", "one class in price, False", id="one-class-here"
        ),
        pytest.param(
            np.array([0, 1] * 48 + [0, 0, 0, 2]),
            {"task": "multiclass"},
            "price",
            "class_not_in_training",
            "Only held-out rows have the classes 2 of price",
            id="class-held-out",
        ),
        pytest.param(
            np.array([0, 1] * 48 + [0, 0, 2, 0]),
            {"task": "multiclass"},
            "price",
            "too_few_rows",
            "at least 2 are needed of each: 2 (1)",
            id="class-of-one-row",
        ),
        pytest.param(
            np.array([0, 1] * 48 + [0, 2, 2, 0]),
            {"task": "multiclass", "folds": 5},
            "price",
            "too_few_rows",
            "at least 5 are needed of each: 2 (2)",
            id="class-of-fewer-rows-than-folds",
        ),
        pytest.param(
            WORDS,
            {"task": "binary", "classes": [0, 1]},
            "price",
            "unknown_classes",
            "('no', 'yes') is one that the champion knows (0, 1)",
            id="other-classes",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "weights": np.where(NUMBERS == 2, -1.5, 1)},
            "share",
            "bad_weight",
            "1 weight in share cannot be used, the first in row 3 (-1.5)",
            id="negative-weight",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "weights": pa.array([None, *NUMBERS[1:]])},
            "share",
            "bad_weight",
            "in row 1 (missing or not finite)",
            id="missing-weight",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "weights": np.where(every_fifth(100), 0, 1)},
            "share",
            "bad_weight",
            "of the rows held out to compare on are 0",
            id="held-out-weights-of-0",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "groups": np.where(every_fifth(100), NUMBERS, NUMBERS % 4), "folds": 5},
            "shop",
            "too_few_groups",
            "The rows to train on are of 4 groups in shop, at least 5",
            id="fewer-groups-than-folds",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "groups": np.where(every_fifth(100), 100, NUMBERS)},
            "shop",
            "too_few_groups",
            "held out to compare on are of 1 group in shop",
            id="one-group-held-out",
        ),
        pytest.param(
            NUMBERS,
            {"task": "regression", "times": NUMBERS // 25, "folds": 4},
            "day",
            "too_few_times",
            "4 different times in day, but 4 folds need at least 5",
            id="fewer-times-than-folds",
        ),
        pytest.param(
            NUMBERS > 60,
            {"task": "binary", "times": NUMBERS, "folds": 4, "held_out": NUMBERS >= 80},
            "price",
            "one_class",
            "In fold 1 of 4 by day all rows to train on are of one class",
            id="one-class-in-the-first-window",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_column(
    target: Any, options: dict[str, Any], column: str, code: str, words: str
) -> None:
    (found,) = faults(target, **options)

    assert found[:2] == (column, code)
    assert words in found[2]


@pytest.mark.parametrize(
    ("n_training", "n_held_out", "words"),
    [
        pytest.param(LEAST_TRAINING_ROWS - 1, 20, "9 rows of 29 would be to train on, at least 10", id="training"),
        pytest.param(100, LEAST_HELD_OUT - 1, "4 rows of 104 would be held out to compare on", id="held-out"),
        pytest.param(100, 0, "0 rows of 100 would be held out", id="none-held-out"),
    ],
)
def test_too_few_rows_are_refused_with_how_many_there_are(n_training: int, n_held_out: int, words: str) -> None:
    n_rows = n_training + n_held_out

    (found,) = faults(np.arange(n_rows) * 1.5, task="regression", held_out=np.arange(n_rows) >= n_training)

    assert found[:2] == ("price", "too_few_rows")
    assert words in found[2]


def test_copies_of_few_rows_are_too_few_to_compare_on() -> None:
    features = pa.table({"x": np.where(every_fifth(200), 0.0, np.arange(200.0))})
    target = np.where(every_fifth(200), np.arange(200) // 5 % 4, np.arange(200.0))

    ((column, code, message),) = faults(target, features, task="regression")

    assert (column, code) == ("price", "too_few_rows")
    assert message.startswith("4 different rows of 200 would be held out to compare on, at least 5 are needed")


def test_no_rows_at_all_are_too_few_on_both_sides() -> None:
    found = faults(np.zeros(0), task="regression")

    assert [code for _, code, _ in found] == ["too_few_rows", "too_few_rows"]


def test_all_faults_of_a_step_are_told_at_once() -> None:
    found = faults(NUMBERS, task="regression", weights=np.zeros(100), groups=np.zeros(100), held_out=NUMBERS == 7)

    assert [column for column, _, _ in found] == ["price", "share", "share", "shop", "shop"]


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_the_least_rows_pass(task: Any) -> None:
    n_rows = LEAST_TRAINING_ROWS + LEAST_HELD_OUT
    target = np.arange(n_rows) % 2

    assert warnings_of(target, task=task, held_out=np.arange(n_rows) >= LEAST_TRAINING_ROWS)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        pytest.param(
            {"a": np.ones(400), "b": ["same"] * 400, "c": pa.nulls(400, pa.float64()), "x": np.arange(400) // 2},
            ["Features with one value in all rows to train on: a, b, c."],
            id="constant",
        ),
        pytest.param(
            {"copy": np.arange(400), "x": np.arange(400) // 2},
            ["Features that equal the target price, which may have leaked in: copy."],
            id="leak",
        ),
        pytest.param(
            {"copy": pa.array([None if row % 2 else row for row in range(400)]), "x": np.arange(400) // 2},
            ["Features that equal the target price, which may have leaked in: copy."],
            id="leak-with-missing-values",
        ),
        pytest.param(
            {f"c{number:02}": np.ones(400) for number in range(12)},
            [
                "Features with one value in all rows to train on: "
                "c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more."
            ],
            id="many",
        ),
        pytest.param({"text": [str(row) for row in range(400)]}, [], id="text-beside-a-number"),
    ],
)
def test_odd_features_are_named(features: dict[str, Any], words: list[str]) -> None:
    assert warnings_of(np.arange(400.0), pa.table(features), task="regression") == words


def test_a_text_that_is_the_class_is_a_leak() -> None:
    target = pa.array(["no", "yes"] * 200)

    features = features_of(400).append_column("answer", target)

    (warning,) = warnings_of(target, features, task="binary")

    assert "answer" in warning


def test_odd_classes_are_named() -> None:
    target = np.array(["a", "b"] * 200, object)
    target[[0, 1, 2]] = "rare"

    warnings = warnings_of(target, task="multiclass", classes=["a", "b", "gone"])

    assert warnings == [
        "Classes of price with few rows: 'rare' (3).",
        "No held-out row is of the classes 'rare' of price, so how they do is unknown.",
        "The champion does not know the classes 'rare' of price.",
        "No row is of the classes 'gone', which the champion knows; a challenger would lose them.",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({}, "Only 20 rows are held out", id="rows"),
        pytest.param({"groups": np.arange(100) // 10 * 5 + np.arange(100) % 5}, "Only 10 groups", id="groups"),
    ],
)
def test_few_held_out_rows_are_told(options: dict[str, Any], words: str) -> None:
    (warning,) = warnings_of(NUMBERS, task="regression", **options)

    assert words in warning


def test_rows_are_called_by_the_numbers_that_they_have_in_their_file() -> None:
    target = pa.array([None, *np.arange(99.0)])

    (found,) = faults(target, task="regression", numbers=np.arange(100) + 41)

    assert "first in row 41;" in found[2]
