"""What a small job costs, in operations and not in seconds: a slower hot path is seen here on any machine.

Calls may be a tenth more, for other releases of the libraries. Whoever passes one has made every job slower, and
either finds another way or raises the limit on purpose.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import orjson
import pytest
from werkzeug.test import EnvironBuilder

from shared.settings import Settings
from shared.tracing import TRACING
from tests.integration.apis import Api, online_work, pull
from tests.models import register_moody
from tests.processes import RedisServer
from tests.wait import until
from worker.drain import worker_name
from worker.online import OnlineWork

BODY: Final = {"model": "moody", "instances": [[1.0]]}
JOBS: Final = 16  # of a micro-batch
# What asks the server for its numbers, and what a new connection begins with, are not part of what is counted.
ASKING: Final = ("info", "config|resetstat", "client|setinfo", "ping")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something took, or may take."""

    round_trips: int  # requests to Redis
    commands: int  # that Redis ran within scripts
    calls: int  # of functions, Python's and those written in C

    def __le__(self, most: "Cost") -> bool:
        return (
            self.round_trips <= most.round_trips and self.commands <= most.commands and self.calls <= most.calls * 1.1
        )


@pytest.fixture
def tracing() -> bool:
    """Whether spans are made; tests of what that costs say so."""
    return False


@pytest.fixture
def api(make_api: Callable[..., Api], settings: Settings, tracing: bool, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API in this process, with the model; what is made once for a process, or once a second, is made."""
    monkeypatch.setattr("api.access.REMEMBER_SECONDS", 3600.0)  # a busy machine needs a second for each request
    monkeypatch.setattr(TRACING, "on", False)  # afterwards too
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(10 * 60_000))  # to send is the work of another thread
    register_moody(settings)
    api = make_api(tracing=tracing)
    for _ in range(3):
        read(api, submit(api))
    return api


@pytest.fixture
def work(api: Api) -> OnlineWork:
    """A worker that is this process, with the model loaded."""
    work = online_work(api)
    do_all(work)
    return work


def request(api: Api, method: str, path: str, **more: Any) -> Callable[[], dict[str, Any]]:
    """A request that is made up already; called, it is answered by the application as by the server's threads."""
    environ = EnvironBuilder(path=path, method=method, **more).get_environ()
    started: list[str] = []

    def answered() -> dict[str, Any]:
        application: Any = api.app.wsgi_app
        blocks = application(environ, lambda status, headers, exc_info=None: started.append(status))
        body = b"".join(blocks)
        if hasattr(blocks, "close"):
            blocks.close()
        assert started[0][:3] in ("200", "202"), body
        answer: dict[str, Any] = orjson.loads(body)
        return answer

    return answered


def submit(api: Api) -> str:
    """The id of a new job."""
    return str(request(api, "POST", "/jobs", json=BODY)()["id"])


def read(api: Api, job_id: str) -> None:
    """Poll a job."""
    request(api, "GET", f"/jobs/{job_id}")()


def do(work: OnlineWork) -> int:
    """Pull, predict and commit a micro-batch; how many jobs it had."""
    unit = work.pull(worker_name(), linger_seconds=0.1, answered=False, lane="")
    assert unit is not None
    work.do(unit)
    return len(unit.jobs)


def do_all(work: OnlineWork) -> None:
    """Until nothing waits."""
    while unit := pull(work):
        work.do(unit)


def be_told(api: Api) -> None:
    """Put up the sign under which ends are announced, as it is while a client waits or submits."""
    api.services.store.connections.client.set(api.services.store.keys.awaited, 1)


def cost_of(server: RedisServer, prepared: Callable[[], Callable[[], Any]]) -> Cost:
    """The least of five times, of each number by itself.

    Now and then something is looked up anew, such as whether there are keys by now, or a thread of the API asks for
    something of its own.
    """
    costs = [counted(server, prepared()) for _ in range(5)]
    return Cost(
        round_trips=min(cost.round_trips for cost in costs),
        commands=min(cost.commands for cost in costs),
        calls=min(cost.calls for cost in costs),
    )


def counted(server: RedisServer, run: Callable[[], Any]) -> Cost:
    """Count while it runs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()
    gc.disable()  # finalisers are no part of it
    server.client.config_resetstat()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    told: dict[str, Any] = server.client.info("commandstats")
    ran = {name.removeprefix("cmdstat_"): about["calls"] for name, about in told.items()}
    scripts = ran.pop("evalsha", 0) + ran.pop("eval", 0)
    commands = sum(times for name, times in ran.items() if name not in ASKING)
    return Cost(round_trips=scripts, commands=commands, calls=calls)


def test_a_submit(api: Api, redis_server: RedisServer) -> None:
    cost = cost_of(redis_server, lambda: request(api, "POST", "/jobs", json=BODY))

    assert cost <= Cost(round_trips=1, commands=23, calls=309), cost


def test_a_poll_of_a_job_that_waits(api: Api, redis_server: RedisServer) -> None:
    cost = cost_of(redis_server, lambda: request(api, "GET", f"/jobs/{submit(api)}"))

    assert cost <= Cost(round_trips=1, commands=6, calls=169), cost


def test_a_poll_of_a_job_that_is_done(api: Api, work: OnlineWork, redis_server: RedisServer) -> None:
    job_id = submit(api)
    do_all(work)
    assert request(api, "GET", f"/jobs/{job_id}")()["done"]

    cost = cost_of(redis_server, lambda: request(api, "GET", f"/jobs/{job_id}"))

    assert cost <= Cost(round_trips=1, commands=3, calls=170), cost


def test_the_first_look_at_a_job_that_is_done(
    api: Api, work: OnlineWork, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.expected.KEPT_SECONDS", 60.0)

    def prepared() -> Callable[[], dict[str, Any]]:
        job_id = submit(api)
        do_all(work)
        until(lambda: getattr(api.services.waiters.expected._jobs.get(job_id), "end", None) is not None, 10)
        return request(api, "GET", f"/jobs/{job_id}")

    be_told(api)
    changes = api.services.store.keys.changes
    until(lambda: redis_server.client.pubsub_numsub(changes)[0][1])

    cost = cost_of(redis_server, prepared)

    assert cost <= Cost(round_trips=0, commands=0, calls=137), cost


@pytest.mark.parametrize(
    ("jobs", "most"),
    [
        (1, Cost(round_trips=2, commands=49, calls=315)),
        (JOBS, Cost(round_trips=2, commands=199, calls=1082)),
    ],
)
def test_a_micro_batch(jobs: int, most: Cost, api: Api, work: OnlineWork, redis_server: RedisServer) -> None:
    def prepared() -> Callable[[], int]:
        for _ in range(jobs):
            submit(api)
        return lambda: do(work)

    be_told(api)

    cost = cost_of(redis_server, prepared)

    assert cost <= most, cost


@pytest.mark.parametrize("tracing", [True])
def test_a_submit_that_is_traced(api: Api, redis_server: RedisServer) -> None:
    cost = cost_of(redis_server, lambda: request(api, "POST", "/jobs", json=BODY))

    assert cost <= Cost(round_trips=1, commands=23, calls=1122), cost


@pytest.mark.parametrize("tracing", [True])
@pytest.mark.parametrize(
    ("jobs", "most"),
    [
        (1, Cost(round_trips=2, commands=49, calls=1022)),
        (JOBS, Cost(round_trips=2, commands=199, calls=4999)),
    ],
)
def test_a_micro_batch_that_is_traced(
    jobs: int, most: Cost, api: Api, work: OnlineWork, redis_server: RedisServer
) -> None:
    test_a_micro_batch(jobs, most, api, work, redis_server)
