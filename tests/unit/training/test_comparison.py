"""Champion and challenger are compared on the same rows; what may be luck is not taken for an improvement."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from shared.errors import InvalidRequest
from worker.training.comparison import Comparison, compare
from worker.training.gate import judge
from worker.training.metrics import METRICS, Answers, answers, metrics_of
from worker.training.sides import Side

X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)
X_DIGITS, Y_DIGITS = load_digits(return_X_y=True)
REGRESSION = ["rmse", "mae", "r2"]
CLASSES = ["log_loss", "accuracy", "f1", "roc_auc"]


def regressors(n_rows: int, seed: int, *, noises: tuple[float, float]) -> tuple[Any, Answers, Answers]:
    """A truth, and two models that are wrong by as much as `noises` say."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=n_rows)
    one, other = (Answers(truth + noise * generator.normal(size=n_rows)) for noise in noises)
    return truth, one, other


def classifiers(n_rows: int, k: int, seed: int, *, noises: tuple[float, float]) -> tuple[Any, Answers, Answers]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, k, n_rows)

    def model(noise: float) -> Answers:
        scores = noise * generator.normal(size=(n_rows, k))
        scores[np.arange(n_rows), truth] += 1
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return Answers(probabilities.argmax(axis=1), probabilities, np.arange(k))

    return truth, model(noises[0]), model(noises[1])


def made(metric: str, n_rows: int, seed: int, noises: tuple[float, float]) -> tuple[Any, Any, Answers, Answers]:
    """Task, truth, champion and challenger that suit a metric."""
    if metric in REGRESSION:
        return ("regression", *regressors(n_rows, seed, noises=noises))
    k = 2 + seed % 2
    return ("binary" if k == 2 else "multiclass", *classifiers(n_rows, k, seed, noises=noises))


@pytest.mark.parametrize("metric", METRICS)
def test_the_two_values_are_those_of_the_metric(metric: str) -> None:
    task, truth, champion, challenger = made(metric, 100, 3, (1.0, 0.5))
    weights = np.random.default_rng(0).uniform(size=100)

    found = compare(metric, task, truth, champion, challenger, weights, resamples=50)

    assert found.champion == pytest.approx(metrics_of(task, truth, champion, weights)[metric])
    assert found.challenger == pytest.approx(metrics_of(task, truth, challenger, weights)[metric])
    sign = 1 if METRICS[metric].greater_is_better else -1
    assert found.improvement == pytest.approx(sign * (found.challenger - found.champion))
    assert (found.rows, found.resamples, found.metric) == (100, 50, metric)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000), grouped=st.booleans(), weighted=st.booleans())
@hypothesis_settings(max_examples=15)
def test_swapping_the_models_negates_the_improvement_and_its_interval(
    metric: str, seed: int, grouped: bool, weighted: bool
) -> None:
    task, truth, champion, challenger = made(metric, 60, seed, (1.0, 0.8))
    options: dict[str, Any] = {
        "weights": np.random.default_rng(seed).uniform(0.1, 2, 60) if weighted else None,
        "groups": np.arange(60) // 4 if grouped else None,
        "resamples": 100,
    }

    one = compare(metric, task, truth, champion, challenger, **options)
    other = compare(metric, task, truth, challenger, champion, **options)

    assert (one.improvement, one.low, one.high) == pytest.approx((-other.improvement, -other.high, -other.low))


@pytest.mark.parametrize("metric", METRICS)
def test_models_with_the_same_answers_are_a_tie_and_refused(metric: str) -> None:
    task, truth, champion, _ = made(metric, 60, 1, (1.0, 1.0))

    found = compare(metric, task, truth, champion, champion)

    assert (found.improvement, found.low, found.high) == (0, 0, 0)
    assert not judge(found).passed


@pytest.mark.parametrize("metric", METRICS)
def test_a_really_better_model_passes_and_a_worse_one_is_refused(metric: str) -> None:
    task, truth, champion, challenger = made(metric, 2000, 2, (1.2, 1.0))

    better = judge(compare(metric, task, truth, champion, challenger))
    worse = judge(compare(metric, task, truth, challenger, champion))

    assert better.passed, better.reason
    assert not worse.passed
    assert "worse by" in worse.reason


