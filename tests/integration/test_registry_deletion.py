"""Deleting a version: refused while anything needs it, and final."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from shared.batch import BatchOptions, Input
from shared.batch_store import BatchStore
from shared.drift import Drift
from shared.errors import JobFinished, ModelNotFound, ScheduleNotFound, StorageFailed, VersionInUse
from shared.job import Status, new_job_id
from shared.queue import BATCH, ONLINE, TRAIN
from shared.records import AliasMoved, Outcome, Submission
from shared.registry import Registry
from shared.schedule import DriftPolicy, Schedule
from shared.schedules import Schedules
from shared.schema import SCHEMA
from shared.settings import Settings
from shared.storage import Storage, aliases_key, artifact_key, version_prefix
from shared.store import JobStore
from shared.training import Recipe, TrainOptions
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.integration.test_job_store import pull, submission
from tests.models import registry_of
from tests.processes import RedisServer

FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
WATCHING: Final = Schedule(
    cron="0 3 * * *",
    time_zone="UTC",
    when_drifted=DriftPolicy(windows=3, drifted=2),
    enabled=True,
    train={"target": "y"},
)


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """A registry with the versions 1 and 2 of home, of which 2 is in production."""
    registry = registry_of(settings)
    add_versions(registry, 2)
    return registry


def small_job() -> Submission:
    """A job of rows for home@1."""
    return submission(model="home")


def file_job() -> Submission:
    """A job over a file for home@1."""
    spec = replace(small_job().spec, batch=BatchOptions(input=Input(key="nowhere")))
    return Submission(id=new_job_id(), spec=spec, alias=None, queue=BATCH, ttl_seconds=60)


def training(model: str, version: int, base: str) -> Submission:
    """A training of a model from a version, its own or another's."""
    train = TrainOptions(input=Input(key="nowhere"), target="y", recipe=Recipe(base=base))
    spec = replace(small_job().spec, model=model, version=version, train=train)
    return Submission(id=new_job_id(), spec=spec, alias=None, queue=TRAIN, ttl_seconds=60)


def first_training() -> Submission:
    """A training that makes a version of home from one of shed."""
    return training("home", 0, "shed@1")


def training_elsewhere() -> Submission:
    """A training that makes a version of shed from one of home."""
    return training("shed", 0, "home@2")


def failing(*_: Any) -> None:
    """A storage that cannot remove anything now."""
    raise StorageFailed


def test_a_version_that_nothing_needs_is_removed(registry: Registry) -> None:
    registry.delete("home", 1)

    assert [manifest.version for manifest in registry.model("home").versions] == [2]
    with pytest.raises(ModelNotFound, match="no version or alias '1'; it has 2, production"):
        registry.resolve("home@1")


def test_a_deleted_version_is_unknown_everywhere_at_the_next_fresh_look(registry: Registry, settings: Settings) -> None:
    other = registry_of(settings)
    other.resolve("home@1")

    registry.delete("home", 1)

    with pytest.raises(ModelNotFound):
        other.resolve("home@1", fresh=True)
    with pytest.raises(ModelNotFound):
        other.manifest("home", 1)


def test_a_deleted_number_is_never_used_again(registry: Registry) -> None:
    registry.move("home", move_to(1, 2))
    registry.delete("home", 2)

    assert registry.reserve("home", "another") == 3
    with pytest.raises(ModelNotFound):
        registry.add(manifest_of(2), b"bytes")


@pytest.mark.parametrize("version", [3, 9])
def test_a_version_that_is_not_there_cannot_be_deleted(registry: Registry, version: int) -> None:
    registry.reserve("home", "job-3")

    with pytest.raises(ModelNotFound, match=f"no version or alias '{version}'"):
        registry.delete("home", version)


def test_a_version_cannot_be_deleted_twice(registry: Registry) -> None:
    registry.delete("home", 1)

    with pytest.raises(ModelNotFound):
        registry.delete("home", 1)


def test_a_version_that_aliases_point_to_stays(registry: Registry) -> None:
    registry.move("home", move_to(2, None, alias="canary"))

    with pytest.raises(VersionInUse, match="home@2 is in use: canary, production points to it; move that first"):
        registry.delete("home", 2)

    assert registry.resolve("home", fresh=True).manifest.version == 2


def test_a_model_goes_with_its_last_version(registry: Registry) -> None:
    registry.add(manifest_of(registry.reserve("shed", "t"), model="shed"), b"bytes")

    registry.delete("shed", 1)

    assert registry.names() == ["home"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(small_job, "1 wait and 0 micro-batches run", id="rows"),
        pytest.param(file_job, "0 wait and 0 micro-batches run, job ", id="file"),
    ],
)
def test_a_version_that_a_waiting_job_needs_stays_until_the_job_ends(
    registry: Registry, store: JobStore, make: Callable[[], Submission], match: str
) -> None:
    job = store.submit(make())

    with pytest.raises(VersionInUse, match=match):
        registry.delete("home", 1)

    store.cancel(job.id)
    registry.delete("home", 1)


