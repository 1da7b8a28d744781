"""Tree ensembles by Treelite: the very same answers, chosen by itself only where it is equal and faster."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from deploy.commands import root
from tests.unit.accelerations import manifest, table, tried
from worker.accelerate import TREES_TOLERANCE, accelerate
from worker.accelerated import Accelerated, with_form
from worker.container import pack
from worker.crossover import SIZES, Crossover, crossover
from worker.formats.libraries import installed
from worker.forms import FormName, Refused
from worker.forms.trees import TreesForm
from worker.trial import find_signature

random = np.random.default_rng(0)
X = random.normal(size=(300, 4))
FRESH = random.normal(size=(1000, 4)) * 2
Y = X[:, 0] * 3 + np.sin(X[:, 1] * 3) + random.normal(size=300) / 2
GROUPS = np.array(["a", "bb", "c"])[np.digitize(Y, [-1, 1])]
SIGNS = np.where(Y > 0, "up", "down")
ROOMS = pa.table({"size": X[:, 0], "mode": ["eco", "off", "on"] * 100})
TEXTS = ["a good day", "a bad day", "a good night", "bad, bad moon"] * 5


def quick(estimator: Any, **more: Any) -> Any:
    """The estimator with its form, which decides everything that it can."""
    form = TreesForm(estimator)
    return Accelerated(estimator, form, form.methods, **({"margin": 0.0, "up_to_rows": None} | more))


def parts(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def no_file(name: str) -> bytes:
    raise AssertionError(name)


def forest(**more: Any) -> Any:
    return RandomForestClassifier(**({"n_estimators": 20, "random_state": 0} | more)).fit(X, GROUPS)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(RandomForestRegressor(20, random_state=0).fit(X, Y), id="forest"),
        pytest.param(ExtraTreesRegressor(20, random_state=0).fit(X, Y), id="extra-trees"),
        pytest.param(RandomForestRegressor(20, random_state=0).fit(X, np.c_[Y, Y**2]), id="two-numbers"),
        pytest.param(forest(), id="classes-of-text"),
        pytest.param(forest(n_jobs=2), id="with-n-jobs"),
        pytest.param(ExtraTreesClassifier(20, random_state=0).fit(X, SIGNS), id="two-classes"),
        pytest.param(RandomForestClassifier(20, random_state=0).fit(X, np.c_[GROUPS, SIGNS]), id="two-outputs"),
        pytest.param(RandomForestRegressor(20, random_state=0, warm_start=True).fit(X, Y).set_params(n_estimators=50),
                     id="more-trees-wanted-than-there-are"),
    ],
)  # fmt: skip
def test_a_forest_answers_the_very_same(estimator: Any) -> None:
    faster = quick(estimator)

    for method in TreesForm(estimator).methods:
        for rows in (FRESH, FRESH[:1]):
            for own, other in zip(
                parts(getattr(estimator, method)(rows)), parts(getattr(faster, method)(rows)), strict=True
            ):
                np.testing.assert_array_equal(other, own)
                assert (other.dtype, other.shape) == (own.dtype, own.shape)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(GradientBoostingRegressor(random_state=0).fit(X, Y), id="boosting"),
        pytest.param(GradientBoostingRegressor(n_estimators=300, n_iter_no_change=2, random_state=0).fit(X, Y),
                     id="stopped-early"),
        pytest.param(GradientBoostingRegressor(init="zero", loss="quantile", random_state=0).fit(X, Y), id="quantile"),
        pytest.param(GradientBoostingClassifier(random_state=0).fit(X, SIGNS), id="two-classes"),
        pytest.param(GradientBoostingClassifier(loss="exponential", random_state=0).fit(X, SIGNS), id="exponential"),
        pytest.param(GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, GROUPS), id="three-classes"),
        pytest.param(HistGradientBoostingRegressor(max_iter=50).fit(X, Y), id="binned"),
        pytest.param(HistGradientBoostingRegressor(max_iter=50, loss="poisson").fit(X, Y**2), id="binned-with-a-link"),
        pytest.param(HistGradientBoostingClassifier(max_iter=50).fit(X, SIGNS), id="binned-two-classes"),
        pytest.param(HistGradientBoostingClassifier(max_iter=20).fit(X, GROUPS), id="binned-three-classes"),
    ],
)  # fmt: skip
def test_gradient_boosting_answers_the_same_within_the_tolerance(estimator: Any) -> None:
    faster = quick(estimator, margin=10 * TREES_TOLERANCE)

    for method in TreesForm(estimator).methods:
        own, other = getattr(estimator, method)(FRESH), getattr(faster, method)(FRESH)
        assert (other.dtype, other.shape) == (own.dtype, own.shape)
        if own.dtype.kind == "f":
            np.testing.assert_allclose(other, own, rtol=0, atol=TREES_TOLERANCE * np.abs(own).max())
        else:
            np.testing.assert_array_equal(other, own)


def columns() -> Any:
    """A forest of rooms by columns, which refuses a mode that it does not know."""
    encoded = ColumnTransformer([("mode", OneHotEncoder(), ["mode"]), ("size", StandardScaler(), ["size"])])
    return make_pipeline(encoded, "passthrough", RandomForestRegressor(100, random_state=0)).fit(ROOMS, Y)


def texts() -> Any:
    return make_pipeline(CountVectorizer(), RandomForestClassifier(100, random_state=0)).fit(TEXTS, [1, 0, 1, 0] * 5)


@pytest.mark.parametrize(
    ("estimator", "sample"),
    [
        pytest.param(columns(), ROOMS, id="columns"),
        pytest.param(texts(), pa.table({"text": TEXTS}), id="texts"),
        pytest.param(make_pipeline(StandardScaler(), forest(n_estimators=100)), table(X), id="scaled"),
        pytest.param(forest(n_estimators=100), table(X), id="alone"),
    ],
)
def test_the_form_is_chosen_by_itself_for_an_ensemble_and_for_the_last_step_of_a_pipeline(
    estimator: Any, sample: pa.Table
) -> None:
    signature, outcome = tried(estimator.fit(X, GROUPS) if sample.num_columns == 4 else estimator, sample, "auto")

    described = outcome.described
    assert described["used"], described["reason"]
    assert (described["wanted"], described["form"], described["max_difference"]) == ("auto", "treelite", 0)
    assert "to the last bit" in described["reason"]
    assert (dict(outcome.files), described["size_bytes"] > 0) == ({}, True)
    loaded, told = with_form(manifest(outcome), estimator, no_file)
    assert (type(loaded), told) == (Accelerated, ())
    rows = pack(signature, [list(row.values()) for row in sample.to_pylist()[:50]])
    np.testing.assert_array_equal(loaded.predict(rows), estimator.predict(rows))


class Noise(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A step that never says the same twice."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def fit(self, rows: Any, target: Any = None) -> "Noise":
        self.fitted_ = True
        return self

    def transform(self, rows: Any) -> Any:
        return rows + self.random.normal(size=np.shape(rows))


class OwnForest(RandomForestRegressor):  # type: ignore[misc]
    """A subclass, which may predict otherwise."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: LinearRegression().fit(X, Y), "none of the tree ensembles", id="linear"),
        pytest.param(lambda: DecisionTreeRegressor().fit(X, Y), "none of the tree ensembles", id="one-tree"),
        pytest.param(lambda: OwnForest(3).fit(X, Y), "none of the tree ensembles", id="subclass"),
        pytest.param(
            lambda: GradientBoostingRegressor(init=LinearRegression(), n_estimators=3).fit(X, Y), "init estimator",
            id="boosting-of-another-model",
        ),
        pytest.param(
            lambda: HistGradientBoostingRegressor(categorical_features=[3], max_iter=3).fit(np.c_[X[:, :3], Y > 0], Y),
            "splits by categories", id="categories",
        ),
        pytest.param(
            lambda: make_pipeline(Noise(), RandomForestRegressor(5)).fit(X, Y), "differs by more than the tolerance",
            id="not-equal",
        ),
        pytest.param(
            lambda: RandomForestClassifier(5).fit(X, np.ones(300)), "faster form fails on rows", id="a-single-class"
        ),
        pytest.param(lambda: StandardScaler().fit(X), "neither predict", id="transformer"),
    ],
)  # fmt: skip
def test_another_model_is_left_alone_with_the_reason(make: Callable[[], Any], reason: str) -> None:
    _, outcome = tried(make(), table(X), "auto")

    assert (outcome.described["wanted"], outcome.described["used"], dict(outcome.files)) == ("auto", False, {})
    assert reason in outcome.described["reason"]


