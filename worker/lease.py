"""A lease on a unit, kept alive by a background thread while the unit runs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from shared.errors import ServiceError
from shared.records import TIMED_OUT, BatchUnit, Unit
from shared.store import JobStore
from worker import background

log = structlog.get_logger()

# How long a unit that nobody wants any more may take to notice it by itself.
GRACE_SECONDS: Final = 2.0


class LeaseKeeper:
    """One thread for all the units that a process runs, one after the other.

    A unit that runs for too long, or holds the interpreter so that this thread cannot run, loses its lease; in the
    first case the process ends itself, since a predict call cannot be interrupted otherwise. So it does if nobody wants
    the unit any more and it does not stop by itself. A process that is stuck in native code, where none of its threads
    can run, is ended by the system's alarm clock (SIGALRM, whose default is the end of the process).
    """

    def __init__(
        self, store: JobStore, ring: Callable[[str], None], *, lease_seconds: float, timeout_seconds: float
    ) -> None:
        self._store = store
        self._ring = ring
        self._pause_seconds = lease_seconds / 3
        self._lease_seconds = lease_seconds
        self._usual_seconds = self._timeout_seconds = timeout_seconds
        self._unit: Unit | BatchUnit | None = None
        self._since = 0.0
        self._unwanted: frozenset[str] = frozenset()
        self._unwanted_since: float | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(
        self, unit: Unit | BatchUnit, *, timeout_seconds: float | None = None
    ) -> Iterator[Callable[[], frozenset[str]]]:
        """Renew the unit's lease while the block runs; gives a function that tells which jobs nobody wants any more.

        Args:
            unit: what runs.
            timeout_seconds: of this unit; None: that of all others.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = background.start("lease", self._renew_for_ever)
        with self._changed:
            self._unit = unit
            self._timeout_seconds = self._usual_seconds if timeout_seconds is None else timeout_seconds
            self._unwanted, self._unwanted_since = frozenset(), None
            self._begin_anew()
        try:
            yield lambda: self._unwanted
        finally:
            with self._changed:
                signal.setitimer(signal.ITIMER_REAL, 0)
                self._unit = None

    def progressed(self) -> None:
        """The unit that runs is not stuck: its time begins anew."""
        with self._changed:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._since = time.monotonic()
        if self._unit is not None:
            # Later than the timeout, so that what gives up in order comes first.
            signal.setitimer(signal.ITIMER_REAL, self._timeout_seconds + self._lease_seconds)

    def _renew_for_ever(self) -> None:
        while True:
            # A unit that ends before the pause is over never needs a renewal; a cancel is noticed within a second.
            time.sleep(min(1.0, self._pause_seconds))
            with self._changed:
                unit, since, timeout_seconds = self._unit, self._since, self._timeout_seconds
            if unit is None:
                continue
            if time.monotonic() - since > timeout_seconds:
                self._give_up(unit, "unit.timed_out")
            self._renew(unit)
            unwanted_since = self._unwanted_since
            if unwanted_since is not None and time.monotonic() - unwanted_since > GRACE_SECONDS:
                self._give_up(unit, "unit.stopped")

    def _renew(self, unit: Unit | BatchUnit) -> None:
        try:
            unwanted = self._store.renew(unit.fence)
        except ServiceError as error:
            log.warning("lease.not_renewed", fence=unit.fence, reason=error.code)
            return
        with self._changed:
            if self._unit is unit:
                self._unwanted = frozenset(unit.job_ids) if unwanted is None else unwanted
                if self._unwanted_since is None and self._unwanted.issuperset(unit.job_ids):
                    self._unwanted_since = time.monotonic()

    def _give_up(self, unit: Unit | BatchUnit, why: str) -> None:
        with self._changed:
            if self._unit is not unit:
                return  # it ended in this moment
        log.error(why, fence=unit.fence, lane=unit.lane, job_ids=list(unit.job_ids))
        try:
            # An artifact that held a process for so long would hold another one.
            last = why == "unit.timed_out" and isinstance(unit, BatchUnit) and unit.spec.register is not None
            ring, queue = self._store.release(unit.fence, TIMED_OUT, last=last)
            if ring:
                self._ring(queue)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
