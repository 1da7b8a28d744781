"""Jobs in stages that begin anew after a restore, since of all their files only the input is left."""

import pytest

from shared.batch_store import BatchStore
from shared.job import Counts, Job, Status
from shared.settings import Settings
from shared.store import JobStore
from tests.integration.batches import commit, nothing, plan, planned, pull, submit


@pytest.fixture
def batches(store: JobStore, settings: Settings) -> BatchStore:
    return BatchStore(store, settings)


def read(store: JobStore, job_id: str) -> Job:
    job = store.read(job_id)
    assert job is not None
    return job


def finished(store: JobStore, batches: BatchStore, job_id: str, count: int) -> Job:
    """The job, planned, scored and joined once more."""
    plan(batches, pull(batches), count)
    while (unit := pull(batches)).kind == "chunk":
        commit(batches, unit)
    assert batches.commit_final(unit, Status.SUCCEEDED, {"outputs": {}})
    return read(store, job_id)


def test_a_job_that_was_half_done_is_done_as_if_it_had_never_begun(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 3, max_failed_rows=5)
    commit(batches, pull(batches), 4, ["bad"])
    lost = pull(batches)
    store.release(lost.fence, b"", counts=False)
    before = read(store, job_id)

    assert batches.begin_again(job_id)

    waiting = read(store, job_id)
    assert (waiting.status, waiting.counts) == (Status.QUEUED, Counts(total=None))
    assert waiting.revision > before.revision
    done = finished(store, batches, job_id, 3)
    assert (done.status, done.counts) == (Status.SUCCEEDED, Counts(total=30, succeeded=30))
    assert nothing(batches)


def test_what_had_failed_it_is_forgotten(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 2, max_failed_rows=1)
    commit(batches, pull(batches), 4, ["bad"])

    batches.begin_again(job_id)

    assert pull(batches).stop == ""


def test_a_job_that_was_to_be_cancelled_is(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 2)
    unit = pull(batches)
    store.cancel(job_id)
    store.release(unit.fence, b"", counts=False)

    batches.begin_again(job_id)

    assert read(store, job_id).status == Status.CANCELLED
    assert nothing(batches)


def test_a_job_whose_version_is_registered_only_has_to_say_so(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 1)
    commit(batches, pull(batches))
    final = pull(batches)
    store.connections.client.hset(store.keys.job(job_id), "phase", "registering")
    store.release(final.fence, b"", counts=False)

    assert not batches.begin_again(job_id)

    assert pull(batches).kind == "final"


def test_its_deadline_holds_also_if_it_had_been_over(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store, deadline=100)
    pull(batches)
    deadlines = f"{store.keys.base}deadlines"
    at = store.connections.client.zscore(deadlines, job_id)
    store.connections.client.zrem(deadlines, job_id)

    batches.begin_again(job_id)

    assert at is not None
    assert store.connections.client.zscore(deadlines, job_id) == at


def test_a_job_that_is_done_stays_so(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store)
    before = finished(store, batches, job_id, 1)

    assert not batches.begin_again(job_id)

    assert read(store, job_id) == before
