"""A recipe becomes parameter sets in a fixed order, and what the model would refuse is refused before any fit."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor, VotingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shared.errors import InvalidRequest
from worker.training.recipe import DEFAULT_BUDGET, MOST_CANDIDATES, candidates, untrained

PIPELINE = make_pipeline(StandardScaler(), Ridge(alpha=0.5))
DRAWN = "/recipe/distributions"
TEXTS = make_pipeline(TfidfVectorizer(), LogisticRegression())


def fault(estimator: Any, recipe: dict[str, Any]) -> dict[str, Any]:
    """The one fault of a recipe."""
    with pytest.raises(InvalidRequest) as raised:
        candidates(estimator, recipe)
    assert len(raised.value.errors) == 1
    return raised.value.errors[0]


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param({}, id="empty"),
        pytest.param({"params": None, "param_grid": None, "distributions": None, "budget": None}, id="all-left-out"),
        pytest.param({"params": {}}, id="no-parameters"),
        pytest.param({"base": "home@3", "folds": 5, "seed": 7}, id="only-what-is-for-others"),
    ],
)
def test_without_parameters_the_champions_own_are_tried(recipe: dict[str, Any]) -> None:
    assert candidates(PIPELINE, recipe) == [{}]


def test_one_set_of_parameters_is_one_candidate() -> None:
    params = {"ridge__alpha": 2.0, "standardscaler__with_mean": False}

    assert candidates(PIPELINE, {"params": params}) == [params]


@pytest.mark.parametrize(
    "grid",
    [
        pytest.param({"ridge__alpha": [3.0, 1.0], "ridge__fit_intercept": [True, False]}, id="one-grid"),
        pytest.param([{"ridge__alpha": [3.0, 1.0]}, {"ridge__solver": ["svd", "lsqr"]}], id="several-grids"),
    ],
)
def test_a_grid_is_tried_in_the_order_of_scikit_learn(grid: Any) -> None:
    assert candidates(PIPELINE, {"param_grid": grid}) == list(ParameterGrid(grid))


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_grid_past_the_budget_is_sampled_without_repetition(budget: int, seed: int) -> None:
    recipe = {
        "param_grid": {"ridge__alpha": [0.1, 1.0, 10.0, 100.0], "ridge__max_iter": [1, 2, 3, 4, 5, 6]},
        "budget": budget,
        "seed": seed,
    }
    whole = list(ParameterGrid(recipe["param_grid"]))

    found = candidates(PIPELINE, recipe)

    places = [whole.index(one) for one in found]
    assert len(found) == min(budget, 24)
    assert places == sorted(set(places))
    assert candidates(PIPELINE, recipe) == found


def test_a_grid_of_many_millions_is_sampled_at_once() -> None:
    recipe = {
        "param_grid": {
            f"{step}__{name}": list(range(1, 500))
            for step in ("a", "b", "c")
            for name in ("n_estimators", "max_depth", "min_samples_leaf")[:2]
        },
        "budget": 10,
    }
    forests = VotingRegressor([(name, RandomForestRegressor()) for name in "abc"])

    assert len(candidates(forests, recipe)) == 10


def test_distributions_are_drawn_within_their_bounds() -> None:
    recipe = {
        "distributions": {
            "ridge__alpha": {"log_uniform": [0.001, 10]},
            "ridge__tol": {"uniform": [0.25, 0.5]},
            "ridge__max_iter": {"integers": [5, 7]},
            "ridge__solver": {"choices": ["svd", "lsqr"]},
        },
        "budget": 200,
        "seed": 4,
    }

    found = candidates(PIPELINE, recipe)

    alphas = [one["ridge__alpha"] for one in found]
    assert len(found) == 200
    assert all(0.001 <= alpha <= 10 for alpha in alphas)
    assert 0.35 < np.mean([alpha < 0.1 for alpha in alphas]) < 0.65  # half of the logarithms
    assert all(0.25 <= one["ridge__tol"] <= 0.5 for one in found)
    assert {one["ridge__max_iter"] for one in found} == {5, 6, 7}
    assert {one["ridge__solver"] for one in found} == {"svd", "lsqr"}
    assert json.loads(json.dumps(found)) == found


def test_the_same_seed_draws_the_same_candidates_and_another_one_others() -> None:
    first, second, other = (
        candidates(PIPELINE, {"distributions": {"ridge__alpha": {"uniform": [0, 1]}}, "seed": seed})
        for seed in (1, 1, 2)
    )

    assert first == second != other
    assert len(first) == DEFAULT_BUDGET


def test_distributions_with_few_values_give_each_once() -> None:
    recipe = {"distributions": {"ridge__max_iter": {"integers": [1, 3]}}, "budget": 50}

    assert sorted(one["ridge__max_iter"] for one in candidates(PIPELINE, recipe)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        pytest.param({"ridge__alhpa": 1.0}, "did you mean ridge__alpha", id="misspelt"),
        pytest.param({"alpha": 1.0}, "ridge__alpha", id="without-its-step"),
        pytest.param({"forest__n_estimators": 1}, "get_params()", id="another-model"),
    ],
)
def test_an_unknown_parameter_is_named_with_those_that_are_like_it(params: dict[str, Any], hint: str) -> None:
    found = fault(PIPELINE, {"params": params})

    assert found["code"] == "unknown_parameter"
    assert found["pointer"] == f"/recipe/params/{next(iter(params))}"
    assert hint in found["message"]


@pytest.mark.parametrize(
    ("recipe", "pointer", "words"),
    [
        pytest.param(
            {"params": {"ridge__alpha": -1}}, "/recipe/params/ridge__alpha", "must be a float in the range", id="below"
        ),
        pytest.param({"params": {"ridge__alpha": "big"}}, "/recipe/params/ridge__alpha", "Got 'big'", id="text"),
        pytest.param(
            {"params": {"ridge__solver": "magic"}}, "/recipe/params/ridge__solver", "must be a str among", id="option"
        ),
        pytest.param(
            {"params": {"ridge__solver": ["svd"]}}, "/recipe/params/ridge__solver", "must be a str among", id="list"
        ),
        pytest.param(
            {"param_grid": {"ridge__alpha": [1, -2]}}, "/recipe/param_grid/ridge__alpha", "Got -2", id="in-a-grid"
        ),
        pytest.param(
            {"param_grid": [{}, {"ridge__alpha": [-2]}]},
            "/recipe/param_grid/1/ridge__alpha",
            "Got -2",
            id="in-the-second-grid",
        ),
        pytest.param(
            {"param_grid": {"ridge__alpha": 1}}, "/recipe/param_grid/ridge__alpha", "must be a list", id="no-list"
        ),
        pytest.param(
            {"param_grid": {"ridge__alpha": []}}, "/recipe/param_grid/ridge__alpha", "at least one", id="empty-list"
        ),
        pytest.param({"param_grid": [5]}, "/recipe/param_grid/0", "an object of lists", id="grid-of-numbers"),
        pytest.param({"param_grid": {}}, "/recipe/param_grid", "empty", id="empty-grid"),
        pytest.param({"distributions": {}}, "/recipe/distributions", "at least one", id="no-distributions"),
        *(
            pytest.param({"distributions": {"ridge__alpha": spec}}, f"{DRAWN}/ridge__alpha", words, id=name)
            for name, spec, words in (
                ("unknown-distribution", {"normal": [0, 1]}, "one distribution of"),
                ("no-distribution", [1, 2], "one distribution of"),
                ("two-distributions", {"uniform": [0, 1], "choices": [1]}, "one distribution of"),
                ("turned-round", {"uniform": [2, 1]}, "low not above high"),
                ("one-end", {"uniform": [2]}, "two numbers"),
                ("end-of-text", {"uniform": [1, "2"]}, "two numbers"),
                ("overflow", {"uniform": [-1e308, 1e308]}, "two numbers"),
                ("fractions", {"integers": [1, 2.5]}, "two whole numbers"),
                ("past-64-bits", {"integers": [1, 2**70]}, "two whole numbers"),
                ("logarithm-of-0", {"log_uniform": [0, 1]}, "above 0"),
                ("no-choices", {"choices": []}, "list of values"),
                ("below-what-it-takes", {"uniform": [-1, 1]}, "Got -1.0"),
                ("choice-that-it-does-not-take", {"choices": [1.0, "big"]}, "Got 'big'"),
            )
        ),
        pytest.param(
            {"distributions": {"ridge__max_iter": {"uniform": [1, 9]}}},
            "/recipe/distributions/ridge__max_iter",
            "must be an int",
            id="fractions-where-it-takes-whole-numbers",
        ),
    ],
)
def test_a_value_that_the_model_does_not_take_is_refused_before_any_fit(
    recipe: dict[str, Any], pointer: str, words: str
) -> None:
    found = fault(PIPELINE, recipe)

    assert (found["pointer"], found["code"]) == (pointer, "bad_value")
    assert words in found["message"]


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        pytest.param(PIPELINE, {"memory": "/tmp/cache"}, id="cache-folder"),  # noqa: S108  # never used
        pytest.param(TEXTS, {"tfidfvectorizer__input": "filename"}, id="texts-from-files"),
        pytest.param(PIPELINE, {"steps": []}, id="steps"),
        pytest.param(PIPELINE, {"ridge": "passthrough"}, id="the-step-that-predicts"),
        pytest.param(PIPELINE, {"standardscaler": 5}, id="a-step-by-a-number"),
        pytest.param(
            ColumnTransformer([("one", OneHotEncoder(), ["a"])]), {"transformers": []}, id="parts-of-a-transformer"
        ),
        pytest.param(VotingRegressor([("a", Ridge())]), {"a": None}, id="a-member"),
    ],
)
def test_a_recipe_does_not_reach_the_disk_or_the_make_of_a_pipeline(estimator: Any, params: dict[str, Any]) -> None:
    found = fault(estimator, {"params": params})

    assert found["code"] == "parameter_not_allowed"
    assert "register a version" in found["message"]


def test_a_step_before_the_last_may_be_left_out() -> None:
    columns = make_column_transformer((StandardScaler(), [0]), remainder="passthrough")
    pipeline = Pipeline([("columns", columns), ("scale", StandardScaler()), ("ridge", Ridge())])
    params = {"scale": "passthrough", "columns__standardscaler": "drop"}

    (found,) = candidates(pipeline, {"params": params})

    assert untrained(pipeline, found).named_steps["scale"] == "passthrough"


def test_a_recipe_has_one_way_to_find_parameters() -> None:
    found = fault(PIPELINE, {"params": {"ridge__alpha": 1}, "param_grid": {"ridge__alpha": [1]}})

    assert (found["pointer"], found["code"]) == ("/recipe", "ambiguous_recipe")


@pytest.mark.parametrize(
    ("recipe", "pointer"),
    [
        pytest.param({"budget": MOST_CANDIDATES + 1}, "/recipe/budget", id="budget"),
        pytest.param({"budget": 0}, "/recipe/budget", id="no-budget"),
        pytest.param(
            {"param_grid": {"ridge__alpha": [1.0] * 100, "ridge__max_iter": [1] * 100}}, "/recipe/param_grid", id="grid"
        ),
    ],
)
def test_too_many_candidates_are_refused(recipe: dict[str, Any], pointer: str) -> None:
    found = fault(PIPELINE, recipe)

    assert (found["pointer"], found["code"]) == (pointer, "too_many_candidates")
    assert str(MOST_CANDIDATES) in found["message"]


def test_a_name_with_a_slash_is_escaped_in_its_pointer() -> None:
    assert fault(PIPELINE, {"params": {"a/b~c": 1}})["pointer"] == "/recipe/params/a~1b~0c"


def test_a_copy_is_not_fitted_and_keeps_what_is_not_changed() -> None:
    x, y = load_diabetes(return_X_y=True)
    champion = make_pipeline(StandardScaler(), RandomForestRegressor(3, random_state=7)).fit(x, y)

    copy = untrained(champion, {"randomforestregressor__max_depth": 2})

    forest = copy.named_steps["randomforestregressor"]
    assert not hasattr(forest, "estimators_")
    assert (forest.n_estimators, forest.random_state, forest.max_depth) == (3, 7, 2)
    assert champion.named_steps["randomforestregressor"].max_depth is None


@pytest.mark.parametrize(
    ("estimator", "name", "value", "taken"),
    [
        pytest.param(TEXTS, "tfidfvectorizer__ngram_range", [1, 2], (1, 2), id="must-be-a-tuple"),
        pytest.param(MLPRegressor(), "hidden_layer_sizes", [20, 10], (20, 10), id="is-a-tuple-now"),
        pytest.param(TEXTS, "tfidfvectorizer__stop_words", ["a", "the"], ["a", "the"], id="is-a-list"),
    ],
)
def test_a_list_becomes_a_tuple_where_the_model_wants_one(estimator: Any, name: str, value: Any, taken: Any) -> None:
    (params,) = candidates(estimator, {"params": {name: value}})

    assert params == {name: value}
    assert untrained(estimator, params).get_params()[name] == taken


class Foreign:
    """An estimator of another library, without declared constraints."""

    def __init__(self, depth: int = 3) -> None:
        self.depth = depth

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"depth": self.depth}


def test_the_values_of_an_estimator_without_constraints_are_left_to_the_first_fit() -> None:
    assert candidates(Foreign(), {"params": {"depth": -1}}) == [{"depth": -1}]


@pytest.mark.parametrize("name", ["n_jobs", "verbose", "pre_dispatch"])
@pytest.mark.parametrize("way", ["params", "param_grid", "distributions"])
def test_a_recipe_does_not_say_how_a_fit_is_run(name: str, way: str) -> None:
    search = GridSearchCV(RandomForestRegressor(), {"max_depth": [1]})
    value = {"params": 2, "param_grid": [2], "distributions": {"choices": [2]}}[way]

    found = fault(make_pipeline(search), {way: {f"gridsearchcv__{name}": value}})

    assert found["code"] == "parameter_not_allowed"
    assert found["pointer"] == f"/recipe/{way}/gridsearchcv__{name}"
