"""Leases are renewed while units run, by a thread that nothing wakes while there are none."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.wait import until
from worker.lease import LeaseKeeper


class Leases:
    """Renewals that were asked for."""

    def __init__(self) -> None:
        self.renewed: list[str] = []

    def renew(self, fence: str) -> frozenset[str]:
        self.renewed.append(fence)
        return frozenset()


def unit(fence: str) -> Any:
    return SimpleNamespace(fence=fence, lane="", job_ids=("a",))


def test_the_thread_sleeps_until_the_next_unit_and_renews_that_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.lease.IDLE_SECONDS", 0.0)
    leases: Any = Leases()
    keeper = LeaseKeeper(leases, print, lease_seconds=0.03, timeout_seconds=60)

    for fence in ("1", "2", "3"):
        with keeper.keep(unit(fence)):
            until(lambda fence=fence: fence in leases.renewed, 20, "it is renewed")  # type: ignore[misc]
        until(lambda: keeper._sleeps, 20, "the thread sleeps")

    assert list(dict.fromkeys(leases.renewed)) == ["1", "2", "3"]


def test_a_unit_right_after_another_is_renewed_without_a_sleep_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.lease.IDLE_SECONDS", 3600.0)
    leases: Any = Leases()
    keeper = LeaseKeeper(leases, print, lease_seconds=0.03, timeout_seconds=60)

    for fence in ("1", "2"):
        with keeper.keep(unit(fence)):
            until(lambda fence=fence: fence in leases.renewed, 20, "it is renewed")  # type: ignore[misc]

    assert not keeper._sleeps