@pytest.mark.parametrize("whole", [False, True], ids=["version", "model"])
def test_of_jobs_of_other_owners_only_their_number_is_told(registry: Registry, store: JobStore, whole: bool) -> None:
    mine, theirs = (
        store.submit(replace(job, spec=replace(job.spec, owner=owner))).id
        for job, owner in ((file_job(), "team-a"), (file_job(), "team-b"))
    )

    def refusal(told: str) -> str:
        with pytest.raises(VersionInUse) as refused:
            registry.delete_model("home", told=told) if whole else registry.delete("home", 1, told=told)
        return refused.value.message

    assert f"job {mine}, 1 over files or of training are other owners'" in refusal("team-a")
    assert theirs not in refusal("team-a")
    assert "2 over files" in refusal("team-c")
    assert mine in refusal("")
    assert theirs in refusal("")


def test_a_version_stays_while_a_job_waits_aside_for_a_newer_worker(registry: Registry, store: JobStore) -> None:
    job = small_job()
    job_id = store.submit(replace(job, spec=replace(job.spec, schema=SCHEMA + 1))).id
    assert pull(store) is None
    assert store.connections.client.zrange(f"{store.keys.base}aside:{ONLINE}", 0, -1) == [job_id.encode()]

    with pytest.raises(VersionInUse, match="1 wait and 0 micro-batches run"):
        registry.delete("home", 1)

    store.cancel(job_id)
    registry.delete("home", 1)


def test_a_version_whose_job_has_not_told_of_it_yet_stays_until_it_has(registry: Registry, store: JobStore) -> None:
    job = store.submit(first_training())
    version = registry.reserve("home", job.id)
    registry.add(manifest_of(version, source_job=job.id), b"bytes")

    with pytest.raises(VersionInUse, match=f"job {job.id}"):
        registry.delete("home", version)

    store.cancel(job.id)
    registry.delete("home", version)


def test_a_version_that_a_running_micro_batch_needs_stays_until_that_ends(registry: Registry, store: JobStore) -> None:
    job = store.submit(small_job())
    unit = pull(store)
    assert unit is not None

    with pytest.raises(VersionInUse, match="0 wait and 1 micro-batches run"):
        registry.delete("home", 1)

    store.commit(unit.fence, [Outcome(id=job.id, status=Status.SUCCEEDED, succeeded=1, failed=0, result=b"[2.0]")])
    registry.delete("home", 1)


