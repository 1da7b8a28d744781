"""Owners take turns: what one has waiting, however much, delays another by a unit or two."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.api_keys import ApiKeys, Scope, Wish
from shared.batch import BatchOptions, Input
from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.job import Spec, Status, new_job_id
from shared.keys import Keys
from shared.queue import BATCH, ONLINE
from shared.records import WORKER_LOST, BatchUnit, Submission, Unit
from shared.settings import Settings
from shared.store import JobStore
from tests.conftest import announce_models
from tests.integration.batches import commit, plan
from tests.integration.conftest import Service
from tests.integration.test_job_store import pull, submission, succeed
from tests.models import FINE, SLOW, register_moody
from tests.processes import RedisServer
from tests.wait import until

MakeStore = Callable[..., JobStore]


@pytest.fixture
def make_store(make_settings: Callable[..., Settings], redis_server: RedisServer) -> MakeStore:
    def make(**values: int) -> JobStore:
        configured = make_settings(**values)
        return JobStore(Connections(configured.redis_address, timeout_seconds=5), configured)

    return make


def submit(store: JobStore, owner: str, count: int = 1, **more: Any) -> list[str]:
    """So many jobs of an owner; their ids."""
    return [store.submit(submission(owner=owner, **more)).id for _ in range(count)]


def owners_of(unit: Unit | None) -> Counter[str]:
    """How many jobs each owner has in a unit."""
    return Counter(job.spec.owner for job in unit.jobs) if unit else Counter()


def units_until(store: JobStore, job_id: str) -> int:
    """How many units are pulled up to the one that a job is in."""
    for number in itertools.count(1):
        unit = pull(store)
        assert unit is not None
        if job_id in unit.job_ids:
            return number
        store.commit(unit.fence, succeed(unit))
    raise AssertionError


def file_job(store: JobStore, owner: str) -> str:
    """A job over a file, ready to be planned."""
    batch = BatchOptions(input=Input(key="nowhere"))
    spec = Spec(requested="m", model="m", version=1, sha256="0", method="predict", owner=owner, batch=batch)
    job_id = new_job_id()
    store.submit(Submission(id=job_id, spec=spec, alias=None, queue=BATCH, ttl_seconds=60))
    return job_id


def do(batches: BatchStore, unit: BatchUnit, slices: int = 1) -> None:
    """Do a unit of a job over a file."""
    match unit.kind:
        case "plan":
            plan(batches, unit, slices)
        case "chunk":
            commit(batches, unit)
        case "final":
            batches.commit_final(unit, Status.SUCCEEDED, {"outputs": {}})


# Small predictions


def test_a_flood_on_one_model_does_not_delay_another_owner(store: JobStore) -> None:
    submit(store, "red", 2000)
    pull(store)

    (job_id,) = submit(store, "blue")

    assert units_until(store, job_id) == 1


def test_a_flood_on_many_models_delays_another_owner_by_a_unit_at_most(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=4)
    models = [f"model-{number}" for number in range(100)]
    for model in models:
        store.connections.client.hset(store.keys.model(model), "v:1", 1)
        submit(store, "red", 20, model=model)
    for _ in range(10):
        pull(store)

    found = [units_until(store, *submit(store, "blue", model=model)) for model in ("m", models[0], models[-1])]

    assert max(found) <= 2


def test_an_owner_with_little_to_do_is_never_far_behind(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=8)
    for owner in ("red", "green", "yellow"):
        submit(store, owner, 500, model="a")
        submit(store, owner, 500, model="b")

    found = [units_until(store, *submit(store, "blue", model=model)) for model in ("m", "a", "b") * 3]

    assert max(found) <= 4  # each of the others once


def test_owners_share_a_micro_batch_in_equal_parts(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=12)
    for owner in ("red", "green", "blue"):
        submit(store, owner, 30)

    units = [owners_of(pull(store)) for _ in range(2)]

    assert units == [Counter(red=4, green=4, blue=4)] * 2


def test_what_one_owner_leaves_of_its_part_others_fill(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=12)
    submit(store, "red", 30)
    submit(store, "blue", 2)

    unit = owners_of(pull(store))

    assert unit == Counter(red=10, blue=2)


def test_an_owner_alone_fills_whole_units(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=12)
    submit(store, "red", 30)

    assert [owners_of(pull(store)) for _ in range(3)] == [Counter(red=12), Counter(red=12), Counter(red=6)]


def test_a_job_that_lost_its_worker_is_tried_alone_and_holds_up_nobody_else(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=8)
    lost = submit(store, "red", 3)
    unit = pull(store)
    assert unit is not None
    store.release(unit.fence, WORKER_LOST)
    submit(store, "red", 5)
    (other,) = submit(store, "blue")

    units = [pull(store) for _ in range(5)]

    jobs = [unit.job_ids for unit in units if unit]
    assert [ids for ids in jobs if set(ids) & set(lost)] == [(job_id,) for job_id in lost]
    assert other in {*jobs[0], *jobs[1]}


def test_priorities_hold_within_an_owner_and_not_against_others(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=1)
    (low,), (normal,), (high,) = (submit(store, "red", priority=priority) for priority in ("low", "normal", "high"))
    (theirs,) = submit(store, "blue", priority="low")

    order = [unit.job_ids[0] for unit in iter(lambda: pull(store), None)]

    assert [job_id for job_id in order if job_id != theirs] == [high, normal, low]
    assert order.index(theirs) <= 1


def test_an_owner_with_more_lanes_gets_no_more_turns(make_store: MakeStore) -> None:
    store = make_store(micro_batch_jobs=1)
    for model in ("a", "b", "busy", "other"):
        submit(store, "red", 10, model=model)
    submit(store, "blue", 10, model="quiet")

    turns = [next(iter(owners_of(pull(store)))) for _ in range(20)]

    assert Counter(turns) == Counter(red=10, blue=10)
    assert all(turns[at] != turns[at + 1] for at in range(19))


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_position_in_the_queue_says_how_many_come_before(
    make_store: MakeStore, redis_server: RedisServer, counts: list[int]
) -> None:
    store = make_store(micro_batch_jobs=1)
    store.connections.client.flushall()
    announce_models(store.connections.client, store._settings)
    waiting = [(f"owner-{number}", count) for number, count in enumerate(counts)]
    jobs = {job_id: owner for owner, count in waiting for job_id in submit(store, owner, count)}

    positions = {job_id: position_of(store, job_id, owner) for job_id, owner in jobs.items()}

    order = [unit.job_ids[0] for unit in iter(lambda: pull(store), None)]
    assert len(order) == len(jobs)
    # Who of the owners has the first turn is not said.
    assert all(abs(order.index(job_id) + 1 - positions[job_id]) < len(counts) for job_id in jobs)


def position_of(store: JobStore, job_id: str, owner: str) -> int:
    """The position that a job is shown with."""
    job = store.read(job_id, owner=owner)
    assert job is not None
    assert job.queue_position is not None
    return job.queue_position


@given(turns=st.lists(st.sampled_from(["red", "green", "blue", "pull"]), max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nobody_is_served_twice_while_another_waits(
    make_store: MakeStore, redis_server: RedisServer, turns: list[str]
) -> None:
    store = make_store(micro_batch_jobs=1)
    store.connections.client.flushall()
    announce_models(store.connections.client, store._settings)
    waiting, passed = Counter[str](), Counter[str]()

    for turn in turns + ["pull"] * 60:
        if turn != "pull":
            submit(store, turn)
            waiting[turn] += 1
            continue
        served = next(iter(owners_of(pull(store))), None)
        if served is None:
            break
        waiting[served] -= 1
        passed[served] = 0
        for owner in +waiting:
            if owner != served:
                passed[owner] += 1
        # Each of the other two once.
        assert all(passed[owner] <= 2 for owner in +waiting)

    assert not +waiting


# Files


def test_a_flood_of_files_delays_another_owner_by_a_unit_for_each_of_its_own(
    store: JobStore, settings: Settings
) -> None:
    batches = BatchStore(store, settings)
    for _ in range(300):
        file_job(store, "red")
    for _ in range(20):
        do(batches, pulled(batches))
    mine = file_job(store, "blue")

    units = [pulled(batches) for _ in range(1)]
    order = [units[0].spec.owner]
    do(batches, units[0], 3)
    while (job := store.read(mine, owner="blue")) is not None and not job.done:
        unit = pulled(batches)
        order.append(unit.spec.owner)
        do(batches, unit, 3)

    own = order.count("blue")
    assert own >= 3  # plan, chunks, final
    assert order.count("red") <= own + 1


def pulled(batches: BatchStore) -> BatchUnit:
    unit = batches.pull("w", linger_seconds=0, answered=False)
    assert unit is not None
    return unit


def test_a_large_file_of_one_owner_does_not_hold_the_workers(store: JobStore, settings: Settings) -> None:
    batches = BatchStore(store, settings)
    file_job(store, "red")
    do(batches, pulled(batches), 500)
    flying = [pulled(batches) for _ in range(4)]
    file_job(store, "blue")

    following = [pulled(batches).spec.owner for _ in range(2)]

    assert {unit.spec.owner for unit in flying} == {"red"}
    assert "blue" in following


def test_a_file_shows_a_position_that_counts_turns(store: JobStore) -> None:
    for _ in range(50):
        file_job(store, "red")

    first, second = file_job(store, "blue"), file_job(store, "blue")

    assert position_of(store, first, "blue") == 1
    assert position_of(store, second, "blue") == 3


# With real workers

MODELS = ("moody", "moody-too")


def key_of(service: Service, owner: str) -> dict[str, Any]:
    """The header of an owner's requests."""
    api_keys = ApiKeys(Connections(service.settings.redis_address, timeout_seconds=5), Keys("foretell"))
    _, token = api_keys.create(Wish(name=owner, owner=owner, scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE]))
    return {"Authorization": f"Bearer {token}"}


