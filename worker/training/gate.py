"""The gate that a challenger must pass before it may take the champion's place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from worker.training.comparison import Comparison
from worker.training.metrics import METRICS

_DIGITS: Final = 2  # of the largest difference that a reason tells
_MOST_DECIMALS: Final = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the gate opened, and why, for a person."""

    passed: bool
    reason: str


def judge(comparison: Comparison, *, min_improvement: float = 0.0, max_regression: float = 0.0) -> Verdict:
    """Whether a challenger may take the champion's place.

    It may if it is better by at least `min_improvement`, and its interval lies above -`max_regression`. With the
    defaults a tie is refused, and so is an improvement whose interval reaches 0, which may be luck.

    Args:
        comparison: with the champion.
        min_improvement: in the metric's unit; below 0 a challenger that is a little worse passes.
        max_regression: in the metric's unit, at least 0; how much worse it may be at the low end of the interval.
    """
    story = _story(comparison)
    if not comparison.improvement >= min_improvement:
        return Verdict(False, f"{story}; refused, since at least {min_improvement:g} is wanted")
    if not comparison.low > -max_regression:
        bound = "0, so the difference may be luck" if max_regression == 0 else f"{-max_regression:g} or less"
        return Verdict(False, f"{story}; refused, since the interval reaches {bound}")
    return Verdict(True, story)


def judge_first(metrics: Mapping[str, float], metric: str, threshold: float | None) -> Verdict:
    """Whether a first version, which has no champion, may go into production.

    Args:
        metrics: on the held-out rows.
        metric: a name in `metrics.METRICS`.
        threshold: that the metric must reach: at least, or at most if less is better; None: anything passes.
    """
    if threshold is None:
        return Verdict(True, "no champion, no threshold")
    bound = "at least" if METRICS[metric].greater_is_better else "at most"
    value = metrics.get(metric)
    if value is None:
        return Verdict(False, f"no champion; {metric} is not defined on the held-out rows, so the threshold is missed")
    passed = value >= threshold if METRICS[metric].greater_is_better else value <= threshold
    verb = "reaches" if passed else "refused, since it misses"
    return Verdict(passed, f"no champion; {metric} {value:.6g} {verb} the threshold of {bound} {threshold:g}")


def _story(comparison: Comparison) -> str:
    """Such as: rmse 54.1 -> 52.3: better by 1.8 (95 % interval 0.4 to 3.2)."""
    differences = [abs(value) for value in (comparison.improvement, comparison.low, comparison.high)]
    largest = max((value for value in differences if 0 < value < math.inf), default=0.0)
    decimals = min(max(_DIGITS - 1 - math.floor(math.log10(largest)), 0), _MOST_DECIMALS) if largest else _DIGITS

    def shown(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}"

    word = "no difference"
    if comparison.improvement != 0:
        word = f"{'better' if comparison.improvement > 0 else 'worse'} by {shown(abs(comparison.improvement))}"
    return (
        f"{comparison.metric} {shown(comparison.champion)} -> {shown(comparison.challenger)}: {word} "
        f"({comparison.confidence * 100:g} % interval {shown(comparison.low)} to {shown(comparison.high)})"
    )