def test_a_version_that_a_running_job_over_a_file_needs_stays(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    store.submit(file_job())
    BatchStore(store, settings).pull("w", linger_seconds=0, answered=True)

    with pytest.raises(VersionInUse, match="job "):
        registry.delete("home", 1)


def test_jobs_of_another_version_or_model_are_no_reason(registry: Registry, store: JobStore) -> None:
    store.submit(submission(model="m"))
    job = small_job()
    store.submit(replace(job, spec=replace(job.spec, version=2)))

    registry.delete("home", 1)


@pytest.mark.parametrize("make", [small_job, file_job], ids=["rows", "file"])
def test_a_job_for_a_version_that_was_deleted_is_not_taken(
    registry: Registry, store: JobStore, make: Callable[[], Submission]
) -> None:
    registry.delete("home", 1)

    with pytest.raises(AliasMoved):
        store.submit(make())

    assert store.page(limit=10) == ([], None)
    assert store.lane_length("home", 1)[0] == 0


def test_a_job_whose_alias_was_moved_is_not_taken(registry: Registry, store: JobStore) -> None:
    job = replace(small_job(), alias="production")

    with pytest.raises(AliasMoved):
        store.submit(job)

    registry.move("home", move_to(1, 2))
    assert store.submit(job).created


@pytest.mark.parametrize("phase", ["registering", "gating"])
def test_a_job_can_be_cancelled_until_its_version_is_registered(store: JobStore, phase: str) -> None:
    store.connections.client.hset(
        store.keys.job("j1"), mapping={"status": "running", "revision": 5, "phase": phase, "attempt": 1}
    )

    try:
        refused = store.cancel("j1")
    except JobFinished:
        refused = True

    assert refused is (phase == "registering")


def test_a_number_whose_version_never_came_is_given_up_with_its_files(registry: Registry, settings: Settings) -> None:
    version, storage = registry.reserve("home", "dead"), Storage.of(settings)
    storage.put(artifact_key("home", version, "artifact-1234"), b"half of it")

    assert registry.give_up(0) == 1

    assert registry.removed() == [f"home@{version}"]
    registry.remove(f"home@{version}")
    assert list(storage.list(version_prefix("home", version))) == []
    with pytest.raises(ModelNotFound):
        registry.add(manifest_of(version), b"bytes")
    assert registry.reserve("home", "next") == version + 1


def test_numbers_that_were_reserved_of_late_or_are_registered_stay(registry: Registry) -> None:
    registry.reserve("home", "at-work")

    assert registry.give_up() == 0
    assert registry.give_up(0) == 1
    assert [manifest.version for manifest in registry.model("home").versions] == [2, 1]


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_number_of_an_unfinished_job_is_not_given_up(registry: Registry, store: JobStore, status: str) -> None:
    version = registry.reserve("home", "j1")
    store.connections.client.hset(store.keys.job("j1"), "status", status)

    assert registry.give_up(0) == 0

    assert registry.add(manifest_of(version), b"bytes").version == version


def test_a_whole_model_goes_with_all_that_belongs_to_it(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    storage, schedules = Storage.of(settings), Schedules(store.connections, store.keys, Storage.of(settings))
    registry.move("home", move_to(1, None, alias="canary"))
    schedules.put("home", WATCHING)
    schedules.save("home")
    store.connections.client.lpush(store.keys.drift("home"), '1 {"job_id": "j", "drifted": true}')

    assert registry.delete_model("home") == [1, 2]
    schedules.save("home")

    assert (registry.names(), registry.history("home", "production")) == ([], [])
    assert (schedules.due(FAR), schedules.watching()) == ([], [])
    assert Drift(store.connections, store.keys).windows("home") == []
    assert list(storage.list("models/home")) == [aliases_key("home")]
    with pytest.raises(ModelNotFound, match="There is no model 'home'; there are none yet"):
        registry.resolve("home", fresh=True)
    with pytest.raises(ModelNotFound):
        registry_of(settings).alias("home", "canary")
    with pytest.raises(ScheduleNotFound):
        schedules.get("home")
    with pytest.raises(ModelNotFound):
        registry.delete_model("home")


def test_a_later_model_of_the_same_name_has_numbers_and_revisions_of_its_own(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    token = registry.reserve("home", "who-was-late")
    registry.delete_model("home")

    with pytest.raises(ModelNotFound):
        registry.add(manifest_of(token), b"bytes")
    version = registry.reserve("home", "job-1")
    registry.add(manifest_of(version), b"bytes", move=move_to(version, None))

    assert (token, version) == (3, 4)
    assert [manifest.version for manifest in registry.model("home").versions] == [4]
    assert registry.alias("home", "production").revision == 3
    assert [entry["to"] for entry in registry.history("home", "production")] == [4]
    with pytest.raises(ModelNotFound):
        registry.resolve("home@1", fresh=True)


def test_a_deleted_model_does_not_come_back_by_a_rebuild_and_its_numbers_stay_taken(
    registry: Registry, redis_server: RedisServer
) -> None:
    registry.delete_model("home")
    redis_server.client.flushall()

    registry.rebuild()

    assert registry.names() == []
    assert registry.reserve("home", "another") == 3


def test_files_of_a_deleted_model_that_could_not_be_removed_are_known_to_the_janitor(
    registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.of(settings)
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "delete", failing)
        registry.delete_model("home")

    assert registry.removed() == ["home@1", "home@2"]
    for reference in registry.removed():
        registry.remove(reference)
    assert list(storage.list("models/home")) == [aliases_key("home")]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(small_job, "home is in use by unfinished jobs: 1 wait and 0 micro-batches run", id="rows"),
        pytest.param(file_job, "home is in use by unfinished jobs: 0 wait and 0 micro-batches run, job ", id="file"),
        pytest.param(first_training, "home is in use by unfinished jobs: .* job ", id="training-from-another-model"),
        pytest.param(training_elsewhere, "home is in use by unfinished jobs: .* job ", id="training-of-another-model"),
    ],
)
def test_a_model_that_an_unfinished_job_needs_stays_as_it_is_until_the_job_ends(
    registry: Registry, store: JobStore, make: Callable[[], Submission], match: str
) -> None:
    registry.add(manifest_of(registry.reserve("shed", "t"), model="shed"), b"bytes")
    job = store.submit(make())

    with pytest.raises(VersionInUse, match=match):
        registry.delete_model("home")

    assert [manifest.version for manifest in registry.model("home").versions] == [2, 1]
    store.cancel(job.id)
    assert registry.delete_model("home") == [1, 2]
    assert registry.names() == ["shed"]


def test_a_model_that_a_running_micro_batch_needs_stays(registry: Registry, store: JobStore) -> None:
    store.submit(small_job())
    pull(store)

    with pytest.raises(VersionInUse, match="0 wait and 1 micro-batches run"):
        registry.delete_model("home")


def test_the_schedule_goes_with_the_last_version_of_a_model(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    schedules = Schedules(store.connections, store.keys, Storage.of(settings))
    registry.add(manifest_of(registry.reserve("shed", "t"), model="shed"), b"bytes")
    schedules.put("shed", WATCHING)

    registry.delete("shed", 1)

    assert (schedules.due(FAR), schedules.watching()) == ([], [])
