"""Batch jobs in the job store: what is handed out when, and what becomes of it."""

from collections.abc import Callable

import pytest

from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.job import Status
from shared.records import WORKER_LOST
from shared.settings import Settings
from shared.store import JobStore
from tests.integration.batches import LAYOUT, all_planned, commit, nothing, plan, planned, pull, slices, submit
from tests.processes import RedisServer
from tests.wait import until


@pytest.fixture
def batches(store: JobStore, settings: Settings) -> BatchStore:
    return BatchStore(store, settings)


def lose(store: JobStore, fence: str) -> None:
    """The worker of a unit died, and the janitor saw it."""
    store.release(fence, WORKER_LOST)


def test_a_job_is_planned_scored_and_finished(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 2)

    first = pull(batches)
    commit(batches, first)
    second = pull(batches)
    commit(batches, second)
    last = pull(batches)
    counted = batches.commit_final(last, Status.SUCCEEDED, {"outputs": {}})

    assert [unit.kind for unit in (first, second, last)] == ["chunk", "chunk", "final"]
    assert [first.slices, second.slices] == [tuple(slices(1)), tuple(slices(1, 1))]
    assert counted
    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.counts.total, job.counts.succeeded) == (Status.SUCCEEDED, 20, 20)


def test_rows_are_not_counted_before_the_plan_is_done(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store)
    unit = pull(batches)

    plan(batches, unit, 3, "more")

    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.counts.total, job.counts.pending) == (Status.RUNNING, None, None)


