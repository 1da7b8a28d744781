"""Lookups of names that may hang; with a resolver that hangs for as long as the test wants."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wait import until
from worker.lookups import MOST_LEFT, Answer, Lookups, NotInTime

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Resolver:
    """Hangs at every name that begins with `slow` until `go`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> Answer:
        self.asked.append(host)
        if host.startswith("slow"):
            self.go.wait(60)
        return FOUND


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.go.set()


def find(lookups: Lookups, host: str, owner: str = "team-a", seconds: float = 30) -> Answer:
    return lookups.find(host, 443, owner=owner, seconds=seconds)


def leave(lookups: Lookups, host: str, owner: str = "team-a") -> None:
    """Ask for a name, and do not wait for the answer."""
    with pytest.raises(NotInTime):
        find(lookups, host, owner, seconds=0.001)


def test_an_answer_is_handed_on(resolver: Resolver) -> None:
    assert find(Lookups(resolver), "quick.example") == FOUND


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long"), TimeoutError("own")])
def test_so_is_an_error(error: Exception) -> None:
    def resolve(*_: Any, **__: Any) -> Answer:
        raise error

    with pytest.raises(type(error)) as caught:
        find(Lookups(resolve), "unknown.example")

    assert caught.value is error


def test_a_name_that_hangs_is_not_asked_for_again_meanwhile_by_anybody(resolver: Resolver) -> None:
    lookups = Lookups(resolver)
    leave(lookups, "slow.example")

    for owner in ("team-a", "team-b"):
        with pytest.raises(NotInTime):
            find(lookups, "slow.example", owner)

    assert resolver.asked == ["slow.example"]
    assert find(lookups, "quick.example") == FOUND


def test_a_name_is_asked_for_again_when_the_resolver_is_done_with_it(resolver: Resolver) -> None:
    lookups = Lookups(resolver)
    leave(lookups, "slow.example")
    resolver.go.set()

    def found() -> Answer | None:
        try:
            return find(lookups, "slow.example")
        except NotInTime:
            return None

    assert until(found, what="it is asked for again") == FOUND


def test_many_names_that_hang_take_a_bounded_number_of_threads_and_disturb_no_other_owner(resolver: Resolver) -> None:
    lookups = Lookups(resolver)
    for number in range(MOST_LEFT):
        leave(lookups, f"slow{number}.example")

    for host in ("slow.example", "quick.example"):
        with pytest.raises(NotInTime):
            find(lookups, host)

    assert len(resolver.asked) == MOST_LEFT
    assert find(lookups, "quick.example", "team-b") == FOUND
