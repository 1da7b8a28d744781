"""The registry's copy in storage: it follows Redis, and Redis can be filled from it again."""

import threading
from typing import Any

import orjson
import pytest

from shared.batch_store import BatchStore
from shared.errors import FileMissing, ModelNotFound
from shared.files import Files
from shared.manifest import Manifest
from shared.registry import ANY, PRODUCTION, Registry
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, aliases_key, artifact_key, manifest_key, version_prefix
from shared.store import JobStore
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.models import registry_of
from tests.processes import RedisServer
from worker.janitor import Janitor


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


def everything(registry: Registry) -> dict[str, Any]:
    """What anybody can know of the models."""
    return {
        name: (
            (model := registry.model(name)),
            {alias: registry.alias(name, alias) for alias in model.aliases},
            {alias: registry.history(name, alias) for alias in model.aliases},
        )
        for name in registry.names()
    }


def fill(registry: Registry) -> None:
    """Two models, with what makes copies interesting: aliases, rollbacks, a deletion, a reserved number."""
    add_versions(registry, 4)
    registry.move("home", move_to(2, None, alias="canary", details={"rmse": 1.5}))
    registry.rollback("home", who="ann", why="worse")
    registry.delete("home", 1)
    registry.reserve("home", "job-5")
    registry.copy("home")
    add_versions(registry, 1, model="garden")


def emptied(store: JobStore, settings: Settings) -> Registry:
    """A registry on a Redis that has lost everything."""
    store.connections.client.flushall()
    return registry_of(settings)


def test_the_copy_follows_every_change(registry: Registry, storage: Storage) -> None:
    add_versions(registry, 2)
    registry.rollback("home", who="ann", why="worse")

    copy = copy_of(storage)

    assert (copy["last"], copy["versions"]) == (2, [1, 2])
    assert (copy["aliases"]["production"]["version"], copy["aliases"]["production"]["revision"]) == (1, 3)
    assert [moved["to"] for moved in copy["history"]] == [1, 2, 1]
    assert Manifest.from_json(storage.get(manifest_key("home", 2))) == registry.manifest("home", 2)
    assert registry.unsaved() == []


def test_the_copy_keeps_what_a_newer_release_wrote_there(registry: Registry, storage: Storage) -> None:
    add_versions(registry, 1)
    storage.put(aliases_key("home"), orjson.dumps(copy_of(storage) | {"colour": "red"}))

    add_versions(registry, 2)

    assert copy_of(storage)["colour"] == "red"


