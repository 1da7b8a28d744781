"""Requests of owners, counted in Redis by the library `limits`."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from limits import RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter

from api.rates import Counter, Rates
from shared.api_keys import Scope
from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.keys import Keys
from shared.settings import Settings
from tests.integration.apis import Api
from tests.processes import RedisServer
from tests.wait import until


@pytest.fixture
def connections(settings: Settings, redis_server: RedisServer) -> Connections:
    return Connections(settings.redis_address, timeout_seconds=5)


@pytest.fixture
def counter(connections: Connections) -> Counter:
    return Counter("redis://", connections.client.connection_pool, key_prefix="{foretell}:rate")


@pytest.fixture
def rates(connections: Connections, settings: Settings) -> Rates:
    return Rates(connections, Keys(settings.redis_prefix))


def calls_of_scripts(client: object) -> int:
    """How often a script was run."""
    stats = client.info("commandstats")  # type: ignore[attr-defined]
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


def refused(client: FlaskClient) -> bool:
    return client.get("/jobs").status_code == 429


def test_so_many_are_counted_and_no_more(counter: Counter) -> None:
    counted = [counter.count("a", 3, 60) for _ in range(5)]

    assert counted == [(True, 1), (True, 2), (True, 3), (False, 3), (False, 3)]


def test_it_counts_as_the_library_does(counter: Counter) -> None:
    limiter, item = SlidingWindowCounterRateLimiter(counter), RateLimitItemPerMinute(10)
    for _ in range(3):
        limiter.hit(item, "a")

    granted, number = counter.count(item.key_for("a"), 10, 60)

    assert (granted, number) == (True, 4)
    assert limiter.get_window_stats(item, "a").remaining == 6


def test_of_the_window_before_as_many_count_as_the_window_still_covers(counter: Counter) -> None:
    for _ in range(100):
        counter.count("a", 100, 60)
    # Half of the time until both windows are over has passed, and a quarter of a window more.
    client = counter.storage
    client.pexpire("{foretell}:rate:{a}", 45_000)

    granted, number = counter.count("a", 100, 60)

    assert granted
    assert 70 <= number <= 76


def test_owners_are_counted_apart(rates: Rates) -> None:
    def apart() -> bool:
        return [rates.count(owner, 1)[0] for owner in ("a", "a", "b")] == [True, False, True]

    until(apart, what="three requests within a second")


def test_keys_of_an_owner_with_limits_of_their_own_are_counted_together(rates: Rates) -> None:
    names = iter(range(10_000))

    def together() -> bool:
        owner = f"owner-{next(names)}"
        return rates.count(owner, 1000)[0] and not rates.count(owner, 1)[0]

    until(together, what="two requests within a second")


def test_a_request_costs_one_round_trip(rates: Rates, redis_server: RedisServer) -> None:
    rates.count("a", 10)
    before = redis_server.client.info("commandstats")
    rates.count("a", 10)
    after = redis_server.client.info("commandstats")

    changed = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if after[name]["calls"] != before.get(name, {"calls": 0})["calls"]
    }
    # The two scripts are sent together; the rest is done within them. INFO is what this test asks with.
    assert changed.pop("cmdstat_evalsha") == 2
    assert set(changed) <= {f"cmdstat_{name}" for name in ("info", "pttl", "get", "exists", "incrby", "set", "rename")}


@pytest.mark.parametrize("kept", [(), ("lua_acquire_sliding_window",), ("lua_sliding_window",)], ids=str)
def test_a_request_counts_once_when_redis_has_forgotten_scripts(
    counter: Counter, redis_server: RedisServer, kept: tuple[str, ...]
) -> None:
    counter.count("a", 10, 60)
    redis_server.client.script_flush()
    for name in kept:
        redis_server.client.script_load(getattr(counter, name).script)

    assert counter.count("a", 10, 60) == (True, 2)


def test_it_goes_on_after_a_restart_of_redis(rates: Rates, redis_server: RedisServer, settings: Settings) -> None:
    rates.count("a", 10)
    redis_server.stop()
    again = RedisServer(settings)

    try:
        assert rates.count("a", 10)[0]
    finally:
        again.stop()


def test_nothing_is_counted_without_redis(rates: Rates, redis_server: RedisServer) -> None:
    redis_server.stop()

    with pytest.raises(StoreUnavailable):
        rates.count("a", 10)


def test_nobody_is_kept_out_when_redis_has_no_memory_left(rates: Rates, redis_server: RedisServer) -> None:
    redis_server.client.config_set("maxmemory", 1)

    assert [rates.count("a", 1) for _ in range(3)] == [(True, 1)] * 3


def test_what_was_counted_is_gone_soon(rates: Rates, redis_server: RedisServer, settings: Settings) -> None:
    for _ in range(3):
        rates.count("a", 100)

    keys = redis_server.client.keys(f"{Keys(settings.redis_prefix).rates}:*")

    assert keys
    assert all(-2 <= redis_server.client.pttl(key) <= 2000 and redis_server.client.pttl(key) != -1 for key in keys)


# Over HTTP


def test_a_request_too_many_is_a_429_that_says_when_to_come_back(make_api: Callable[..., Api]) -> None:
    client = make_api(owner_requests_per_second=1).client

    until(lambda: refused(client), what="two requests within a second")

    answer = client.get("/jobs")
    while answer.status_code != 429:  # the last of those above may be a second ago
        answer = client.get("/jobs")
    document = answer.json or {}
    assert (document["code"], document["errors"][0]["code"]) == ("limit_reached", "requests_per_second")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["RateLimit-Policy"] == '"requests";q=1;w=1'
    assert answer.headers["RateLimit"] == '"requests";r=0;t=1'
    until(lambda: not refused(client), what="a request is answered again")


def test_every_answer_tells_what_is_left(make_api: Callable[..., Api]) -> None:
    client = make_api(owner_requests_per_second=1000).client

    answers = [client.get("/jobs"), client.get("/jobs/nobody"), client.post("/jobs", data=b"{")]

    assert [answer.status_code for answer in answers] == [200, 404, 415]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=1000;w=1'}
    assert all(answer.headers["RateLimit"].startswith('"requests";r=99') for answer in answers)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/openapi.json", "/docs/", "/nothing"])
def test_what_needs_no_key_is_not_counted(make_api: Callable[..., Api], path: str) -> None:
    client = make_api(owner_requests_per_second=1).client

    answers = [client.get(path) for _ in range(5)]

    assert {answer.status_code for answer in answers}.isdisjoint({429})
    assert all("RateLimit" not in answer.headers for answer in answers)


def test_without_a_limit_nothing_is_counted_or_told(make_api: Callable[..., Api], redis_server: RedisServer) -> None:
    client = make_api().client
    before = calls_of_scripts(redis_server.client)

    answer = client.get("/files/nobody")  # a file is read without a script

    assert "RateLimit" not in answer.headers
    assert calls_of_scripts(redis_server.client) == before


def test_a_request_too_many_is_refused_before_its_body_is_read(make_api: Callable[..., Api]) -> None:
    api = make_api(owner_requests_per_second=1)
    until(lambda: refused(api.client), what="two requests within a second")

    def sent() -> bool:
        answer = api.client.post("/files", data=b"x\n1\n", content_type="text/csv")
        return answer.status_code == 429

    until(sent, what="a request too many")
    assert len(api.stored()) <= 1  # of a try that was granted


def test_a_caller_who_may_not_do_it_is_counted_too(make_api: Callable[..., Api]) -> None:
    api = make_api(owner_requests_per_second=1)
    api.client_of("team-a")
    reader = api.client_of("team-a", scopes=[Scope.MODELS_READ])

    def counted() -> bool:
        return {reader.get("/keys").status_code for _ in range(3)} == {403, 429}

    until(counted, what="three requests within a second")


def test_the_limit_of_a_key_is_its_own(make_api: Callable[..., Api]) -> None:
    api = make_api(owner_requests_per_second=1)
    free, bound = api.client_of("team-a", {"requests_per_second": 0}), api.client_of("team-b")

    answers = [free.get("/jobs") for _ in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    assert all("RateLimit" not in answer.headers for answer in answers)
    until(lambda: refused(bound), what="two requests of another owner within a second")


def test_a_limited_request_is_a_503_without_redis(make_api: Callable[..., Api], redis_server: RedisServer) -> None:
    client = make_api(owner_requests_per_second=10).client
    client.get("/jobs")
    redis_server.stop()

    answer = client.get("/jobs")

    assert (answer.status_code, (answer.json or {})["code"]) == (503, "store_unavailable")
