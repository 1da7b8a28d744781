"""What people who watch see: every way to wait, run and end is counted once, for its owner and for everybody."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api.overview import overview_document
from shared.batch_store import BatchStore
from shared.heartbeat import beat_once
from shared.job import Status
from shared.overview import Overview, Overviews, Slot
from shared.owner import EVERYBODY
from shared.records import Outcome
from shared.store import JobStore
from tests.integration import batches as by_hand
from tests.integration.test_job_store import pull, submission, succeed

FAILURE = {"code": "prediction_failed", "message": "no"}


def seen(store: JobStore, owner: str = EVERYBODY) -> Overview:
    return Overviews(store).of(owner)


def ended(overview: Overview) -> dict[str, int]:
    """Jobs, those that failed, rows, and jobs whose time was measured, of all slots together."""
    return {
        "jobs": sum(slot.jobs for slot in overview.slots),
        "failed": sum(slot.failed for slot in overview.slots),
        "rows": sum(slot.rows for slot in overview.slots),
        "measured": sum(sum(slot.took.values()) for slot in overview.slots),
    }


def waiting(overview: Overview) -> dict[str, tuple[int, int]]:
    """Of each queue that has any, what waits and what runs."""
    counts = {queue.name: (queue.waiting, queue.running) for queue in overview.queues}
    return {name: count for name, count in counts.items() if any(count)}


def fail(store: JobStore, owner: str) -> str:
    """A job that failed; its id."""
    job = submission(owner=owner)
    store.submit(job)
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, [Outcome(id=job.id, status=Status.FAILED, succeeded=0, failed=1, failure=FAILURE)])
    return job.id


def test_what_ends_together_is_counted_for_its_owners_and_for_everybody(store: JobStore) -> None:
    for owner, rows in (("default", 2), ("red", 3), ("red", 4)):
        store.submit(submission(rows, owner=owner))
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, succeed(unit))
    store.commit(unit.fence, succeed(unit))  # a repeat

    assert ended(seen(store, "red")) == {"jobs": 2, "failed": 0, "rows": 7, "measured": 2}
    assert ended(seen(store, "default")) == {"jobs": 1, "failed": 0, "rows": 2, "measured": 1}
    assert ended(seen(store)) == {"jobs": 3, "failed": 0, "rows": 9, "measured": 3}
    assert ended(seen(store, "blue"))["jobs"] == 0


def test_units_that_end_one_after_another_add_up(store: JobStore) -> None:
    for _ in range(5):
        store.submit(submission())
        unit = pull(store)
        assert unit is not None
        store.commit(unit.fence, succeed(unit))

    assert ended(seen(store)) == {"jobs": 5, "failed": 0, "rows": 5, "measured": 5}


def test_failures_are_listed_newest_first_and_to_their_owner_alone(store: JobStore) -> None:
    first, second = fail(store, "red"), fail(store, "red")
    other = fail(store, "blue")

    assert [job.id for job in seen(store, "red").failures] == [second, first]
    assert [job.id for job in seen(store).failures] == [other, second, first]
    assert seen(store, "default").failures == ()
    assert ended(seen(store)) == {"jobs": 3, "failed": 3, "rows": 3, "measured": 3}


def test_a_cancelled_job_is_counted_but_not_how_long_it_took(store: JobStore) -> None:
    job = submission()
    store.submit(job)
    store.cancel(job.id)

    assert ended(seen(store)) == {"jobs": 1, "failed": 0, "rows": 0, "measured": 0}


def test_jobs_in_stages_are_counted_where_they_wait_run_and_end(store: JobStore) -> None:
    batches = BatchStore(store, store._settings)
    job_id = by_hand.submit(store)
    by_hand.submit(store)
    assert waiting(seen(store)) == {"batch": (2, 0)}

    unit = by_hand.pull(batches)
    assert waiting(seen(store, "default")) == {"batch": (1, 1)}
    assert waiting(seen(store, "red")) == {}
    batches.fail(unit, FAILURE["code"], FAILURE["message"])

    assert unit.job_id == job_id
    assert ended(seen(store)) == {"jobs": 1, "failed": 1, "rows": 0, "measured": 1}
    assert waiting(seen(store)) == {"batch": (1, 0)}


def test_rows_that_wait_and_run_are_counted_by_owner(store: JobStore) -> None:
    for owner in ("red", "red", "default"):
        store.submit(submission(owner=owner))
    assert waiting(seen(store)) == {"online": (3, 0)}
    assert waiting(seen(store, "red")) == {"online": (2, 0)}
    (online, *_) = seen(store, "red").queues
    assert online.oldest_at is not None

    assert pull(store) is not None

    assert waiting(seen(store)) == {"online": (0, 3)}
    assert waiting(seen(store, "red")) == {"online": (0, 2)}


def test_a_worker_shows_what_the_processes_that_it_forked_are_at(store: JobStore) -> None:
    beat_once(store.connections, store.keys, "online", "host:1", "f00")
    beat_once(store.connections, store.keys, "batch", "host:2", "ba4")
    store.submit(submission(owner="red"))
    assert pull(store, worker="host-77-f00") is not None

    busy, idle = seen(store, "default").workers

    assert (busy.name, busy.roles, idle.roles) == ("host:1", ("online",), ("batch",))
    assert [(work.lane, work.own_jobs) for work in busy.work] == [("m@1", 0)]
    assert idle.work == ()
    assert busy.version is not None


def test_of_the_lanes_of_all_owners_so_many_are_counted(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.overview.MOST_ENTRIES", 3)
    for owner in ("red", "blue"):
        for model in ("a", "b"):
            job = submission(owner=owner)
            store.submit(replace(job, spec=replace(job.spec, model=model)))

    assert waiting(seen(store, "red")) == {"online": (2, 0)}
    assert waiting(seen(store)) == {"online": (3, 0)}


@pytest.mark.parametrize("jobs", [pytest.param(5, id="few"), pytest.param(300, id="many")])
def test_of_all_jobs_in_stages_so_many_are_read(store: JobStore, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setattr("shared.overview.MOST_ENTRIES", 4)
    for _ in range(jobs):
        by_hand.submit(store)
    client = store.connections.client
    client.config_resetstat()

    assert waiting(seen(store)) == {"batch": (4, 0)}

    statistics = client.info("commandstats")
    assert "cmdstat_smembers" not in statistics
    assert statistics["cmdstat_hmget"]["calls"] < 20


def test_of_another_owner_s_work_neither_model_nor_jobs_are_told(store: JobStore) -> None:
    beat_once(store.connections, store.keys, "online", "host:1", "f00")
    store.submit(submission(owner="red"))
    assert pull(store, worker="host-77-f00") is not None

    told = {}
    for owner in ("red", "blue", EVERYBODY):
        (work,) = overview_document(seen(store, owner), owner, {})["workers"][0]["work"]
        told[owner] = (work["kind"], work["model"], work["jobs"])

    assert told == {"red": ("predict", "m@1", 1), "blue": ("predict", None, 0), EVERYBODY: ("predict", "m@1", 1)}


def test_a_job_that_is_gone_is_no_failure_any_more(store: JobStore) -> None:
    job_id = fail(store, "default")
    store.delete(job_id)

    assert seen(store).failures == ()


@pytest.mark.parametrize(
    ("milliseconds", "share"), [pytest.param(1, 0.5, id="the-least"), pytest.param(123_456, 0.95, id="minutes")]
)
def test_a_time_is_told_to_within_a_fifth(store: JobStore, milliseconds: int, share: float) -> None:
    job = submission()
    store.submit(job)
    client, now = store.connections.client, store.connections.client.time()
    client.hset(store.keys.job(job.id), "created", now[0] * 1000 + now[1] // 1000 - milliseconds)
    unit = pull(store)
    assert unit is not None
    store.commit(unit.fence, succeed(unit))

    (told,) = [quantile for slot in seen(store).slots if (quantile := slot.quantile_seconds(share)) is not None]

    # The commit itself took a moment more.
    assert 0.8 * milliseconds / 1000 < told < 1.2 * milliseconds / 1000 + 5


def test_what_was_counted_does_not_stay(store: JobStore) -> None:
    fail(store, "red")

    client, base = store.connections.client, store.keys.base
    left = {key: client.ttl(key) for kind in ("slot:*", "failures*") for key in client.keys(f"{base}{kind}")}

    assert len(left) == 3
    assert all(0 < seconds <= 7 * 86_400 for seconds in left.values())


def test_quantiles_follow_the_buckets_of_all_owners() -> None:
    slot = Slot(at=datetime.now(UTC))
    slot.add(b"3 0 3 0:2 20:1")
    slot.add(b"1 1 9 20:1")

    assert (slot.jobs, slot.failed, slot.rows) == (4, 1, 12)
    assert slot.quantile_seconds(0.5) == pytest.approx(0.00119, rel=0.01)
    assert slot.quantile_seconds(0.95) == pytest.approx(1.218, rel=0.01)
    assert Slot(at=slot.at).quantile_seconds(0.5) is None
