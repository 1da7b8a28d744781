"""What the job store makes of a job and of Redis's answers, without Redis."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.connection import Connections
from shared.errors import IdempotencyKeyReused, QueueFull, StoreFull
from shared.job import Spec
from shared.records import AliasMoved, Submission, dump_spec, load_spec
from shared.settings import Settings
from shared.store import JobStore

SPECS = st.builds(
    Spec,
    requested=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    model=st.just("m"),
    version=st.integers(1, 2**31),
    sha256=st.just("ab"),
    method=st.sampled_from(["predict", "transform"]),
    top_k=st.none() | st.integers(1, 1000),
    priority=st.sampled_from(["high", "normal", "low"]),
    request_id=st.text(st.characters(exclude_categories=["Cs"])),
    traceparent=st.none() | st.just("00-x-y-01"),
    retry_of=st.none() | st.just("j0"),
    retry_rows=st.none() | st.lists(st.integers(1, 10_000), min_size=1).map(tuple),
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63) | st.none()
    ),
)


@given(SPECS)
def test_a_spec_survives_being_stored(spec: Spec) -> None:
    assert load_spec(dump_spec(spec)) == spec


def submit(reply: list[Any]) -> Any:
    """Submit to a Redis that answers so."""
    connections = cast(Connections, SimpleNamespace(script=lambda *_: reply))
    spec = Spec(requested="m", model="m", version=1, sha256="ab", method="predict")
    job = Submission(id="j1", spec=spec, rows=b"[[1]]", total=1, alias=None, queue="online", ttl_seconds=60)
    return JobStore(connections, Settings()).submit(job)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param([b"reused"], IdempotencyKeyReused, id="reused"),
        pytest.param([b"moved"], AliasMoved, id="moved"),
        pytest.param([b"full", b"memory"], StoreFull, id="short-of-memory"),
        pytest.param([b"full", b"disk"], StoreFull, id="short-of-disk"),
        pytest.param([b"queue_full", 10_000, b""], QueueFull, id="queue-full"),
    ],
)
def test_a_refusal_of_the_script_is_an_error_of_its_own(reply: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        submit(reply)


def test_an_accepted_job_tells_when_it_came_and_where_it_stands() -> None:
    accepted = submit([b"accepted", b"1769860800123", 1, 7])

    assert (accepted.id, accepted.created, accepted.ring, accepted.queue_position) == ("j1", True, True, 7)
    assert accepted.created_at.isoformat() == "2026-01-31T12:00:00.123000+00:00"


def test_a_repeated_key_gives_the_first_job_and_rings_nobody() -> None:
    accepted = submit([b"same", b"j0"])

    assert (accepted.id, accepted.created, accepted.ring) == ("j0", False, False)


@given(waiting=st.integers(0, 10**9), rate=st.sampled_from([b"", b"0.000", b"0.001", b"3.5", b"100000.000"]))
def test_a_full_lane_says_to_come_back_within_two_minutes(waiting: int, rate: bytes) -> None:
    with pytest.raises(QueueFull) as caught:
        submit([b"queue_full", waiting, rate])

    assert 1 <= caught.value.retry_after_seconds <= 120


@pytest.mark.parametrize(
    "created_after",
    [
        pytest.param("1969-12-31T23:59:59Z", id="before-1970"),
        pytest.param("0001-01-01T00:00:00+14:00", id="before-the-calendar"),
        pytest.param("2026-01-31T12:00:00Z", id="now"),
    ],
)
def test_the_oldest_entry_of_a_page_is_one_that_a_stream_can_have(created_after: str) -> None:
    sent: list[Any] = []

    def script(_: Any, __: str, *arguments: Any) -> list[Any]:
        sent.extend(arguments)
        return [b""]

    store = JobStore(cast(Connections, SimpleNamespace(script=script)), Settings())
    store.page(limit=10, created_after=datetime.fromisoformat(created_after))

    oldest = sent[4]
    assert oldest == "" or oldest >= 0
