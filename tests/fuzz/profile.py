"""How many examples a property is tried with: a few, the same ones every time; or with FUZZ_TIMES many, random ones."""

import os
from collections.abc import Callable
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings

Test = TypeVar("Test", bound=Callable[..., object])
# So many times as many examples, drawn at random; unset or 0: few, and always the same.
TIMES: Final = "FUZZ_TIMES"
# Slow examples are what is looked for, and a fixture that lasts for a whole test holds nothing of an example.
ALLOWED: Final = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


def times() -> int:
    """How many times as many examples are wanted; 0 for the few that are always the same."""
    return int(os.environ.get(TIMES) or 0)


def examples(count: int) -> Callable[[Test], Test]:
    """Try a property with so many examples, none of them against a clock; a failure is kept only of random ones."""
    if not times():
        return settings(
            max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=ALLOWED
        )
    return settings(max_examples=count * times(), deadline=None, suppress_health_check=ALLOWED, print_blob=True)
