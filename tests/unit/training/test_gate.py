"""The gate opens for a challenger that is surely better, and says in numbers why it did or did not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.training.comparison import Comparison
from worker.training.gate import judge, judge_first

BETTER = Comparison(
    metric="rmse",
    champion=54.12,
    challenger=52.31,
    improvement=1.81,
    low=0.41,
    high=3.24,
    confidence=0.95,
    resamples=2000,
    rows=100,
)
numbers = st.floats(-1e6, 1e6)


def test_a_better_challenger_passes_and_the_reason_has_the_numbers() -> None:
    verdict = judge(BETTER)

    assert verdict.passed
    assert verdict.reason == "rmse 54.1 -> 52.3: better by 1.8 (95 % interval 0.4 to 3.2)"


@pytest.mark.parametrize(
    ("comparison", "options", "end"),
    [
        pytest.param(
            replace(BETTER, low=-0.3),
            {},
            "refused, since the interval reaches 0, so the difference may be luck",
            id="maybe-luck",
        ),
        pytest.param(
            replace(BETTER, low=0.0), {}, "the interval reaches 0, so the difference may be luck", id="touches-zero"
        ),
        pytest.param(
            replace(BETTER, improvement=0.0, low=0.0, high=0.0),
            {},
            "the interval reaches 0, so the difference may be luck",
            id="tie",
        ),
        pytest.param(
            replace(BETTER, improvement=-1.8, low=-3.0, high=-0.5),
            {},
            "refused, since at least 0 is wanted",
            id="worse",
        ),
        pytest.param(BETTER, {"min_improvement": 2.0}, "refused, since at least 2 is wanted", id="too-small"),
        pytest.param(
            replace(BETTER, improvement=-0.1, low=-0.9),
            {"min_improvement": -0.5, "max_regression": 0.5},
            "refused, since the interval reaches -0.5 or less",
            id="may-be-much-worse",
        ),
        pytest.param(replace(BETTER, improvement=float("nan")), {}, "at least 0 is wanted", id="no-number"),
    ],
)
def test_a_challenger_that_is_not_surely_better_is_refused(
    comparison: Comparison, options: dict[str, float], end: str
) -> None:
    verdict = judge(comparison, **options)

    assert not verdict.passed
    assert verdict.reason.endswith(end)


@pytest.mark.parametrize(
    ("comparison", "story"),
    [
        pytest.param(
            replace(BETTER, improvement=-1.81, low=-3.24, high=-0.41),
            "rmse 54.1 -> 52.3: worse by 1.8 (95 % interval -3.2 to -0.4)",
            id="worse",
        ),
        pytest.param(
            replace(
                BETTER, metric="r2", champion=0.99912, challenger=0.99934, improvement=2.2e-4, low=1e-4, high=3.1e-4
            ),
            "r2 0.99912 -> 0.99934: better by 0.00022 (95 % interval 0.00010 to 0.00031)",
            id="small-differences-show",
        ),
        pytest.param(
            replace(BETTER, challenger=54.12, improvement=0.0, low=0.0, high=0.0),
            "rmse 54.12 -> 54.12: no difference (95 % interval 0.00 to 0.00)",
            id="no-difference",
        ),
        pytest.param(
            replace(BETTER, champion=54321.0, challenger=52000.0, improvement=2321.0, low=900.0, high=4000.0),
            "rmse 54321 -> 52000: better by 2321 (95 % interval 900 to 4000)",
            id="large-numbers",
        ),
    ],
)
def test_the_reason_shows_as_many_digits_as_the_difference_needs(comparison: Comparison, story: str) -> None:
    assert judge(comparison).reason.startswith(story)


@given(improvement=numbers, low=numbers, min_improvement=numbers, max_regression=st.floats(0, 1e6))
def test_the_gate_opens_exactly_when_both_bounds_are_kept(
    improvement: float, low: float, min_improvement: float, max_regression: float
) -> None:
    comparison = replace(BETTER, improvement=improvement, low=low)

    verdict = judge(comparison, min_improvement=min_improvement, max_regression=max_regression)

    assert verdict.passed == (improvement >= min_improvement and low > -max_regression)


@given(improvement=numbers, low=numbers, wanted=st.tuples(numbers, numbers))
def test_wanting_more_never_opens_the_gate(improvement: float, low: float, wanted: tuple[float, float]) -> None:
    comparison = replace(BETTER, improvement=improvement, low=low)

    less, more = (judge(comparison, min_improvement=one).passed for one in sorted(wanted))

    assert less or not more


@pytest.mark.parametrize(
    ("metric", "value", "threshold", "passed", "reason"),
    [
        pytest.param("rmse", 54.0, 60.0, True, "rmse 54 reaches the threshold of at most 60", id="error-below"),
        pytest.param("rmse", 60.0, 60.0, True, "reaches", id="error-equal"),
        pytest.param("rmse", 61.0, 60.0, False, "misses the threshold of at most 60", id="error-above"),
        pytest.param("accuracy", 0.95, 0.9, True, "reaches the threshold of at least 0.9", id="accuracy-above"),
        pytest.param("accuracy", 0.85, 0.9, False, "misses the threshold of at least 0.9", id="accuracy-below"),
        pytest.param("rmse", 54.0, None, True, "no champion, no threshold", id="no-threshold"),
        pytest.param("accuracy", float("nan"), 0.9, False, "misses", id="no-number"),
    ],
)
def test_a_first_version_has_a_threshold_of_its_own(
    metric: str, value: float, threshold: float | None, passed: bool, reason: str
) -> None:
    verdict = judge_first({metric: value}, metric, threshold)

    assert verdict.passed == passed
    assert reason in verdict.reason


def test_a_metric_that_is_not_defined_misses_any_threshold() -> None:
    verdict = judge_first({}, "roc_auc", 0.5)

    assert not verdict.passed
    assert "roc_auc is not defined on the held-out rows" in verdict.reason
