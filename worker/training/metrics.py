"""The metrics that champion and challenger are compared by; each is defined once, for any weights of the rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidRequest, ModelUnusable
from worker.predict import WrongShape, as_array
from worker.training.task import Task

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
# Weights of the rows, (n_draws, n_rows) float64, each at least 0 -> the metric under each of them, (n_draws,) float64;
# NaN where it is not defined.
Metered = Callable[[Values], Values]

# Probabilities are kept this far from 0 and 1 in log_loss: the epsilon of float64, as scikit-learn's log_loss does.
# A class that the model has never seen costs 36.04 a row.
EPSILON: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says of n_rows rows."""

    labels: Labels  # (n_rows,), classes or numbers
    probabilities: Values | None = None  # (n_rows, n_classes)
    classes: Labels | None = None  # (n_classes,), ascending, those of the columns of `probabilities`


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to measure predictions against the truth."""

    name: str
    greater_is_better: bool
    tasks: tuple[Task, ...]
    needs_probabilities: bool
    is_mean: bool  # a function of weighted means of per-row values, so that a row's share in it can be told
    # (target, answers, classes) -> the metric for any weights
    over: Callable[[Labels, Answers, Labels], Metered]


def answers(estimator: Any, packed: Any) -> Answers:
    """What a fitted estimator says of rows.

    Args:
        estimator: a classifier or regressor with one output.
        packed: n_rows rows in its container; see `worker.container.pack`.

    Raises:
        ModelUnusable: it has another number of answers than rows, several outputs, or answers that are not finite.
    """
    classes, n_rows = getattr(estimator, "classes_", None), len(packed)
    try:
        labels = as_array(estimator.predict(packed), n_rows)
        probabilities = None
        if classes is not None and hasattr(estimator, "predict_proba"):
            probabilities = np.asarray(as_array(estimator.predict_proba(packed), n_rows), np.float64)
    except WrongShape as error:
        raise ModelUnusable(f"The model cannot be compared: {error}.") from error
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise ModelUnusable(f"The model cannot be compared: it gave {labels.shape[1]} outputs where one is wanted.")
    for numbers in (labels if classes is None else None, probabilities):
        if numbers is not None and not np.isfinite(np.asarray(numbers, np.float64)).all():
            bad = np.flatnonzero(~np.isfinite(np.asarray(numbers, np.float64).reshape(n_rows, -1)).all(axis=1))
            raise ModelUnusable(
                f"The model cannot be compared: {len(bad)} of {n_rows} predictions are not finite, "
                f"the first for row {bad[0] + 1} of those that it was tried on."
            )
    return Answers(labels, probabilities, None if classes is None else np.asarray(classes))


def default_metric(task: Task, *, probabilities: bool = True) -> str:
    """The metric of a gate that names none: rmse; for a classifier log_loss, or accuracy without probabilities."""
    if task == "regression":
        return "rmse"
    return "log_loss" if probabilities else "accuracy"


def metric_named(name: str, task: Task, *, probabilities: bool = True) -> Metric:
    """The metric of a name, if it suits the task.

    Raises:
        InvalidRequest: `unknown_metric`: there is no such metric, or it does not apply; with those that do.
    """
    fit = [
        metric.name
        for metric in METRICS.values()
        if task in metric.tasks and (probabilities or not metric.needs_probabilities)
    ]
    if name in fit:
        return METRICS[name]
    why = "is for another task" if name in METRICS else "is no metric"
    if name in METRICS and task in METRICS[name].tasks:
        why = "needs predict_proba, which the model does not have"
    message = f"{name!r} {why}; for this model ({task}) there are {', '.join(fit)}."
    raise InvalidRequest(message, errors=[{"pointer": "/gate/metric", "code": "unknown_metric", "message": message}])


def metrics_of(
    task: Task, target: Labels, found: Answers, weights: Values | None = None, *, classes: Labels | None = None
) -> dict[str, float]:
    """Every metric that applies and is defined.

    Args:
        task: of the model.
        target: (n_rows,), the truth.
        found: the model's answers for the same rows.
        weights: (n_rows,), at least 0 and not all 0; None: all 1.
        classes: those of `union` over all models that are to be compared, so that f1 means the same for each; None:
            those of target and answers.
    """
    classes = union(target, found) if classes is None else classes
    rows = np.ones(len(target)) if weights is None else np.asarray(weights, np.float64)
    values = {
        metric.name: float(metric.over(target, found, classes)(rows[np.newaxis])[0])
        for metric in METRICS.values()
        if task in metric.tasks and not (metric.needs_probabilities and found.probabilities is None)
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def union(target: Labels, *found: Answers) -> Labels:
    """(n_classes,), ascending: the classes of the truth and of all models."""
    return np.unique(
        np.concatenate([target, *(part.labels if part.classes is None else part.classes for part in found)])
    )


def _means(columns: Values, weights: Values) -> Values:
    """(n_draws, n_columns) weighted means of the (n_rows, n_columns) values."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Not by BLAS, whose threads wait for each other on every draw when the machine is busy.
        means: Values = np.einsum("ij,jk->ik", weights, columns) / weights.sum(axis=1, keepdims=True)
    return means


def _errors(target: Labels, found: Answers) -> Values:
    return np.asarray(target, np.float64) - np.asarray(found.labels, np.float64)