def test_slices_that_are_added_twice_count_once(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    unit = pull(batches)
    plan(batches, unit, 2, "more")

    goes_on = plan(batches, unit, 2, "more")

    assert goes_on
    assert len(batches.slices(unit.job_id)) == 2


def test_slices_are_scored_while_the_plan_goes_on(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    unit = pull(batches, "planner")
    plan(batches, unit, 3, "more")

    chunk = pull(batches, "scorer")

    assert chunk.kind == "chunk"
    assert plan(batches, unit, 1, "done", first=3) is False


def test_the_final_unit_waits_for_every_chunk(store: JobStore, batches: BatchStore) -> None:
    planned(store, batches, 1)
    chunk = pull(batches)

    assert nothing(batches)

    commit(batches, chunk)
    assert pull(batches).kind == "final"


def test_a_lost_chunk_is_tried_again_slice_by_slice(
    store: JobStore, batches: BatchStore, make_settings: Callable[..., Settings]
) -> None:
    planned(store, batches, 40)
    commit(batches, pull(batches))  # so quick that the next chunk is larger
    chunk = pull(batches)

    lose(store, chunk.fence)

    assert len(chunk.slices) > 1
    again = [pull(batches) for _ in chunk.slices]
    assert [unit.slices for unit in again] == [(piece,) for piece in chunk.slices]
    assert {unit.attempt for unit in again} == {2}


def test_a_lost_chunk_cannot_be_committed(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 1)
    chunk = pull(batches)
    lose(store, chunk.fence)

    counted = commit(batches, chunk)

    job = store.read(job_id)
    assert not counted
    assert job is not None
    assert job.counts.succeeded == 0


def test_a_chunk_that_is_committed_twice_counts_once(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 1)
    chunk = pull(batches)
    commit(batches, chunk)

    counted = commit(batches, chunk)

    job = store.read(job_id)
    assert not counted
    assert job is not None
    assert job.counts.succeeded == 10


def test_a_slice_that_kills_its_workers_is_handed_out_once_more_to_fail_its_rows(
    store: JobStore, batches: BatchStore, settings: Settings
) -> None:
    job_id = planned(store, batches, 1)

    attempts = []
    for _ in range(settings.max_attempts + 1):
        unit = pull(batches)
        attempts.append(unit.attempt)
        lose(store, unit.fence)

    assert attempts == list(range(1, settings.max_attempts + 2))
    assert pull(batches).kind == "final"
    job = store.read(job_id)
    assert job is not None
    assert job.status is Status.RUNNING


def test_a_lost_plan_goes_on_where_it_was(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    unit = pull(batches)
    plan(batches, unit, 2, "more")

    lose(store, unit.fence)

    again = pull(batches)
    assert (again.kind, again.position, again.rows) == ("plan", {"rows": 20}, 20)
    assert plan(batches, unit, 1, "more", first=2) is False


def test_a_plan_that_is_lost_at_every_attempt_fails_the_job(
    store: JobStore, batches: BatchStore, settings: Settings
) -> None:
    job_id = submit(store)
    for _ in range(settings.max_attempts):
        lose(store, pull(batches).fence)

    last = pull(batches)
    batches.commit_final(last, Status.FAILED, last.outcome)

    job = store.read(job_id)
    assert last.kind == "final"
    assert job is not None
    assert job.failure is not None
    assert (job.status, job.failure["code"], job.counts.total) == (Status.FAILED, "worker_lost", 0)


def test_a_final_unit_that_is_lost_at_every_attempt_fails_the_job_with_its_counts(
    store: JobStore, batches: BatchStore, settings: Settings
) -> None:
    job_id = planned(store, batches, 1)
    commit(batches, pull(batches), failed=4)
    for _ in range(settings.max_attempts):
        lose(store, pull(batches).fence)

    job = store.read(job_id)

    assert job is not None
    assert (job.status, job.counts.succeeded, job.counts.failed) == (Status.FAILED, 6, 4)


def test_a_final_unit_that_is_lost_before_any_chunk_was_done_ends_the_job_too(
    store: JobStore, batches: BatchStore, settings: Settings
) -> None:
    job_id = planned(store, batches, 0)
    for _ in range(settings.max_attempts):
        lose(store, pull(batches).fence)

    job = store.read(job_id)

    assert job is not None
    assert (job.status, job.counts.total) == (Status.FAILED, 0)


def test_a_cancel_that_was_promised_holds_when_the_final_unit_fails(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 2)
    commit(batches, pull(batches))
    store.cancel(job_id)

    batches.fail(pull(batches), "storage_full", "The storage is full.")

    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.failure, job.counts.succeeded) == (Status.CANCELLED, None, 10)


def test_a_job_fails_for_the_first_reason(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 2)
    commit(batches, pull(batches))
    batches.fail(pull(batches), "internal", "The first.")

    batches.fail(pull(batches), "storage_full", "The second.")

    job = store.read(job_id)
    assert job is not None
    assert job.failure == {"code": "internal", "message": "The first."}


@pytest.mark.parametrize("kind", ["plan", "chunk", "final"])
def test_a_unit_that_is_given_back_has_as_many_attempts_as_before(
    store: JobStore, batches: BatchStore, settings: Settings, kind: str
) -> None:
    submit(store)
    if kind != "plan":
        plan(batches, pull(batches), int(kind == "chunk"))

    attempts = set()
    for _ in range(settings.max_attempts + 1):
        unit = pull(batches)
        attempts.add((unit.kind, unit.attempt))
        store.release(unit.fence, WORKER_LOST, counts=False)

    assert attempts == {(kind, 1)}


def test_the_plan_of_a_file_that_is_no_stream_goes_on_before_its_chunks(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    plan(batches, pull(batches), 100, "pause")

    unit = pull(batches, "another")

    assert unit.kind == "plan"


def test_what_an_ended_job_was_made_of_is_noted_until_it_is_removed(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 1)
    commit(batches, pull(batches))
    batches.commit_final(pull(batches), Status.SUCCEEDED, {})

    noted = batches.ended(10)
    batches.tidied(job_id)

    assert noted == [job_id]
    assert batches.ended(10) == []


def test_a_part_that_comes_after_the_end_of_its_job_is_noted_to_be_removed(
    store: JobStore, batches: BatchStore
) -> None:
    job_id = planned(store, batches, 1)
    late = pull(batches)
    lose(store, late.fence)
    again = pull(batches)
    while_it_goes_on = (commit(batches, late), batches.ended(10))
    commit(batches, again)
    batches.commit_final(pull(batches), Status.SUCCEEDED, {})
    batches.tidied(job_id)

    counted = commit(batches, late)

    assert while_it_goes_on == (False, [])
    assert not counted
    assert batches.ended(10) == [job_id]


def test_chunks_of_two_jobs_are_handed_out_in_turn(store: JobStore, batches: BatchStore) -> None:
    first, second = all_planned(store, batches, 4, {}, {})

    order = []
    for _ in range(6):
        unit = pull(batches)
        order.append(unit.job_id)
        commit(batches, unit)

    assert order[:4] in ([first, second] * 2, [second, first] * 2)


def test_a_job_of_high_priority_goes_first_and_one_of_low_priority_last(store: JobStore, batches: BatchStore) -> None:
    low, normal, high = all_planned(store, batches, 2, {"priority": "low"}, {}, {"priority": "high"})

    order = [pull(batches).job_id for _ in range(6)]

    assert order == [high, high, normal, normal, low, low]


def test_a_cancelled_job_hands_out_no_chunk_and_keeps_what_is_done(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 4)
    done, running = pull(batches), pull(batches)
    commit(batches, done)

    store.cancel(job_id)

    assert nothing(batches)
    assert store.renew(running.fence) == frozenset({job_id})
    store.release(running.fence, WORKER_LOST)
    last = pull(batches)
    assert (last.kind, last.stop, len(last.parts)) == ("final", "cancelled", 1)
    batches.commit_final(last, Status.CANCELLED, {})
    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.counts.succeeded, job.counts.skipped) == (Status.CANCELLED, 10, 30)


def test_a_cancel_during_the_final_unit_still_holds(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 1)
    commit(batches, pull(batches))
    last = pull(batches)

    store.cancel(job_id)
    ended = batches.commit_final(last, Status.SUCCEEDED, {})
    batches.commit_final(last, Status.CANCELLED, {})

    job = store.read(job_id)
    assert not ended
    assert job is not None
    assert job.status is Status.CANCELLED


def test_a_cancelled_plan_ends(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store)
    unit = pull(batches)
    plan(batches, unit, 1, "more")

    store.cancel(job_id)

    assert plan(batches, unit, 1, "more", first=1) is False
    assert pull(batches).kind == "final"


def test_a_job_that_waits_is_cancelled_at_once(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store)

    store.cancel(job_id)

    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.counts.total) == (Status.CANCELLED, 0)
    assert nothing(batches)


@pytest.mark.parametrize(
    ("options", "failed", "stops"),
    [
        pytest.param({"max_failed_rows": 3}, 3, False, id="as-many-rows-as-allowed"),
        pytest.param({"max_failed_rows": 3}, 4, True, id="more-rows-than-allowed"),
        pytest.param({"max_failed_rows": 0}, 1, True, id="none-allowed"),
        pytest.param({"max_failed_fraction": 0.1}, 4, False, id="the-fraction-that-is-allowed"),
        pytest.param({"max_failed_fraction": 0.1}, 5, True, id="more-than-the-fraction"),
    ],
)
def test_a_job_with_too_many_failed_rows_hands_out_no_more_chunks(
    store: JobStore, batches: BatchStore, options: dict[str, float], failed: int, stops: bool
) -> None:
    planned(store, batches, 4, **options)

    commit(batches, pull(batches), failed=failed, reasons=['["not_a_number","x"]'])

    unit = pull(batches)
    assert (unit.kind, unit.stop) == (("final", "failed_rows") if stops else ("chunk", ""))
    if stops:
        assert unit.reasons == {'["not_a_number","x"]': failed}


def test_a_fraction_is_not_judged_before_all_rows_are_counted(store: JobStore, batches: BatchStore) -> None:
    submit(store, max_failed_fraction=0.2)
    unit = pull(batches, "planner")
    plan(batches, unit, 1, "more")

    commit(batches, pull(batches), failed=5)

    plan(batches, unit, 3, "done", first=1)
    assert pull(batches).kind == "chunk"


def test_a_job_past_its_deadline_keeps_what_is_done(store: JobStore, batches: BatchStore) -> None:
    job_id = planned(store, batches, 4, deadline=0.05)
    commit(batches, pull(batches))

    until(lambda: store.tick(["batch"])[0], what="the deadline is over")

    last = pull(batches)
    assert (last.kind, last.stop, last.outcome["failure"]["code"]) == ("final", "failed", "deadline_exceeded")
    batches.commit_final(last, Status.FAILED, last.outcome)
    job = store.read(job_id)
    assert job is not None
    assert (job.status, job.counts.skipped) == (Status.FAILED, 30)


def test_a_plan_that_fails_before_any_slice_ends_the_job(store: JobStore, batches: BatchStore) -> None:
    job_id = submit(store)

    batches.fail(pull(batches), "invalid_input", "Column x is missing.", [{"code": "missing_column", "message": "x"}])

    job = store.read(job_id)
    assert job is not None
    assert job.failure == {"code": "invalid_input", "message": "Column x is missing."}
    assert (job.status, job.errors[0]["code"]) == (Status.FAILED, "missing_column")


def test_a_plan_that_fails_later_keeps_what_is_done(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    unit = pull(batches, "planner")
    plan(batches, unit, 1, "more")
    commit(batches, pull(batches))

    batches.fail(unit, "invalid_input", "The file is cut off.")

    last = pull(batches)
    assert (last.kind, last.stop, len(last.parts)) == ("final", "failed", 1)


def test_a_stream_is_kept_for_the_worker_that_has_it_open(store: JobStore, batches: BatchStore) -> None:
    submit(store)
    unit = pull(batches, "a")
    batches.plan(unit, "a", "pause", LAYOUT, {"rows": 0}, [], known=0, rows=0, keep_seconds=60)

    assert nothing(batches, "b")
    assert pull(batches, "a").kind == "plan"


def test_chunks_grow_with_the_measured_speed_and_shrink_towards_the_end(
    store: JobStore, batches: BatchStore, settings: Settings
) -> None:
    planned(store, batches, 40)

    sizes: list[int] = []
    while not nothing_left(batches, sizes):
        pass

    assert sizes[0] == 1
    assert max(sizes) == settings.max_chunk_slices
    assert sizes[-1] == 1
    assert sum(sizes) == 40


def nothing_left(batches: BatchStore, sizes: list[int]) -> bool:
    unit = pull(batches)
    if unit.kind == "final":
        return True
    sizes.append(len(unit.slices))
    commit(batches, unit)
    return False


def test_everything_of_a_job_survives_kill_9_of_redis(
    store: JobStore, batches: BatchStore, settings: Settings, redis_server: RedisServer
) -> None:
    planned(store, batches, 3)
    commit(batches, pull(batches))
    redis_server.kill()

    again = RedisServer(settings)
    try:
        store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        unit = pull(BatchStore(store, settings))
        assert (unit.kind, unit.first) == ("chunk", 1)
    finally:
        again.stop()
