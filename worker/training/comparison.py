"""How much better a challenger is than the champion on the same held-out rows, and how sure that is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from shared.errors import InvalidRequest
from worker.training.metrics import Answers, Labels, Metric, Values, metric_named, union
from worker.training.split import group_codes
from worker.training.task import Task

_BLOCK_VALUES: Final = 100_000  # weights at a time, so that they stay in the processor's cache; at least one draw
# Fewer draws than this part with a defined metric say too little about its spread.
_LEAST_DEFINED: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A challenger beside the champion."""

    metric: str
    champion: float  # the metric of the champion
    challenger: float
    improvement: float  # in the metric's unit, above 0 if the challenger is better
    low: float  # the ends of the interval of the improvement
    high: float
    confidence: float
    resamples: int
    rows: int


def compare(
    metric: str,
    task: Task,
    target: Labels,
    champion: Answers,
    challenger: Answers,
    weights: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: npt.NDArray[Any] | None = None,
) -> Comparison:
    """Compare two models by a paired bootstrap of the difference over the same rows.

    Rows are drawn with replacement, the same ones for both models: B. Efron, R. J. Tibshirani, An Introduction to the
    Bootstrap (1993), chapter 16; percentile interval, chapter 13. Groups are drawn as wholes. The percentiles are moved
    outwards as T. C. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015)
    does in the expanded percentile interval, since without that it is too narrow for few rows; for many it is the same.

    Args:
        metric: a name in `metrics.METRICS`.
        task: of the champion.
        target: (n_rows,), the truth.
        champion: its answers for the rows.
        challenger: its answers for the same rows.
        weights: (n_rows,), at least 0 and not all 0; None: all 1.
        resamples: draws, at least 1.
        confidence: of the interval, between 0 and 1.
        seed: of the draws; the same seed gives the same interval.
        groups: (n_rows,), rows with equal values belong together.

    Raises:
        InvalidRequest: the metric does not apply (`unknown_metric`), or is not defined on these rows
            (`metric_undefined`), as roc_auc if all are of one class; or there is one row or group (`too_few_rows`).
    """
    probabilities = champion.probabilities is not None and challenger.probabilities is not None
    chosen = metric_named(metric, task, probabilities=probabilities)
    classes = target[:0] if task == "regression" else union(target, champion, challenger)
    rows = np.ones(len(target)) if weights is None else np.asarray(weights, np.float64)
    units = None if groups is None else group_codes(groups)
    n_units = len(target) if units is None else int(units.max(initial=-1)) + 1
    if n_units < 2:
        raise _incomparable("too_few_rows", "One held-out row or group is too few to compare on; hold out more.")
    metered = [chosen.over(target, part, classes) for part in (champion, challenger)]
    old, new = (float(one(rows[np.newaxis])[0]) for one in metered)
    if not (np.isfinite(old) and np.isfinite(new)):
        raise _undefined(metric)
    sign = 1.0 if chosen.greater_is_better else -1.0
    if _same(champion, challenger, chosen):
        low = high = 0.0
    else:
        drawn = _draws(rows, units, n_units, resamples, seed)
        differences = np.concatenate([metered[1](block) - metered[0](block) for block in drawn])
        differences = sign * differences[np.isfinite(differences)]
        if len(differences) < _LEAST_DEFINED * resamples:
            raise _undefined(metric)
        low, high = np.quantile(differences, _levels(confidence, n_units)).tolist()
    return Comparison(
        metric=metric,
        champion=old,
        challenger=new,
        improvement=sign * (new - old) + 0.0,
        low=low,
        high=high,
        confidence=confidence,
        resamples=resamples,
        rows=len(target),
    )


def _levels(confidence: float, n_units: int) -> list[float]:
    """The two percentiles, as fractions."""
    tail = (1 - confidence) / 2
    moved = float(ndtr(np.sqrt(n_units / (n_units - 1)) * stdtrit(n_units - 1, tail)))
    return [moved, 1 - moved]


def _draws(
    rows: Values, units: npt.NDArray[np.int64] | None, n_units: int, resamples: int, seed: int
) -> Iterator[Values]:
    """The rows' weights in each resample, as blocks (n_draws, n_rows) of bounded size."""
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_VALUES // len(rows))
    for start in range(0, resamples, block):
        weights = np.empty((min(block, resamples - start), len(rows)))
        for draw in weights:
            times = np.bincount(generator.integers(0, n_units, n_units, dtype=np.int32), minlength=n_units)
            np.multiply(times if units is None else times[units], rows, out=draw)
        yield weights


def _same(champion: Answers, challenger: Answers, metric: Metric) -> bool:
    """Whether both answer alike in all that the metric looks at."""
    seen = [
        (found.classes, found.probabilities) if metric.needs_probabilities else (found.labels,)
        for found in (champion, challenger)
    ]
    return all(np.array_equal(old, new) for old, new in zip(*seen, strict=True))


def _undefined(metric: str) -> InvalidRequest:
    return _incomparable(
        "metric_undefined",
        f"{metric} is not defined on the held-out rows: they have too few values or classes of the target; "
        "hold out more rows, or choose another metric.",
    )


def _incomparable(code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": "/gate/metric", "code": code, "message": message}])