def _rmse(target: Labels, found: Answers, _: Labels) -> Metered:
    squares = _errors(target, found)[:, np.newaxis] ** 2
    return lambda weights: np.sqrt(_means(squares, weights)[:, 0])


def _mae(target: Labels, found: Answers, _: Labels) -> Metered:
    sizes = np.abs(_errors(target, found))[:, np.newaxis]
    return lambda weights: _means(sizes, weights)[:, 0]


def _r2(target: Labels, found: Answers, _: Labels) -> Metered:
    truth = np.asarray(target, np.float64)
    centred = truth - truth.mean()  # or the variance would lose its digits to a large mean
    columns = np.column_stack([_errors(target, found) ** 2, centred, centred**2])

    def value(weights: Values) -> Values:
        error, mean, square = _means(columns, weights).T
        variance = square - mean**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(variance > 0, 1 - error / variance, np.nan))

    return value


def _accuracy(target: Labels, found: Answers, _: Labels) -> Metered:
    right = np.asarray(target == found.labels, np.float64)[:, np.newaxis]
    return lambda weights: _means(right, weights)[:, 0]


def _log_loss(target: Labels, found: Answers, classes: Labels) -> Metered:
    at = np.searchsorted(classes, target)
    given = _aligned(found, classes)[np.arange(len(target)), at]
    losses = -np.log(np.clip(given, EPSILON, 1 - EPSILON))[:, np.newaxis]
    return lambda weights: _means(losses, weights)[:, 0]


def _f1(target: Labels, found: Answers, classes: Labels) -> Metered:
    """F1 of classes[1] if there are two; else the mean over the classes that rows of the truth have."""
    k = len(classes)
    truth, said = np.searchsorted(classes, target), np.searchsorted(classes, found.labels)
    kinds, kind = np.unique(truth * k + said, return_inverse=True)  # few, however many rows there are

    def value(weights: Values) -> Values:
        sums = np.stack([np.bincount(kind, draw, len(kinds)) for draw in weights])
        cells = np.zeros((len(weights), k * k))
        cells[:, kinds] = sums
        confusion = cells.reshape(len(weights), k, k)
        hits, true, claimed = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = np.where(true + claimed > 0, 2 * hits / (true + claimed), 0.0)
            if k <= 2:
                return np.asarray(scores[:, -1])
            return np.asarray((scores * (true > 0)).sum(axis=1) / (true > 0).sum(axis=1))

    return value


def _roc_auc(target: Labels, found: Answers, classes: Labels) -> Metered:
    """Area under the curve of classes[1] if there are two; else the mean of each class against the rest.

    A class that no row of the truth has is left out of the mean; NaN if the truth has one class only.
    """
    truth, probabilities = np.searchsorted(classes, target), _aligned(found, classes)
    asked = [len(classes) - 1] if len(classes) <= 2 else np.unique(truth).tolist()
    areas = [_area(truth == number, probabilities[:, number]) for number in asked]

    def value(weights: Values) -> Values:
        each = np.stack([area(weights) for area in areas])
        defined = np.isfinite(each)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(defined, each, 0.0).sum(axis=0) / defined.sum(axis=0))

    return value


def _area(positive: npt.NDArray[np.bool_], scores: Values) -> Metered:
    """The share of pairs of a positive and a negative row that are in order, ties counting half (Mann and Whitney).

    J. A. Hanley, B. J. McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 143 (1982), 29-36.
    """
    levels, level = np.unique(scores[positive], return_inverse=True)
    n_levels = len(levels)
    # Rows that count alike share a slot: negatives below, at or between the levels, alternating, then the positives.
    slot = np.searchsorted(levels, scores, side="left") + np.searchsorted(levels, scores, side="right")
    slot[positive] = 2 * n_levels + 1 + level

    def value(weights: Values) -> Values:
        sums = np.stack([np.bincount(slot, draw, 3 * n_levels + 1) for draw in weights])
        negatives, positives = sums[:, : 2 * n_levels + 1], sums[:, 2 * n_levels + 1 :]
        below = np.cumsum(negatives, axis=1)
        pairs = positives.sum(axis=1) * below[:, -1]
        ordered = (positives * (below[:, :-1:2] + below[:, 1::2])).sum(axis=1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(pairs > 0, ordered / pairs, np.nan))

    return value


def _aligned(found: Answers, classes: Labels) -> Values:
    """(n_rows, n_classes) probabilities of all classes, 0 for those that the model does not know."""
    if found.probabilities is None or found.classes is None:
        raise ValueError("the metric needs probabilities")
    aligned = np.zeros((len(found.probabilities), len(classes)))
    aligned[:, np.searchsorted(classes, found.classes)] = found.probabilities
    return aligned


_CLASSES: Final[tuple[Task, ...]] = ("binary", "multiclass")
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("rmse", False, ("regression",), False, True, _rmse),
        Metric("mae", False, ("regression",), False, True, _mae),
        Metric("r2", True, ("regression",), False, True, _r2),
        Metric("log_loss", False, _CLASSES, True, True, _log_loss),
        Metric("accuracy", True, _CLASSES, False, True, _accuracy),
        Metric("f1", True, _CLASSES, False, False, _f1),
        Metric("roc_auc", True, _CLASSES, True, False, _roc_auc),
    )
}
