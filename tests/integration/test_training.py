"""A training makes a challenger, compares it with the champion, and moves production if it is better."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from examples import home, support
from shared.errors import VersionInUse
from shared.job import Job, Status
from shared.registry import ANY, PRODUCTION, Manifest, Move
from shared.settings import Settings
from tests.integration.train_runner import Killed, TrainRunner, arrays_of, features_of, labelled
from tests.processes import RedisServer

DIABETES = labelled(load_diabetes(as_frame=True))
GRID = {"param_grid": {"alpha": [5.0, 0.01]}, "folds": 3}


@pytest.fixture
def runner(settings: Settings, redis_server: RedisServer) -> TrainRunner:
    return TrainRunner(settings)


@pytest.fixture
def diabetes(runner: TrainRunner) -> TrainRunner:
    """With a ridge regression whose alpha is far too large in production."""
    return with_ridge(runner, 5.0)


def with_ridge(runner: TrainRunner, alpha: float, name: str = "diabetes", **more: Any) -> TrainRunner:
    runner.register(name, Ridge(alpha=alpha).fit(*arrays_of(DIABETES)), features_of(DIABETES), **more)
    return runner


def alike(first: Manifest, second: Manifest) -> bool:
    """Whether two versions take and give the same, whatever rows they were tried on."""
    return replace(first.signature, example=()) == replace(second.signature, example=())


def gate_of(job: Job) -> dict[str, Any]:
    assert job.registered is not None, job.failure
    gate: dict[str, Any] = job.registered["gate"]
    return gate


def test_a_challenger_that_is_really_better_takes_production(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    assert (job.status, job.counts.succeeded, job.counts.total) == (Status.SUCCEEDED, 442, 442)
    assert job.registered is not None
    assert job.registered["params"] == {"alpha": 0.01}
    assert (job.registered["version"], job.registered["promoted"], job.registered["alias"]) == (2, True, PRODUCTION)
    assert gate_of(job)["passed"]
    assert gate_of(job)["low"] > 0
    assert diabetes.production("diabetes") == 2


@pytest.mark.parametrize(
    ("parents", "wanted"),
    [pytest.param({}, "auto", id="by-itself"), pytest.param({"accelerate": "off"}, None, id="off")],
)
def test_a_challenger_is_accelerated_as_its_parent_was_to_be(
    runner: TrainRunner, parents: dict[str, Any], wanted: str | None
) -> None:
    estimator = RandomForestRegressor(10, random_state=0).fit(*arrays_of(DIABETES))
    runner.register("forest", estimator, features_of(DIABETES).slice(0, 50), **parents)

    version = runner.version(runner.run("forest", DIABETES, target="target"))

    assert (version.accelerated.get("wanted"), version.accelerated.get("used")) == (wanted, wanted and True)


def test_a_challenger_that_is_worse_is_kept_and_changes_nothing(runner: TrainRunner) -> None:
    with_ridge(runner, 0.01)

    job = runner.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 1000.0}})

    assert job.status == Status.SUCCEEDED
    assert job.registered is not None
    assert (job.registered["version"], job.registered["promoted"], job.registered["alias"]) == (2, False, None)
    assert gate_of(job)["improvement"] < 0
    assert "refused" in gate_of(job)["reason"]
    assert runner.production("diabetes") == 1
    assert runner.version(job).comparison == gate_of(job)


def test_an_improvement_that_may_be_luck_is_refused(runner: TrainRunner) -> None:
    with_ridge(runner, 0.6)

    job = runner.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.1}})

    assert gate_of(job)["improvement"] > 0
    assert gate_of(job)["low"] <= 0
    assert not gate_of(job)["passed"]
    assert "may be luck" in gate_of(job)["reason"]
    assert runner.production("diabetes") == 1


def test_a_challenger_that_is_equal_is_refused(diabetes: TrainRunner) -> None:
    diabetes.run(
        "diabetes", DIABETES, target="target", promote="auto", gate={"min_improvement": -100.0, "max_regression": 100.0}
    )
    assert diabetes.production("diabetes") == 2

    again = diabetes.run("diabetes", DIABETES, target="target")

    assert (gate_of(again)["improvement"], gate_of(again)["low"], gate_of(again)["high"]) == (0.0, 0.0, 0.0)
    assert not gate_of(again)["passed"]
    assert diabetes.production("diabetes") == 2


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        pytest.param({"min_improvement": 5.0}, True, id="improvement-reached"),
        pytest.param({"min_improvement": 15.0}, False, id="improvement-missed"),
        pytest.param({"metric": "mae"}, True, id="another-metric"),
        pytest.param({"metric": "r2", "min_improvement": 0.1}, True, id="greater-is-better"),
        pytest.param({"metric": "r2", "min_improvement": 0.9}, False, id="in-the-unit-of-the-metric"),
    ],
)
def test_the_gate_asks_for_what_was_given(diabetes: TrainRunner, gate: dict[str, Any], passed: bool) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.01}}, gate=gate)

    assert gate_of(job)["passed"] is passed
    assert gate_of(job)["metric"] == gate.get("metric", "rmse")
    assert diabetes.production("diabetes") == (2 if passed else 1)


@pytest.mark.parametrize(("max_regression", "passed"), [(0.0, False), (0.5, False), (6.0, True)])
def test_a_regression_that_is_allowed_lets_a_slightly_worse_one_pass(
    runner: TrainRunner, max_regression: float, passed: bool
) -> None:
    with_ridge(runner, 0.01)
    gate = {"min_improvement": -5.0, "max_regression": max_regression}

    job = runner.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.3}}, gate=gate)

    assert gate_of(job)["improvement"] < 0
    assert gate_of(job)["passed"] is passed


@pytest.mark.parametrize(
    ("promote", "alias", "production"),
    [
        pytest.param("auto", PRODUCTION, 2, id="auto"),
        pytest.param("manual", "challenger", 1, id="manual"),
        pytest.param("never", None, 1, id="never"),
    ],
)
def test_a_challenger_that_passes_is_promoted_as_it_was_asked(
    diabetes: TrainRunner, promote: str, alias: str | None, production: int
) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID, promote=promote)

    assert gate_of(job)["passed"]
    assert job.registered is not None
    assert (job.registered["alias"], job.registered["promoted"]) == (alias, promote == "auto")
    assert diabetes.production("diabetes") == production
    aliases = {PRODUCTION: production} | ({} if alias is None else {alias: 2})
    assert diabetes.registry.model("diabetes").aliases == aliases


def test_a_challenger_that_fails_its_gate_is_no_challenger_alias(runner: TrainRunner) -> None:
    with_ridge(runner, 0.01)

    runner.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 50.0}}, promote="manual")

    assert runner.registry.model("diabetes").aliases == {PRODUCTION: 1}


def test_job_version_and_history_have_the_same_numbers(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    version, (move, first) = diabetes.version(job), diabetes.registry.history("diabetes", PRODUCTION)
    assert first["to"] == 1
    assert version.comparison == gate_of(job) == diabetes.manifest_of(job)["registered"]["gate"]
    assert move["details"] | {"reason": move["why"]} == gate_of(job)
    assert (move["from"], move["to"], move["job_id"]) == (1, 2, job.id)
    assert job.registered is not None
    assert version.metrics == job.registered["metrics"]
    assert version.metrics["rmse"] == gate_of(job)["challenger"]


def test_a_version_says_where_it_comes_from(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    version = diabetes.version(job)
    assert (version.parent, version.source_job, version.created_by) == (1, job.id, f"job {job.id}")
    assert version.code
    assert "scikit-learn" in version.libraries
    assert version.recipe["base"] == "diabetes@1"
    assert (version.recipe["params"], version.recipe["candidates"]) == ({"alpha": 0.01}, 2)
    data = version.data
    assert (data["rows"], data["failed"], data["target"], data["combine"]) == (442, 0, "target", "replace")
    assert data["held_out"] == gate_of(job)["rows"]
    assert len(data["sha256"]) == 64
    assert data["input"]["bytes"] == job.spec.train.input.size_bytes  # type: ignore[union-attr]


def test_a_version_says_what_was_asked_and_how_each_candidate_did(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID | {"seed": 3, "budget": 9})

    recipe = diabetes.version(job).recipe
    assert recipe["asked"] == {"param_grid": {"alpha": [5.0, 0.01]}, "folds": 3, "budget": 9, "seed": 3}
    assert recipe["metric"] == "rmse"
    assert [(one["candidate"], one["params"]) for one in recipe["scores"]] == [
        (1, {"alpha": 0.01}),
        (0, {"alpha": 5.0}),
    ]
    fits = diabetes.manifest_of(job)["fits"]
    for one in recipe["scores"]:
        found = [fit["score"] for fit in fits if fit["candidate"] == one["candidate"]]
        assert one["mean"] == pytest.approx(np.mean(found))


def test_a_version_that_needed_no_search_has_no_scores(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.5}})

    recipe = diabetes.version(job).recipe
    assert (recipe["asked"]["params"], recipe["params"], recipe["scores"]) == ({"alpha": 0.5}, {"alpha": 0.5}, [])


def test_a_version_keeps_the_scores_of_the_best_candidates_alone(diabetes: TrainRunner) -> None:
    recipe = {"distributions": {"alpha": {"log_uniform": [0.001, 10.0]}}, "budget": 205, "folds": 2}

    job = diabetes.run("diabetes", DIABETES, target="target", recipe=recipe)

    found = diabetes.version(job).recipe
    means = [one["mean"] for one in found["scores"]]
    assert (found["candidates"], len(means)) == (205, 200)
    assert means == sorted(means)
    assert found["scores"][0]["params"] == found["params"]


def test_rows_that_stand_several_times_make_no_model_pass(runner: TrainRunner) -> None:
    with_ridge(runner, 0.05)
    recipe = {"params": {"alpha": 0.1}}
    once = gate_of(runner.run("diabetes", DIABETES, target="target", recipe=recipe))

    often = gate_of(runner.run("diabetes", pa.concat_tables([DIABETES] * 8), target="target", recipe=recipe))

    assert often["rows"] == 8 * once["rows"]
    assert often["high"] - often["low"] > 0.8 * (once["high"] - once["low"])


def test_the_rows_of_a_training_are_let_go_at_its_end(diabetes: TrainRunner) -> None:
    diabetes.run("diabetes", DIABETES, target="target")

    assert all(work._fits._kept is None for work in diabetes.works)


def test_a_version_describes_the_rows_that_it_was_trained_on(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    version = diabetes.version(job)
    profile = version.profile
    assert profile["rows"] == 442 - version.data["held_out"]
    assert list(profile["features"]) == features_of(DIABETES).column_names


def test_every_fit_of_a_search_stands_in_the_manifest(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    manifest = diabetes.manifest_of(job)
    assert manifest["candidates"] == [{"alpha": 5.0}, {"alpha": 0.01}]
    assert [(fit["candidate"], fit["fold"]) for fit in manifest["fits"]] == [(c, f) for c in range(2) for f in range(3)]
    scores = np.array([fit["score"] for fit in manifest["fits"]]).reshape(2, 3).mean(axis=1)
    assert scores[1] < scores[0]


def test_a_challenger_predicts_as_the_registered_version_does(diabetes: TrainRunner) -> None:
    job = diabetes.run("diabetes", DIABETES, target="target", recipe=GRID)

    model = diabetes.works[0]._models.get("diabetes", 2)
    version = diabetes.version(job)
    assert alike(version, diabetes.registry.manifest("diabetes", 1))
    rows, truth = arrays_of(DIABETES)
    assert np.sqrt(np.mean((model.estimator.predict(rows) - truth) ** 2)) < 55


# What is learnt

WINE, CANCER, IRIS = (labelled(load(as_frame=True)) for load in (load_wine, load_breast_cancer, load_iris))


def with_labels(table: pa.Table, labels: Any) -> pa.Table:
    return table.set_column(table.column_names.index("target"), "target", pa.array(labels))


NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS.column("target").to_numpy()]


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        pytest.param(with_labels(IRIS, NAMES.tolist()), ["setosa", "versicolor", "virginica"], id="strings"),
        pytest.param(WINE, [0, 1, 2], id="integers"),
        pytest.param(
            with_labels(CANCER, (CANCER.column("target").to_numpy() == 1).tolist()), [False, True], id="booleans"
        ),
        pytest.param(with_labels(IRIS, ["01" if one == "setosa" else "1" for one in NAMES]), ["01", "1"], id="digits"),
    ],
)
def test_a_classifier_is_better_after_more_rows(runner: TrainRunner, table: pa.Table, labels: list[Any]) -> None:
    rows, truth = arrays_of(table)
    few = np.concatenate([np.flatnonzero(truth == label)[:2] for label in labels])
    runner.register(
        "kind", DecisionTreeClassifier(max_depth=1, random_state=0).fit(rows[few], truth[few]), features_of(table)
    )
    recipe = {"param_grid": {"max_depth": [1, 5]}, "folds": 3}

    job = runner.run(
        "kind",
        table,
        target="target",
        recipe=recipe,
        gate={"metric": "accuracy", "min_improvement": -1.0, "max_regression": 1.0},
    )

    version = runner.version(job)
    assert job.status == Status.SUCCEEDED
    assert list(version.signature.classes or ()) == labels
    assert version.metrics["accuracy"] > 0.85
    assert gate_of(job)["metric"] == "accuracy"
    assert runner.production("kind") == 2


def test_a_classifier_is_compared_by_log_loss_unless_it_has_no_probabilities(runner: TrainRunner) -> None:
    rows, truth = arrays_of(CANCER)
    runner.register("sure", make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, truth), features_of(CANCER))
    runner.register("bare", make_pipeline(StandardScaler(), LinearSVC()).fit(rows, truth), features_of(CANCER))

    sure, bare = (runner.run(name, CANCER, target="target") for name in ("sure", "bare"))

    assert (gate_of(sure)["metric"], gate_of(bare)["metric"]) == ("log_loss", "accuracy")
    assert "roc_auc" not in runner.version(bare).metrics


def test_a_binary_classifier_is_compared_by_roc_auc(runner: TrainRunner) -> None:
    rows, truth = arrays_of(CANCER)
    runner.register("cancer", KNeighborsClassifier(n_neighbors=200).fit(rows[:, :], truth), features_of(CANCER))
    recipe = {"param_grid": {"n_neighbors": [200, 15, 5]}, "folds": 3}

    job = runner.run("cancer", CANCER, target="target", recipe=recipe, gate={"metric": "roc_auc"})

    assert gate_of(job)["metric"] == "roc_auc"
    assert 0.9 < gate_of(job)["challenger"] <= 1.0
    assert set(runner.version(job).metrics) == {"log_loss", "accuracy", "f1", "roc_auc"}


def test_a_class_that_the_champion_has_never_seen_is_learnt_and_warned_about(runner: TrainRunner) -> None:
    rows, truth = arrays_of(WINE)
    known = truth < 2
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[known], truth[known])
    runner.register("wine", model, features_of(WINE))

    job = runner.run("wine", WINE, target="target")

    assert list(runner.version(job).signature.classes or ()) == [0, 1, 2]
    assert gate_of(job)["passed"]
    assert any("does not know the classes 2" in warning for warning in job.warnings)


def test_a_pipeline_of_mixed_columns_with_gaps_is_trained_again(runner: TrainRunner) -> None:
    table, energy = home.simulate_readings(1200, seed=3)
    poor = home.untrained().set_params(trees__max_iter=2).fit(table, energy)
    runner.register("home", poor, table)

    job = runner.run(
        "home", table.append_column("kwh", pa.array(energy)), target="kwh", recipe={"params": {"trees__max_iter": 40}}
    )

    assert gate_of(job)["passed"], gate_of(job)
    assert job.counts.succeeded == 1200
    assert alike(runner.version(job), runner.registry.manifest("home", 1))


def test_a_pipeline_of_texts_is_trained_again(runner: TrainRunner) -> None:
    texts, intents = support.load_messages()
    table = pa.table({"text": texts, "intent": intents})
    runner.register(
        "support", support.untrained().set_params(classifier__C=0.001).fit(texts, intents), table.select(["text"])
    )

    job = runner.run("support", table, target="intent", recipe={"params": {"classifier__C": 10.0}})

    assert gate_of(job)["passed"], gate_of(job)
    assert runner.version(job).metrics["accuracy"] > 0.7


def test_a_model_that_came_as_joblib_stays_joblib(runner: TrainRunner) -> None:
    with_ridge(runner, 5.0, format="joblib")

    job = runner.run("diabetes", DIABETES, target="target", recipe=GRID)

    assert runner.version(job).format == "joblib"
    assert runner.production("diabetes") == 2


def test_what_a_fit_warned_of_is_told(runner: TrainRunner) -> None:
    rows, truth = arrays_of(WINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner.register("wine", LogisticRegression(max_iter=3).fit(rows, truth), features_of(WINE))

    job = runner.run("wine", WINE, target="target")

    assert any("failed to converge" in warning for warning in job.warnings), job.warnings
    assert runner.manifest_of(job)["warnings"] == list(job.warnings)


# First versions and other bases


@pytest.mark.parametrize(
    ("threshold", "passed"),
    [
        pytest.param(None, True, id="no-threshold"),
        pytest.param(60.0, True, id="reached"),
        pytest.param(40.0, False, id="missed"),
    ],
)
def test_the_first_version_of_a_model_is_made_from_another_model(
    runner: TrainRunner, threshold: float | None, passed: bool
) -> None:
    with_ridge(runner, 0.1, name="old")
    with_ridge(runner, 0.1, name="old")

    job = runner.run("new", DIABETES, target="target", recipe={"base": "old@2", **GRID}, gate={"threshold": threshold})

    assert job.status == Status.SUCCEEDED, job.failure
    version = runner.version(job)
    assert (version.model, version.version, version.parent) == ("new", 1, None)
    assert version.recipe["base"] == "old@2"
    assert gate_of(job)["passed"] is passed
    assert gate_of(job)["champion_version"] is None
    assert gate_of(job)["threshold"] == threshold
    assert runner.registry.model("new").aliases == ({PRODUCTION: 1} if passed else {})
    assert runner.registry.model("old").aliases == {PRODUCTION: 2}


def test_a_challenger_may_be_made_from_an_older_version_and_is_compared_with_production(diabetes: TrainRunner) -> None:
    better = Ridge(alpha=0.01).fit(*arrays_of(DIABETES))
    diabetes.register("diabetes", better, features_of(DIABETES))

    job = diabetes.run("diabetes", DIABETES, target="target", recipe={"base": "diabetes@1"})

    assert gate_of(job)["champion_version"] == 2
    assert diabetes.version(job).parent == 1
    assert not gate_of(job)["passed"]


def test_a_champion_of_another_kind_can_be_beaten(runner: TrainRunner) -> None:
    with_ridge(runner, 50.0)
    runner.register("diabetes", LinearRegression().fit(*arrays_of(DIABETES)), features_of(DIABETES), alias=None)

    job = runner.run("diabetes", DIABETES, target="target", recipe={"base": "diabetes@2"})

    assert gate_of(job)["champion_version"] == 1
    assert gate_of(job)["passed"]
    assert runner.version(job).estimator.endswith("LinearRegression")


def narrow() -> tuple[BaseEstimator, pa.Table]:
    """A regressor of two of the columns."""
    table = DIABETES.select(["bmi", "bp", "target"])
    return Ridge().fit(*arrays_of(table)), features_of(table)


def labelling() -> tuple[BaseEstimator, pa.Table]:
    """A classifier of the same columns."""
    rows, truth = arrays_of(DIABETES)
    return DecisionTreeClassifier(max_depth=2).fit(rows, truth > 150), features_of(DIABETES)


def pairs() -> tuple[BaseEstimator, pa.Table]:
    """A regressor with two outputs of the same columns."""
    rows, truth = arrays_of(DIABETES)
    return LinearRegression().fit(rows, np.column_stack([truth, truth])), features_of(DIABETES)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        pytest.param(narrow, ", which the base does not", id="columns"),
        pytest.param(labelling, "answers with a number, the base with classes", id="task"),
    ],
)
def test_a_base_that_cannot_be_compared_with_the_champion_is_refused_before_any_fit(
    diabetes: TrainRunner, base: Any, words: str
) -> None:
    diabetes.register("diabetes", *base(), alias=None)

    job = diabetes.failed("diabetes", DIABETES, target="target", recipe={"base": "diabetes@2"})

    assert job.failure is not None
    assert job.failure["code"] == "invalid_input"
    assert words in job.failure["message"]
    assert job.errors[0]["code"] == "not_comparable"


def test_a_champion_with_several_outputs_is_refused_before_any_fit(runner: TrainRunner) -> None:
    runner.register("diabetes", *pairs())
    with_ridge(runner, 1.0, alias=None)

    job = runner.failed("diabetes", DIABETES, target="target", recipe={"base": "diabetes@2"})

    assert job.failure is not None
    assert "answers with several outputs" in job.failure["message"]


# Several at once


def hold(runner: TrainRunner, *alphas: float) -> list[str]:
    """Trainings of which all is done but their end."""
    job_ids = [
        runner.submit("diabetes", DIABETES, target="target", recipe={"params": {"alpha": alpha}}) for alpha in alphas
    ]
    assert [runner.step() for _ in alphas] == ["plan"] * len(alphas)
    return job_ids


def test_two_trainings_at_once_make_a_chain(diabetes: TrainRunner) -> None:
    slow, quick = hold(diabetes, 0.01, 1.5)
    diabetes.registries[0].hold_up(lambda: diabetes.step(1))

    diabetes.step(0)

    assert {diabetes.read(job_id).status for job_id in (slow, quick)} == {Status.SUCCEEDED}
    assert diabetes.registries[0].compared == [1, 3]
    moves = diabetes.registry.history("diabetes", PRODUCTION)
    assert [(move["from"], move["to"], move["job_id"]) for move in moves] == [
        (3, 2, slow),
        (1, 3, quick),
        (None, 1, None),
    ]
    assert [move["details"].get("champion_version") for move in moves] == [3, 1, None]
    assert gate_of(diabetes.read(slow))["champion_version"] == 3


def test_the_second_of_two_equal_trainings_at_once_is_refused(diabetes: TrainRunner) -> None:
    slow, _ = hold(diabetes, 0.01, 0.01)
    diabetes.registries[0].hold_up(lambda: diabetes.step(1))

    diabetes.step(0)

    gate = gate_of(diabetes.read(slow))
    assert (gate["passed"], gate["improvement"], gate["champion_version"]) == (False, 0.0, 3)
    assert [move["to"] for move in diabetes.registry.history("diabetes", PRODUCTION)] == [3, 1]


def test_a_champion_that_a_person_put_there_meanwhile_is_the_one_to_beat(diabetes: TrainRunner) -> None:
    best = diabetes.register("diabetes", Ridge(alpha=0.01).fit(*arrays_of(DIABETES)), features_of(DIABETES), alias=None)
    (job_id,) = hold(diabetes, 0.5)
    move = Move(alias=PRODUCTION, version=best.version, expected=ANY, who="ann", why="I know better")
    diabetes.registries[0].hold_up(lambda: diabetes.registry.move("diabetes", move))

    diabetes.step(0)

    gate = gate_of(diabetes.read(job_id))
    assert diabetes.registries[0].compared == [1, best.version]
    assert (gate["passed"], gate["champion_version"]) == (False, best.version)
    assert diabetes.production("diabetes") == best.version


def test_a_first_version_is_compared_with_one_that_came_before_it(runner: TrainRunner) -> None:
    with_ridge(runner, 0.1, name="old")
    recipe = {"base": "old@1", "params": {"alpha": 5.0}}
    job_id = runner.submit("diabetes", DIABETES, target="target", recipe=recipe)
    assert runner.step() == "plan"
    runner.registries[0].hold_up(lambda: with_ridge(runner, 0.01))

    runner.step(0)

    assert runner.registries[0].compared == [None, 2]
    assert not gate_of(runner.read(job_id))["passed"]
    assert runner.production("diabetes") == 2


def test_a_champion_that_cannot_be_compared_and_came_meanwhile_fails_the_job(diabetes: TrainRunner) -> None:
    (job_id,) = hold(diabetes, 0.01)
    diabetes.registries[0].hold_up(lambda: diabetes.register("diabetes", *labelling()))

    diabetes.step(0)

    failure = diabetes.read(job_id).failure
    assert failure is not None
    assert failure["code"] == "invalid_input"
    assert "answers with classes of the type boolean, the base with a number" in failure["message"]
    assert diabetes.production("diabetes") == 3


def test_a_training_that_is_cancelled_while_it_is_compared_registers_nothing(diabetes: TrainRunner) -> None:
    (job_id,) = hold(diabetes, 0.01)
    diabetes.registries[0].hold_up(lambda: diabetes.store.cancel(job_id))

    diabetes.step(0)
    job = diabetes.finish(job_id)

    assert (job.status, job.failure) == (Status.CANCELLED, None)
    assert [manifest.version for manifest in diabetes.registry.model("diabetes").versions] == [1]


def test_a_training_whose_deadline_comes_while_it_is_compared_registers_nothing(diabetes: TrainRunner) -> None:
    job_id = diabetes.submit(
        "diabetes", DIABETES, target="target", recipe={"params": {"alpha": 0.01}}, deadline_seconds=600.0
    )
    assert diabetes.step() == "plan"
    diabetes.registries[0].hold_up(lambda: diabetes.be_late("deadlines", job_id))

    diabetes.step(0)
    job = diabetes.finish(job_id)

    assert job.failure is not None
    assert job.failure["code"] == "deadline_exceeded"
    assert [manifest.version for manifest in diabetes.registry.model("diabetes").versions] == [1]


def test_a_job_whose_version_is_registered_does_not_fail_though_its_last_attempt_is_lost(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings(max_attempts=1)
    server = RedisServer(settings)
    try:
        runner = with_ridge(TrainRunner(settings), 5.0)
        (job_id,) = hold(runner, 0.01)
        runner.registries[0].lose_the_answer(Killed)
        with pytest.raises(Killed):
            runner.step(0)
        assert runner.production("diabetes") == 2
        runner.be_late("leases")

        job = runner.finish(job_id)
        moves = runner.registry.history("diabetes", PRODUCTION)
    finally:
        server.stop()

    assert job.status == Status.SUCCEEDED
    assert job.registered is not None
    assert job.registered["version"] == 2
    assert [(move["from"], move["to"]) for move in moves] == [(1, 2), (None, 1)]


def test_production_that_is_moved_for_ever_ends_the_job(diabetes: TrainRunner) -> None:
    (job_id,) = hold(diabetes, 0.01)
    diabetes.registries[0].hold_up(lambda: with_ridge(diabetes, 5.0), times=100)

    diabetes.step(0)

    failure = diabetes.read(job_id).failure
    assert failure is not None
    assert failure["code"] == "training_failed"
    assert "moved again and again" in failure["message"]


def test_the_base_of_an_unfinished_training_cannot_be_deleted(runner: TrainRunner) -> None:
    with_ridge(runner, 0.1, name="old", alias=None)
    runner.submit("new", DIABETES, target="target", recipe={"base": "old@1"})

    with pytest.raises(VersionInUse):
        runner.registry.delete("old", 1)
