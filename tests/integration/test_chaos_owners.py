"""The chaos suite sees what is counted on the wrong owner, or on nobody's."""

from collections.abc import Mapping

import pytest

from shared.keys import Keys
from shared.settings import Settings
from shared.storage import Storage, input_key
from tests.chaos.owners import PROMISE, check_usage
from tests.processes import RedisServer

OWN: Mapping[str, list[str]] = {"ann": ["job-1", "job-2"], "bob": ["job-3"]}


@pytest.fixture(autouse=True)
def counted(settings: Settings, redis_server: RedisServer) -> None:
    """A job of Ann's with a file; her other job and Bob's have none."""
    keys = Keys(settings.redis_prefix)
    Storage.of(settings).put(input_key("job-1"), b"12345")
    redis_server.client.hset(f"{keys.base}held:ann", "job-1", 5)
    redis_server.client.hset(keys.usage("ann"), mapping={"bytes": 5, "jobs": 0})


def found(settings: Settings, server: RedisServer) -> list[str]:
    findings = list(check_usage(server.client, settings, OWN))
    assert {finding.promise for finding in findings} <= {PROMISE}
    return [finding.what for finding in findings]


def test_what_is_as_it_should_be_is_no_finding(settings: Settings, redis_server: RedisServer) -> None:
    assert found(settings, redis_server) == []


@pytest.mark.parametrize(
    ("key", "field", "value", "what"),
    [
        pytest.param("held:bob", "job-1", 0, "on bob: 1 jobs of others, such as job-1", id="another's job"),
        pytest.param("usage:ann", "bytes", 6, "on ann: 6 bytes, its jobs hold 5", id="bytes of no job"),
        pytest.param("usage:bob", "jobs", 1, "on bob, all of whose jobs are done: {'jobs': 1}", id="a job that waits"),
    ],
)
def test_what_is_counted_wrongly_is_a_finding(
    settings: Settings, redis_server: RedisServer, key: str, field: str, value: int, what: str
) -> None:
    redis_server.client.hset(f"{Keys(settings.redis_prefix).base}{key}", field, value)

    assert found(settings, redis_server) == [what]


def test_bytes_in_storage_that_are_not_counted_are_a_finding(settings: Settings, redis_server: RedisServer) -> None:
    Storage.of(settings).put(input_key("job-3"), b"123")

    assert found(settings, redis_server) == ["on bob: 0 bytes for job job-3, which has 3 in storage"]
