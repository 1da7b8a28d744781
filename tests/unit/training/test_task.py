"""The task of a champion is told from its fitted estimator, and what cannot be retrained is refused with a way out."""

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud
from sklearn.ensemble import (
    BaggingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR, LinearSVC
from sklearn.tree import DecisionTreeRegressor

from shared.errors import InvalidRequest
from worker.training.task import task_of

X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)
X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_LINNERUD, Y_LINNERUD = load_linnerud(return_X_y=True)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(Ridge(), id="linear"),
        pytest.param(SVR(), id="support-vectors"),
        pytest.param(KernelRidge(), id="kernel"),
        pytest.param(PLSRegression(1), id="partial-least-squares"),
        pytest.param(KNeighborsRegressor(), id="neighbours"),
        pytest.param(make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Ridge())), id="nested-pipeline"),
        pytest.param(TransformedTargetRegressor(Ridge()), id="transformed-target"),
        pytest.param(GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2), id="search"),
        pytest.param(BaggingRegressor(DecisionTreeRegressor(max_depth=2), n_estimators=2), id="bagging"),
    ],
)
def test_a_regressor_of_one_output_is_for_regression(estimator: Any) -> None:
    assert task_of(estimator.fit(X_DIABETES, Y_DIABETES)) == "regression"


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(HistGradientBoostingClassifier(max_iter=2), id="boosting"),
        pytest.param(make_pipeline(StandardScaler(), LogisticRegression()), id="pipeline"),
        pytest.param(LinearSVC(), id="without-probabilities"),
        pytest.param(VotingClassifier([("one", RandomForestClassifier(2))], voting="soft"), id="voting"),
        pytest.param(MLPClassifier((3,), max_iter=2), id="network", marks=pytest.mark.filterwarnings("ignore")),
    ],
)
def test_a_classifier_of_two_classes_is_binary_and_of_more_multiclass(estimator: Any) -> None:
    assert task_of(estimator.fit(X_CANCER, Y_CANCER)) == "binary"
    assert task_of(estimator.fit(X_IRIS, Y_IRIS)) == "multiclass"


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        pytest.param(StandardScaler(), "StandardScaler is neither a classifier nor a regressor", id="transformer"),
        pytest.param(KMeans(2, n_init=1), "KMeans is neither", id="clusterer"),
        pytest.param(IsolationForest(n_estimators=2), "IsolationForest is neither", id="outlier-detector"),
        pytest.param(make_pipeline(StandardScaler(), "passthrough"), "passthrough is neither", id="open-pipeline"),
    ],
)
def test_what_predicts_no_target_is_refused_by_name(estimator: Any, words: str) -> None:
    estimator.fit(X_IRIS)

    with pytest.raises(InvalidRequest, match=words) as raised:
        task_of(estimator)

    assert raised.value.errors[0]["code"] == "not_trainable"


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(LinearRegression(), id="linear"),
        pytest.param(make_pipeline(StandardScaler(), LinearRegression()), id="pipeline"),
        pytest.param(DecisionTreeRegressor(), id="tree"),
        pytest.param(BaggingRegressor(DecisionTreeRegressor(), n_estimators=2), id="bagging"),
        pytest.param(KNeighborsRegressor(), id="neighbours"),
        pytest.param(KernelRidge(), id="kernel"),
        pytest.param(GaussianProcessRegressor(), id="gaussian-process"),
        pytest.param(TransformedTargetRegressor(LinearRegression()), id="transformed-target"),
        pytest.param(MultiOutputRegressor(Ridge()), id="one-for-each-output"),
        pytest.param(GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2), id="search"),
    ],
)
def test_a_regressor_of_several_outputs_is_refused(estimator: Any) -> None:
    estimator.fit(X_LINNERUD, Y_LINNERUD)

    with pytest.raises(InvalidRequest, match=r"has several outputs; .* one model for each output"):
        task_of(estimator)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(RandomForestClassifier(2), id="forest"),
        pytest.param(MultiOutputClassifier(LogisticRegression()), id="one-for-each-output"),
        pytest.param(MLPClassifier((3,), max_iter=2), id="network", marks=pytest.mark.filterwarnings("ignore")),
    ],
)
def test_a_classifier_of_several_outputs_is_refused(estimator: Any) -> None:
    estimator.fit(X_IRIS, np.column_stack([Y_IRIS == 1, Y_IRIS == 2]).astype(int))

    with pytest.raises(InvalidRequest, match="has several outputs"):
        task_of(estimator)


class Graph:
    """Predicts as an ONNX graph does, and cannot be fitted."""

    def predict(self, packed: Any) -> Any:
        return packed


def test_what_only_predicts_is_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidRequest, match=r"Graph only predicts .* name a scikit-learn version as the base"):
        task_of(Graph())


def test_an_estimator_that_was_never_fitted_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Ridge is not fitted"):
        task_of(make_pipeline(StandardScaler(), Ridge()))
