"""Accelerated forms: used only where they are equal and faster, and never silently different."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from shared.errors import ArtifactCorrupt, ModelUnusable
from tests.unit.accelerations import manifest, table, tried
from tests.unit.graphs import FLOAT, identity, linear_classifier
from worker.accelerate import TOLERANCES, accelerate
from worker.accelerated import Accelerated, Acceleration, with_form
from worker.container import pack
from worker.formats import FORMATS
from worker.formats.libraries import installed
from worker.forms.graph import GraphForm
from worker.trial import find_signature

DIABETES, PROGRESS = load_diabetes(return_X_y=True)
WINE, GROWER = load_wine(return_X_y=True)
MODES = ["eco", "off", "on"] * 40
ROOMS = pa.table({"size": np.linspace(5, 50, 120), "mode": MODES})


def quick(estimator: Any, outcome: Acceleration) -> Any:
    """The estimator as a worker predicts with it."""
    loaded, told = with_form(manifest(outcome), estimator, outcome.files.__getitem__)
    assert told == ()
    assert isinstance(loaded, Accelerated)
    return loaded


def forest() -> RandomForestRegressor:
    return RandomForestRegressor(30, random_state=0).fit(DIABETES, PROGRESS)


def rooms(unknown: str) -> Any:
    """A classifier of rooms by columns, which refuses or ignores a mode that it does not know."""
    encoder = OneHotEncoder(handle_unknown=unknown, sparse_output=False)
    columns = ColumnTransformer([("mode", encoder, ["mode"]), ("size", StandardScaler(), ["size"])])
    return make_pipeline(columns, LogisticRegression()).fit(ROOMS, np.arange(120) % 7 > 2)


@pytest.mark.parametrize(
    ("estimator", "sample"),
    [
        pytest.param(make_pipeline(StandardScaler(), Ridge()).fit(DIABETES, PROGRESS), table(DIABETES), id="pipeline"),
        pytest.param(forest(), table(DIABETES), id="forest"),
        pytest.param(
            RandomForestClassifier(30, random_state=0).fit(WINE, np.array(["a", "b", "c"])[GROWER]), table(WINE),
            id="classifier",
        ),
        pytest.param(rooms("error"), ROOMS, id="columns"),
        pytest.param(rooms("ignore"), ROOMS, id="columns-with-unknown-modes"),
    ],
)  # fmt: skip
def test_an_accelerated_model_predicts_what_the_model_itself_does(estimator: Any, sample: pa.Table) -> None:
    signature, outcome = tried(estimator, sample, "onnx")

    assert outcome.described["used"], outcome.described["reason"]
    accelerated = quick(estimator, outcome)
    rows = pack(signature, [list(row.values()) for row in sample.to_pylist()])
    for method in outcome.described["methods"]:
        own, other = getattr(estimator, method)(rows), getattr(accelerated, method)(rows)
        if own.dtype.kind == "f":
            np.testing.assert_allclose(other, own, rtol=0, atol=outcome.described["tolerance"] * np.abs(own).max())
        else:
            np.testing.assert_array_equal(other, own)


def test_the_outcome_says_what_was_compared_and_measured() -> None:
    _, outcome = tried(forest(), table(DIABETES), "onnx")

    described = outcome.described
    assert (described["wanted"], described["precision"]) == ("onnx", "float32")
    assert described["tolerance"] == TOLERANCES["float32"]
    assert 0 < described["max_difference"] < described["tolerance"] * PROGRESS.max()
    assert described["rows"] > len(DIABETES)
    assert "speedup_1" in described
    assert outcome.files.keys() == {described["artifact"]}
    assert described["size_bytes"] == len(outcome.files[described["artifact"]])


class Secret(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """No converter knows it."""

    def predict(self, rows: Any) -> Any:
        return rows[:, 0]


@pytest.mark.parametrize(
    ("estimator", "sample", "reason"),
    [
        pytest.param(Secret(), table(DIABETES), "cannot be converted", id="somebody's-own"),
        pytest.param(
            HistGradientBoostingRegressor(max_iter=3).fit(DIABETES, PROGRESS), table(DIABETES), "cannot be converted",
            id="converter-that-fails",
        ),
        pytest.param(
            make_pipeline(CountVectorizer(), LogisticRegression()).fit(["a good day", "a bad day"], [1, 0]),
            pa.table({"text": ["a good day"]}), "cuts into words", id="texts",
        ),
        pytest.param(StandardScaler().fit(DIABETES), table(DIABETES), "neither predict", id="transformer"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_converted_does_without(estimator: Any, sample: pa.Table, reason: str) -> None:
    _, outcome = tried(estimator, sample, "onnx")

    assert (outcome.described["used"], dict(outcome.files)) == (False, {})
    assert reason in outcome.described["reason"]


def test_thresholds_that_32_bits_cannot_tell_apart_are_a_difference() -> None:
    # Seconds since 1970: in float32 they are 128 seconds apart.
    seconds = 1.7e9 + np.arange(200.0).reshape(-1, 1)
    estimator = make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(seconds, np.arange(200) % 5)

    _, outcome = tried(estimator, pa.table({"at": seconds[:, 0]}), "onnx")

    assert not outcome.described["used"]
    assert "differs by more than the tolerance" in outcome.described["reason"]
    assert outcome.described["differing_rows"] > 0
    assert outcome.described["max_difference"] > 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"format": "onnx"}, "an ONNX graph already", id="onnx"),
        pytest.param({"sample": None}, "no sample", id="no-sample"),
        pytest.param({"size_bytes": 10**9}, "more than 64 MiB", id="large"),
    ],
)
def test_what_need_not_be_tried_is_not(change: dict[str, Any], reason: str) -> None:
    sample = table(DIABETES)
    given = {"sample": sample, "wanted": "onnx", "format": "skops", "size_bytes": 1} | change
    estimator = LinearRegression().fit(DIABETES, PROGRESS)

    outcome = accelerate(estimator, find_signature(estimator, sample), **given)

    assert not outcome.described["used"]
    assert reason in outcome.described["reason"]


class Noting:
    """An estimator that notes how many rows it was asked for, and says so with its predictions."""

    def __init__(self, classes: list[str] | None = None) -> None:
        self.asked: list[int] = []
        self.classes_ = np.array(classes)

    def predict(self, rows: Any) -> Any:
        self.asked.append(len(rows))
        return np.full(len(rows), -1.0) if self.classes_.ndim == 0 else np.full(len(rows), "own")

    def score(self, rows: Any) -> str:
        return "own score"


def accelerated(own: Noting, **more: Any) -> Accelerated:
    form = GraphForm(identity(FLOAT, ["n", 1]))
    return Accelerated(own, form, ["predict"], **({"margin": 1e-4, "up_to_rows": None} | more))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="missing"),
        pytest.param(1e39, id="beyond-32-bits"),
        pytest.param(float("inf"), id="infinite"),
    ],
)
def test_rows_that_the_graph_was_not_compared_on_go_to_the_model_itself(value: float) -> None:
    own = Noting()

    predictions = accelerated(own).predict(np.array([[1.0], [value]]))

    assert (predictions.tolist(), own.asked) == ([-1.0, -1.0], [2])


def test_a_table_with_a_missing_value_goes_to_the_model_itself() -> None:
    own = Noting()

    accelerated(own).predict(pa.table({"x": pa.array([1.0, None])}))

    assert own.asked == [2]


def test_calls_of_more_rows_than_it_pays_for_go_to_the_model_itself() -> None:
    own = Noting()
    model = accelerated(own, up_to_rows=2)

    few, many = model.predict(np.ones((2, 1))), model.predict(np.ones((3, 1)))

    assert (few.tolist(), many.tolist(), own.asked) == ([1.0, 1.0], [-1.0] * 3, [3])


def test_what_the_graph_does_not_cover_is_the_models_own() -> None:
    assert accelerated(Noting()).score(None) == "own score"


def test_a_label_between_two_equal_probabilities_is_the_models_own() -> None:
    own = Noting(["no", "yes"])
    model = Accelerated(own, GraphForm(linear_classifier(zipmap=False)), ["predict"], margin=1e-4, up_to_rows=None)

    labels = model.predict(np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, -2.0]]))

    assert (labels.tolist(), own.asked) == (["yes", "own", "no"], [1])


def test_changed_bytes_of_an_accelerated_form_are_corrupt() -> None:
    estimator = LinearRegression().fit(DIABETES, PROGRESS)
    _, outcome = tried(estimator, table(DIABETES), "onnx")
    (graph,) = outcome.files.values()

    with pytest.raises(ArtifactCorrupt, match="The accelerated form of m@1 has sha256"):
        with_form(manifest(outcome), estimator, lambda file: graph + b" ")


def test_an_accelerated_form_that_was_compared_under_another_release_is_not_used() -> None:
    estimator = LinearRegression().fit(DIABETES, PROGRESS)
    _, outcome = tried(estimator, table(DIABETES), "onnx")
    of_before = replace(manifest(outcome), libraries=installed() | {"onnxruntime": "1.2.3"})

    loaded, told = with_form(of_before, estimator, outcome.files.__getitem__)

    assert loaded is estimator
    assert "it was compared under onnxruntime 1.2.3" in told[0]


def test_a_graph_of_before_there_were_other_forms_is_used() -> None:
    estimator = LinearRegression().fit(DIABETES, PROGRESS)
    _, outcome = tried(estimator, table(DIABETES), "onnx")
    of_before = {name: value for name, value in outcome.described.items() if name != "form"}

    loaded, told = with_form(replace(manifest(outcome), accelerated=of_before), estimator, outcome.files.__getitem__)

    assert (type(loaded), told) == (Accelerated, ())


def test_an_estimator_is_never_written_as_onnx() -> None:
    with pytest.raises(ModelUnusable, match="cannot be written as ONNX"):
        FORMATS["onnx"].dump(LinearRegression())
