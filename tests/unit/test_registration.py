"""A model's signature, found by trying it on a sample."""

import os
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from examples.demo import Demo, demos
from shared.errors import InvalidRequest, ModelUnusable
from shared.registry import Registry
from shared.signature import Feature, RowChecker
from tests.unit.conftest import Train
from worker.formats import FORMATS
from worker.registration import examine, register
from worker.trial import SAMPLE_ROWS, find_signature

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X[:, 0] - X[:, 1]
SAMPLE = pa.table({"a": X[:8, 0], "b": X[:8, 1]})
ROOMS = pa.table({"size": [20.0, 15.5, 30.0, 8.0], "mode": ["eco", "off", "eco", "off"]})


def by_columns(estimator: Any) -> Pipeline:
    """A pipeline that selects the columns of ROOMS by name."""
    columns = ColumnTransformer(
        [("mode", OneHotEncoder(sparse_output=False), ["mode"]), ("size", FunctionTransformer(), ["size"])]
    )
    return make_pipeline(columns, estimator).fit(ROOMS, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("demo", demos(), ids=lambda demo: demo.name)
def test_the_request_of_a_demo_fits_the_signature_that_was_found(demo: Demo, train: Train) -> None:
    signature = find_signature(*train(demo))

    signature.check_method("predict", demo.request.get("top_k"))

    assert len(RowChecker(signature, 10, 1000).check(demo.request["instances"])) == len(demo.request["instances"])


def test_numbers_go_into_a_matrix() -> None:
    signature = find_signature(LinearRegression().fit(X, Y), SAMPLE)

    assert signature.container == "matrix"
    assert signature.features == (Feature(name="a", type="number"), Feature(name="b", type="number"))


def test_one_column_of_text_goes_in_as_strings() -> None:
    texts = ["good day", "bad day", "good night"]
    estimator = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, ["+", "-", "+"])

    signature = find_signature(estimator, pa.table({"text": texts}))

    assert signature.container == "text"
    assert signature.features == (Feature(name="text", type="string"),)


def test_columns_that_are_wanted_by_name_go_into_a_table() -> None:
    signature = find_signature(by_columns(LinearRegression()), ROOMS)

    assert signature.container == "table"
    assert [(feature.name, feature.type) for feature in signature.features] == [("size", "number"), ("mode", "string")]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        pytest.param(pa.array([1.5, 2.5]), "number", id="double"),
        pytest.param(pa.array([1.5, 2.5], pa.float32()), "number", id="float"),
        pytest.param(pa.array([Decimal("1.5"), Decimal("2.5")]), "number", id="decimal"),
        pytest.param(pa.array([1, 2]), "number", id="integer-in-a-matrix"),
        pytest.param(pa.array([1, 2], pa.uint8()), "number", id="small-integer-in-a-matrix"),
        pytest.param(pa.array([True, False]), "boolean", id="boolean"),
    ],
)
def test_the_type_of_a_feature_is_that_of_its_column(column: pa.Array, kind: str) -> None:
    estimator = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])

    signature = find_signature(estimator, pa.table({"x": column}))

    assert [feature.type for feature in signature.features] == [kind]


def test_a_decimal_column_may_go_into_a_table() -> None:
    decimals = ROOMS.set_column(
        0, "size", pa.array([Decimal("20.0"), Decimal("15.5"), Decimal("30.0"), Decimal("8.0")])
    )

    signature = find_signature(by_columns(LinearRegression()), decimals)

    assert [feature.type for feature in signature.features] == ["number", "string"]


@pytest.mark.parametrize(
    ("estimator", "nullable"),
    [
        pytest.param(HistGradientBoostingRegressor(max_iter=2), True, id="histogram-gradient-boosting-takes-them"),
        pytest.param(LinearRegression(), False, id="linear-regression-does-not"),
    ],
)
def test_missing_values_are_allowed_where_the_model_takes_them(estimator: Any, nullable: bool) -> None:
    signature = find_signature(estimator.fit(X, Y), SAMPLE)

    assert [feature.nullable for feature in signature.features] == [nullable, nullable]


def test_missing_values_are_tried_for_each_column_by_itself() -> None:
    signature = find_signature(by_columns(HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=1)), ROOMS)

    assert [(feature.name, feature.nullable) for feature in signature.features] == [("size", True), ("mode", False)]


@pytest.mark.parametrize(
    "weights", [pytest.param([1.0, 2.0], id="one-output"), pytest.param([[1.0, 0.0], [0.0, 1.0]], id="several-outputs")]
)
def test_a_model_that_answers_nan_to_a_missing_value_does_not_take_it(weights: list[Any]) -> None:
    class Product:
        def predict(self, matrix: Any) -> Any:
            return matrix @ np.array(weights)

    signature = find_signature(Product(), SAMPLE)

    assert [feature.nullable for feature in signature.features] == [False, False]


def test_a_scaler_that_hands_missing_values_on_does_not_take_them() -> None:
    signature = find_signature(StandardScaler().fit(X), SAMPLE)

    assert signature.methods == ("transform",)
    assert [feature.nullable for feature in signature.features] == [False, False]


