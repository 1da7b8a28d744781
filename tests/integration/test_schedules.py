"""Schedules in Redis, and the schedulers that run them: each run once, whoever is down, slow or at it too."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.connection import Connections
from shared.drift import Window
from shared.errors import (
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    ScheduleChanged,
    ScheduleNotFound,
    ServiceError,
    StorageFull,
)
from shared.schedule import DriftPolicy, Run, Schedule
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, schedule_key
from shared.store import JobStore
from worker.schedules import Scheduler, Surroundings

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NIGHTLY = Schedule(
    cron="0 3 * * *", time_zone="UTC", when_drifted=None, enabled=True,
    train={"input": {"uri": "file:///data/home.csv"}, "target": "price"},
)  # fmt: skip
DRIFTING = replace(NIGHTLY, cron=None, when_drifted=DriftPolicy(windows=3, drifted=2))


@dataclass
class Service:
    """What a scheduler has around it: a store that makes one job for each key, as the real one does."""

    jobs: dict[str, str] = field(default_factory=dict)  # key -> job
    refusals: list[ServiceError] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    basis: str | None = None
    history: list[Window] = field(default_factory=list)  # newest first
    version: int | None = 1
    submitted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, model: str, schedule: Schedule, idempotency: tuple[str, str], request_id: str) -> str:
        with self.lock:
            if self.refusals:
                raise self.refusals.pop(0)
            self.submitted.append((model, schedule.train))
            return self.jobs.setdefault(idempotency[0], f"job of {request_id}")

    def window(self, *, drifted: bool | None = True, version: int = 1) -> None:
        """A batch job ends."""
        number = len(self.history) + 1
        at = (START + number * MINUTE).isoformat().replace("+00:00", "Z")
        self.history.insert(
            0,
            Window(
                job_id=f"w{number}", version=version, at=at, rows=1000, max_psi=0.3, drifted=drifted,
                drifted_features=[], features={},
            ),
        )  # fmt: skip

    @property
    def around(self) -> Surroundings:
        """As a scheduler takes it."""
        return Surroundings(
            submit=self.submit,
            windows=lambda _, most: self.history[:most],
            production=lambda _: self.version,
            unfinished=lambda job_id: job_id in self.running,
            basis=lambda *_: self.basis,
            has_made=lambda _, job_id: job_id not in self.failed,
        )


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedules(store: JobStore, folder: Path, clock: Clock) -> Schedules:
    """Schedules of the models m and n."""
    store.connections.client.sadd(store.keys.models, "m", "n")
    return Schedules(store.connections, store.keys, Storage((folder / "storage").as_uri()), clock)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def scheduler(schedules: Schedules, service: Service, settings: Settings) -> Scheduler:
    return Scheduler(schedules, service.around, settings)


def due_at(service: Service) -> list[datetime]:
    """The times whose jobs were made, in order."""
    millis = [int(job.rpartition(":")[2]) for job in service.jobs.values()]
    return [datetime.fromtimestamp(moment / 1000, UTC) for moment in millis]


def ticks(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """Times at which a scheduler looks."""
    return itertools.takewhile(lambda moment: moment < end, (start + number * step for number in itertools.count()))


def last_run(schedules: Schedules) -> Run:
    run = schedules.get("m").last_run
    assert run is not None
    return run


# By the clock


def test_in_a_month_of_ticks_each_time_is_run_once_and_at_once(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)

    for moment in ticks(START, START + 31 * DAY, 13 * MINUTE):
        scheduler.run(moment)

    assert due_at(service) == [START + 3 * HOUR + day * DAY for day in range(31)]
    assert len(service.submitted) == 31
    assert service.submitted[0] == ("m", NIGHTLY.train)
    assert schedules.get("m").next_run_at == START + 31 * DAY + 3 * HOUR


@pytest.mark.parametrize(
    ("day", "due"),
    [
        pytest.param(datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC), id="forward"),
        pytest.param(datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC), id="back"),
    ],
)
def test_on_a_day_when_clocks_change_a_schedule_runs_once(
    schedules: Schedules, scheduler: Scheduler, service: Service, clock: Clock, day: datetime, due: datetime
) -> None:
    clock.now = day - HOUR
    schedules.put("m", replace(NIGHTLY, cron="30 2 * * *", time_zone="Europe/Berlin"))

    for moment in ticks(day, day + 12 * HOUR, 5 * MINUTE):
        scheduler.run(moment)

    assert due_at(service) == [due]


def test_what_a_run_became_can_be_read(schedules: Schedules, scheduler: Scheduler) -> None:
    schedules.put("m", NIGHTLY)

    scheduler.run(START + 3 * HOUR)

    run = last_run(schedules)
    assert (run.due_at, run.cause, run.code, run.message) == (START + 3 * HOUR, "time", None, None)
    assert run.job_id
    assert schedules.get("m").job_id == run.job_id


def test_a_scheduler_that_died_after_the_submit_has_made_the_same_job(
    schedules: Schedules, scheduler: Scheduler, service: Service, store: JobStore
) -> None:
    schedules.put("m", NIGHTLY)
    scheduler.run(START + 3 * HOUR)
    # As if it had not come to the note.
    due = int((START + 3 * HOUR).timestamp() * 1000)
    store.connections.client.zadd(store.keys.schedules, {"m": due})

    scheduler.run(START + 3 * HOUR + MINUTE)

    assert len(service.submitted) == 2
    assert len(service.jobs) == 1
    assert schedules.get("m").next_run_at == START + DAY + 3 * HOUR


def test_a_change_between_submit_and_note_makes_no_second_job_for_the_same_time(
    schedules: Schedules, scheduler: Scheduler, service: Service, store: JobStore
) -> None:
    schedules.put("m", NIGHTLY)
    scheduler.run(START + 3 * HOUR)
    store.connections.client.zadd(store.keys.schedules, {"m": int((START + 3 * HOUR).timestamp() * 1000)})
    schedules.put("m", replace(NIGHTLY, train={**NIGHTLY.train, "target": "rent"}))

    scheduler.run(START + 3 * HOUR + MINUTE)

    assert len(service.jobs) == 1


def test_many_schedulers_at_once_run_each_time_once(
    schedules: Schedules, service: Service, settings: Settings, store: JobStore, folder: Path, clock: Clock
) -> None:
    models = [f"m{number}" for number in range(5)]
    store.connections.client.sadd(store.keys.models, *models)
    for model in models:
        schedules.put(model, replace(NIGHTLY, cron="*/10 * * * *"))
    moments = list(ticks(START, START + 3 * HOUR, 10 * MINUTE))
    barrier = threading.Barrier(6)

    def run(_: int) -> None:
        connections = Connections(settings.redis_address, timeout_seconds=5)
        own = Schedules(connections, store.keys, Storage((folder / "storage").as_uri()), clock)
        scheduler = Scheduler(own, service.around, settings)
        for moment in moments:
            barrier.wait(60)
            scheduler.run(moment)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(6)))

    assert len(service.jobs) == len(models) * (len(moments) - 1)
    assert sorted(due_at(service)) == sorted(moment for moment in moments[1:] for _ in models)
    assert {schedules.get(model).next_run_at for model in models} == {START + 3 * HOUR}


def test_schedulers_whose_clocks_differ_run_each_time_once(
    schedules: Schedules, service: Service, settings: Settings
) -> None:
    schedules.put("m", replace(NIGHTLY, cron="*/7 * * * *"))
    fast, slow = (Scheduler(schedules, service.around, settings) for _ in range(2))

    for moment in ticks(START, START + DAY, 3 * MINUTE):
        fast.run(moment + 5 * MINUTE)
        slow.run(moment)

    assert len(due_at(service)) == len(set(due_at(service)))
    assert set(due_at(service)) == set(ticks(START, START + DAY, HOUR)) - {START} | {
        hour + 7 * number * MINUTE for hour in ticks(START, START + DAY, HOUR) for number in range(1, 9)
    } | {START + DAY}


def test_after_a_pause_the_newest_missed_time_is_run_and_no_other(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", replace(NIGHTLY, cron="0 * * * *"))

    scheduler.run(START + 50 * HOUR + 59 * MINUTE)
    scheduler.run(START + 50 * HOUR + 59 * MINUTE)

    assert due_at(service) == [START + 50 * HOUR]
    assert schedules.get("m").next_run_at == START + 51 * HOUR


def test_a_time_that_was_missed_for_too_long_is_skipped(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)

    scheduler.run(START + 2 * DAY + 4 * HOUR + MINUTE)

    assert service.jobs == {}
    assert (last_run(schedules).code, last_run(schedules).due_at) == ("missed", START + 2 * DAY + 3 * HOUR)
    assert schedules.get("m").next_run_at == START + 3 * DAY + 3 * HOUR


def test_nothing_is_run_that_the_store_may_have_forgotten_to_have_run(
    schedules: Schedules, service: Service, settings: Settings
) -> None:
    forgetful = settings.model_copy(update={"schedule_grace_seconds": 7200, "idempotency_seconds": 600})
    schedules.put("m", NIGHTLY)

    Scheduler(schedules, service.around, forgetful).run(START + 3 * HOUR + 11 * MINUTE)

    assert last_run(schedules).code == "missed"


def test_a_run_whose_outcome_is_known_is_skipped_until_something_changes(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    service.basis = "monday's file"
    runs = []
    for night in range(4):
        service.basis = "tuesday's file" if night == 3 else service.basis
        scheduler.run(START + night * DAY + 3 * HOUR)
        runs.append(last_run(schedules))

    assert [run.code for run in runs] == [None, "unchanged", "unchanged", None]
    assert (runs[0].job_id or "nobody") in (runs[2].message or "")
    assert due_at(service) == [START + 3 * HOUR, START + 3 * DAY + 3 * HOUR]


def test_a_job_that_failed_is_made_again_of_the_same(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    service.basis = "monday's file"
    scheduler.run(START + 3 * HOUR)
    service.failed.add(last_run(schedules).job_id or "")

    scheduler.run(START + DAY + 3 * HOUR)

    assert due_at(service) == [START + 3 * HOUR, START + DAY + 3 * HOUR]


def test_a_night_that_was_missed_does_not_forget_of_what_the_last_job_was_made(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    service.basis = "monday's file"
    scheduler.run(START + 3 * HOUR)
    scheduler.run(START + 2 * DAY + 2 * HOUR)
    missed = last_run(schedules)

    scheduler.run(START + 2 * DAY + 3 * HOUR)

    assert (missed.code, last_run(schedules).code) == ("missed", "unchanged")


def test_drift_alone_does_not_repeat_what_is_known(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", DRIFTING)
    service.basis = "monday's file"
    for _ in range(6):
        service.window()
        scheduler.run(START)

    assert len(service.jobs) == 1
    assert last_run(schedules).code == "unchanged"


def test_while_the_run_before_goes_on_the_next_is_skipped(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    scheduler.run(START + 3 * HOUR)
    first = last_run(schedules).job_id or ""
    service.running.add(first)

    scheduler.run(START + DAY + 3 * HOUR)
    skipped = last_run(schedules)
    service.running.clear()
    scheduler.run(START + 2 * DAY + 3 * HOUR)

    assert (skipped.code, skipped.job_id) == ("still_running", None)
    assert first in (skipped.message or "")
    assert due_at(service) == [START + 3 * HOUR, START + 2 * DAY + 3 * HOUR]


def test_a_refused_run_says_why_and_is_tried_again_when_it_is_due_next(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    service.refusals.append(ModelNotFound("There is no model 'm'."))

    scheduler.run(START + 3 * HOUR)
    refused = last_run(schedules)
    scheduler.run(START + 3 * HOUR + MINUTE)
    scheduler.run(START + DAY + 3 * HOUR)

    assert (refused.code, refused.message) == ("model_not_found", "There is no model 'm'.")
    assert due_at(service) == [START + DAY + 3 * HOUR]


@pytest.mark.parametrize("refusal", [QueueFull("5 jobs are waiting."), StorageFull()], ids=["queue", "storage"])
def test_a_run_that_only_finds_no_room_is_tried_again_soon(
    schedules: Schedules, scheduler: Scheduler, service: Service, refusal: ServiceError
) -> None:
    schedules.put("m", NIGHTLY)
    service.refusals += [refusal, refusal]

    scheduler.run(START + 3 * HOUR)
    refused = last_run(schedules)
    scheduler.run(START + 3 * HOUR + MINUTE)
    scheduler.run(START + 3 * HOUR + 2 * MINUTE)

    assert refused.code == refusal.code
    assert due_at(service) == [START + 3 * HOUR]
    assert last_run(schedules).code is None


def test_a_run_that_finds_no_room_for_too_long_is_given_up(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", NIGHTLY)
    service.refusals += [QueueFull()] * 1000

    for moment in ticks(START + 3 * HOUR, START + 5 * HOUR, MINUTE):
        scheduler.run(moment)

    assert last_run(schedules).code == "missed"
    assert len(service.refusals) == 1000 - 61


def test_one_schedule_that_cannot_be_run_keeps_no_other_from_it(
    schedules: Schedules, scheduler: Scheduler, service: Service, store: JobStore
) -> None:
    schedules.put("m", NIGHTLY)
    schedules.put("n", NIGHTLY)
    store.connections.client.hset(store.keys.schedule("m"), "schedule", b'{"cron": 7}')

    scheduler.run(START + 3 * HOUR)

    assert [model for model, _ in service.submitted] == ["n"]


def test_a_time_zone_that_this_machine_does_not_know_is_said_in_the_last_run(
    schedules: Schedules, scheduler: Scheduler, service: Service, store: JobStore
) -> None:
    schedules.put("m", NIGHTLY)
    key, client = store.keys.schedule("m"), store.connections.client
    client.hset(key, "schedule", client.hget(key, "schedule").replace(b'"UTC"', b'"Mars/Base"'))

    scheduler.run(START + 3 * HOUR)
    scheduler.run(START + 3 * HOUR + MINUTE)

    assert service.jobs == {}
    assert last_run(schedules).code == "unknown_time_zone"
    assert schedules.get("m").next_run_at == START + 3 * HOUR


# By drift


@pytest.mark.parametrize(
    ("windows", "runs"),
    [
        pytest.param([True, False, True], 1, id="enough"),
        pytest.param([True, True, False], 1, id="enough-not-the-newest"),
        pytest.param([True, False, False], 0, id="too-few-drifted"),
        pytest.param([True, True], 0, id="too-few-windows"),
        pytest.param([True, True, False, False, False], 0, id="long-ago"),
        pytest.param([True, None, True, None, False], 1, id="some-without-rows-enough"),
        pytest.param([], 0, id="none"),
    ],
)
def test_drift_starts_a_run_when_enough_of_the_last_windows_drifted(
    schedules: Schedules, scheduler: Scheduler, service: Service, windows: list[bool | None], runs: int
) -> None:
    schedules.put("m", DRIFTING)
    for drifted in windows:
        service.window(drifted=drifted)

    scheduler.run(START)

    assert len(service.jobs) == runs


def test_the_same_windows_start_no_second_run(schedules: Schedules, scheduler: Scheduler, service: Service) -> None:
    schedules.put("m", DRIFTING)
    counts = []

    for _ in range(7):
        service.window()
        scheduler.run(START)
        scheduler.run(START)
        counts.append(len(service.jobs))

    assert counts == [0, 0, 1, 1, 1, 2, 2]
    assert last_run(schedules).cause == "drift"


def test_windows_of_a_version_that_serves_no_more_do_not_count(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", DRIFTING)
    service.window()
    service.window()
    service.version = 2
    service.window(version=2)

    scheduler.run(START)
    before = len(service.jobs)
    service.window(version=2)
    service.window(version=2)
    scheduler.run(START)

    assert (before, len(service.jobs)) == (0, 1)


def test_drift_waits_for_a_run_that_goes_on(schedules: Schedules, scheduler: Scheduler, service: Service) -> None:
    schedules.put("m", replace(DRIFTING, cron="0 3 * * *"))
    scheduler.run(START + 3 * HOUR)
    service.running.add(last_run(schedules).job_id or "")
    for _ in range(3):
        service.window()

    scheduler.run(START + 4 * HOUR)
    meanwhile = len(service.jobs)
    service.running.clear()
    scheduler.run(START + 4 * HOUR)

    assert (meanwhile, len(service.jobs)) == (1, 2)


def test_schedulers_that_see_different_windows_make_one_job(
    schedules: Schedules, service: Service, settings: Settings
) -> None:
    schedules.put("m", DRIFTING)
    for _ in range(4):
        service.window()
    older = service.history[1:]
    behind = replace(service.around, windows=lambda _, most: older[:most])
    stale = schedules.get("m")

    Scheduler(schedules, service.around, settings).run(START)
    Scheduler(schedules, behind, settings)._look(stale, START)

    assert len(service.submitted) == 2
    assert len(service.jobs) == 1
    assert schedules.get("m").window == "w4"


def test_a_refused_run_of_drift_is_tried_again_with_the_next_window(
    schedules: Schedules, scheduler: Scheduler, service: Service
) -> None:
    schedules.put("m", DRIFTING)
    for _ in range(3):
        service.window()
    service.refusals.append(InvalidRequest("There is no file."))

    scheduler.run(START)
    refused = last_run(schedules)
    scheduler.run(START)
    before = len(service.jobs)
    service.window()
    scheduler.run(START)

    assert (refused.code, before, len(service.jobs)) == ("invalid_request", 0, 1)


# Keeping and removing


@pytest.mark.parametrize("schedule", [NIGHTLY, DRIFTING], ids=["time", "drift"])
@pytest.mark.parametrize("how", ["deleted", "disabled"])
def test_a_schedule_that_is_gone_or_off_starts_nothing(
    schedules: Schedules, scheduler: Scheduler, service: Service, schedule: Schedule, how: str
) -> None:
    schedules.put("m", schedule)
    for _ in range(3):
        service.window()

    if how == "deleted":
        schedules.delete("m")
    else:
        schedules.put("m", replace(schedule, enabled=False))
    scheduler.run(START + 3 * HOUR)

    assert service.jobs == {}


def test_other_times_are_in_force_at_once(schedules: Schedules, scheduler: Scheduler, service: Service) -> None:
    schedules.put("m", NIGHTLY)

    schedules.put("m", replace(NIGHTLY, cron="0 5 * * *"))
    scheduler.run(START + 3 * HOUR)
    scheduler.run(START + 5 * HOUR)

    assert due_at(service) == [START + 5 * HOUR]


def test_a_change_of_anything_but_the_times_loses_no_run_that_is_due(
    schedules: Schedules, scheduler: Scheduler, service: Service, clock: Clock
) -> None:
    schedules.put("m", NIGHTLY)
    clock.now = START + 3 * HOUR + timedelta(seconds=1)

    schedules.put("m", replace(NIGHTLY, train={**NIGHTLY.train, "target": "rent"}))
    scheduler.run(clock.now)

    assert due_at(service) == [START + 3 * HOUR]
    assert service.submitted[0][1]["target"] == "rent"


def test_a_run_of_a_schedule_that_was_deleted_meanwhile_leaves_nothing(schedules: Schedules) -> None:
    schedules.put("m", NIGHTLY)
    record = schedules.get("m")
    schedules.delete("m")

    noted = schedules.advance(record, START + DAY, Run(due_at=START, cause="time", job_id="j"))

    assert noted is False
    assert schedules.due(START + 9 * DAY) == []
    with pytest.raises(ScheduleNotFound):
        schedules.get("m")


def test_a_change_keeps_what_became_of_the_last_run(schedules: Schedules, scheduler: Scheduler) -> None:
    schedules.put("m", NIGHTLY)
    scheduler.run(START + 3 * HOUR)
    before = schedules.get("m")

    schedules.put("m", replace(NIGHTLY, cron="0 5 * * *"))

    after = schedules.get("m")
    assert (after.last_run, after.job_id, after.revision) == (before.last_run, before.job_id, before.revision + 1)


def test_a_model_that_is_not_there_gets_no_schedule(schedules: Schedules) -> None:
    with pytest.raises(ModelNotFound):
        schedules.put("other", NIGHTLY)


@pytest.mark.parametrize("change", ["put", "delete"])
def test_of_many_who_change_what_they_read_one_succeeds(schedules: Schedules, change: str) -> None:
    schedules.put("m", NIGHTLY)
    revision = schedules.get("m").revision

    def attempt(number: int) -> bool:
        try:
            if change == "put":
                schedules.put("m", replace(NIGHTLY, cron=f"{number} 3 * * *"), expected=[revision])
            else:
                schedules.delete("m", expected=[revision])
        except (ScheduleChanged, ScheduleNotFound):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


def test_a_schedule_made_after_a_deletion_has_another_revision(schedules: Schedules) -> None:
    schedules.put("m", NIGHTLY)
    first = schedules.get("m").revision
    schedules.delete("m")

    with pytest.raises(ScheduleChanged):
        schedules.put("m", NIGHTLY, expected=[first])
    with pytest.raises(ScheduleChanged):
        schedules.put("m", NIGHTLY, expected="*")
    schedules.put("m", NIGHTLY)

    assert schedules.get("m").revision > first


def test_the_clock_is_that_of_redis_unless_another_is_given(store: JobStore, folder: Path) -> None:
    schedules = Schedules(store.connections, store.keys, Storage(folder.as_uri()))

    seconds, _ = store.connections.client.time()

    assert abs(schedules.now().timestamp() - seconds) < 60


# The copy in storage


def test_schedules_are_restored_from_storage_alone(schedules: Schedules, store: JobStore, clock: Clock) -> None:
    schedules.put("m", NIGHTLY)
    schedules.put("m", DRIFTING)
    schedules.put("n", NIGHTLY)
    before = {model: schedules.get(model) for model in ("m", "n")}
    for model in before:
        schedules.copy(model)
    store.connections.client.flushall()
    store.connections.client.sadd(store.keys.models, "m", "n", "o")
    clock.now = START + 5 * DAY

    found = schedules.rebuild(["m", "n", "o"])

    assert found == {"m": None, "n": None}
    assert {model: schedules.get(model).schedule for model in before} == {"m": DRIFTING, "n": NIGHTLY}
    assert all(schedules.get(model).revision >= before[model].revision for model in before)
    assert schedules.get("n").next_run_at == START + 5 * DAY + 3 * HOUR
    assert schedules.watching() == ["m"]


def test_a_restoration_changes_nothing_that_redis_knows(schedules: Schedules) -> None:
    schedules.put("m", NIGHTLY)
    schedules.copy("m")
    schedules.put("m", DRIFTING)
    schedules.put("n", NIGHTLY)
    schedules.copy("n")
    schedules.delete("n")

    found = schedules.rebuild(["m", "n"])

    assert found == {}
    assert schedules.get("m").schedule == DRIFTING
    with pytest.raises(ScheduleNotFound):
        schedules.get("n")


def test_a_deleted_schedule_has_no_copy(schedules: Schedules, folder: Path) -> None:
    schedules.put("m", NIGHTLY)
    schedules.copy("m")
    copy = folder / "storage" / schedule_key("m")
    was_there = copy.exists()

    schedules.delete("m")
    schedules.copy("m")

    assert (was_there, copy.exists()) == (True, False)


def test_a_change_whose_copy_was_not_written_is_noted_for_the_janitor(schedules: Schedules, folder: Path) -> None:
    copy = folder / "storage" / schedule_key("m")

    schedules.put("m", NIGHTLY)
    after_put = schedules.unsaved()
    schedules.copy("m")
    after_copy = (schedules.unsaved(), copy.exists())
    schedules.delete("m")
    after_deletion = (schedules.unsaved(), copy.exists())
    schedules.copy("m")

    assert after_put == ["m"]
    assert after_copy == ([], True)
    assert after_deletion == (["m"], True)
    assert (schedules.unsaved(), copy.exists()) == ([], False)


def test_an_emptied_redis_does_not_remove_the_copy_of_a_schedule(
    schedules: Schedules, store: JobStore, folder: Path
) -> None:
    schedules.put("m", NIGHTLY)
    schedules.copy("m")
    store.connections.client.flushall()

    schedules.copy("m")

    assert (folder / "storage" / schedule_key("m")).exists()
    assert schedules.unsaved() == []


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"{}", b'{"model": "m", "revision": 1, "schedule": {"cron": 1}}'],
    ids=["empty", "cut-off", "list", "object", "fields"],
)
def test_a_damaged_copy_is_named_and_the_rest_restored(
    schedules: Schedules, store: JobStore, folder: Path, damaged: bytes
) -> None:
    for model in ("m", "n"):
        schedules.put(model, NIGHTLY)
        schedules.copy(model)
    (folder / "storage" / schedule_key("m")).write_bytes(damaged)
    store.connections.client.delete(store.keys.schedule("m"), store.keys.schedule("n"), store.keys.schedules)

    found = schedules.rebuild(["m", "n"])

    assert found["n"] is None
    assert schedule_key("m") in (found["m"] or "")


def test_storage_that_cannot_be_written_leaves_the_schedule_in_force(schedules: Schedules, folder: Path) -> None:
    (folder / "storage").mkdir(exist_ok=True)
    (folder / "storage" / "models").write_bytes(b"in the way")
    schedules.put("m", NIGHTLY)

    schedules.save("m")

    assert schedules.get("m").schedule == NIGHTLY
