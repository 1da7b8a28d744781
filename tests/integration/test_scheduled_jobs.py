"""Schedules over the real store, registry and files: what they submit are train jobs like those of clients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.files import Files
from shared.inputs import Inputs
from shared.job import Job
from shared.queue import TRAIN
from shared.schedule import DriftPolicy, Schedule
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from shared.webhooks import Webhooks
from tests.conftest import CaptureLogs
from tests.models import register_moody, registry_of
from tests.processes import RedisServer
from worker.basis import basis_of, has_made
from worker.schedules import Scheduler, submitter, surroundings

START = datetime(2026, 3, 1, tzinfo=UTC)
DUE = START + timedelta(hours=3)
RECEIVER = "https://93.184.216.34/foretell"


@dataclass
class Place:
    """A service with the model `moody`, whose schedule is due at DUE."""

    settings: Settings
    store: JobStore
    schedules: Schedules
    rung: list[str]
    data: Path

    def scheduler(self) -> Scheduler:
        """One of any number."""
        storage, registry = Storage.of(self.settings), registry_of(self.settings)
        files, inputs = Files(self.store, self.settings), Inputs(self.settings, storage)
        submit = submitter(self.store, registry, files, inputs, self.webhooks, self.rung.append, self.settings)
        around = surroundings(self.store, registry, submit, basis_of(registry, files, inputs))
        return Scheduler(self.schedules, around, self.settings)

    @property
    def webhooks(self) -> Webhooks:
        """Of which one may wait."""
        settings = self.settings.model_copy(update={"max_waiting_webhooks": 1})
        return Webhooks(self.store.connections, self.store.keys, settings)

    def keep(self, *, cron: str | None = "0 3 * * *", when_drifted: DriftPolicy | None = None, **more: Any) -> None:
        """Keep the schedule; `more` is said of the training."""
        train = {"input": {"uri": self.data.as_uri()}, "target": "y", "metadata": {"by": "schedule"}}
        schedule = Schedule(cron=cron, time_zone="UTC", when_drifted=when_drifted, enabled=True, train=train | more)
        self.schedules.put("moody", schedule)

    def jobs(self) -> list[Job]:
        """All of them."""
        return self.store.page(limit=10)[0]


@pytest.fixture
def place(make_settings: Callable[..., Settings], folder: Path) -> Iterator[Place]:
    settings = make_settings(input_prefixes=folder.as_uri())
    server = RedisServer(settings)
    register_moody(settings)
    registry = registry_of(settings)
    store = JobStore(registry._connections, settings)
    (folder / "rows.csv").write_bytes(b"x,y\n1,2\n3,6\n")
    schedules = Schedules(store.connections, store.keys, Storage.of(settings), lambda: START)
    yield Place(settings, store, schedules, [], folder / "rows.csv")
    server.stop()


def test_a_schedule_submits_a_train_job(place: Place) -> None:
    place.keep(held_out=0.3)

    place.scheduler().run(DUE)

    (job,) = place.jobs()
    assert (job.kind, job.spec.model, job.spec.metadata) == ("train", "moody", {"by": "schedule"})
    assert job.spec.train is not None
    assert (job.spec.train.target, job.spec.train.held_out) == ("y", 0.3)
    assert job.spec.train.input.uri == place.data.as_uri()
    assert job.spec.request_id == f"schedule:moody:{DUE.timestamp() * 1000:.0f}"
    assert place.schedules.get("moody").job_id == job.id
    assert place.rung == [TRAIN]


def test_the_jobs_of_a_schedule_are_those_of_its_owner_and_name_who_wanted_them(place: Place) -> None:
    train = {"input": {"uri": place.data.as_uri()}, "target": "y"}
    said: dict[str, Any] = {"owner": "team-a", "submitted_by": "nightly (team-a)", "any_model": True}
    schedule = Schedule(cron="0 3 * * *", time_zone="UTC", when_drifted=None, enabled=True, train=train, **said)
    place.schedules.put("moody", schedule)
    place.schedules.save("moody")
    place.store.connections.client.delete(place.store.keys.schedule("moody"))
    place.schedules.rebuild(["moody"])

    place.scheduler().run(DUE)

    (job,) = place.store.page(owner="team-a", limit=10)[0]
    assert {name: getattr(job.spec, name) for name in said} == said
    assert place.jobs() == []


def test_schedulers_that_are_at_it_together_submit_one_job(place: Place) -> None:
    place.keep()
    stale = place.schedules.get("moody")

    for _ in range(3):
        place.scheduler()._run_due(stale, DUE)

    assert len(place.jobs()) == 1


def test_no_second_job_is_submitted_before_the_first_is_done(place: Place) -> None:
    place.keep()
    scheduler = place.scheduler()
    scheduler.run(DUE)
    (first,) = place.jobs()

    scheduler.run(DUE + timedelta(days=1))
    skipped = place.schedules.get("moody").last_run
    place.store.cancel(first.id)
    scheduler.run(DUE + timedelta(days=2))

    assert skipped is not None
    assert skipped.code == "still_running"
    assert len(place.jobs()) == 2


def same(_: Place) -> None:
    """Nothing changes."""


def longer(place: Place) -> None:
    place.data.write_bytes(b"x,y\n1,2\n3,6\n4,8\n")


def other_recipe(place: Place) -> None:
    place.keep(held_out=0.5)


def promoted(place: Place) -> None:
    register_moody(place.settings)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        pytest.param(same, True, id="nothing"),
        pytest.param(longer, False, id="file"),
        pytest.param(other_recipe, False, id="options"),
        pytest.param(promoted, False, id="champion"),
    ],
)
def test_a_basis_is_another_when_file_options_or_champion_are(
    place: Place, change: Callable[[Place], None], is_same: bool
) -> None:
    place.keep()

    def basis() -> str | None:
        registry, storage = registry_of(place.settings), Storage.of(place.settings)
        told = basis_of(registry, Files(place.store, place.settings), Inputs(place.settings, storage))
        return told("moody", place.schedules.get("moody").schedule)

    before = basis()
    change(place)

    assert before is not None
    assert (basis() == before) is is_same


def test_a_job_has_made_the_versions_that_name_it(place: Place) -> None:
    registry = registry_of(place.settings)
    registry.add(replace(registry.manifest("moody", 1), version=registry.reserve("moody", "j1"), source_job="j1"), b"a")

    assert [has_made(registry, *who) for who in (("moody", "j1"), ("moody", "j2"), ("nobody", "j1"))] == [
        True, False, False,
    ]  # fmt: skip


def test_a_file_that_is_gone_is_said_in_the_last_run_and_looked_for_when_it_is_due_next(place: Place) -> None:
    place.keep()
    scheduler = place.scheduler()
    content = place.data.read_bytes()
    place.data.unlink()

    scheduler.run(DUE)
    refused = place.schedules.get("moody").last_run
    place.data.write_bytes(content)
    scheduler.run(DUE + timedelta(days=1))

    assert refused is not None
    assert place.data.name in (refused.message or "")
    assert (refused.code, refused.job_id) == ("uri_not_found", None)
    assert len(place.jobs()) == 1


def test_what_another_version_of_the_service_kept_is_refused_by_its_field(place: Place) -> None:
    place.keep(colour="red")

    place.scheduler().run(DUE)

    run = place.schedules.get("moody").last_run
    assert run is not None
    assert "colour" in (run.message or "")


def test_a_full_queue_delays_a_run_and_does_not_lose_it(place: Place) -> None:
    place.keep()
    place.store._settings = place.settings.model_copy(update={"max_batch_jobs": 1})
    scheduler = place.scheduler()
    scheduler.run(DUE)
    (first,) = place.jobs()
    place.schedules.put("moody", replace(place.schedules.get("moody").schedule, cron="5 3 * * *"))
    place.store.connections.client.hdel(place.store.keys.schedule("moody"), "job")

    scheduler.run(DUE + timedelta(minutes=5))
    refused = place.schedules.get("moody").last_run
    place.store.cancel(first.id)
    scheduler.run(DUE + timedelta(minutes=6))

    assert refused is not None
    assert refused.code == "queue_full"
    assert len(place.jobs()) == 2


def test_a_run_whose_end_could_not_be_told_waits_until_fewer_webhooks_do(
    place: Place, capture_logs: CaptureLogs
) -> None:
    place.keep(webhook={"url": RECEIVER})
    place.webhooks.put("default", RECEIVER, "webhook.test", b"{}")
    scheduler = place.scheduler()

    with capture_logs() as logged:
        scheduler.run(DUE)
        scheduler.run(DUE + timedelta(seconds=1))
    refused, jobs = place.schedules.get("moody").last_run, place.jobs()
    place.store.connections.client.delete(f"{place.store.keys.base}deliveries:default")
    scheduler.run(DUE + timedelta(seconds=2))

    assert refused is not None
    assert (refused.code, refused.job_id, jobs) == ("limit_reached", None, [])
    assert "webhooks wait" in (refused.message or "")
    assert [(line["event"], line["code"]) for line in logged] == [("schedule.not_started", "limit_reached")]
    assert len(place.jobs()) == 1


def test_a_run_that_was_submitted_already_is_noted_although_too_many_webhooks_wait(place: Place) -> None:
    place.keep(webhook={"url": RECEIVER})
    place.scheduler().run(DUE)
    (job,) = place.jobs()
    place.schedules.delete("moody")  # as if nothing of it had been noted
    place.store.connections.client.delete(place.store.keys.schedule("moody"))
    place.keep(webhook={"url": RECEIVER})
    place.webhooks.put("default", RECEIVER, "webhook.test", b"{}")

    place.scheduler().run(DUE)

    assert place.schedules.get("moody").job_id == job.id


@pytest.mark.parametrize(("version", "jobs"), [pytest.param(1, 1, id="production"), pytest.param(7, 0, id="another")])
def test_windows_that_batch_jobs_left_start_a_training(place: Place, version: int, jobs: int) -> None:
    place.keep(cron=None, when_drifted=DriftPolicy(windows=2, drifted=2))
    for number in (1, 2):
        window = {"job_id": f"b{number}", "version": version, "drifted": True}
        entry = b"%d %s" % (START.timestamp() * 1000 + number, orjson.dumps(window))
        place.store.connections.client.lpush(place.store.keys.drift("moody"), entry)

    for _ in range(2):
        place.scheduler().run(START)

    assert len(place.jobs()) == jobs
    assert place.schedules.get("moody").window == ("b2" if jobs else None)