def test_a_model_that_takes_much_memory_is_left_alone() -> None:
    estimator, sample = forest(), table(X)

    outcome = accelerate(
        estimator, find_signature(estimator, sample), sample, wanted="auto", format="skops", memory_bytes=10**9
    )

    assert "more than 256 MiB" in outcome.described["reason"]


class Slow:
    """A form that does the estimator's work, and beyond a few rows does it again and again."""

    name: FormName = "treelite"
    libraries = ()
    methods = ("predict",)
    adds_alike = True

    def __init__(self, estimator: Any, quick_rows: int) -> None:
        self.estimator, self.quick_rows = estimator, quick_rows

    def takes(self, rows: Any) -> Any:
        return rows

    def answer(self, method: str, taken: Any) -> Any:
        if len(taken) <= self.quick_rows:
            return np.zeros(len(taken))
        return [getattr(self.estimator, method)(taken) for _ in range(20)][-1]


@pytest.mark.parametrize(
    ("quick_rows", "measured", "faster"), [pytest.param(0, 1, False, id="slower"), pytest.param(16, 64, True, id="few")]
)
def test_it_is_measured_until_it_is_slower(quick_rows: int, measured: int, faster: bool) -> None:
    estimator = LinearRegression().fit(X, Y)
    slow = Accelerated(estimator, Slow(estimator, quick_rows), ["predict"], margin=0, up_to_rows=None)

    found = crossover(estimator, slow, find_signature(estimator, table(X)), X.tolist(), ["predict"])

    assert (max(found.speedups), found.faster) == (measured, faster)
    assert not faster or found.up_to_rows == 16


