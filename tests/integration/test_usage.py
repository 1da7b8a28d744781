"""Bytes of a day, counted ahead of uploads that come in any order, at once, and break off."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.connection import Connections
from shared.errors import InvalidRequest, LimitReached
from shared.keys import Keys
from shared.limits import Limits
from shared.settings import Settings
from shared.store import JobStore
from shared.usage import LONGEST_WAIT_SECONDS, Portion, Usage, too_much_sent
from tests.processes import RedisServer

MOST = 1000
LIMITS = Limits(upload_bytes_per_day=MOST)


@pytest.fixture(scope="module")
def store() -> Iterator[JobStore]:
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    configured = Settings(data_dir=folder)
    server = RedisServer(configured)
    yield JobStore(Connections(configured.redis_address, timeout_seconds=5), configured)
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def usage(store: JobStore) -> Usage:
    store.connections.client.flushall()
    return Usage(store)


@dataclass
class Sending:
    """An upload under way: what was counted for it and what has come."""

    portion: Portion
    counted: int
    came: int


def count(usage: Usage, needed: int, wanted: int, owner: str = "a") -> Portion:
    return usage.count_upload(owner, LIMITS, needed_bytes=needed, wanted_bytes=wanted)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["begin", "go on", "end"]), st.integers(0, 5), st.integers(1, 300)), max_size=40
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_more_is_counted_than_the_day_has_and_in_the_end_what_came(
    usage: Usage, store: JobStore, steps: list[tuple[str, int, int]]
) -> None:
    store.connections.client.flushall()
    under_way: list[Sending] = []
    came = 0

    for step, index, size in steps:
        if step == "begin":
            portion = count(usage, 1, size)
            if portion.granted:
                under_way.append(Sending(portion, portion.size_bytes, 0))
        elif under_way and step == "go on":
            sending = under_way[index % len(under_way)]
            sending.came += min(size, sending.counted - sending.came)
        elif under_way:
            sending = under_way.pop(index % len(under_way))
            came += sending.came
            usage.give_back("a", LIMITS, sending.portion, sending.counted - sending.came)
        assert usage.of("a")["upload_bytes_per_day"] == came + sum(sending.counted for sending in under_way) <= MOST


def test_a_portion_is_as_large_as_what_is_left(usage: Usage) -> None:
    count(usage, 0, 900)

    portion = count(usage, 10, 500)

    assert (portion.granted, portion.size_bytes, portion.sent_bytes) == (True, 100, MOST)


def test_nothing_is_counted_of_what_has_no_room(usage: Usage) -> None:
    count(usage, 0, 900)

    portion = count(usage, 101, 50)

    assert (portion.granted, portion.size_bytes, portion.sent_bytes) == (False, 0, 900)


def test_what_did_not_come_yesterday_is_not_given_back_today(usage: Usage, store: JobStore) -> None:
    before = count(usage, 0, 500)
    store.connections.client.hincrby(Keys("foretell").sent("a"), "day", -1)
    yesterday = Portion(
        granted=True, size_bytes=500, sent_bytes=500, day=before.day - 1, left_seconds=before.left_seconds
    )
    count(usage, 0, 300)

    after = usage.give_back("a", LIMITS, yesterday, 200)

    assert after.sent_bytes == 300


def test_what_did_not_come_is_given_back_also_when_the_limit_was_lowered(usage: Usage) -> None:
    portion = count(usage, 0, 900)

    after = usage.give_back("a", Limits(upload_bytes_per_day=100), portion, 400)

    assert after.sent_bytes == 500


def test_storage_is_looked_at_before_anything_is_counted(usage: Usage, store: JobStore) -> None:
    store.connections.client.hset(Keys("foretell").usage("a"), "bytes", 50)
    limits = Limits(upload_bytes_per_day=MOST, stored_bytes=100)

    with pytest.raises(LimitReached) as refused:
        usage.count_upload("a", limits, needed_bytes=51, wanted_bytes=51, stored_bytes=51)

    assert refused.value.errors[0]["code"] == "stored_bytes"
    assert usage.of("a")["upload_bytes_per_day"] == 0


@pytest.mark.parametrize(("left_seconds", "retry_after"), [(1, 1), (60, 60), (40_000, LONGEST_WAIT_SECONDS)])
def test_a_refusal_says_when_the_day_ends_and_to_come_back_by_then(left_seconds: int, retry_after: int) -> None:
    portion = Portion(granted=False, size_bytes=0, sent_bytes=700, day=20_000, left_seconds=left_seconds)

    error = too_much_sent(portion, MOST, LIMITS)

    assert isinstance(error, LimitReached)
    assert error.retry_after_seconds == retry_after
    assert "700 of the 1000 bytes" in error.message
    assert "2024-10-05 00:00 UTC" in error.message


def test_what_is_larger_than_any_day_is_not_told_to_come_back() -> None:
    portion = Portion(granted=False, size_bytes=0, sent_bytes=700, day=20_000, left_seconds=60)

    error = too_much_sent(portion, MOST + 1, LIMITS)

    assert isinstance(error, InvalidRequest)
    assert "FORETELL_OWNER_UPLOAD_BYTES_PER_DAY" in error.message
