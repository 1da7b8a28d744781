"""What clients send of stored things, on a real Redis: cursors, filters, ids and keys of any characters."""

from datetime import UTC, timedelta
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api_keys import ApiKeys, Scope, Wish
from shared.errors import JobNotFound
from shared.job import Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.records import Submission
from shared.store import JobStore
from tests.fuzz.profile import examples

JOBS: Final = 23
# As api.jobs.list_filter lets them through.
cursors = st.from_regex(r"[1-9][0-9]{0,17}-[0-9]{1,18}", fullmatch=True)
times = st.datetimes(timezones=st.just(UTC))
filters = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["", *Status]),
        "kind": st.sampled_from(["", "predict", "batch", "train", "register"]),
        "model": st.sampled_from(["m", "a", "nobody"]) | st.text(max_size=5),
        "created_after": times,
    },
)
ids = st.text(max_size=50)


@pytest.fixture
def full(store: JobStore) -> JobStore:
    """A store with jobs of two models, every third of them cancelled."""
    for number in range(JOBS):
        spec = Spec(requested="m", model="am"[number % 2], version=1, sha256="0" * 64, method="predict")
        job = Submission(
            id=new_job_id(), spec=spec, rows=orjson.dumps([[1.0]]), total=1, alias=None, queue=ONLINE, ttl_seconds=60
        )
        store.submit(job)
        if number % 3 == 0:
            store.cancel(job.id)
    return store


def walked(store: JobStore, limit: int, **wanted: Any) -> list[str]:
    """The ids of all pages, one after the other."""
    found: list[str] = []
    cursor: str | None = ""
    for _ in range(JOBS + 2):
        jobs, cursor = store.page(limit=limit, cursor=cursor or "", **wanted)
        assert len(jobs) <= limit
        found += [job.id for job in jobs]
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


@given(st.integers(1, 200), filters)
@examples(150)
def test_pages_of_any_size_hold_every_wanted_job_once_newest_first(
    full: JobStore, limit: int, wanted: dict[str, Any]
) -> None:
    every, _ = full.page(limit=200)

    expected = [
        job.id
        for job in every
        if wanted.get("status") in (None, "", job.status)
        and wanted.get("kind") in (None, "", "predict")
        and wanted.get("model") in (None, "", job.spec.model)
        and not (wanted.get("created_after") and job.created_at < wanted["created_after"])
    ]

    assert len(every) == JOBS
    assert walked(full, limit, **wanted) == expected


@given(st.integers(1, 200), cursors, filters)
@examples(150)
def test_a_cursor_that_nobody_gave_is_a_place_in_the_list_like_any_other(
    full: JobStore, limit: int, cursor: str, wanted: dict[str, Any]
) -> None:
    jobs, following = full.page(limit=limit, cursor=cursor, **wanted)

    ids_found = [job.id for job in jobs]
    assert len(set(ids_found)) == len(ids_found) <= limit
    assert following is None or full.page(limit=limit, cursor=following, **wanted)


@given(ids)
@examples(100)
def test_an_id_of_any_characters_is_of_no_job(full: JobStore, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        full.read(job_id)
    with pytest.raises(JobNotFound):
        full.cancel(job_id)
    with pytest.raises(JobNotFound):
        full.delete(job_id)


TOKENS: Final = st.text(st.characters(max_codepoint=255), max_size=80) | st.from_regex(
    r"ft_[0-9a-f]{10,13}_[A-Za-z0-9_-]{42,44}\n?", fullmatch=True
)


@given(TOKENS, st.data())
@examples(120)
def test_no_token_but_the_one_that_was_given_lets_anybody_in(store: JobStore, token: str, data: st.DataObject) -> None:
    keys = ApiKeys(store.connections, store.keys)
    if not keys.exist():
        keys.create(Wish(name="n", scopes=list(Scope), lifetime=timedelta(days=1)))
    made, given_token = keys.rotate(keys.all()[0].id, timedelta(0))
    at = data.draw(st.integers(0, len(given_token)))
    turned = given_token[:at] + data.draw(st.text(st.characters(max_codepoint=255), max_size=2)) + given_token[at + 1 :]

    assert (keys.authenticate(given_token) or made).id == made.id
    assert keys.authenticate(given_token) is not None
    for other in (token, f"ft_{made.id}_{token}", token + given_token, given_token[:at], turned):
        assert (keys.authenticate(other) is not None) == (other == given_token)
