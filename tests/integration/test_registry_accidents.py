"""Accidents of the registry's copy in storage: killed and slow writers, an older Redis, damaged and old files."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from shared import registry_upkeep
from shared.batch_store import BatchStore
from shared.errors import AliasConflict
from shared.files import Files
from shared.registry import ANY, PRODUCTION, Registry
from shared.registry_copy import write_copy
from shared.schedule import Schedule
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, aliases_key, manifest_key
from shared.store import JobStore
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.models import registry_of
from tests.processes import RedisServer
from worker.janitor import Janitor

NIGHTLY = Schedule(cron="0 3 * * *", time_zone="UTC", when_drifted=None, enabled=True, train={})


class Killed(BaseException):
    """Nothing more of this process happens, no `except` nor `finally` that a real one could not have either."""


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """The registry of a service."""
    return registry_of(settings)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """The service's storage."""
    return Storage.of(settings)


@pytest.fixture
def janitor(settings: Settings, store: JobStore, storage: Storage) -> Janitor:
    """A janitor that rings nobody."""
    batches, files = BatchStore(store, settings), Files(store, settings)
    schedules = Schedules(store.connections, store.keys, storage)
    return Janitor(store, batches, files, storage, registry_of(settings), schedules, lambda _: None, settings)


def copy_of(storage: Storage, name: str = "home") -> dict[str, Any]:
    copy: dict[str, Any] = orjson.loads(storage.get(aliases_key(name)))
    return copy


def in_between(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None], *, killed: bool) -> None:
    """Have the next writing of a copy be so slow that something happens before it writes what it read."""
    write = write_copy

    def slow(*arguments: Any) -> None:
        monkeypatch.setattr(registry_upkeep, "write_copy", write)
        meanwhile()
        write(*arguments)
        if killed:
            raise Killed

    monkeypatch.setattr(registry_upkeep, "write_copy", slow)


def older(store: JobStore, change: Callable[[], None]) -> None:
    """Redis comes back as it was before the change; storage keeps it."""
    client = store.connections.client
    before = {key: client.dump(key) for key in client.keys("*")}
    change()
    client.flushall()
    for key, value in before.items():
        client.restore(key, 0, value)


# Slow and killed writers


def test_a_slow_writer_that_is_killed_after_an_old_copy_leaves_it_to_the_janitor(
    registry: Registry, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch, janitor: Janitor
) -> None:
    add_versions(registry, 2)

    def meanwhile() -> None:
        registry.rollback("home", who="ann", why="worse")

    in_between(monkeypatch, meanwhile, killed=True)
    with pytest.raises(Killed):
        registry_of(settings).copy("home")
    left = (copy_of(storage)["aliases"]["production"]["version"], registry.unsaved())
    janitor.tick()

    assert left == (2, ["home"])
    assert copy_of(storage)["aliases"]["production"]["version"] == 1


