"""Whose a model is: it stays so through a rebuild, and no job of another owner gets a version into it."""

from typing import Any

import orjson
import pytest

from shared.errors import InvalidRequest, ModelNotFound
from shared.job import Status
from shared.keys import Keys
from shared.registry import PRODUCTION, Registry
from shared.settings import Settings
from shared.storage import Storage, aliases_key
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.integration.test_admission import Checks
from tests.models import registry_of
from tests.processes import RedisServer

ANN, BOB = "team-ann", "team-bob"


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """The registry of a service: `home` is Ann's, `garden` nobody's."""
    registry = registry_of(settings)
    registry.reserve("home", "first")
    registry.add(manifest_of(1), b"bytes", move=move_to(1, None), owner=ANN)
    add_versions(registry, 1, model="garden")
    return registry


@pytest.fixture
def checks(settings: Settings, redis_server: RedisServer) -> Checks:
    """Workers that check artifacts of the model `m`, which is not there yet."""
    checks = Checks(settings)
    checks.store.connections.client.delete(checks.store.keys.model("m"))
    return checks


def owners(registry: Registry) -> dict[str, str | None]:
    """Whose each model is."""
    return {name: registry.model(name).owner for name in registry.names()}


def test_a_model_is_its_first_version_s_owner_s(registry: Registry) -> None:
    registry.reserve("home", "second")

    registry.add(manifest_of(2), b"bytes", owner=BOB)

    assert owners(registry) == {"home": ANN, "garden": None}
    assert (registry.owner("home"), registry.owner("garden"), registry.owner("nothing")) == (
        (True, ANN),
        (True, None),
        (False, None),
    )
    assert (registry.count_owned(ANN), registry.count_owned(BOB)) == (1, 0)


def test_a_rebuild_knows_whose_each_model_was(registry: Registry, redis_server: RedisServer) -> None:
    redis_server.client.flushall()

    registry.rebuild()

    assert owners(registry) == {"home": ANN, "garden": None}
    assert registry.count_owned(ANN) == 1


def test_a_rebuild_leaves_whose_a_model_is_that_redis_knows(
    registry: Registry, settings: Settings, redis_server: RedisServer
) -> None:
    keys, older = Keys(settings.redis_prefix), Storage.of(settings).get(aliases_key("home"))
    registry.reserve("home", "second")
    registry.add(manifest_of(2), b"bytes")
    registry.hand_over("home", BOB)
    Storage.of(settings).put(aliases_key("home"), older)
    redis_server.client.hdel(keys.model("home"), "v:1")

    registry.rebuild()

    assert [manifest.version for manifest in registry.model("home").versions] == [2, 1]
    assert owners(registry)["home"] == BOB
    assert (registry.count_owned(ANN), registry.count_owned(BOB)) == (0, 1)


@pytest.mark.parametrize("owner", ["Team A", 7, ["team-ann"], "a:b"])
def test_a_copy_with_an_owner_that_cannot_be_counts_as_damaged(
    registry: Registry, settings: Settings, redis_server: RedisServer, owner: Any
) -> None:
    storage = Storage.of(settings)
    copy = orjson.loads(storage.get(aliases_key("home")))
    storage.put(aliases_key("home"), orjson.dumps(copy | {"owner": owner}))
    redis_server.client.flushall()

    (damaged,) = (restored for restored in registry.rebuild() if restored.damaged)

    assert (damaged.model, damaged.versions) == ("home", (1,))
    assert "neither the aliases nor whose it is are known" in damaged.damaged[0]
    assert owners(registry)["home"] is None


def test_a_copy_of_a_release_without_owners_is_that_of_nobody_s_model(
    registry: Registry, settings: Settings, redis_server: RedisServer
) -> None:
    storage = Storage.of(settings)
    copy = orjson.loads(storage.get(aliases_key("home")))
    del copy["owner"]
    storage.put(aliases_key("home"), orjson.dumps(copy))
    redis_server.client.flushall()

    restored = {one.model: one.damaged for one in registry.rebuild()}

    assert restored == {"home": (), "garden": ()}
    assert owners(registry) == {"home": None, "garden": None}


def test_a_model_that_is_gone_belongs_to_nobody_and_its_name_is_free(registry: Registry) -> None:
    registry.delete_model("home")
    gone = (registry.owner("home"), registry.count_owned(ANN))
    registry.reserve("home", "again")

    registry.add(manifest_of(2), b"bytes", owner=BOB)

    assert gone == ((False, None), 0)
    assert owners(registry)["home"] == BOB
    assert (registry.count_owned(ANN), registry.count_owned(BOB)) == (0, 1)