def one_done(service: Service, key: dict[str, Any], body: Any) -> dict[str, Any]:
    """A job, done."""
    accepted = service.http("POST", "/jobs", body, **key)
    assert accepted.status == 202, accepted.body

    def done() -> dict[str, Any] | None:
        job: dict[str, Any] = service.http("GET", f"/jobs/{accepted.json['id']}", **key).json
        return job if job["done"] else None

    job = until(done, 60, "the job of the other owner is done") or {}
    assert job["status"] == "succeeded"
    return job


def started_meanwhile(service: Service, job: dict[str, Any], job_ids: list[str]) -> int:
    """How many of these jobs were started between a job's submit and its end, by the one clock of Redis."""
    store = JobStore(Connections(service.settings.redis_address, timeout_seconds=5), service.settings)
    begin, end = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    jobs = store.read_many(job_ids).values()
    return sum(begin <= job.started_at <= end for job in jobs if job is not None and job.started_at is not None)


def test_workers_do_the_job_of_an_owner_in_the_midst_of_a_flood_of_another(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(micro_batch_jobs=16, workers=2)
    key = key_of(service, "blue")
    store = JobStore(Connections(service.settings.redis_address, timeout_seconds=5), service.settings)
    rows = orjson.dumps([[SLOW + 0.1]])
    flood = [replace(submission(owner="red", model=model), rows=rows) for _ in range(1000) for model in MODELS]
    register_moody(service.settings, MODELS[1])
    service.start_api()
    for job in flood:
        store.submit(job)
    service.start_worker(ONLINE)
    service.start_janitor()
    until(
        lambda: store.connections.client.hget(store.keys.usage("red"), "rows") != b"2000", 60, "the flood is worked on"
    )

    jobs = [one_done(service, key, {"model": "moody", "instances": [[FINE]]}) for _ in range(3)]

    waiting = store.read_many([job.id for job in flood]).values()
    assert any(job is not None and not job.done for job in waiting), "the flood was over too soon to tell"
    # Units of the flood that began meanwhile: those of two processes, before and beside the job's own.
    most = 4 * service.settings.workers * service.settings.micro_batch_jobs
    assert max(started_meanwhile(service, job, [job.id for job in flood]) for job in jobs) <= most


def test_workers_score_the_file_of_an_owner_in_the_midst_of_many_files_of_another(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(workers=2)
    red, blue = key_of(service, "red"), key_of(service, "blue")
    service.start_api()
    sent: dict[str, Any] = {"raw": b"x\n1\n", "Content_Type": "text/csv"}
    first, second = (service.http("POST", "/files", **sent, **key).json["id"] for key in (red, blue))
    theirs, mine = ({"model": "moody", "input": {"file_id": file_id}} for file_id in (first, second))
    flood = [service.http("POST", "/jobs", theirs, **red).json["id"] for _ in range(300)]
    service.start_worker(BATCH)
    service.start_janitor()
    until(lambda: service.http("GET", f"/jobs/{flood[0]}", **red).json["done"], 60, "the flood is worked on")

    job = one_done(service, blue, mine)

    assert not service.http("GET", f"/jobs/{flood[-1]}", **red).json["done"], "the flood was over too soon to tell"
    # Of each turn of the other owner, of which this job needs three, two processes may begin a file.
    assert started_meanwhile(service, job, flood) <= 4 * 3 * service.settings.workers


def test_a_lane_from_before_owners_took_turns_is_served(store: JobStore) -> None:
    (job_id,) = submit(store, "default")
    client, base = store.connections.client, store.keys.base
    client.delete(f"{base}work:{ONLINE}", f"{base}sharers:m@1", f"{base}ready:{ONLINE}")
    client.zadd(f"{base}ready:{ONLINE}", {"m@1": 1})

    unit = pull(store)

    assert unit is not None
    assert unit.job_ids == (job_id,)
    assert client.keys(f"{base}ready:*") == []


def test_an_owner_that_stands_in_line_without_work_keeps_nobody_from_theirs(store: JobStore) -> None:
    (job_id,) = submit(store, "blue")
    store.connections.client.zadd(f"{store.keys.base}ready:{ONLINE}", {"red": 1})

    unit = pull(store)

    assert unit is not None
    assert unit.job_ids == (job_id,)
    assert pull(store) is None


def test_a_job_over_a_file_from_before_owners_took_turns_is_served(store: JobStore, settings: Settings) -> None:
    batches, job_id = BatchStore(store, settings), file_job(store, "default")
    client, base = store.connections.client, store.keys.base
    client.delete(f"{base}work:{BATCH}", f"{base}ready:{BATCH}")
    client.zadd(f"{base}ready:{BATCH}", {job_id: 1})

    pulled = [batches.pull("w", linger_seconds=0, answered=True) for _ in range(2)]

    # At first it is put in line.
    assert [unit and unit.job_id for unit in pulled] == [None, job_id]
