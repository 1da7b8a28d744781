"""A job's statuses, identifiers and counts."""

import itertools
import re
import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.job import DONE, PRIORITY_SECONDS, TRANSITIONS, Counts, Status, from_millis, new_job_id
from shared.script import LUA
from tests.wait import until

LEGAL = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "failed"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "partially_succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
}
PAIRS = [pytest.param(before, after, id=f"{before}-{after}") for before, after in itertools.product(Status, Status)]


def lua_transitions() -> set[tuple[str, str]]:
    """The pairs of the table `legal` in the prelude of the Lua scripts."""
    (table,) = re.findall(r"^local legal = \{\n(.*?)^\}", (LUA / "prelude.lua").read_text(), re.MULTILINE | re.DOTALL)
    return {
        (before, after)
        for before, row in re.findall(r"(\w+) = \{([^}]*)\}", table)
        for after in re.findall(r"(\w+) = true", row)
    }


def test_the_scripts_know_the_same_transitions() -> None:
    ours = {(before.value, after.value) for before, afters in TRANSITIONS.items() for after in afters}

    theirs = lua_transitions()

    assert theirs == ours


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_status_may_follow_another_only_if_the_table_says_so(before: Status, after: Status) -> None:
    allowed = after in TRANSITIONS[before]

    assert allowed == ((before.value, after.value) in LEGAL)


def test_exactly_the_statuses_without_a_successor_are_final() -> None:
    ends = {status for status in Status if not TRANSITIONS[status]}

    assert ends == DONE


def test_every_status_can_be_reached_from_queued() -> None:
    reached = {Status.QUEUED}

    for _ in Status:
        reached |= {after for before in reached for after in TRANSITIONS[before]}

    assert reached == set(Status)


def test_an_id_is_a_uuid_of_version_7_and_the_rfc_variant() -> None:
    ids = [uuid.UUID(new_job_id()) for _ in range(1000)]

    assert {identifier.version for identifier in ids} == {7}
    assert {identifier.variant for identifier in ids} == {uuid.RFC_4122}


def test_an_id_is_written_as_rfc_9562_writes_it() -> None:
    identifier = new_job_id()

    assert identifier == str(uuid.UUID(identifier))


def test_an_id_begins_with_the_milliseconds_since_1970() -> None:
    before = time.time_ns() // 1_000_000

    millis = uuid.UUID(new_job_id()).int >> 80

    assert before <= millis <= time.time_ns() // 1_000_000


def test_an_id_of_a_later_millisecond_sorts_after_an_earlier_one() -> None:
    earlier = new_job_id()
    millis = uuid.UUID(earlier).int >> 80
    until(lambda: time.time_ns() // 1_000_000 > millis, what="the next millisecond")

    later = new_job_id()

    assert earlier < later


def test_ids_of_one_moment_differ() -> None:
    ids = [new_job_id() for _ in range(10_000)]

    assert len(set(ids)) == 10_000


def test_every_random_bit_of_an_id_is_used() -> None:
    ids = [uuid.UUID(new_job_id()).int for _ in range(200)]
    random_bits = (1 << 76) - 1 & ~(0x3 << 62)

    sometimes_set = sometimes_clear = 0
    for identifier in ids:
        sometimes_set |= identifier
        sometimes_clear |= ~identifier

    assert sometimes_set & sometimes_clear & random_bits == random_bits


@given(parts=st.tuples(*[st.integers(0, 10_000)] * 4))
def test_counts_add_up(parts: tuple[int, int, int, int]) -> None:
    pending, succeeded, failed, skipped = parts

    counts = Counts(total=sum(parts), succeeded=succeeded, failed=failed, skipped=skipped)

    assert counts.pending == pending


def test_a_high_job_gets_a_head_start_and_a_low_one_a_handicap() -> None:
    assert PRIORITY_SECONDS["high"] < PRIORITY_SECONDS["normal"] == 0 < PRIORITY_SECONDS["low"]


@given(moment=st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_milliseconds_of_the_store_become_an_aware_utc_time(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    millis = round(moment.timestamp() * 1000)

    read = from_millis(str(millis).encode())

    assert read == moment
    assert read.tzinfo is UTC


@pytest.mark.parametrize("nothing", [pytest.param(None, id="absent"), pytest.param(b"", id="empty")])
def test_a_time_that_was_never_written_is_none(nothing: bytes | None) -> None:
    assert from_millis(nothing) is None
