"""The registry on a real Redis: versions and aliases change whole, or not at all."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.aliases import MOST_MOVES
from shared.errors import AliasConflict, AliasNeeded, ModelNotFound, NothingToRollBack, StoreFull
from shared.records import LeaseLost
from shared.registry import ANY, PRODUCTION, Registry
from shared.settings import Settings
from shared.storage import Storage, artifact_key, manifest_key
from shared.store import JobStore
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.models import registry_of
from tests.processes import RedisServer


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """The registry of a service."""
    return registry_of(settings)


def everything(store: JobStore) -> dict[bytes, bytes]:
    """All of Redis, as it would be dumped."""
    client = store.connections.client
    return {key: client.dump(key) for key in client.scan_iter()}


def together(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What an act gives, or raises, when that many threads begin it at once."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        try:
            return act(number)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_token_has_one_number(registry: Registry) -> None:
    numbers = [registry.reserve("home", token) for token in ("a", "b", "a", "c", "b")]

    assert numbers == [1, 2, 1, 3, 2]


def test_many_who_reserve_at_once_get_different_numbers(settings: Settings, registry: Registry) -> None:
    numbers = together(16, lambda number: registry_of(settings).reserve("home", f"job-{number % 8}"))

    assert sorted(numbers) == sorted([*range(1, 9)] * 2)


def test_a_model_of_which_numbers_are_reserved_only_is_not_there(registry: Registry) -> None:
    registry.reserve("home", "job-1")

    assert registry.names() == []
    with pytest.raises(ModelNotFound, match="There is no model 'home'"):
        registry.model("home")


def test_a_version_comes_with_its_artifact_and_its_move(registry: Registry) -> None:
    version = registry.reserve("home", "job-1")
    manifest = manifest_of(version, b"the bytes", metrics={"rmse": 1.5}, parent=None, source_job="job-1")

    added = registry.add(manifest, b"the bytes", move=move_to(version, None, job_id="job-1", details={"rmse": 1.5}))

    assert added == manifest == registry.resolve("home").manifest
    assert registry.artifact(added) == b"the bytes"
    (moved,) = registry.history("home", PRODUCTION)
    assert {name: moved[name] for name in ("alias", "from", "to", "who", "why", "job_id", "details")} == {
        "alias": "production",
        "from": None,
        "to": 1,
        "who": "ann",
        "why": "better",
        "job_id": "job-1",
        "details": {"rmse": 1.5},
    }


def test_a_version_without_a_move_has_no_alias(registry: Registry) -> None:
    registry.add(manifest_of(registry.reserve("home", "t")), b"bytes")

    model = registry.model("home")

    assert (model.aliases, [manifest.version for manifest in model.versions]) == ({}, [1])


def test_other_files_of_a_version_lie_beside_its_artifact(registry: Registry) -> None:
    manifest = manifest_of(registry.reserve("home", "t"))

    registry.add(manifest, b"bytes", extra={"fast.onnx": b"graph"})

    assert registry.artifact(manifest, "fast.onnx") == b"graph"


def test_what_is_added_twice_is_there_once_and_as_it_was_first(registry: Registry, store: JobStore) -> None:
    version = registry.reserve("home", "job-1")
    first = registry.add(manifest_of(version, b"first"), b"first", move=move_to(version, None))
    before = everything(store)

    again = registry.add(manifest_of(version, b"second"), b"second", move=move_to(version, ANY))

    assert again == first
    assert everything(store) == before
    assert registry.artifact(first) == b"first"


def test_a_conflict_leaves_nothing_visible(registry: Registry, store: JobStore, settings: Settings) -> None:
    add_versions(registry, 2)
    version = registry.reserve("home", "job-3")
    before = everything(store)

    with pytest.raises(AliasConflict) as refused:
        registry.add(manifest_of(version, b"third"), b"third", move=move_to(version, 1))

    assert (refused.value.version, refused.value.revision) == (2, 2)
    assert everything(store) == before
    with pytest.raises(ModelNotFound, match="it has 2, 1, production"):
        registry.manifest("home", version)
    assert not Storage.of(settings).exists(manifest_key("home", version))


def test_after_a_conflict_the_same_version_can_come_again(registry: Registry) -> None:
    add_versions(registry, 2)
    version = registry.reserve("home", "job-3")
    with pytest.raises(AliasConflict):
        registry.add(manifest_of(version, b"third"), b"third", move=move_to(version, 1))

    registry.add(manifest_of(version, b"third"), b"third", move=move_to(version, 2))

    assert registry.resolve("home", fresh=True).manifest.version == 3


def test_of_many_moves_from_the_same_version_one_succeeds(settings: Settings, registry: Registry) -> None:
    add_versions(registry, 1)
    for number in range(2, 14):
        registry.add(manifest_of(registry.reserve("home", str(number))), b"bytes")

    outcomes = together(12, lambda number: registry_of(settings).move("home", move_to(number + 2, 1)))

    moved = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(moved) == 1
    assert all(isinstance(outcome, AliasConflict) for outcome in outcomes if outcome not in moved)
    assert registry.alias("home", PRODUCTION) == moved[0]
    assert len(registry.history("home", PRODUCTION)) == 2


def test_moves_that_try_again_after_a_conflict_all_happen_once(settings: Settings, registry: Registry) -> None:
    add_versions(registry, 1)
    for number in range(2, 10):
        registry.add(manifest_of(registry.reserve("home", str(number))), b"bytes")

    def insist(number: int) -> None:
        own = registry_of(settings)
        while True:
            try:
                own.move("home", move_to(number + 2, own.alias("home", PRODUCTION).version))
                return
            except AliasConflict:
                continue

    together(8, insist)

    history = registry.history("home", PRODUCTION)
    assert sorted(moved["to"] for moved in history) == [*range(1, 10)]
    assert [moved["from"] for moved in history[:-1]] == [moved["to"] for moved in history[1:]]
    assert registry.alias("home", PRODUCTION).revision == 9


@pytest.mark.parametrize(
    ("expected", "revision", "conflict"),
    [
        pytest.param(2, None, False, id="as-expected"),
        pytest.param(1, None, True, id="elsewhere"),
        pytest.param(None, None, True, id="not-to-exist"),
        pytest.param(ANY, None, False, id="whatever"),
        pytest.param(ANY, 2, False, id="at-the-revision"),
        pytest.param(ANY, 1, True, id="at-an-older-revision"),
        pytest.param(ANY, 0, True, id="at-no-revision"),
    ],
)
def test_an_alias_moves_only_from_where_it_was_expected(
    registry: Registry, expected: Any, revision: int | None, conflict: bool
) -> None:
    add_versions(registry, 2)

    try:
        registry.move("home", move_to(1, expected), revision=revision)
        refused = False
    except AliasConflict:
        refused = True

    assert refused is conflict
    assert registry.alias("home", PRODUCTION).version == (2 if conflict else 1)


def test_a_new_alias_begins_at_revision_one(registry: Registry) -> None:
    add_versions(registry, 1)

    state = registry.move("home", move_to(1, None, alias="canary"), revision=0)

    assert (state.alias, state.version, state.revision) == ("canary", 1, 1)
    assert registry.model("home").aliases == {"canary": 1, "production": 1}


def test_a_move_to_where_an_alias_points_is_none(registry: Registry, store: JobStore) -> None:
    add_versions(registry, 2)
    before, dumped = registry.alias("home", PRODUCTION), everything(store)

    after = registry.move("home", move_to(2, 1))

    assert after == before
    assert everything(store) == dumped


@pytest.mark.parametrize("version", [3, 99], ids=["reserved", "unknown"])
def test_an_alias_moves_to_no_version_that_is_not_there(registry: Registry, version: int) -> None:
    add_versions(registry, 2)
    registry.reserve("home", "job-3")

    with pytest.raises(ModelNotFound, match=f"no version or alias '{version}'"):
        registry.move("home", move_to(version, ANY))


def test_an_alias_that_does_not_exist_is_not_found(registry: Registry) -> None:
    add_versions(registry, 1)

    with pytest.raises(ModelNotFound, match="no version or alias 'canary'"):
        registry.alias("home", "canary")


def test_a_removed_alias_is_gone_and_its_history_says_so(registry: Registry) -> None:
    add_versions(registry, 2)
    registry.move("home", move_to(1, None, alias="canary"))

    registry.unalias("home", "canary", who="ann", why="over")

    with pytest.raises(ModelNotFound):
        registry.resolve("home@canary")
    assert [(move["from"], move["to"], move["why"]) for move in registry.history("home", "canary")] == [
        (1, None, "over"),
        (None, 1, "better"),
    ]
    assert registry.move("home", move_to(2, None, alias="canary")).revision == 3


def test_an_alias_of_another_revision_is_not_removed(registry: Registry) -> None:
    add_versions(registry, 2)
    registry.move("home", move_to(1, None, alias="canary"))
    registry.move("home", move_to(2, 1, alias="canary"))

    with pytest.raises(AliasConflict) as refused:
        registry.unalias("home", "canary", who="ann", why="over", revision=1)

    assert (refused.value.version, refused.value.revision) == (2, 2)
    assert registry.alias("home", "canary").version == 2


def test_production_cannot_be_removed(registry: Registry) -> None:
    add_versions(registry, 1)

    with pytest.raises(AliasNeeded):
        registry.unalias("home", PRODUCTION, who="ann", why="over")

    assert registry.alias("home", PRODUCTION).version == 1


def test_the_history_keeps_the_newest_moves(registry: Registry, store: JobStore) -> None:
    add_versions(registry, 2)
    key = store.keys.history("home", PRODUCTION)
    store.connections.client.rpush(key, *store.connections.client.lrange(key, -1, -1) * MOST_MOVES)

    registry.move("home", move_to(1, 2, why="the newest"))

    assert store.connections.client.llen(key) == MOST_MOVES
    assert registry.history("home", PRODUCTION)[0]["why"] == "the newest"


def test_rollbacks_go_back_one_step_after_the_other(registry: Registry) -> None:
    add_versions(registry, 4)

    versions = [registry.rollback("home", who="ann", why="worse").version for _ in range(3)]

    assert versions == [3, 2, 1]
    with pytest.raises(NothingToRollBack, match="it stays at 1"):
        registry.rollback("home", who="ann", why="worse")


def test_after_a_rollback_a_new_move_can_be_rolled_back_to_where_it_began(registry: Registry) -> None:
    add_versions(registry, 3)
    registry.rollback("home", who="ann", why="worse")
    registry.move("home", move_to(3, 2))

    versions = [registry.rollback("home", who="ann", why="worse").version for _ in range(2)]

    assert versions == [2, 1]


def test_a_rollback_skips_versions_that_were_deleted(registry: Registry) -> None:
    add_versions(registry, 3)
    registry.delete("home", 2)

    assert registry.rollback("home", who="ann", why="worse").version == 1


def test_of_rollbacks_at_once_from_one_revision_one_goes_back(settings: Settings, registry: Registry) -> None:
    add_versions(registry, 4)

    together(6, lambda _: registry_of(settings).rollback("home", who="ann", why="worse", revision=4))

    assert registry.alias("home", PRODUCTION).version == 3


def test_a_rollback_of_another_revision_is_a_conflict(registry: Registry) -> None:
    add_versions(registry, 3)

    with pytest.raises(AliasConflict):
        registry.rollback("home", who="ann", why="worse", revision=2)

    assert registry.alias("home", PRODUCTION).version == 3


def running(store: JobStore, fence: str, **job: Any) -> None:
    """A unit of a job that runs, as pull_batch.lua leaves it."""
    client, base = store.connections.client, store.keys.base
    client.hset(store.keys.job("j1"), mapping={"status": "running", "revision": 5, "phase": "gating"} | job)
    client.hset(f"{base}unit:{fence}", mapping={"lane": "j1", "jobs": "j1", "kind": "final"})


def test_a_unit_that_runs_registers_and_says_so(registry: Registry, store: JobStore) -> None:
    version = registry.reserve("home", "j1")
    running(store, "7")

    registry.add(manifest_of(version), b"bytes", move=move_to(version, None, job_id="j1"), fence="7")

    assert store.connections.client.hmget(store.keys.job("j1"), "phase", "revision") == [b"registering", b"6"]
    assert registry.alias("home", PRODUCTION).version == 1


@pytest.mark.parametrize(
    ("fence", "job"),
    [
        pytest.param("6", {}, id="old-fence"),
        pytest.param("7", {"cancel": 1}, id="cancelled"),
        pytest.param("7", {"status": "failed"}, id="ended"),
    ],
)
def test_a_unit_whose_work_is_not_wanted_any_more_registers_nothing(
    registry: Registry, store: JobStore, fence: str, job: dict[str, Any]
) -> None:
    version = registry.reserve("home", "j1")
    running(store, "7", **job)
    before = everything(store)

    with pytest.raises(LeaseLost):
        registry.add(manifest_of(version), b"bytes", move=move_to(version, None), fence=fence)

    assert everything(store) == before
    assert registry.names() == []


def test_a_zombie_that_comes_after_its_successor_changes_nothing(
    registry: Registry, store: JobStore, settings: Settings
) -> None:
    version = registry.reserve("home", "j1")
    running(store, "8")
    registry.add(manifest_of(version, b"good"), b"good", move=move_to(version, None), fence="8")
    before, copied = everything(store), Storage.of(settings).get(manifest_key("home", version))

    kept = registry.add(manifest_of(version, b"late"), b"late", move=move_to(version, ANY), fence="7")

    assert kept == manifest_of(version, b"good")
    assert everything(store) == before
    assert Storage.of(settings).get(manifest_key("home", version)) == copied


def test_a_manifest_of_an_earlier_release_can_be_read(registry: Registry, store: JobStore, settings: Settings) -> None:
    new = manifest_of(1, b"old bytes")
    fields = ("model", "version", "format", "sha256", "size_bytes", "estimator", "libraries", "created_at")
    old = {name: new.to_dict()[name] for name in (*fields, "description", "signature")}
    store.connections.client.set(store.keys.version("home", 1), orjson.dumps(old))
    store.connections.client.hset(store.keys.model("home"), mapping={"v:1": 1, "alias:production": 1, "last": 1})
    store.connections.client.sadd(store.keys.models, "home")
    Storage.of(settings).put(artifact_key("home", 1), b"old bytes")

    manifest = registry.resolve("home").manifest

    assert manifest == replace(new, artifact="artifact")
    assert registry.artifact(manifest) == b"old bytes"
    state = registry.alias("home", PRODUCTION)
    assert (state.revision, state.moved_at) == (0, None)


def test_a_registry_without_room_in_redis_registers_nothing(registry: Registry, store: JobStore) -> None:
    version = registry.reserve("home", "t")
    store.connections.client.config_set("maxmemory", 1)

    with pytest.raises(StoreFull):
        registry.add(manifest_of(version), b"bytes", move=move_to(version, None))

    store.connections.client.config_set("maxmemory", 0)
    assert registry.names() == []
    assert registry.history("home", PRODUCTION) == []


def test_a_move_from_a_revision_that_is_over_is_refused_even_where_the_alias_points_there_by_now(
    registry: Registry,
) -> None:
    add_versions(registry, 2)
    revision = registry.alias("home", "production").revision
    registry.move("home", move_to(1, 2), revision=revision)

    with pytest.raises(AliasConflict, match="points to 1 now"):
        registry.move("home", move_to(1, ANY), revision=revision)

    assert registry.alias("home", "production").revision == revision + 1