@pytest.mark.parametrize(
    ("task", "data", "champion", "challenger"),
    [
        pytest.param(
            "regression", (X_DIABETES, Y_DIABETES), DecisionTreeRegressor(random_state=0), Ridge(0.1), id="diabetes"
        ),
        pytest.param(
            "binary",
            (X_CANCER, Y_CANCER),
            DecisionTreeClassifier(max_depth=1),
            make_pipeline(StandardScaler(), LogisticRegression()),
            id="breast-cancer",
        ),
        pytest.param(
            "multiclass",
            (X_DIGITS, Y_DIGITS),
            DecisionTreeClassifier(random_state=0, max_depth=8),
            RandomForestClassifier(50, random_state=0),
            id="digits",
        ),
    ],
)
def test_on_real_data_the_better_model_passes_by_every_metric_and_the_worse_by_none(
    task: Any, data: Any, champion: Any, challenger: Any
) -> None:
    x, y = data
    old, new = (answers(model.fit(x[::2], y[::2]), x[1::2]) for model in (champion, challenger))
    metrics = REGRESSION if task == "regression" else CLASSES

    forward = {metric: judge(compare(metric, task, y[1::2], old, new, resamples=500)).passed for metric in metrics}
    back = {metric: judge(compare(metric, task, y[1::2], new, old, resamples=500)).passed for metric in metrics}

    assert forward == dict.fromkeys(metrics, True)
    assert back == dict.fromkeys(metrics, False)


def test_the_same_forest_with_another_seed_is_refused() -> None:
    one, other = (
        answers(RandomForestRegressor(20, random_state=seed).fit(X_DIABETES[::2], Y_DIABETES[::2]), X_DIABETES[1::2])
        for seed in (0, 1)
    )

    verdicts = [
        judge(compare("rmse", "regression", Y_DIABETES[1::2], *pair)).passed for pair in ((one, other), (other, one))
    ]

    assert verdicts == [False, False]


def by_luck(cases: int) -> float:
    """How many of so many equal models an interval of 95 % lets pass: 2.5 %, and three standard deviations more."""
    return cases * 0.025 + 3 * math.sqrt(cases * 0.025 * 0.975)


@pytest.mark.parametrize("n_rows", [10, 100], ids="{}-rows".format)
@pytest.mark.parametrize("metric", ["rmse", "log_loss", "f1", "roc_auc"])
def test_equal_models_with_different_noise_pass_no_more_often_than_the_confidence_says(
    metric: str, n_rows: int
) -> None:
    passed = 0
    for seed in range(300):
        task, truth, champion, challenger = made(metric, n_rows, seed, (1.0, 1.0))
        passed += judge(compare(metric, task, truth, champion, challenger, resamples=500, seed=seed)).passed

    assert passed <= by_luck(300)


def test_equal_models_pass_no_more_often_when_rows_come_in_groups() -> None:
    groups = np.repeat(np.arange(20), 10)
    passed, passed_as_rows = 0, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        # All rows of a group err alike.
        old, new = (Answers(np.repeat(np.abs(generator.normal(size=20)), 10)) for _ in range(2))
        passed += judge(compare("mae", "regression", np.zeros(200), old, new, resamples=500, groups=groups)).passed
        passed_as_rows += judge(compare("mae", "regression", np.zeros(200), old, new, resamples=500)).passed

    assert passed <= by_luck(200)
    assert passed_as_rows > 4 * by_luck(200)  # which is what the groups are for


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    truth, champion, challenger = regressors(5000, 0, noises=(1.0, 0.9))
    differences = np.abs(truth - champion.labels) - np.abs(truth - challenger.labels)
    half = 1.96 * differences.std() / np.sqrt(5000)

    found = compare("mae", "regression", truth, champion, challenger)

    # The ends of 2,000 resamples are themselves uncertain by some 4 % of the width.
    assert found.low == pytest.approx(differences.mean() - half, abs=half / 8)
    assert found.high == pytest.approx(differences.mean() + half, abs=half / 8)


def test_more_confidence_is_a_wider_interval() -> None:
    truth, champion, challenger = regressors(200, 0, noises=(1.0, 0.9))

    narrow, wide = (
        compare("rmse", "regression", truth, champion, challenger, confidence=confidence) for confidence in (0.8, 0.99)
    )

    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly() -> None:
    truth, champion, challenger = regressors(200, 0, noises=(1.0, 0.9))

    first, second, other = (compare("rmse", "regression", truth, champion, challenger, seed=seed) for seed in (1, 1, 2))

    assert first == second != other
    assert other.low == pytest.approx(first.low, abs=0.1 * (first.high - first.low))