def test_a_classifier_tells_its_classes_and_methods() -> None:
    labels = np.where(Y > 0, "up", "down")

    signature = find_signature(LogisticRegression().fit(X, labels), SAMPLE)

    assert signature.classes == ("down", "up")
    assert signature.methods == ("predict", "predict_proba", "decision_function")
    assert signature.outputs == ({"name": "prediction", "type": "string"},)


def test_a_regressor_has_no_classes() -> None:
    signature = find_signature(LinearRegression().fit(X, Y), SAMPLE)

    assert signature.classes is None
    assert signature.methods == ("predict",)
    assert signature.outputs == ({"name": "prediction", "type": "number"},)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        pytest.param(np.arange(60) % 2, "integer", id="integer"),
        pytest.param(np.arange(60) % 2 == 0, "boolean", id="boolean"),
        pytest.param(np.array(["a", "b"])[np.arange(60) % 2], "string", id="string"),
    ],
)
def test_the_type_of_an_output_is_that_of_the_predictions(labels: Any, kind: str) -> None:
    signature = find_signature(RandomForestClassifier(2, random_state=0).fit(X, labels), SAMPLE)

    assert [output["type"] for output in signature.outputs] == [kind]


def test_several_outputs_are_numbered_and_have_no_common_classes() -> None:
    labels = np.column_stack([Y > 0, Y > 1]).astype(int)

    signature = find_signature(MultiOutputClassifier(LogisticRegression()).fit(X, labels), SAMPLE)

    assert [output["name"] for output in signature.outputs] == ["prediction_0", "prediction_1"]
    assert signature.classes is None
    assert "predict_proba" in signature.methods


def test_only_the_first_rows_of_a_large_sample_are_tried() -> None:
    asked: list[int] = []

    class Noting:
        def predict(self, matrix: Any) -> Any:
            asked.append(len(matrix))
            return matrix[:, 0]

    find_signature(Noting(), pa.table({"a": np.arange(100.0)}))

    assert asked[0] == SAMPLE_ROWS


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        pytest.param(pa.table({"a": pa.array([], pa.float64())}), "has no rows or no columns", id="no-rows"),
        pytest.param(pa.table({}), "has no rows or no columns", id="no-columns"),
        pytest.param(
            pa.table({"a": pa.array([0], pa.timestamp("s"))}), "Column a of the sample is timestamp", id="times"
        ),
        pytest.param(pa.table({"a": pa.array([None])}), "Column a of the sample is null", id="only-nulls"),
        pytest.param(pa.table({"a": pa.array([[1.0]])}), "Column a of the sample is list", id="lists"),
        pytest.param(
            pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["a", "a"]), "a", id="two-columns-of-a-name"
        ),
    ],
)
def test_a_sample_that_cannot_be_used_is_refused(sample: pa.Table, message: str) -> None:
    estimator = LinearRegression().fit(X[:, :1], Y)

    with pytest.raises(InvalidRequest, match=message):
        find_signature(estimator, sample)


def test_a_model_that_fails_on_the_sample_is_unusable_and_says_why() -> None:
    estimator = LinearRegression().fit(RNG.normal(size=(10, 3)), np.arange(10.0))

    with pytest.raises(ModelUnusable, match=r"as matrix or table or dataframe: .* X has 2 features"):
        find_signature(estimator, SAMPLE)


def test_an_object_without_any_method_is_unusable() -> None:
    with pytest.raises(ModelUnusable, match="it has none of the methods predict, predict_proba"):
        find_signature(object(), SAMPLE)


def test_an_estimator_that_was_never_fitted_is_unusable() -> None:
    with pytest.raises(ModelUnusable, match="NotFittedError"):
        find_signature(LinearRegression(), SAMPLE)


class Nowhere:
    """A registry that nothing may reach."""

    def add(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing may be registered")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("a" * 65, id="too-long"),
        pytest.param("a b", id="blank"),
        pytest.param("a@1", id="at-sign"),
        pytest.param("../a", id="path"),
        pytest.param(".a", id="begins-with-a-dot"),
        pytest.param("a\n", id="newline"),
        pytest.param("ä", id="beyond-ascii"),
    ],
)
def test_a_name_that_is_not_allowed_is_refused_before_the_artifact_is_read(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no model name"):
        register(cast(Registry, Nowhere()), name, b"not an artifact", format="skops", sample=SAMPLE)


def test_an_artifact_that_fails_on_the_sample_is_not_registered() -> None:
    artifact = FORMATS["skops"].dump(LinearRegression())

    with pytest.raises(ModelUnusable):
        register(cast(Registry, Nowhere()), "m", artifact, format="skops", sample=SAMPLE)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize("format", ["skops", "joblib"])
def test_a_sample_that_is_missing_is_asked_for_before_anything_is_loaded(format: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="A sample is needed"):
        examine(pickle.dumps(Harmful(tmp_path / "it-ran")), format=format, sample=None)

    assert not (tmp_path / "it-ran").exists()


def test_an_artifact_takes_what_it_unpacks_to() -> None:
    nearest = KNeighborsRegressor().fit(np.zeros((10_000, 2)), np.zeros(10_000))
    packed = skops.io.dumps(nearest, compression=8)

    found = examine(packed, format="skops", sample=SAMPLE)

    assert found.size_bytes == len(packed) < 100_000
    assert found.memory_bytes > 10_000 * 2 * 8
