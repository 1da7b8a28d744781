"""Challengers that nothing points to: the newest are kept, the others go."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from shared.errors import StoreUnavailable
from shared.job import Status
from shared.registry import ANY, PRODUCTION, Registry
from shared.settings import Settings
from shared.storage import Storage, aliases_key, version_prefix
from shared.store import JobStore
from tests.integration.registries import add_versions, manifest_of, move_to
from tests.integration.test_job_store import submission
from tests.integration.train_runner import TrainRunner, arrays_of, features_of, labelled
from tests.models import registry_of
from tests.processes import RedisServer
from worker.training.retention import forget_oldest


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """Version 1 of home from disk, in production, and 2 to 7 of trainings that were refused."""
    registry = registry_of(settings)
    add_versions(registry, 1)
    for _ in range(6):
        trained(registry)
    return registry


def trained(registry: Registry, **more: Any) -> int:
    """A version that a training made."""
    token = f"job {len(registry.model('home').versions)}"
    version = registry.reserve("home", token)
    manifest = manifest_of(version, b"%d" % version, source_job=token, recipe={"base": "home@1"})
    registry.add(manifest, b"%d" % version, **more)
    return version


def versions(registry: Registry) -> list[int]:
    return [manifest.version for manifest in registry.model("home").versions]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        pytest.param(50, [7, 6, 5, 4, 3, 2, 1], id="more-than-there-are"),
        pytest.param(6, [7, 6, 5, 4, 3, 2, 1], id="as-many"),
        pytest.param(2, [7, 6, 1], id="two"),
        pytest.param(0, [1], id="none"),
    ],
)
def test_the_newest_challengers_are_kept(registry: Registry, settings: Settings, keep: int, left: list[int]) -> None:
    forget_oldest(registry, "home", keep)

    assert versions(registry) == left
    assert [version for version in range(1, 8) if list(Storage.of(settings).list(version_prefix("home", version)))] == (
        left[::-1]
    )


def test_a_version_that_an_alias_points_or_pointed_to_stays(registry: Registry) -> None:
    registry.move("home", move_to(2, ANY))
    registry.move("home", move_to(1, ANY))
    registry.move("home", move_to(3, None, alias="canary"))
    registry.move("home", move_to(4, None, alias="blue"))
    registry.unalias("home", "blue", who="ann", why="over")

    forget_oldest(registry, "home", 1)

    assert versions(registry) == [7, 4, 3, 2, 1]
    assert registry.rollback("home", who="ann", why="worse", alias=PRODUCTION).version == 2


def test_a_version_that_no_training_made_stays(registry: Registry) -> None:
    registry.add(manifest_of(registry.reserve("home", "disk"), b"disk"), b"disk")
    trained(registry)

    forget_oldest(registry, "home", 0)

    assert versions(registry) == [8, 1]


def test_a_version_that_an_unfinished_job_needs_stays_until_the_next_time(registry: Registry, store: JobStore) -> None:
    job = submission(model="home")
    job = replace(job, spec=replace(job.spec, version=3))
    store.submit(job)

    forget_oldest(registry, "home", 0)
    meanwhile = versions(registry)
    store.cancel(job.id)
    forget_oldest(registry, "home", 0)

    assert (meanwhile, versions(registry)) == ([3, 1], [1])


def test_redis_away_disturbs_nobody(registry: Registry, redis_server: RedisServer) -> None:
    redis_server.stop()

    forget_oldest(registry, "home", 0)

    with pytest.raises(StoreUnavailable):
        registry.names()


def test_of_a_deleted_version_no_reservation_is_left(registry: Registry, store: JobStore, settings: Settings) -> None:
    forget_oldest(registry, "home", 1)

    fields = store.connections.client.hkeys(store.keys.model("home"))
    reserved = orjson.loads(Storage.of(settings).get(aliases_key("home")))["reserved"]

    assert sorted(field for field in fields if field.startswith(b"job:")) == [b"job:job 6", b"job:job-1"]
    assert reserved == {"job 6": 7, "job-1": 1}


def test_of_a_number_that_was_given_up_no_reservation_is_left(registry: Registry, store: JobStore) -> None:
    registry.reserve("home", "never")

    registry.give_up(0)

    assert not store.connections.client.hexists(store.keys.model("home"), "job:never")
    assert registry.reserve("home", "never") == 9


def test_after_each_training_the_oldest_go(settings: Settings, redis_server: RedisServer) -> None:
    runner = TrainRunner(settings.model_copy(update={"keep_challengers": 2}), 1)
    rows = labelled(load_diabetes(as_frame=True))
    runner.register("diabetes", Ridge(alpha=0.01).fit(*arrays_of(rows)), features_of(rows))

    jobs = [runner.run("diabetes", rows, target="target", promote="never") for _ in range(4)]

    assert [job.status for job in jobs] == [Status.SUCCEEDED] * 4
    assert [manifest.version for manifest in runner.registry.model("diabetes").versions] == [5, 4, 1]
