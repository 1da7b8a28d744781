"""What a small job costs the event loop, in operations and not in seconds: a slower hot path is seen on any machine.

As tests/integration/test_hot_path.py does it for what threads answer: calls may be a tenth more, for other releases of
the libraries, and whoever passes one either finds another way or raises the limit on purpose.
"""

import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from api.front.loop import Front
from tests.integration.front.clients import Connection, Running, answer_all, do_all, raw, signed, submit
from tests.wait import until
from worker.online import OnlineWork


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something took of the loop's thread, or may take."""

    reads: int  # read(2) and its kind: of clients, of Redis, of what wakes the loop
    writes: int  # to clients, to Redis, to the log
    calls: int  # of functions, Python's and those written in C

    def __le__(self, most: "Cost") -> bool:
        return self.reads <= most.reads and self.writes <= most.writes and self.calls <= most.calls * 1.1

    def without(self, other: "Cost") -> "Cost":
        """The rest."""
        return Cost(reads=self.reads - other.reads, writes=self.writes - other.writes, calls=self.calls - other.calls)


@pytest.fixture
def running(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Running:
    """A front that does nothing of its own now and then, which would be counted on a slow machine."""
    monkeypatch.setattr("api.front.loop.TICK_SECONDS", 1.0)
    monkeypatch.setattr(Front, "_look_after_all", lambda *_: None)
    return start()


def in_loop(running: Running, work: Callable[[], Any]) -> Any:
    """What a function gives in the thread of the loop."""
    done: Future[Any] = Future()
    running.front._loop.call_soon_threadsafe(lambda: done.set_result(work()))
    return done.result(20)


def system_calls() -> tuple[int, int]:
    """Those that read and that wrote, by the calling thread so far: proc_pid_io(5)."""
    lines = Path(f"/proc/self/task/{threading.get_native_id()}/io").read_text().splitlines()
    found = dict(line.split(": ") for line in lines)
    return int(found["syscr"]), int(found["syscw"])


def counted(running: Running, run: Callable[[], Any]) -> Cost:
    """Count in the loop's thread while it runs in ours."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def begin() -> tuple[int, int]:
        sys.setprofile(count)
        return system_calls()

    def end() -> tuple[int, int]:
        sys.setprofile(None)
        return system_calls()

    before = in_loop(running, begin)
    run()
    after = in_loop(running, end)
    return Cost(reads=after[0] - before[0], writes=after[1] - before[1], calls=calls)


def cost_of(running: Running, prepared: Callable[[], Callable[[], Any]]) -> Cost:
    """The least of ten times, of each number by itself, of what the loop answers alone."""
    running.in_threads.clear()
    gc.collect()
    gc.disable()  # finalisers are no part of it
    try:
        costs = [counted(running, prepared()) for _ in range(10)]
        nothing = [counted(running, lambda: None) for _ in range(10)]
    finally:
        gc.enable()
    assert running.in_threads == []
    return least(costs).without(least(nothing))


def least(costs: list[Cost]) -> Cost:
    return Cost(
        reads=min(cost.reads for cost in costs),
        writes=min(cost.writes for cost in costs),
        calls=min(cost.calls for cost in costs),
    )


def place_of(client: Connection) -> str:
    """A new job."""
    return client.ask(submit()).fields["location"]


def test_a_submit(running: Running) -> None:
    client = running.connect()

    cost = cost_of(running, lambda: lambda: client.ask(submit()))

    assert cost <= Cost(reads=2, writes=3, calls=327), cost


def test_a_look_at_a_job_that_waits(running: Running) -> None:
    client = running.connect()
    place = place_of(client)

    cost = cost_of(running, lambda: lambda: client.ask(raw("GET", place, b"", "Prefer: wait=0")))

    assert cost <= Cost(reads=2, writes=2, calls=216), cost


def test_a_look_at_a_job_that_is_done(running: Running, work: OnlineWork) -> None:
    client = running.connect()
    place = place_of(client)
    do_all(work)
    assert client.ask(raw("GET", place)).json["done"]

    cost = cost_of(running, lambda: lambda: client.ask(raw("GET", place)))

    assert cost <= Cost(reads=2, writes=2, calls=211), cost


def test_a_submit_that_is_waited_for(running: Running, work: OnlineWork) -> None:
    client = running.connect()
    signed(running)

    def asked() -> None:
        client.send(submit({"model": "moody", "instances": [[1.0]]}, "Prefer: wait=20"))
        until(lambda: running.api.services.waiters.waiting("default"), what="it waits")
        answer_all(running, work)
        assert client.answer().json["done"]

    cost = cost_of(running, lambda: asked)

    assert cost <= Cost(reads=3, writes=3, calls=408), cost
