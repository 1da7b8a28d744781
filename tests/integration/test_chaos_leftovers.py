"""What the chaos suite takes for left over: each key that neither stays for ever nor falls by itself."""

import pytest

from shared.settings import Settings
from tests.chaos.leftovers import FALLING, leftover_keys
from tests.processes import RedisServer


def left(settings: Settings, server: RedisServer) -> list[str]:
    return leftover_keys(server.client, settings)


def whole(settings: Settings, name: str) -> str:
    """The key of a name: Celery's are without the hash tag."""
    prefix = settings.redis_prefix
    return f"{prefix}:{name}" if name.startswith("celery:") else f"{{{prefix}}}:{name}"


def test_models_alone_are_nothing_left_over(settings: Settings, redis_server: RedisServer) -> None:
    assert left(settings, redis_server) == []


@pytest.mark.parametrize("name", ["celery:online", "linger:online", "lane:m@1", "modelling", "unheard-of"])
def test_a_key_that_is_not_known_to_stay_or_to_fall_is_left_over(
    settings: Settings, redis_server: RedisServer, name: str
) -> None:
    redis_server.client.set(whole(settings, name), 1, px=60_000)

    assert left(settings, redis_server) == [f"{name} (string)"]


def test_a_key_that_is_to_fall_must_have_a_time_to_live(settings: Settings, redis_server: RedisServer) -> None:
    names = [f"{name}x" if name.endswith(":") else name for name in FALLING]
    for name in names:
        redis_server.client.set(whole(settings, name), 1, px=60_000)
    assert left(settings, redis_server) == []

    for name in names:
        redis_server.client.persist(whole(settings, name))

    assert left(settings, redis_server) == sorted(f"{name}, which has no time to live" for name in names)


def test_a_tombstone_must_fall_too(settings: Settings, redis_server: RedisServer) -> None:
    job = whole(settings, "job:1")
    redis_server.client.hset(job, "status", "deleted")

    assert left(settings, redis_server) == ["job:1, which has no time to live"]


@pytest.mark.parametrize("name", ["usage", "usage:a"])
def test_what_is_counted_on_an_owner_must_be_nothing(settings: Settings, redis_server: RedisServer, name: str) -> None:
    redis_server.client.hset(whole(settings, name), mapping={"jobs": 0, "bytes": 0})
    assert left(settings, redis_server) == []

    redis_server.client.hset(whole(settings, name), "jobs", 1)

    assert left(settings, redis_server) == [f"{name}: {{'jobs': 1}}"]
