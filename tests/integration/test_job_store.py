"""The job store's scripts, on a real Redis."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from shared.connection import Connections
from shared.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobGone,
    JobNotFinished,
    JobNotFound,
    QueueFull,
    StoreFull,
    StoreUnavailable,
)
from shared.job import Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.records import WORKER_LOST, AliasMoved, Outcome, Submission, Unit
from shared.settings import Settings
from shared.store import JobStore
from tests.conftest import announce_models
from tests.processes import RedisServer
from tests.wait import until


def submission(rows: int = 1, *, model: str = "m", **more: Any) -> Submission:
    """A job of `rows` rows."""
    spec = Spec(
        requested=model,
        model=model,
        version=1,
        sha256="0" * 64,
        method="predict",
        priority=more.pop("priority", "normal"),
        owner=more.pop("owner", "default"),
    )
    values = {"alias": None, "queue": ONLINE, "ttl_seconds": 60} | more
    return Submission(id=new_job_id(), spec=spec, rows=orjson.dumps([[1.0]] * rows), total=rows, **values)


def pull(store: JobStore, worker: str = "w", linger_seconds: float = 0) -> Unit | None:
    return store.pull(ONLINE, worker, linger_seconds=linger_seconds, answered=True)


def succeed(unit: Unit) -> list[Outcome]:
    return [
        Outcome(id=job.id, status=Status.SUCCEEDED, succeeded=len(orjson.loads(job.rows)), failed=0, result=b"[2.0]")
        for job in unit.jobs
    ]


def ids(unit: Unit | None) -> list[str]:
    return [job.id for job in unit.jobs] if unit else []


def test_a_job_goes_from_submit_to_result(store: JobStore) -> None:
    accepted = store.submit(submission(2))

    unit = pull(store)
    assert unit is not None
    written = store.commit(unit.fence, succeed(unit)).written

    job = store.read(accepted.id)
    assert job is not None
    assert (written, job.status, job.revision, job.attempt) == (1, Status.SUCCEEDED, 3, 1)
    assert (job.counts.total, job.counts.succeeded, job.counts.pending) == (2, 2, 0)
    assert job.predictions == b"[2.0]"
    assert job.created_at <= job.started_at <= job.finished_at < job.expires_at  # type: ignore[operator]


def test_only_the_first_of_many_submissions_rings(store: JobStore) -> None:
    rings = [store.submit(submission()).ring for _ in range(50)]

    assert rings == [True] + [False] * 49


def test_a_lingering_worker_is_woken_instead_of_a_doorbell(store: JobStore) -> None:
    assert pull(store, "idle", linger_seconds=30) is None

    accepted = store.submit(submission())

    assert not accepted.ring
    assert store.connections.client.llen(store.keys.wake("idle")) == 1


@pytest.mark.parametrize("way", ["pull", "call_worker", "leave"])
@pytest.mark.parametrize("committed", [False, True])
def test_only_the_worker_that_put_up_the_sign_of_a_lane_takes_it_down(
    store: JobStore, way: str, committed: bool
) -> None:
    client, sign, lane = store.connections.client, f"{store.keys.base}busy:m@1", "m@1"

    def stop_pulling(worker: str) -> None:
        if way == "pull":
            assert store.pull(ONLINE, worker, linger_seconds=30, answered=False, lane=lane) is None
        elif way == "leave":
            store.leave(ONLINE, worker, lane)
        else:
            store.call_worker(ONLINE, worker, lane)

    def sign_stands() -> bool:
        client.hset(f"{store.keys.base}pace:m@1", mapping={"rate": 1, "unit": 1000, "cpu": 1, "floor": 1})
        store.submit(submission())
        unit = pull(store, "busy")
        assert unit is not None
        if committed:
            store.commit(unit.fence, succeed(unit))
        return bool(client.persist(sign))  # it falls by itself in 100 ms, and may have by now

    until(sign_stands, 10, "the sign stands")

    stop_pulling("idle")
    held_back = client.exists(sign)
    stop_pulling("busy")

    assert held_back
    assert not client.exists(sign)


def test_whoever_pulls_calls_the_next_while_work_is_left(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(micro_batch_jobs=2)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    for _ in range(5):
        store.submit(submission())

    units = [pull(store) for _ in range(3)]

    assert [unit.ring for unit in units if unit] == [True, True, False]


def test_jobs_come_in_the_order_of_submission_and_priority(store: JobStore) -> None:
    low, first, second, high = (
        store.submit(submission(priority=priority)).id for priority in ("low", "normal", "normal", "high")
    )

    assert ids(pull(store)) == [high, first, second, low]


def test_a_micro_batch_is_bounded_by_jobs_and_rows(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(micro_batch_jobs=3, micro_batch_rows=10)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    submitted = [store.submit(submission(rows)).id for rows in (1, 1, 1, 4, 7, 20, 1)]

    units = [ids(pull(store)) for _ in range(5)]

    assert units == [submitted[0:3], submitted[3:4], submitted[4:5], submitted[5:6], submitted[6:7]]


def test_lanes_take_turns(store: JobStore) -> None:
    for _ in range(100):
        store.submit(submission(model="busy"))
    store.submit(submission(model="quiet"))

    lanes = [unit.lane for _ in range(3) if (unit := pull(store))]

    assert lanes == ["busy@1", "quiet@1", "busy@1"]


def test_a_full_lane_refuses_and_stores_nothing(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(max_waiting_jobs=2)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    store.submit(submission())
    store.submit(submission())
    before = store.connections.client.dbsize()

    with pytest.raises(QueueFull) as refused:
        store.submit(submission())

    assert refused.value.retry_after_seconds >= 1
    assert store.connections.client.dbsize() == before


def test_the_same_submission_twice_is_one_job(store: JobStore) -> None:
    job = submission()

    first, second = store.submit(job), store.submit(job)

    assert (first.created, second.created, second.id) == (True, False, job.id)
    assert ids(pull(store)) == [job.id]


def test_one_idempotency_key_makes_one_job_whoever_comes_first(store: JobStore) -> None:
    jobs = [submission(idempotency=("key", "body")) for _ in range(16)]
    together = threading.Barrier(len(jobs))

    def send(job: Submission) -> Any:
        together.wait()
        return store.submit(job)

    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(send, jobs))

    assert len({answer.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert len(ids(pull(store))) == 1


def test_an_idempotency_key_with_another_request_is_refused(store: JobStore) -> None:
    store.submit(submission(idempotency=("key", "body")))

    with pytest.raises(IdempotencyKeyReused):
        store.submit(submission(idempotency=("key", "other body")))


def test_an_alias_that_was_moved_is_noticed(store: JobStore) -> None:
    store.connections.client.hset(store.keys.model("m"), "alias:production", 2)

    with pytest.raises(AliasMoved):
        store.submit(submission(alias="production"))

    assert store.connections.client.exists(store.keys.jobs) == 0


def test_an_expired_lease_gives_jobs_back_to_be_tried_alone_and_first(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(lease_seconds=0.05)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    lost = [store.submit(submission()).id for _ in range(3)]
    pull(store)
    fresh = store.submit(submission()).id

    until(lambda: store.tick([ONLINE])[0] == 3, 5, "the lease expires")

    assert [ids(pull(store)) for _ in range(4)] == [[lost[0]], [lost[1]], [lost[2]], [fresh]]


def test_a_commit_after_the_lease_was_lost_changes_nothing(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(lease_seconds=0.05)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    accepted = store.submit(submission())
    late = pull(store)
    until(lambda: store.tick([ONLINE])[0] == 1, 5, "the lease expires")
    second = pull(store)
    assert late is not None
    assert second is not None

    refused = store.commit(
        late.fence, [Outcome(id=accepted.id, status=Status.SUCCEEDED, succeeded=1, failed=0, result=b"[666]")]
    ).written
    written = store.commit(second.fence, succeed(second)).written

    job = store.read(accepted.id)
    assert job is not None
    assert (refused, written, job.predictions, job.attempt) == (0, 1, b"[2.0]", 2)
    assert store.renew(late.fence) is None


def test_a_renewed_lease_does_not_expire(make_settings: Callable[..., Settings], redis_server: RedisServer) -> None:
    settings = make_settings(lease_seconds=1)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    store.submit(submission())
    unit = pull(store)
    assert unit is not None
    first = store.connections.client.zscore(f"{store.keys.base}leases", unit.fence)

    until(
        lambda: (
            store.renew(unit.fence) == frozenset()
            and store.connections.client.zscore(f"{store.keys.base}leases", unit.fence) > first
        ),
        5,
        "the deadline moves",
    )

    assert store.tick([ONLINE])[:2] == (0, 0)


def test_a_job_fails_when_no_attempt_is_left(make_settings: Callable[..., Settings], redis_server: RedisServer) -> None:
    settings = make_settings(max_attempts=2)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    accepted = store.submit(submission(3))
    for _ in range(2):
        unit = pull(store)
        assert unit is not None
        store.release(unit.fence, WORKER_LOST)

    job = store.read(accepted.id)

    assert job is not None
    assert (job.status, job.attempt, job.counts.skipped, job.failure["code"]) == (Status.FAILED, 2, 3, "worker_lost")  # type: ignore[index]
    assert pull(store) is None


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    accepted, other = store.submit(submission(2)), store.submit(submission())

    already = store.cancel(accepted.id)

    job = store.read(accepted.id)
    assert job is not None
    assert (already, job.status, job.counts.skipped, job.queue_position) == (False, Status.CANCELLED, 2, None)
    assert ids(pull(store)) == [other.id]
    assert store.cancel(accepted.id)


def test_a_running_job_that_is_cancelled_never_succeeds(store: JobStore) -> None:
    accepted = store.submit(submission())
    unit = pull(store)
    assert unit is not None

    store.cancel(accepted.id)
    asked = store.read(accepted.id)
    unwanted = store.renew(unit.fence)
    store.commit(unit.fence, succeed(unit))

    job = store.read(accepted.id)
    assert asked is not None
    assert job is not None
    assert (asked.status, asked.cancel_requested, unwanted) == (Status.RUNNING, True, frozenset({accepted.id}))
    assert (job.status, job.predictions) == (Status.CANCELLED, None)


def test_a_finished_job_cannot_be_cancelled(store: JobStore) -> None:
    accepted = store.submit(submission())
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, succeed(unit))

    with pytest.raises(JobFinished):
        store.cancel(accepted.id)


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
def test_a_job_fails_at_its_deadline(store: JobStore, running: bool) -> None:
    accepted = store.submit(submission(deadline_seconds=0.05))
    unit = pull(store) if running else None

    until(lambda: store.tick([ONLINE])[1] == 1, 5, "the deadline is over")
    written = store.commit(unit.fence, succeed(unit)).written if unit else 0

    job = store.read(accepted.id)
    assert job is not None
    assert (job.status, job.failure["code"], job.counts.skipped, written) == (Status.FAILED, "deadline_exceeded", 1, 0)  # type: ignore[index]
    assert pull(store) is None


def test_a_late_job_is_not_started(store: JobStore) -> None:
    accepted = store.submit(submission(deadline_seconds=0.001))
    before = store.connections.client.time()
    until(lambda: store.connections.client.time() > (before[0], before[1] + 5000), 5, "five milliseconds pass")

    assert pull(store) is None

    job = store.read(accepted.id)
    assert job is not None
    assert (job.status, job.attempt, job.counts.skipped) == (Status.FAILED, 0, 1)


def test_unknown_unfinished_deleted_and_expired_jobs_are_told_apart(store: JobStore) -> None:
    waiting, finished, short = (
        store.submit(submission()),
        store.submit(submission()),
        store.submit(submission(ttl_seconds=1)),
    )
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, succeed(unit)[1:])
    store.delete(finished.id)

    with pytest.raises(JobNotFound):
        store.read(new_job_id())
    with pytest.raises(JobNotFinished):
        store.delete(waiting.id)
    with pytest.raises(JobGone):
        store.read(finished.id)
    with pytest.raises(JobGone):
        until(lambda: store.read(short.id) is None, 5, "it expires")


def test_expired_jobs_leave_the_list_and_their_keys(
    make_settings: Callable[..., Settings], redis_server: RedisServer
) -> None:
    settings = make_settings(tombstone_seconds=1)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    kept = store.submit(submission())
    for _ in range(5):
        store.submit(submission(ttl_seconds=1, model="other"))
    unit = next(unit for _ in range(2) if (unit := pull(store)) and unit.lane == "other@1")
    store.commit(unit.fence, succeed(unit))

    def swept() -> bool:
        store.sweep()
        return (
            len(store.connections.client.keys(f"{store.keys.base}*:01*")) == 3
            and store.connections.client.xlen(store.keys.jobs) == 1
        )

    until(swept, 10, "only the kept job has keys")
    assert [job.id for job in store.page(limit=10)[0]] == [kept.id]


def test_the_list_gives_each_job_once_newest_first(store: JobStore) -> None:
    submitted = [store.submit(submission(model="a" if number % 3 else "b")).id for number in range(25)]

    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        jobs, cursor = store.page(limit=4, cursor=cursor)
        listed += [job.id for job in jobs]

    assert listed == submitted[::-1]
    assert [job.id for job in store.page(limit=50, model="b")[0]] == submitted[::-1][::3]
    assert len(store.page(limit=50, status="queued")[0]) == 25
    assert store.page(limit=50, status="failed")[0] == []


def test_memory_for_a_finished_small_job_stays_below_one_kibibyte(store: JobStore) -> None:
    client, jobs = store.connections.client, 2000
    for _ in range(200):
        store.submit(submission())
    before = client.info("memory")["used_memory_dataset"]
    for _ in range(jobs):
        store.submit(submission())
    while unit := pull(store):
        store.commit(unit.fence, succeed(unit))

    after = client.info("memory")["used_memory_dataset"]

    assert (after - before) / jobs < 1024


def test_a_store_at_its_memory_limit_refuses_jobs_and_finishes_what_it_has(settings: Settings) -> None:
    server = RedisServer(settings, "--maxmemory", "9mb")
    announce_models(server.client, settings)
    try:
        store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        accepted: list[str] = []
        keys = 0

        def fill() -> None:
            nonlocal keys
            for _ in range(100_000):
                keys = store.connections.client.dbsize()
                accepted.append(store.submit(submission(200)).id)

        with pytest.raises(StoreFull):
            fill()
        assert store.connections.client.dbsize() == keys

        store.connections.client.delete(f"{store.keys.base}bell:{ONLINE}")
        assert store.call_worker(ONLINE, "w", "other@1")

        done = 0
        while unit := pull(store):
            done += store.commit(unit.fence, succeed(unit)).written

        assert done == len(accepted) > 0
        assert all((job := store.read(job_id)) and job.status is Status.SUCCEEDED for job_id in accepted)
    finally:
        server.stop()


def test_a_store_that_is_away_is_said_so_and_found_again(settings: Settings) -> None:
    server = RedisServer(settings)
    announce_models(server.client, settings)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=1), settings)
    accepted = store.submit(submission())
    server.kill()

    with pytest.raises(StoreUnavailable):
        store.read(accepted.id)
    server = RedisServer(settings)
    try:
        job = store.read(accepted.id)

        assert job is not None
        assert job.status is Status.QUEUED
    finally:
        server.stop()
