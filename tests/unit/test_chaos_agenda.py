"""What is injected when in the chaos suite."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.agenda import agenda

KINDS = {"kill": (0.0, 0.0), "stall": (1.0, 5.0), "fill": (2.0, 3.0)}


def test_a_seed_is_an_agenda() -> None:
    once, again = (agenda(7, 60, KINDS, every_seconds=2) for _ in range(2))

    assert once == again
    assert once != agenda(8, 60, KINDS, every_seconds=2)


@pytest.mark.parametrize("seed", range(5))
def test_no_kind_comes_much_more_often_than_another(seed: int) -> None:
    times = Counter(item.kind for item in agenda(seed, 100, KINDS, every_seconds=2))

    assert set(times) == set(KINDS)
    assert max(times.values()) - min(times.values()) <= 1


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_every_kind_comes_however_short_the_time_is(seconds: float) -> None:
    assert {item.kind for item in agenda(1, seconds, KINDS, every_seconds=2)} == set(KINDS)


def test_a_fault_lasts_as_its_kind_does() -> None:
    for item in agenda(1, 100, KINDS, every_seconds=2):
        shortest, longest = KINDS[item.kind]
        assert shortest <= item.lasts_seconds <= longest


def test_faults_come_in_order_and_one_after_the_other() -> None:
    begins = [item.at_seconds for item in agenda(1, 100, KINDS, every_seconds=2)]

    assert begins[0] == 0
    assert all(1 <= later - earlier <= 3 for earlier, later in pairwise(begins))
