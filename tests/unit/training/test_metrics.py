"""The metrics are those of scikit-learn, for any weights, and stay defined when the models know different classes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from shared.errors import InvalidRequest, ModelUnusable
from worker.training.metrics import EPSILON, METRICS, Answers, answers, default_metric, metric_named, metrics_of, union

GENERATOR = np.random.default_rng(0)


def weights_of(n_rows: int) -> Any:
    return np.random.default_rng(n_rows).integers(0, 4, n_rows).astype(float)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_metrics_of_a_regressor_are_those_of_scikit_learn(weighted: bool) -> None:
    x, y = load_diabetes(return_X_y=True)
    found = answers(Ridge().fit(x[:200], y[:200]), x[200:])
    weights = weights_of(len(y[200:])) if weighted else None
    options = {"sample_weight": weights}

    values = metrics_of("regression", y[200:], found, weights)

    assert values == pytest.approx(
        {
            "rmse": metrics.root_mean_squared_error(y[200:], found.labels, **options),
            "mae": metrics.mean_absolute_error(y[200:], found.labels, **options),
            "r2": metrics.r2_score(y[200:], found.labels, **options),
        }
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("names", [None, ["no", "yes"], [True, False]], ids=["numbers", "texts", "booleans"])
def test_the_metrics_of_a_binary_classifier_are_those_of_scikit_learn(weighted: bool, names: list[Any] | None) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    y = y if names is None else np.array(names)[y]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(x[:80, :3], y[:80])
    truth, found = y[80:], answers(model, x[80:, :3])
    weights = weights_of(len(truth)) if weighted else None
    options = {"sample_weight": weights}
    assert found.probabilities is not None

    values = metrics_of("binary", truth, found, weights)

    positive = model.classes_[1]
    assert values == pytest.approx(
        {
            "log_loss": metrics.log_loss(truth, found.probabilities, **options),
            "accuracy": metrics.accuracy_score(truth, found.labels, **options),
            "f1": metrics.f1_score(truth, found.labels, pos_label=positive, **options),
            "roc_auc": metrics.roc_auc_score(truth == positive, found.probabilities[:, 1], **options),
        }
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("load", [load_wine, load_iris], ids=["wine", "iris"])
def test_the_metrics_of_a_classifier_of_three_are_those_of_scikit_learn(load: Any, weighted: bool) -> None:
    x, y = load(return_X_y=True)
    model = LogisticRegression(C=0.1, max_iter=10_000).fit(x[::5, :2], y[::5])
    found = answers(model, x[:, :2])
    weights = weights_of(len(y)) if weighted else None
    options = {"sample_weight": weights}
    assert found.probabilities is not None

    values = metrics_of("multiclass", y, found, weights)

    one_by_one = [metrics.roc_auc_score(y == k, found.probabilities[:, k], **options) for k in range(3)]
    assert values == pytest.approx(
        {
            "log_loss": metrics.log_loss(y, found.probabilities, **options),
            "accuracy": metrics.accuracy_score(y, found.labels, **options),
            "f1": metrics.f1_score(y, found.labels, average="macro", **options),
            "roc_auc": np.mean(one_by_one),
        }
    )


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({positive for positive, _, weight in rows if weight}) == 2
    )
)
def test_the_area_under_the_curve_counts_ties_as_scikit_learn_does(rows: list[tuple[bool, int, int]]) -> None:
    truth, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = Answers(scores > 2, np.column_stack([1 - scores / 4, scores / 4]), np.array([False, True]))

    value = metrics_of("binary", truth, found, weights)["roc_auc"]

    assert value == pytest.approx(metrics.roc_auc_score(truth, scores, sample_weight=weights))


@given(st.data())
def test_a_row_of_weight_two_counts_like_two_rows(data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(3, 30))
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    truth, said = generator.integers(0, 3, n_rows), generator.integers(0, 3, n_rows)
    probabilities = generator.dirichlet(np.ones(3), n_rows)
    times = generator.integers(0, 3, n_rows)
    times[0] = 1
    twice = np.repeat(np.arange(n_rows), times)
    classes = np.arange(3)

    weighted = metrics_of("multiclass", truth, Answers(said, probabilities, classes), times.astype(float))
    repeated = metrics_of("multiclass", truth[twice], Answers(said[twice], probabilities[twice], classes))

    assert weighted == pytest.approx(repeated)


def test_a_classifier_without_probabilities_has_the_metrics_of_labels() -> None:
    x, y = load_wine(return_X_y=True)

    values = metrics_of("multiclass", y, answers(LinearSVC().fit(x, y), x))

    assert set(values) == {"accuracy", "f1"}


def test_rows_of_one_class_have_no_area_under_the_curve() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)

    values = metrics_of("binary", y[y == 1], answers(model, x[y == 1]))

    assert set(values) == {"log_loss", "accuracy", "f1"}


def test_a_class_that_no_row_has_is_left_out_of_the_mean() -> None:
    x, y = load_iris(return_X_y=True)
    found = answers(LogisticRegression(max_iter=1000).fit(x, y), x[50:])
    assert found.probabilities is not None

    values = metrics_of("multiclass", y[50:], found)

    areas = [metrics.roc_auc_score(y[50:] == k, found.probabilities[:, k]) for k in (1, 2)]
    assert values["roc_auc"] == pytest.approx(np.mean(areas))
    assert values["f1"] == pytest.approx(metrics.f1_score(y[50:], found.labels, labels=[1, 2], average="macro"))


def test_a_constant_truth_has_no_r2() -> None:
    assert set(metrics_of("regression", np.ones(5), Answers(np.arange(5.0)))) == {"rmse", "mae"}


def test_a_class_that_a_model_never_saw_has_the_probability_epsilon() -> None:
    x, y = load_iris(return_X_y=True)
    narrow = answers(LogisticRegression(max_iter=1000).fit(x[:100], y[:100]), x[100:])

    values = metrics_of("multiclass", y[100:], narrow)

    assert values["log_loss"] == pytest.approx(-np.log(EPSILON))
    assert values["accuracy"] == 0


def test_two_classes_with_a_third_in_the_truth_are_measured_as_three() -> None:
    x, y = load_iris(return_X_y=True)
    narrow = answers(LogisticRegression(max_iter=1000).fit(x[:100], y[:100]), x)

    values = metrics_of("binary", y, narrow)

    assert values["f1"] == pytest.approx(metrics.f1_score(y, narrow.labels, average="macro"))


def test_models_with_different_classes_share_their_union() -> None:
    one = Answers(np.array(["b"]), np.array([[1.0, 0.0]]), np.array(["b", "d"]))
    other = Answers(np.array(["c"]))

    assert union(np.array(["a"]), one, other).tolist() == ["a", "b", "c", "d"]


def test_an_offset_of_the_target_does_not_change_r2() -> None:
    truth, said = GENERATOR.normal(size=50), GENERATOR.normal(size=50)

    values = [metrics_of("regression", truth + offset, Answers(said + offset))["r2"] for offset in (0.0, 1e7)]

    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("task", "probabilities", "name"),
    [("regression", False, "rmse"), ("binary", True, "log_loss"), ("multiclass", False, "accuracy")],
    ids=["regression", "classes", "classes-without-probabilities"],
)
def test_a_gate_without_a_metric_has_the_one_of_the_task(task: Any, probabilities: bool, name: str) -> None:
    assert default_metric(task, probabilities=probabilities) == name
    assert metric_named(name, task, probabilities=probabilities) is METRICS[name]


@pytest.mark.parametrize(
    ("name", "task", "probabilities", "words"),
    [
        pytest.param("rsme", "regression", False, "'rsme' is no metric; .* there are rmse, mae, r2", id="misspelt"),
        pytest.param("f1", "regression", False, "'f1' is for another task; .* rmse", id="another-task"),
        pytest.param("roc_auc", "binary", False, "needs predict_proba, .* accuracy, f1", id="no-probabilities"),
    ],
)
def test_a_metric_that_does_not_apply_is_refused_with_those_that_do(
    name: str, task: Any, probabilities: bool, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as raised:
        metric_named(name, task, probabilities=probabilities)

    assert raised.value.errors[0]["pointer"] == "/gate/metric"


class Saying:
    """A regressor that answers the same whatever it is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, packed: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(np.array([1.0, np.nan, np.inf]), "2 of 3 .* not finite, the first for row 2", id="nan"),
        pytest.param(np.ones(2), r"gave \(2,\) predictions for 3 rows", id="too-few"),
        pytest.param(np.ones((3, 2)), "2 outputs where one is wanted", id="two-outputs"),
    ],
)
def test_answers_that_cannot_be_compared_are_the_models_fault(answer: Any, words: str) -> None:
    with pytest.raises(ModelUnusable, match=words):
        answers(Saying(answer), np.zeros((3, 1)))


def test_one_output_in_a_column_is_one_number_a_row() -> None:
    x, y = load_linnerud(return_X_y=True)

    assert answers(LinearRegression().fit(x, y[:, :1]), x).labels.shape == (20,)