def test_a_challenger_that_knows_a_new_class_is_compared_with_a_champion_that_does_not() -> None:
    known = Y_DIGITS != 9
    models = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X_DIGITS[::2][rows], Y_DIGITS[::2][rows])
        for rows in (known[::2], slice(None))
    ]
    old, new = (answers(model, X_DIGITS[1::2]) for model in models)

    verdicts = {
        metric: judge(compare(metric, "multiclass", Y_DIGITS[1::2], old, new, resamples=300)) for metric in CLASSES
    }

    assert {metric: verdict.passed for metric, verdict in verdicts.items()} == dict.fromkeys(CLASSES, True)


@pytest.mark.parametrize(
    ("metric", "truth", "options", "code"),
    [
        pytest.param("roc_auc", np.zeros(20, int), {}, "metric_undefined", id="one-class"),
        pytest.param("accuracy", np.arange(20) % 2, {"groups": np.zeros(20)}, "too_few_rows", id="one-group"),
        pytest.param("rmse", np.arange(20) % 2, {}, "unknown_metric", id="metric-of-another-task"),
        pytest.param("log_los", np.arange(20) % 2, {}, "unknown_metric", id="misspelt-metric"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(
    metric: str, truth: Any, options: dict[str, Any], code: str
) -> None:
    _, one, other = classifiers(20, 2, 0, noises=(1.0, 1.0))

    with pytest.raises(InvalidRequest) as raised:
        compare(metric, "binary", truth, one, other, **options)

    assert raised.value.errors[0]["code"] == code


def test_a_constant_truth_leaves_r2_undefined_and_rmse_not() -> None:
    one, other = Answers(np.arange(20.0)), Answers(np.arange(20.0) / 2)

    with pytest.raises(InvalidRequest, match="r2 is not defined on the held-out rows"):
        compare("r2", "regression", np.ones(20), one, other)
    assert judge(compare("rmse", "regression", np.ones(20), one, other)).passed


def test_a_row_of_weight_0_counts_for_nothing() -> None:
    truth, champion, challenger = regressors(50, 0, noises=(1.0, 0.5))
    weights = np.ones(50)
    weights[0] = 0
    spoilt = Answers(challenger.labels.copy())
    spoilt.labels[0] = 1e9

    found = [compare("rmse", "regression", truth, champion, one, weights) for one in (challenger, spoilt)]

    assert found[0] == found[1]


def test_a_comparison_is_made_of_plain_values() -> None:
    found: Comparison = compare("accuracy", "binary", *classifiers(20, 2, 0, noises=(1.0, 0.5)), resamples=20)

    values = [found.champion, found.challenger, found.improvement, found.low, found.high]
    assert [type(value) for value in values] == [float] * 5


def test_a_dummy_does_not_take_the_place_of_a_model_even_when_it_may_be_a_little_worse() -> None:
    old, new = (
        answers(model.fit(X_DIABETES[::2], Y_DIABETES[::2]), X_DIABETES[1::2]) for model in (Ridge(), DummyRegressor())
    )

    verdict = judge(
        compare("rmse", "regression", Y_DIABETES[1::2], old, new), min_improvement=-5.0, max_regression=10.0
    )

    assert not verdict.passed


@pytest.mark.parametrize("times", [1, 4])
def test_copies_of_rows_make_equal_models_pass_no_more_often(times: int) -> None:
    """Of equal models about three in a hundred pass; with copies drawn as rows of their own about one in five."""
    passed = 0
    for seed in range(200):
        truth, *models = regressors(100, seed, noises=(1.0, 1.0))
        champion, challenger = (Answers(np.tile(model.labels, times)) for model in models)
        table = pa.table({"x": np.tile(np.arange(100.0), times)})
        side = Side(features=table, target=np.tile(truth, times), weights=None, groups=None, times=None)
        compared = compare("rmse", "regression", side.target, champion, challenger, resamples=400, groups=side.units())
        passed += judge(compared).passed

    assert passed <= 14


def test_rows_of_which_none_is_a_copy_are_drawn_each_by_itself() -> None:
    side = Side(pa.table({"x": [1.0, 1.0, 2.0]}), np.array([1.0, 2.0, 1.0]), None, None, None)

    assert side.units() is None


def test_the_units_of_rows_in_groups_are_the_groups() -> None:
    groups = np.array(["a", "b", "a"])
    side = Side(pa.table({"x": [1.0, 1.0, 1.0]}), np.array([1.0, 1.0, 2.0]), None, groups, None)

    assert side.units() is groups
