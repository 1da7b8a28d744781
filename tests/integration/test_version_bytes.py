"""Versions take bytes of their model's owner, from their registration to their deletion, through whatever happens."""

from collections.abc import Callable

import pytest

from shared.batch_store import BatchStore
from shared.files import Files
from shared.keys import Keys
from shared.registry import Registry
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage
from shared.store import JobStore
from shared.usage import Usage
from tests.integration.apis import Api
from tests.integration.registries import add_versions, manifest_of
from tests.models import registry_of
from tests.processes import RedisServer
from worker.janitor import Janitor

Used = Callable[[str], int]
ANN, BOB = "team-ann", "team-bob"
SIZE = 1000


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """That of a service: `home` is Ann's and has two versions, `garden` is nobody's."""
    registry = registry_of(settings)
    for number, beside in ((1, 0), (2, 500)):
        push(registry, number, beside)
    add_versions(registry, 1, model="garden")
    return registry


@pytest.fixture
def janitor(settings: Settings, store: JobStore, registry: Registry) -> Janitor:
    """One that starts."""
    storage = Storage.of(settings)
    schedules = Schedules(store.connections, store.keys, storage)
    batches, files = BatchStore(store, settings), Files(store, settings)
    return Janitor(store, batches, files, storage, registry, schedules, lambda _: None, settings)


@pytest.fixture
def used(store: JobStore) -> Used:
    """The bytes that an owner has."""
    return lambda owner: Usage(store).of(owner)["stored_bytes"]


def push(registry: Registry, number: int, beside: int = 0) -> None:
    """A version of `home` with so many bytes beside its artifact."""
    registry.reserve("home", f"push-{number}")
    registry.add(manifest_of(number, b"a" * SIZE, stored_bytes=SIZE + beside), b"a" * SIZE, owner=ANN)


def test_versions_count_to_their_model_s_owner_and_none_of_nobody_s(registry: Registry, used: Used) -> None:
    assert (used(ANN), used("default"), used(BOB)) == (2 * SIZE + 500, 0, 0)


def test_a_version_that_is_registered_again_counts_once(registry: Registry, used: Used) -> None:
    registry.add(manifest_of(2, b"a" * SIZE, stored_bytes=SIZE + 500), None, owner=ANN)

    assert used(ANN) == 2 * SIZE + 500


def test_a_version_of_an_older_release_counts_with_its_artifact(registry: Registry, used: Used) -> None:
    registry.reserve("home", "third")
    registry.add(manifest_of(3, b"a" * SIZE), b"a" * SIZE)

    assert used(ANN) == 3 * SIZE + 500


def test_a_deleted_version_takes_nothing_and_neither_does_a_deleted_model(registry: Registry, used: Used) -> None:
    registry.delete("home", 1)
    after_one = used(ANN)
    registry.delete_model("home")

    assert (after_one, used(ANN)) == (SIZE + 500, 0)


@pytest.mark.parametrize("owner", [BOB, ""], ids=["to-another", "to-nobody"])
def test_a_model_that_is_handed_over_takes_its_bytes_along(registry: Registry, used: Used, owner: str) -> None:
    registry.hand_over("home", owner)
    elsewhere = (used(ANN), used(BOB))
    registry.hand_over("home", ANN)

    assert elsewhere == (0, 2 * SIZE + 500 if owner else 0)
    assert (used(ANN), used(BOB)) == (2 * SIZE + 500, 0)


def test_a_rebuild_counts_what_it_adds(registry: Registry, redis_server: RedisServer, used: Used) -> None:
    redis_server.client.flushall()

    registry.rebuild()
    registry.rebuild()

    assert used(ANN) == 2 * SIZE + 500


def test_a_janitor_that_starts_counts_what_an_older_release_did_not(
    registry: Registry, redis_server: RedisServer, janitor: Janitor, settings: Settings, used: Used
) -> None:
    keys, client = Keys(settings.redis_prefix), redis_server.client
    registry.delete("home", 1)
    client.delete(keys.usage(ANN), f"{keys.base}held:{ANN}")
    # And has deleted one without taking it off.
    client.hset(f"{keys.base}held:{ANN}", "home@1", SIZE)
    client.hset(keys.usage(ANN), "bytes", SIZE)

    janitor.tick()

    assert used(ANN) == SIZE + 500


def test_pushes_past_the_limit_are_refused(registry: Registry, make_api: Callable[..., Api]) -> None:
    api = make_api()
    headers = {"Content-Type": "application/onnx", "Prefer": "wait=0"}
    artifact = b"\x08" + b"\0" * 99
    clients = [api.client_of(ANN, {"stored_bytes": 2 * SIZE + 500 + room}) for room in (99, 100)]

    narrow, roomy = (client.post("/models/home/versions", data=artifact, headers=headers) for client in clients)

    assert (narrow.status_code, (narrow.json or {})["errors"][0]["code"]) == (429, "stored_bytes")
    assert roomy.status_code == 202, roomy.text