def test_the_copy_is_of_the_last_of_many_changes_at_once(settings: Settings, registry: Registry) -> None:
    add_versions(registry, 2)

    def move(number: int) -> None:
        own = registry_of(settings)
        for turn in range(10):
            own.move("home", move_to(1 + (number + turn) % 2, ANY))

    threads = [threading.Thread(target=move, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    state, copy = registry.alias("home", PRODUCTION), copy_of(Storage.of(settings))
    assert copy["aliases"]["production"]["version"] == state.version
    assert copy["aliases"]["production"]["revision"] == state.revision
    assert registry.unsaved() == []


def test_a_copy_that_could_not_be_written_is_written_by_the_janitor(
    registry: Registry, storage: Storage, settings: Settings, janitor: Janitor
) -> None:
    add_versions(registry, 2)
    folder = settings.data_dir / "storage" / "models" / "home"
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_text("in the way")
    registry.rollback("home", who="ann", why="worse")
    janitor.tick()
    assert registry.unsaved() == ["home"]
    folder.unlink()
    away.rename(folder)

    janitor.tick()

    assert copy_of(storage)["aliases"]["production"]["version"] == 1
    assert registry.unsaved() == []


def test_a_reserved_number_reaches_the_copy(registry: Registry, storage: Storage, janitor: Janitor) -> None:
    add_versions(registry, 1)
    registry.reserve("home", "job-2")

    janitor.tick()

    assert copy_of(storage)["last"] == 2


def test_an_emptied_redis_is_rebuilt_from_storage_as_it_was(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    fill(registry)
    before = everything(registry)
    other = emptied(store, settings)
    assert other.names() == []

    rebuilt = other.rebuild()

    assert [(found.model, found.versions, found.aliases, found.damaged) for found in rebuilt] == [
        ("garden", (1,), ("production",), ()),
        ("home", (2, 3, 4), ("canary", "production"), ()),
    ]
    assert everything(registry_of(settings)) == before
    assert other.reserve("home", "job-5") == 5
    assert other.reserve("home", "job-6") == 6
    assert other.reserve("home", "job-1") == 7
    with pytest.raises(ModelNotFound):
        other.add(manifest_of(1), b"bytes")


def test_after_a_rebuild_rollbacks_go_on_where_they_were(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    fill(registry)
    other = emptied(store, settings)
    other.rebuild()

    assert other.rollback("home", who="ann", why="worse").version == 2


def test_a_rebuild_changes_nothing_of_what_redis_knows(registry: Registry) -> None:
    fill(registry)
    before = everything(registry)

    assert registry.rebuild() == []
    assert everything(registry) == before


def test_a_rebuild_adds_only_what_is_missing(registry: Registry, store: JobStore, settings: Settings) -> None:
    add_versions(registry, 3)
    client, key = store.connections.client, store.keys.model("home")
    client.hdel(key, "v:2")
    client.delete(store.keys.version("home", 2))
    client.hset(key, "alias:production", 1)

    (rebuilt,) = registry.rebuild()

    assert (rebuilt.versions, rebuilt.aliases) == ((2,), ())
    assert registry_of(settings).model("home").aliases == {"production": 1}


def test_a_rebuild_says_what_is_damaged_and_goes_on(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 4)
    add_versions(registry, 1, model="garden")
    storage.put(manifest_key("home", 1), b"{")
    storage.put(manifest_key("home", 2), storage.get(manifest_key("home", 3)))
    storage.delete(artifact_key("home", 3, registry.manifest("home", 3).artifact))
    storage.put(aliases_key("garden"), b"[]")

    rebuilt = {found.model: found for found in emptied(store, settings).rebuild()}

    assert (rebuilt["home"].versions, rebuilt["home"].aliases) == ((4,), ("production",))
    damaged = "\n".join(rebuilt["home"].damaged)
    assert "models/home/1/manifest.json is no manifest of home@1" in damaged
    assert "models/home/2/manifest.json is no manifest of home@2: it is that of home@3" in damaged
    assert "models/home/3/manifest.json is there, but artifact-" in damaged
    assert (rebuilt["garden"].versions, rebuilt["garden"].aliases) == ((1,), ())
    assert "models/garden/aliases.json is damaged" in rebuilt["garden"].damaged[0]


def test_a_version_that_was_never_registered_is_not_rebuilt(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 1)
    version = registry.reserve("home", "job-2")
    storage.put(artifact_key("home", version, "artifact-1234"), b"bytes")

    other = emptied(store, settings)
    other.rebuild()

    assert [manifest.version for manifest in other.model("home").versions] == [1]


def test_a_model_that_an_emptied_redis_has_forgotten_is_not_overwritten(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    add_versions(registry, 2)
    other = emptied(store, settings)

    version = other.reserve("home", "job-3")
    other.add(manifest_of(version), b"bytes", move=move_to(version, 2))

    assert [manifest.version for manifest in other.model("home").versions] == [3, 2, 1]
    assert [moved["to"] for moved in other.history("home", PRODUCTION)] == [3, 2, 1]


def test_an_emptied_redis_does_not_empty_the_copy(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 2)
    before = copy_of(storage)

    emptied(store, settings).copy("home")

    assert copy_of(storage) == before


def test_the_files_of_a_deleted_version_go_with_it(registry: Registry, storage: Storage) -> None:
    add_versions(registry, 2)

    registry.delete("home", 1)

    assert list(storage.list(version_prefix("home", 1))) == []
    assert registry.removed() == []


def test_files_that_come_too_late_for_a_deleted_version_are_removed_by_the_janitor(
    registry: Registry, storage: Storage, janitor: Janitor
) -> None:
    add_versions(registry, 2)
    registry.delete("home", 1)
    with pytest.raises(ModelNotFound):
        registry.add(manifest_of(1), b"bytes")

    janitor.tick()

    assert list(storage.list(version_prefix("home", 1))) == []
    with pytest.raises(FileMissing):
        storage.get(manifest_key("home", 1))


def test_a_deleted_version_is_not_rebuilt_from_files_that_were_left(
    registry: Registry, store: JobStore, settings: Settings, storage: Storage
) -> None:
    add_versions(registry, 2)
    left = {key: storage.get(key) for key in storage.list(version_prefix("home", 1))}
    registry.delete("home", 1)
    for key, data in left.items():
        storage.put(key, data)

    other = emptied(store, settings)
    other.rebuild()

    assert [manifest.version for manifest in other.model("home").versions] == [2]