def test_what_is_faster_for_all_sizes_has_no_limit() -> None:
    assert Crossover(dict.fromkeys(SIZES, 1.1)).up_to_rows is None


@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        pytest.param(HistGradientBoostingRegressor(max_iter=20).fit(X, Y), float("nan"), id="missing"),
        pytest.param(HistGradientBoostingRegressor(max_iter=20).fit(X, Y), float("inf"), id="infinite"),
        pytest.param(RandomForestRegressor(5).fit(X, Y), float("nan"), id="missing-in-forest"),
    ],
)
def test_rows_with_missing_or_huge_values_go_to_the_estimator(estimator: Any, value: float) -> None:
    rows = np.where(FRESH > 2, value, FRESH)

    assert TreesForm(estimator).takes(rows) is None
    np.testing.assert_array_equal(quick(estimator).predict(rows), estimator.predict(rows))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([[1e39, 0, 0, 0]], "too large", id="beyond-32-bits"),
        pytest.param([[0.0, 0, 0]], "3 features", id="too-few-columns"),
        pytest.param([[0.0, 0, 0, 0, 0]], "5 features", id="too-many-columns"),
        pytest.param([["x", 0, 0, 0]], "could not convert", id="text"),
    ],
)
def test_what_the_estimator_refuses_is_refused_with_its_words(rows: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quick(forest()).predict(np.array(rows))


def test_a_category_that_the_steps_before_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown categories"):
        quick(columns()).predict(pa.table({"size": [1.0], "mode": ["never"]}))


def test_values_missing_before_a_step_that_fills_them_cost_nothing() -> None:
    from sklearn.impute import SimpleImputer

    estimator = make_pipeline(SimpleImputer(), RandomForestRegressor(5, random_state=0)).fit(X, Y)
    rows = np.where(FRESH > 2, np.nan, FRESH)

    assert TreesForm(estimator).takes(rows) is not None
    np.testing.assert_array_equal(quick(estimator).predict(rows), estimator.predict(rows))


def test_more_words_than_fit_into_memory_go_to_the_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.forms.trees.MOST_NUMBERS", 5 * len(TEXTS))  # five words

    form = TreesForm(texts())

    assert form.takes(TEXTS) is not None
    assert form.takes([*TEXTS, "one more"]) is None


def test_calls_of_more_rows_than_it_pays_for_go_to_the_estimator() -> None:
    other = RandomForestRegressor(5, random_state=1).fit(X, -Y)
    own = RandomForestRegressor(5, random_state=0).fit(X, Y)
    model = Accelerated(own, TreesForm(other), ["predict"], margin=0, up_to_rows=2)

    few, many = model.predict(FRESH[:2]), model.predict(FRESH[:3])

    assert (few.tolist(), many.tolist()) == (other.predict(FRESH[:2]).tolist(), own.predict(FRESH[:3]).tolist())


@pytest.mark.parametrize(
    ("own", "other", "rows"),
    [
        pytest.param(forest(), forest(random_state=1), FRESH, id="one-output"),
        pytest.param(
            RandomForestClassifier(5, random_state=0).fit(X, np.c_[GROUPS, SIGNS]),
            RandomForestClassifier(5, random_state=1).fit(X, np.c_[GROUPS, SIGNS]), FRESH, id="two-outputs",
        ),
        pytest.param(texts(), texts(), TEXTS, id="texts"),
    ],
)  # fmt: skip
def test_labels_of_classes_that_are_nearly_alike_are_the_estimators_own(own: Any, other: Any, rows: Any) -> None:
    form = TreesForm(other)

    labels = Accelerated(own, form, form.methods, margin=2.0, up_to_rows=None).predict(rows)

    np.testing.assert_array_equal(labels, own.predict(rows))


def forged(change: Callable[[Any], object]) -> Any:
    estimator = GradientBoostingClassifier(n_estimators=3).fit(X, GROUPS)
    change(estimator)
    return estimator


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(forged(lambda own: setattr(own, "classes_", np.arange(90))), id="classes"),
        pytest.param(forged(lambda own: setattr(own, "n_features_in_", 2)), id="features"),
        pytest.param(forged(lambda own: setattr(own, "estimators_", own.estimators_[:, :1])), id="stages"),
        pytest.param(forged(lambda own: delattr(own, "estimators_")), id="not-fitted"),
    ],
)
def test_an_ensemble_that_is_not_what_it_says_is_never_handed_to_native_code(estimator: Any) -> None:
    with pytest.raises(Refused, match="Treelite does not take it"):
        TreesForm(estimator)


def test_a_form_that_was_compared_under_another_release_is_not_used() -> None:
    _, outcome = tried(forest(), table(X), "auto")
    of_before = replace(manifest(outcome), libraries=installed() | {"treelite": "3.0.0"})

    loaded, told = with_form(of_before, own := forest(), no_file)

    assert loaded is own
    assert "it was compared under treelite 3.0.0" in told[0]


def test_what_makes_a_form_is_imported_where_a_model_needs_it() -> None:
    code = (
        "import sys, worker.accelerate\n"
        "from worker.forms.trees import TreesForm\n"
        "try: TreesForm('no tree')\n"
        "except Exception: pass\n"
        "print('treelite' in sys.modules, 'skl2onnx' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=root(), capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