def test_a_slow_writer_that_lives_writes_anew_and_leaves_nothing_to_do(
    registry: Registry, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_versions(registry, 2)

    def meanwhile() -> None:
        registry.rollback("home", who="ann", why="worse")

    in_between(monkeypatch, meanwhile, killed=False)
    registry_of(settings).copy("home")

    assert copy_of(storage)["aliases"]["production"]["version"] == 1
    assert registry.unsaved() == []


# An older Redis


def test_a_redis_older_than_storage_gives_no_number_twice(registry: Registry, store: JobStore) -> None:
    add_versions(registry, 1)

    def change() -> None:
        version = registry.reserve("home", "job-2")
        registry.add(manifest_of(version, b"two"), b"two", move=move_to(version, 1))

    older(store, change)
    version = registry.reserve("home", "another")

    assert version == 3
    assert [manifest.version for manifest in registry.model("home").versions] == [2, 1]
    assert registry.reserve("home", "another") == 3


def test_files_without_a_manifest_take_a_number_too(registry: Registry, store: JobStore, storage: Storage) -> None:
    add_versions(registry, 1)
    storage.put("models/home/2/artifact-1234", b"bytes")

    assert registry.reserve("home", "another") == 3


def test_a_version_that_is_made_anew_with_an_older_redis_has_its_own_manifest_in_storage(
    registry: Registry, store: JobStore, storage: Storage
) -> None:
    add_versions(registry, 1)
    registry.reserve("home", "job-2")

    def change() -> None:
        registry.add(manifest_of(2, b"two"), b"two")

    older(store, change)
    manifest = registry.add(manifest_of(registry.reserve("home", "job-2"), b"other"), b"other")

    assert orjson.loads(storage.get(manifest_key("home", 2)))["sha256"] == manifest.sha256
    assert manifest.version == 2


# Old and damaged copies


def test_an_alias_from_before_moves_were_noted_is_rebuilt(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 1)
    client, key = store.connections.client, store.keys.model("home")
    client.hdel(key, "moved:production", "revision:production")
    registry.copy("home")
    client.flushall()

    (rebuilt,) = registry.rebuild()
    other = registry_of(settings)

    assert rebuilt.aliases == ("production",)
    assert other.alias("home", PRODUCTION).moved_at is None
    assert other.unsaved() == []
    assert "moved" not in copy_of(storage)["aliases"]["production"]


def test_a_blank_time_of_a_move_in_a_copy_is_taken_for_none(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 1)
    copy = copy_of(storage)
    copy["aliases"]["production"]["moved"] = None
    storage.put(aliases_key("home"), orjson.dumps(copy))
    store.connections.client.flushall()

    registry.rebuild()

    assert registry_of(settings).alias("home", PRODUCTION).moved_at is None
    assert registry.unsaved() == []


@pytest.mark.parametrize(
    ("damaged", "kept"),
    [
        pytest.param(b"{", b"{", id="cut-off"),
        pytest.param(b"[]", b"[]", id="list"),
        pytest.param(b'{"aliases": 7}', b'{"aliases": 7}', id="fields"),
    ],
)
def test_a_damaged_copy_is_kept_aside_and_what_mends_it_is_named(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage, damaged: bytes, kept: bytes
) -> None:
    add_versions(registry, 2)
    storage.put(aliases_key("home"), damaged)
    store.connections.client.flushall()

    (rebuilt,) = registry_of(settings).rebuild()

    assert storage.get(f"{aliases_key('home')}.damaged") == kept
    (told,) = rebuilt.damaged
    assert "models/home/aliases.json is damaged" in told
    assert "models/home/aliases.json.damaged" in told
    assert "python -m worker alias home production N --why ..." in told


def test_a_damaged_copy_that_a_move_overwrites_is_kept_aside_too(registry: Registry, storage: Storage) -> None:
    add_versions(registry, 2)
    storage.put(aliases_key("home"), b"{")

    registry.move("home", move_to(1, 2))

    assert storage.get(f"{aliases_key('home')}.damaged") == b"{"
    assert copy_of(storage)["aliases"]["production"]["version"] == 1


def test_a_copy_that_is_missing_is_told_with_what_mends_it(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 2)
    storage.delete(aliases_key("home"))
    store.connections.client.flushall()

    (rebuilt,) = registry_of(settings).rebuild()

    (told,) = rebuilt.damaged
    assert "models/home/aliases.json is missing" in told
    assert "python -m worker alias home production N --why ..." in told


def test_a_missing_copy_of_what_redis_knows_is_written_without_a_word(registry: Registry, storage: Storage) -> None:
    add_versions(registry, 2)
    storage.delete(aliases_key("home"))

    assert registry.rebuild() == []
    assert copy_of(storage)["aliases"]["production"]["version"] == 2


# The history


def test_moves_of_one_alias_push_out_none_of_another(
    registry: Registry, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_versions(registry, 3)
    monkeypatch.setattr("shared.registry.MOST_MOVES", 4)
    for turn in range(9):
        registry.move("home", move_to(1 + turn % 2, ANY, alias="challenger"))

    assert [moved["to"] for moved in registry.history("home", PRODUCTION)] == [3, 2, 1]
    assert [moved["to"] for moved in registry.history("home", "challenger")] == [1, 2, 1, 2]
    assert registry.rollback("home", who="ann", why="worse").version == 2
    with pytest.raises(AliasConflict):
        registry.move("home", move_to(3, 3))


def test_the_history_of_an_alias_that_was_removed_is_rebuilt(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    add_versions(registry, 2)
    registry.move("home", move_to(1, None, alias="canary"))
    registry.unalias("home", "canary", who="ann", why="over")
    before = registry.history("home", "canary")
    store.connections.client.flushall()

    registry.rebuild()

    assert [moved["to"] for moved in before] == [None, 1]
    assert registry_of(settings).history("home", "canary") == before


# The janitor


def test_a_model_that_cannot_be_mended_keeps_no_other_from_it(
    registry: Registry, store: JobStore, storage: Storage, janitor: Janitor
) -> None:
    client = store.connections.client
    for name in ("away", "home"):
        add_versions(registry, 1, model=name)
        storage.delete(aliases_key(name))
        client.sadd(store.keys.unsaved, name)
    client.hset(store.keys.model("away"), "alias:production", "none")

    janitor.tick()

    assert copy_of(storage)["aliases"]["production"]["version"] == 1
    assert registry.unsaved() == ["away"]


def test_schedules_whose_api_process_died_before_the_copy_are_copied_by_the_janitor(
    registry: Registry, store: JobStore, storage: Storage, janitor: Janitor
) -> None:
    for name in ("away", "home"):
        add_versions(registry, 1, model=name)
    schedules = Schedules(store.connections, store.keys, storage)
    schedules.put("away", NIGHTLY)
    schedules.put("home", NIGHTLY)
    janitor.tick()
    schedules.delete("away")
    janitor.tick()
    store.connections.client.flushall()

    registry.rebuild()
    restored = schedules.rebuild(registry.names())

    assert restored == {"home": None}
    assert schedules.get("home").schedule == NIGHTLY