def test_a_model_is_handed_over_in_the_copy_too(registry: Registry, redis_server: RedisServer) -> None:
    registry.hand_over("home", BOB)
    registry.hand_over("garden", ANN)
    redis_server.client.flushall()

    registry.rebuild()

    assert owners(registry) == {"home": BOB, "garden": ANN}
    registry.hand_over("home", "")
    assert owners(registry)["home"] is None
    assert (registry.count_owned(ANN), registry.count_owned(BOB)) == (1, 0)


def test_only_what_is_there_is_handed_over_and_only_to_somebody(registry: Registry) -> None:
    with pytest.raises(ModelNotFound):
        registry.hand_over("nothing", ANN)
    with pytest.raises(InvalidRequest):
        registry.hand_over("home", "Team A")

    assert owners(registry) == {"home": ANN, "garden": None}


# Jobs, which register later than they were submitted


def test_of_two_owners_that_make_a_model_at_once_the_second_gets_nothing_into_it(checks: Checks) -> None:
    slow, quick = checks.send(owner=ANN), checks.send(owner=BOB)
    checks.registries[0].hold_up(lambda: checks.step(1))

    checks.step(0)

    refused, made = checks.read(slow, ANN), checks.read(quick, BOB)
    assert (made.status, made.registered and made.registered["alias"]) == (Status.SUCCEEDED, PRODUCTION)
    assert refused.status == Status.FAILED
    assert refused.failure is not None
    assert refused.failure["code"] == "forbidden"
    assert len(checks.versions()) == 1
    assert [move[2] for move in checks.moves()] == [quick]
    assert checks.registry.owner("m") == (True, BOB)


@pytest.mark.parametrize(
    ("second", "taken"),
    [
        pytest.param({"owner": BOB}, True, id="the-same-owner"),
        pytest.param({"owner": ANN}, False, id="another-owner"),
        pytest.param({}, False, id="the-default-owner"),
        pytest.param({"owner": ANN, "any_model": True}, True, id="an-admin"),
    ],
)
def test_a_second_version_is_for_the_owner_and_for_admins(checks: Checks, second: dict[str, Any], taken: bool) -> None:
    checks.send(owner=BOB)
    checks.step()

    job_id = checks.send(alias=PRODUCTION, **second)
    checks.step()

    job = checks.read(job_id, second.get("owner", "default"))
    assert job.status == (Status.SUCCEEDED if taken else Status.FAILED)
    assert checks.versions() == ([1, 2] if taken else [1])
    assert checks.registry.alias("m", PRODUCTION).version == (2 if taken else 1)
    assert checks.registry.owner("m") == (True, BOB)


def test_everybody_may_add_to_a_model_that_is_nobody_s(checks: Checks) -> None:
    checks.send(owner=BOB)
    checks.step()
    checks.registry.hand_over("m", "")

    job_id = checks.send(owner=ANN)
    checks.step()

    assert checks.read(job_id, ANN).status == Status.SUCCEEDED
    assert checks.registry.owner("m") == (True, None)


@pytest.mark.parametrize(
    ("said", "who"), [({"submitted_by": "deploy (team-ann)"}, "deploy (team-ann)"), ({}, "http")], ids=["key", "none"]
)
def test_the_history_names_the_key_that_sent_an_artifact(checks: Checks, said: dict[str, Any], who: str) -> None:
    checks.send(**said)

    checks.step()

    (move,) = checks.registry.history("m", PRODUCTION)
    assert move["who"] == who
    assert checks.registry.manifest("m", 1).created_by == who


def test_artifacts_that_came_at_once_make_no_more_models_than_their_owner_may_have(checks: Checks) -> None:
    checks.registry.reserve("home", "first")
    checks.registry.add(manifest_of(1), b"bytes", owner=BOB)

    job_id = checks.send(owner=BOB, most_models=1)
    checks.step()

    job = checks.read(job_id, BOB)
    assert (job.status, job.failure and job.failure["code"]) == (Status.FAILED, "limit_reached")
    assert checks.registry.owner("m") == (False, None)


def test_a_further_version_is_no_further_model(checks: Checks) -> None:
    for _ in range(2):
        checks.send(owner=BOB, most_models=1)
        checks.step()

    assert checks.versions() == [1, 2]
