"""What is counted: by scripts exactly once, by processes once a sending; and told in a format that others read."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.heartbeat import beat_once
from shared.job import Status
from shared.measures import Measures
from shared.meter import METER, Meter
from shared.metrics import METRICS, PREFIX
from shared.queue import BATCH, ONLINE, SERVED
from shared.records import Outcome, failure_outcome
from shared.script import complete, loaded
from shared.settings import Settings
from shared.store import JobStore
from tests.integration import batches as by_hand
from tests.integration.apis import Api
from tests.integration.conftest import Service
from tests.integration.test_job_store import pull, submission, succeed
from tests.processes import RedisServer
from tests.wait import until

STOPPED = failure_outcome("worker_stopped", "no")


@pytest.fixture
def store(store: JobStore) -> JobStore:
    """A store whose models are registered."""
    store.connections.client.sadd(store.keys.models, "m", "a", "b")
    return store


@pytest.fixture
def measures(store: JobStore) -> Measures:
    return Measures(store, store._settings)


def counters(store: JobStore) -> dict[str, int]:
    """What is counted, as it lies in Redis."""
    found: dict[bytes, bytes] = store.connections.client.hgetall(store.keys.metrics)
    return {name.decode(): int(value) for name, value in found.items()}


def of(store: JobStore, metric: str) -> dict[str, int]:
    """The series of one metric, by their labels."""
    fields = counters(store).items()
    return {name.partition(" ")[2]: value for name, value in fields if name.partition(" ")[0] == metric}


def do(store: JobStore) -> None:
    """End all that waits for the online queue."""
    while (unit := pull(store)) is not None:
        store.commit(unit.fence, succeed(unit))


def test_jobs_and_rows_are_counted_once_however_often_a_commit_is_repeated(store: JobStore) -> None:
    jobs = [submission(rows) for rows in (1, 2, 3)]
    for job in jobs:
        store.submit(job)
        store.submit(job)  # a repeat
    unit = pull(store)
    assert unit is not None
    last = Outcome(id=jobs[2].id, status=Status.PARTIALLY_SUCCEEDED, succeeded=1, failed=2, result=b"[]")
    for _ in range(2):
        store.commit(unit.fence, [*succeed(unit)[:2], last])

    assert of(store, "jobs_accepted_total") == {"predict m": 3}
    assert of(store, "jobs_ended_total") == {"predict m succeeded": 2, "predict m partially_succeeded": 1}
    assert (of(store, "rows_total"), of(store, "rows_failed_total")) == ({"predict": 6}, {"predict": 2})


def test_a_job_that_no_worker_ended_is_counted_too(store: JobStore) -> None:
    job = submission()
    store.submit(job)
    store.cancel(job.id)
    store.submit(submission(deadline_seconds=0.001))
    until(lambda: store.tick([ONLINE])[1], 10, "the deadline is over")

    assert of(store, "jobs_ended_total") == {"predict m cancelled": 1, "predict m failed": 1}
    assert of(store, "jobs_failed_total") == {"predict deadline_exceeded": 1}
    assert sum(count for field, count in of(store, "job_seconds").items() if not field.endswith("sum")) == 1


def test_rows_of_a_file_are_counted_with_each_chunk_and_its_job_once(store: JobStore) -> None:
    batches = BatchStore(store, store._settings)
    by_hand.planned(store, batches, 2)
    for failed in (0, 3):
        unit = by_hand.pull(batches)
        by_hand.commit(batches, unit, failed, ["bad"])
        by_hand.commit(batches, unit, failed, ["bad"])  # a repeat
    assert (of(store, "rows_total"), of(store, "rows_failed_total")) == ({"batch": 20}, {"batch": 3})

    end = by_hand.pull(batches)
    batches.commit_final(end, Status.PARTIALLY_SUCCEEDED, {})

    assert of(store, "rows_total") == {"batch": 20}
    assert of(store, "jobs_ended_total") == {"batch m partially_succeeded": 1}
    for histogram in ("queue_seconds", "job_seconds"):
        assert sum(count for field, count in of(store, histogram).items() if not field.endswith("sum")) == 1


@pytest.mark.parametrize("queue", [ONLINE, BATCH])
def test_a_lease_that_runs_out_and_a_unit_that_is_given_back_are_told_apart(
    make_settings: Callable[..., Settings], redis_server: RedisServer, queue: str
) -> None:
    settings = make_settings(lease_seconds=0.05)
    store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
    batches = BatchStore(store, settings)

    def leased() -> str:
        unit = pull(store) if queue == ONLINE else by_hand.pull(batches)
        assert unit is not None
        return unit.fence

    if queue == ONLINE:
        store.submit(submission())
    else:
        by_hand.submit(store)
    store.release(leased(), STOPPED, counts=False)
    leased()
    until(lambda: store.tick([ONLINE, BATCH])[0], 10, "the lease is over")

    for metric in ("leases_expired_total", "units_retried_total", "units_given_back_total"):
        assert of(store, metric) == {queue: 1}, metric


def test_doorbells_and_those_that_found_nothing_are_counted(store: JobStore) -> None:
    for _ in range(3):
        store.submit(submission())
    do(store)  # answers one each time
    assert of(store, "doorbells_total") == {"online": 1}
    assert of(store, "doorbells_empty_total") == {"online": 1}

    assert BatchStore(store, store._settings).pull("w", linger_seconds=0, answered=True) is None
    assert of(store, "doorbells_empty_total") == {"online": 1, "batch": 1}


def test_only_so_many_models_have_counters_of_their_own(
    make_settings: Callable[..., Settings], store: JobStore
) -> None:
    Measures(store, make_settings(metrics_models=2)).send("p", 1)
    for model in ("a", "b", "m", "quiet", "m"):
        store.submit(submission(model=model))
    do(store)

    assert of(store, "jobs_accepted_total") == {"predict a": 1, "predict b": 1, "predict other": 3}
    assert of(store, "jobs_ended_total") == {
        "predict a succeeded": 1,
        "predict b succeeded": 1,
        "predict other succeeded": 3,
    }


def test_a_deleted_model_leaves_its_place_to_another(make_settings: Callable[..., Settings], store: JobStore) -> None:
    Measures(store, make_settings(metrics_models=1)).send("p", 1)
    store.submit(submission(model="a"))
    do(store)
    store.connections.script(loaded(["delete_version"])["delete_version"], store.keys.base, "a", "", "")
    assert (of(store, "jobs_accepted_total"), of(store, "jobs_ended_total")) == ({}, {})

    store.submit(submission(model="b"))

    assert of(store, "jobs_accepted_total") == {"predict b": 1}


# What processes add up themselves


@pytest.fixture
def meter() -> Meter:
    meter = Meter()
    meter.begin("api")
    return meter


def test_a_sending_whose_answer_was_lost_is_not_counted_again(
    store: JobStore, measures: Measures, meter: Meter
) -> None:
    def lost(process: str, number: int, *counted: Any) -> None:
        measures.send(process, number, *counted)
        raise StoreUnavailable

    meter.add("refusals_total forbidden", 2)
    with pytest.raises(StoreUnavailable):
        meter.send(lost)
    meter.add("refusals_total forbidden", 3)  # meanwhile
    for _ in range(3):
        meter.send(measures.send)

    assert of(store, "refusals_total") == {"forbidden": 5}


def test_a_process_that_does_nothing_sends_nothing(measures: Measures, redis_server: RedisServer) -> None:
    METER.begin("api")
    METER.add("refusals_total forbidden")
    METER.send(measures.send)

    assert commands(redis_server, lambda: METER.send(measures.send)) == 0


def test_two_processes_add_up_and_a_child_sends_nothing_of_its_parent(store: JobStore, measures: Measures) -> None:
    first, second = Meter(), Meter()
    for meter in (first, second):
        meter.add("refusals_total forbidden", 100)  # before it began
        meter.begin("api")
        meter.add("refusals_total forbidden")
        meter.send(measures.send)

    assert of(store, "refusals_total") == {"forbidden": 2}


def test_values_fall_into_the_bucket_that_holds_them(store: JobStore, measures: Measures, meter: Meter) -> None:
    meter.observe(("job_seconds", "predict ", (0, 1_000, 1_001, 2_000, 2_001, 10**14)), ("micro_batch_jobs", "", (3,)))
    meter.send(measures.send)

    assert of(store, "job_seconds") == {
        "predict 0": 2,
        "predict 1": 2,
        "predict 2": 1,
        "predict 26": 1,
        "predict sum": 10**14 + 6_002,
    }
    assert of(store, "micro_batch_jobs") == {"2": 1, "sum": 3}


def test_scripts_and_processes_choose_the_same_bucket(store: JobStore, measures: Measures, meter: Meter) -> None:
    script = complete("observe('job_seconds batch', ARGV[1] + 0)")
    client, base = store.connections.client, store.keys.base
    for millis in (0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 2**25, 2**25 + 1, 2**40):
        client.delete(store.keys.metrics)
        client.eval(script, 1, base, millis)
        meter.observe(("job_seconds", "predict ", (1000 * millis,)))
        meter.send(measures.send)

        buckets = {field for field in of(store, "job_seconds") if not field.endswith("sum")}

        assert len({field.partition(" ")[2] for field in buckets}) == 1, (millis, buckets)


@pytest.fixture
def one_worker(make_service: Callable[..., Service]) -> Service:
    service = make_service(metrics_seconds=60, workers=1)
    service.start_worker()
    service.start_api()
    return service


def test_what_was_counted_since_the_last_sending_is_sent_at_an_orderly_end(one_worker: Service) -> None:
    worker, api = one_worker.processes
    (job,) = one_worker.finished([one_worker.http.submit("moody", [[1.0]])["id"]])
    assert job["status"] == "succeeded"
    assert one_worker.http("GET", "/jobs/nothing").status == 404
    store = JobStore(Connections(one_worker.settings.redis_address, timeout_seconds=5), one_worker.settings)
    assert of(store, "micro_batch_jobs") == {}

    worker.stop()
    api.stop()

    assert of(store, "micro_batch_jobs") == {"0": 1, "sum": 1}
    assert of(store, "busy_seconds_total")["online"] > 0
    assert of(store, "model_loads_total") == {"loaded": 1}
    assert of(store, "refusals_total")["job_not_found"] == 1
    assert of(store, "input_bytes_total") == {"predict": 7}


# How it is told


@pytest.fixture
def api(make_api: Callable[..., Api], store: JobStore) -> Api:
    return make_api()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name without the prefix and labels -> value."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def test_a_scrape_has_every_metric_of_the_table_with_its_type_and_help(api: Api) -> None:
    answer = api.client.get("/metrics")

    assert (answer.status_code, answer.content_type.partition(";")[0]) == (200, "text/plain")
    told = {family.name: family for family in parsed(answer.text)}
    # The parser calls a counter by its name without _total.
    assert list(told) == [PREFIX + metric.name.removesuffix("_total") for metric in METRICS]
    for metric in METRICS:
        family = told[PREFIX + metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert {frozenset(sample.labels) - {"le"} for sample in family.samples} <= {frozenset(metric.labels)}


def test_a_scraper_that_wants_openmetrics_has_it(api: Api) -> None:
    answer = api.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.content_type.startswith("application/openmetrics-text")
    read: Any = openmetrics
    assert len(list(read(answer.text))) == len(METRICS)


def test_a_scrape_tells_what_happened_and_how_it_is(api: Api, store: JobStore) -> None:
    beat_once(store.connections, store.keys, "online", "host:1", "f00", 4)
    for _ in range(3):
        store.submit(submission(2))
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, succeed(unit))
    for model in ("a", "a", "b"):
        store.submit(submission(model=model))
    assert api.client.get("/jobs/nothing").status_code == 404

    told = samples(api.client.get("/metrics").text)

    def value(name: str, **labels: str) -> float:
        return told[name, tuple(sorted(labels.items()))]

    assert value("jobs_ended_total", kind="predict", model="m", status="succeeded") == 3
    assert value("rows_total", kind="predict") == 6
    assert value("jobs", queue="online", state="waiting") == 3
    assert value("lanes_waiting", queue="online") == 2
    assert value("lane_jobs_max", queue="online") == 2
    assert value("oldest_wait_seconds", queue="online") >= 0
    assert [value("workers", queue=queue) for queue in SERVED] == [1, 0, 0, 0, 0]
    assert value("worker_processes", queue="online") == 4
    assert value("worker_processes_wanted", queue="online") == 1
    assert value("workers_wanted", queue="online") == 1
    assert value("leases_expired_total", queue="train") == 0  # it is there before it happens
    assert value("redis_memory_bytes") > 0
    assert value("models") == 3


def test_buckets_hold_all_that_is_below_them(api: Api, measures: Measures, meter: Meter) -> None:
    meter.observe(("job_seconds", "train ", (500, 1_500, 3_000_000)))
    meter.send(measures.send)

    told = samples(api.client.get("/metrics").text)

    series = {dict(labels)["le"]: value for (name, labels), value in told.items() if name == "job_seconds_bucket"
              and dict(labels)["kind"] == "train"}  # fmt: skip
    assert (series["0.001"], series["0.002"], series["2.048"], series["4.096"], series["+Inf"]) == (1, 2, 2, 3, 3)
    assert told["job_seconds_sum", (("kind", "train"),)] == pytest.approx(3.002)
    assert told["job_seconds_count", (("kind", "train"),)] == 3


def test_jobs_that_are_not_accepted_are_counted_apart_from_other_refusals(api: Api, measures: Measures) -> None:
    METER.begin("api")
    client = api.client
    assert client.post("/jobs", json={"model": "nobody", "instances": [[1.0]]}).status_code == 404
    assert client.get("/models/nobody").status_code == 404
    METER.send(measures.send)

    told = samples(client.get("/metrics").text)

    assert told["jobs_refused_total", (("code", "model_not_found"),)] == 1
    assert told["refusals_total", (("code", "model_not_found"),)] == 2


def test_a_field_of_another_release_keeps_nobody_from_a_scrape(api: Api, store: JobStore) -> None:
    for field in ("unheard_of 3", "jobs_ended_total predict", "job_seconds", "job_seconds predict later 3"):
        store.connections.client.hset(store.keys.metrics, field, 7)

    assert api.client.get("/metrics").status_code == 200


def commands(server: RedisServer, run: Callable[[], Any]) -> int:
    """Commands that Redis runs meanwhile, those within scripts among them."""
    server.client.config_resetstat()
    run()
    told: dict[str, Any] = server.client.info("commandstats")
    return sum(
        about["calls"] for name, about in told.items() if not name.startswith(("cmdstat_config", "cmdstat_info"))
    )


def test_a_scrape_costs_no_more_with_jobs_that_have_ended(
    store: JobStore, measures: Measures, redis_server: RedisServer
) -> None:
    store.submit(submission())
    do(store)
    measures.look()
    few = commands(redis_server, measures.look)
    for _ in range(100):
        store.submit(submission())
    do(store)

    assert commands(redis_server, measures.look) == few


def test_a_redis_that_refuses_writes_is_told_in_a_scrape(
    api: Api, measures: Measures, redis_server: RedisServer
) -> None:
    def told() -> float:
        return samples(api.client.get("/metrics").text)["redis_takes_writes", ()]

    before = told()
    redis_server.client.config_set("min-replicas-to-write", 1)
    try:
        until(lambda: told() == 0, 30, "the next look tells it")
    finally:
        redis_server.client.config_set("min-replicas-to-write", 0)

    assert before == 1
    assert measures.look().takes_writes


def test_many_who_scrape_at_once_cost_no_more_than_one(api: Api, redis_server: RedisServer) -> None:
    api.client.get("/metrics")  # and scripts are loaded
    one = [commands(redis_server, lambda: api.client.get("/metrics")) for _ in range(20)]

    assert min(one) == 0


# What is kept for autoscaling


def test_a_reading_holds_what_had_happened_by_then(store: JobStore, measures: Measures) -> None:
    store.submit(submission())
    do(store)
    store.submit(submission())
    store.connections.client.hset(store.keys.pace("m@1"), "rate", 0.1)

    measures.take_reading()
    Measures(store, store._settings).take_reading()  # another janitor, in the same moment

    (raw,) = store.connections.client.lrange(store.keys.readings, 0, -1)
    accepted, ended, busy, needed = orjson.loads(raw.partition(b" ")[2])["online"]
    assert (accepted, ended, busy) == (2, 1, 0)
    assert needed == pytest.approx(1 / 3, abs=0.001)  # ten seconds of work, within thirty
    assert store.connections.client.ttl(store.keys.readings) > 0
    assert measures.look().reading_age_seconds is not None


def test_a_backlog_wants_processes_and_what_is_known_of_it_is_told(store: JobStore, measures: Measures) -> None:
    client = store.connections.client
    for _ in range(400):
        store.submit(submission())
    client.hset(store.keys.pace("m@1"), mapping={"rate": 2, "unit": 500, "cpu": 500, "floor": 500})

    scale = measures.look().scales["online"]

    assert scale.backlog_seconds == pytest.approx(200)
    assert scale.wanted_processes == 7  # 200 s of work within 30 s
    assert scale.wanted_workers == 4  # of two processes, as the settings say, since none lives


def test_of_a_file_the_slices_that_are_left_are_the_backlog(store: JobStore, measures: Measures) -> None:
    batches = BatchStore(store, store._settings)
    job_id = by_hand.planned(store, batches, 50)
    store.connections.client.hset(f"{store.keys.base}batch:{job_id}", "pace", 0.5)

    scale = measures.look().scales["batch"]

    assert scale.backlog_seconds == pytest.approx(100)
    assert scale.wanted_processes == 4
    store.cancel(job_id)
    assert measures.look().scales["batch"].backlog_seconds == 0
