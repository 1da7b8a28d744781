"""The weights of rows find their way to the estimator that takes them."""

from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor, StackingRegressor, VotingRegressor
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.errors import InvalidRequest
from worker.training.weights import weight_parameter

ROWS, TRUTH = load_diabetes(return_X_y=True)
SCALED = make_pipeline(StandardScaler(), Ridge())


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(Ridge(), id="estimator"),
        pytest.param(SCALED, id="pipeline"),
        pytest.param(Pipeline([("outer", SCALED)]), id="nested-pipeline"),
        pytest.param(GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3), id="grid-search"),
        pytest.param(RandomizedSearchCV(SCALED, {"ridge__alpha": [0.1, 1.0]}, n_iter=2, cv=3), id="random-search"),
        pytest.param(make_pipeline(StandardScaler(), GridSearchCV(SCALED, {"ridge__alpha": [0.1]})), id="all-of-it"),
        pytest.param(TransformedTargetRegressor(Ridge()), id="transformed-target"),
        pytest.param(TransformedTargetRegressor(SCALED), id="transformed-target-of-a-pipeline"),
        pytest.param(TransformedTargetRegressor(), id="transformed-target-without-regressor"),
        pytest.param(RFE(Ridge(), n_features_to_select=3), id="elimination"),
        pytest.param(VotingRegressor([("a", Ridge()), ("b", "drop")]), id="vote"),
        pytest.param(StackingRegressor([("a", Ridge())], RandomForestRegressor(5, random_state=0)), id="stack"),
    ],
)
def test_the_weights_change_what_is_fitted(estimator: Any) -> None:
    weights = np.where(np.arange(442) % 3 == 0, 100.0, 0.01)
    name = weight_parameter(estimator)

    even = estimator.fit(ROWS, TRUTH, **{name: np.ones(442)}).predict(ROWS)
    uneven = estimator.fit(ROWS, TRUTH, **{name: weights}).predict(ROWS)

    assert not np.allclose(even, uneven, rtol=1e-3)


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        pytest.param(KNeighborsRegressor(), "KNeighborsRegressor", id="estimator"),
        pytest.param(make_pipeline(SCALED, KNeighborsRegressor()), "KNeighborsRegressor", id="pipeline"),
        pytest.param(GridSearchCV(KNeighborsRegressor(), {}), "KNeighborsRegressor", id="search"),
        pytest.param(
            VotingRegressor([("a", Ridge()), ("b", KNeighborsRegressor())]), "KNeighborsRegressor", id="one-of-a-vote"
        ),
        pytest.param(VotingRegressor([("a", SCALED)]), "Pipeline", id="vote-of-pipelines"),
        pytest.param(StackingRegressor([("a", Ridge())], KNeighborsRegressor()), "KNeighborsRegressor", id="stack"),
        pytest.param(OneVsRestClassifier(LogisticRegression()), "OneVsRestClassifier", id="that-hands-nothing-on"),
    ],
)
def test_who_takes_no_weights_is_named(estimator: Any, named: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        weight_parameter(estimator)

    assert raised.value.errors[0]["code"] == "takes_no_weights"
    assert raised.value.message == f"{named} takes no weights of rows; leave sample_weight out."
