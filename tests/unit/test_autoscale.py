"""How many processes are wanted: enough to keep up and to catch up in time, no more, and not let go in haste."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.autoscale import MOST_LATE, Load, Policy, Reading, arriving, cost_seconds, needed, wanted
from shared.queue import BATCH, ONLINE, TRAIN

POLICY = Policy(target_seconds=30, hold_seconds=300, min_processes=1, max_processes=64)
NOW = Reading(at=1000, accepted=10_000, ended=10_000, busy_seconds=1_000)
IDLE = Load(queue=ONLINE, now=NOW)


def before(seconds: float, *, accepted: int = 0, ended: int = 0, busy: float = 0.0, needed: float = 0.0) -> Reading:
    """A reading that was taken before so much happened."""
    return Reading(
        at=NOW.at - seconds,
        accepted=NOW.accepted - accepted,
        ended=NOW.ended - ended,
        busy_seconds=NOW.busy_seconds - busy,
        needed=needed,
    )


def test_an_idle_queue_wants_the_least() -> None:
    steady = [before(10 * number) for number in range(1, 60)]

    assert wanted(IDLE, steady, POLICY) == 1
    assert wanted(IDLE, steady, replace(POLICY, min_processes=0)) == 0
    assert wanted(IDLE, [], POLICY) == 1


def test_what_comes_is_kept_up_with_and_room_is_left() -> None:
    # 4 jobs a second of half a second each keep 2 processes busy; they are to be so for 80 % of the time.
    steady = [before(10 * n, accepted=40 * n, ended=40 * n, busy=20 * n) for n in range(1, 7)]

    assert arriving(IDLE, steady) == pytest.approx(4)
    assert cost_seconds(IDLE, steady) == pytest.approx(0.5)
    assert needed(IDLE, steady, POLICY) == pytest.approx(2.5)
    assert wanted(IDLE, steady, POLICY) == 3


def test_what_waits_is_worked_off_within_the_target() -> None:
    load = replace(IDLE, waiting_seconds=300.0, pieces=1000)

    assert needed(load, [], POLICY) == pytest.approx(10)
    assert needed(load, [], replace(POLICY, target_seconds=60)) == pytest.approx(5)


def test_a_file_of_a_few_slices_wants_no_more_processes_than_slices() -> None:
    assert wanted(Load(queue=BATCH, now=NOW, waiting_seconds=3600, pieces=3), [], POLICY) == 3


def test_a_job_whose_pace_is_not_known_counts_what_others_took() -> None:
    load = Load(queue=BATCH, now=NOW, unmeasured=6, pieces=6)

    assert needed(load, [before(300, ended=2, busy=100)], POLICY) == pytest.approx(6)  # at most
    assert needed(load, [before(300, ended=20, busy=100)], POLICY) == pytest.approx(1)
    assert needed(load, [], POLICY) > 0


def test_what_has_waited_for_longer_than_the_target_counts_more() -> None:
    load = replace(IDLE, waiting_seconds=30.0, pieces=1000)

    assert needed(replace(load, oldest_seconds=20), [], POLICY) == pytest.approx(1)
    assert needed(replace(load, oldest_seconds=60), [], POLICY) == pytest.approx(2)
    assert needed(replace(load, oldest_seconds=9_999), [], POLICY) == pytest.approx(MOST_LATE)


def test_a_process_that_is_at_a_long_unit_is_not_wanted_away() -> None:
    assert wanted(Load(queue=TRAIN, now=NOW, long_units=3), [], replace(POLICY, min_processes=0)) == 3


def test_the_cost_is_that_of_the_newest_work_that_is_enough_to_tell() -> None:
    # Micro-batches have grown: a job costs a tenth of what it did.
    readings = [before(20, ended=100, busy=10), before(300, ended=200, busy=110)]

    assert cost_seconds(IDLE, readings) == pytest.approx(0.1)
    assert cost_seconds(IDLE, [before(20, ended=1, busy=0.1), before(300, ended=11, busy=11)]) == pytest.approx(1)


def test_counters_that_began_anew_are_no_pace() -> None:
    later = [replace(before(10), accepted=99_999, ended=99_999, busy_seconds=99_999.0)]

    assert (arriving(IDLE, later), cost_seconds(IDLE, later)) == (0, None)


def test_processes_are_let_go_when_they_were_not_wanted_for_as_long_as_is_held() -> None:
    history = [before(10 * number, needed=7.5 if number == 20 else 0) for number in range(1, 60)]

    assert wanted(IDLE, history, POLICY) == 8
    assert wanted(IDLE, history, replace(POLICY, hold_seconds=199)) == 1
    assert wanted(IDLE, history, replace(POLICY, max_processes=5)) == 5


def test_one_that_is_hardly_needed_is_not_wanted_but_whatever_waits_has_one() -> None:
    assert wanted(replace(IDLE, long_units=2, waiting_seconds=0.3, pieces=1), [], POLICY) == 2
    waits = replace(IDLE, waiting_seconds=0.001, pieces=1)
    assert wanted(waits, [], replace(POLICY, min_processes=0)) == 1


@given(
    waiting=st.floats(0, 1e9),
    unmeasured=st.integers(0, 10**6),
    pieces=st.integers(0, 10**6),
    oldest=st.floats(0, 1e9),
    history=st.lists(
        st.tuples(st.floats(0, 2000), st.integers(0, 20_000), st.floats(0, 2_000), st.floats(0, 100)), max_size=8
    ),
)
def test_it_is_always_between_the_least_and_the_most(
    waiting: float, unmeasured: int, pieces: int, oldest: float, history: Sequence[tuple[float, int, float, float]]
) -> None:
    load = Load(
        queue=ONLINE, now=NOW, waiting_seconds=waiting, unmeasured=unmeasured, pieces=pieces, oldest_seconds=oldest
    )
    readings = [
        Reading(at=at, accepted=jobs, ended=jobs, busy_seconds=busy, needed=before)
        for at, jobs, busy, before in history
    ]

    assert 1 <= wanted(load, readings, POLICY) <= 64
