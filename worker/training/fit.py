"""One fit: a candidate on the rows of its fold, or at last the best one on all rows that are not held out."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl

from shared.errors import InvalidRequest, ServiceError, TrainingFailed
from shared.records import BatchUnit
from shared.signature import Signature
from shared.storage import Storage
from shared.training import TrainOptions
from worker.training.metrics import Answers, answers, metrics_of
from worker.training.recipe import untrained
from worker.training.rows import loaded
from worker.training.sides import Side, TrainingSet
from worker.training.split import folds
from worker.training.weights import weight_parameter

LONGEST_REASON = 300
MOST_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted estimator, and what it warned of meanwhile."""

    estimator: Any
    warnings: tuple[str, ...]


class FitRunner:
    """Runs the fits of one worker process."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: tuple[str, TrainingSet] | None = None

    def rows(self, unit: BatchUnit, signature: Signature) -> TrainingSet:
        """The rows that the plan has put into storage; they are kept for the next fit, but not past the final unit.

        Raises:
            StorageFailed
        """
        key, options = unit.training["key"], unit.spec.train
        assert options is not None  # noqa: S101  # the unit is of a train job
        kept, self._kept = self._kept, None
        if kept is None or kept[0] != key:
            table, held_out = loaded(self._storage.get(key))
            kept = (key, TrainingSet.of(table, held_out, options, signature.features))
        if unit.kind != "final":
            self._kept = kept
        return kept[1]

    def run(self, unit: BatchUnit, estimator: Any, signature: Signature) -> dict[str, Any]:
        """Fit a candidate on all folds but one and measure it on that one.

        Returns:
            {"score": the metric, or None with "error" if it could not be fitted, "warnings"}

        Raises:
            StorageFailed
        """
        options, about = unit.spec.train, unit.training
        assert options is not None  # noqa: S101  # the unit is of a train job
        candidate, fold = map(int, unit.fit.split(" "))
        rows = self.rows(unit, signature).train
        train, test = self._folds(options, about, rows)[fold]
        try:
            fitted = fit(untrained(estimator, about["candidates"][candidate]), rows.take(train), signature, threads=1)
            measured = measure(fitted.estimator, rows.take(test), signature, about["task"])
        except (TrainingFailed, InvalidRequest) as error:
            return {"score": None, "error": error.message, "warnings": []}
        score = measured.get(about["metric"])
        if score is None:
            return {"score": None, "error": f"{about['metric']} is not defined on fold {fold + 1}", "warnings": []}
        return {"score": score, "warnings": list(fitted.warnings)}

    def _folds(self, options: TrainOptions, about: Mapping[str, Any], rows: Side) -> list[Any]:
        return folds(
            rows.target, about["folds"], task=about["task"], group_values=rows.groups, time_values=rows.times,
            seed=options.recipe.seed,
        )  # fmt: skip


def fit(estimator: Any, rows: Side, signature: Signature, *, threads: int | None = None) -> Fitted:
    """Fit an estimator.

    Args:
        estimator: not fitted yet.
        rows: to be trained on.
        signature: of the version that it is a clone of: how it takes rows.
        threads: that linear algebra and OpenMP may use; None: one for each core.

    Raises:
        InvalidRequest: it takes no weights.
        TrainingFailed: it raised.
    """
    weights = {} if rows.weights is None else {weight_parameter(estimator): rows.weights}
    with warnings.catch_warnings(record=True) as caught, threadpoolctl.threadpool_limits(threads or os.cpu_count()):
        warnings.simplefilter("always")
        try:
            estimator.fit(rows.packed(signature), rows.target, **weights)
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            raise TrainingFailed(f"The fit raised {type(error).__name__}: {reason}") from error
    told = dict.fromkeys(" ".join(str(one.message).split())[:LONGEST_REASON] for one in caught)
    return Fitted(estimator, tuple(told)[:MOST_WARNINGS])


def measure(estimator: Any, rows: Side, signature: Signature, task: Any) -> dict[str, float]:
    """Every metric that applies, over rows that the estimator has not seen.

    Raises:
        TrainingFailed: it cannot predict them.
    """
    return metrics_of(task, rows.target, told(estimator, rows, signature, "The model"), rows.weights)


def told(estimator: Any, rows: Side, signature: Signature, who: str) -> Answers:
    """What a fitted estimator says of rows.

    Raises:
        TrainingFailed: it cannot predict them; `who` it is begins the message.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return answers(estimator, rows.packed(signature))
        except Exception as error:
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            if not isinstance(error, ServiceError):
                reason = f"{type(error).__name__}: {reason}"
            raise TrainingFailed(f"{who} cannot predict the rows that it is measured on: {reason}") from error


def means_of(scores: Mapping[int, list[float | None]]) -> dict[int, float]:
    """The mean over its folds of each candidate that failed in none."""
    return {
        number: float(np.mean([score for score in each if score is not None]))
        for number, each in sorted(scores.items())
        if each and all(score is not None for score in each)
    }


def best(scores: Mapping[int, list[float | None]], *, greater_is_better: bool) -> int | None:
    """The candidate with the best mean over its folds, the first of equal ones; None if each failed in some fold."""
    means = means_of(scores)
    if not means:
        return None
    sign = -1.0 if greater_is_better else 1.0
    return min(means, key=lambda number: (sign * means[number], number))
