"""A lease on a unit, kept alive by a background thread while the unit runs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from shared.errors import NewerSchema, ServiceError
from shared.records import TIMED_OUT, BatchUnit, Unit, failure_outcome
from shared.store import JobStore
from worker import background
from worker.stopping import Stopping

log = structlog.get_logger()

# How long a unit that nobody wants any more may take to notice it by itself.
GRACE_SECONDS: Final = 2.0
# How long a unit that is to be given back, since the process shall end, may take to notice it by itself.
LEAVE_SECONDS: Final = 0.5
# How long there must be no unit until the thread sleeps till the next one. A busy process never wakes it for a unit.
IDLE_SECONDS: Final = 5.0
# How long others have to come for a unit that this process cannot do.
OTHERS_SECONDS: Final = 1.0
STOPPED: Final = failure_outcome("worker_stopped", "The worker process was stopped.")


def leave_to_others(store: JobStore, unit: Unit | BatchUnit, error: NewerSchema, ring: Callable[[str], None]) -> None:
    """Give a unit back that only a worker of a newer version can do; after a while, in which it is not pulled again.

    Raises:
        StoreUnavailable, StoreFull
    """
    log.warning("unit.newer_schema", fence=unit.fence, lane=unit.lane, reason=error.message)
    time.sleep(OTHERS_SECONDS)
    again, queue = store.release(unit.fence, STOPPED, counts=False)
    if again:
        ring(queue)


class LeaseKeeper:
    """One thread for all the units that a process runs, one after the other.

    A unit that runs for too long, or holds the interpreter so that this thread cannot run, loses its lease; in the
    first case the process ends itself, since a predict call cannot be interrupted otherwise. So it does if nobody wants
    the unit any more and it does not stop by itself. A process that is stuck in native code, where none of its threads
    can run, is ended by the system's alarm clock (SIGALRM, whose default is the end of the process).
    """

    def __init__(
        self,
        store: JobStore,
        ring: Callable[[str], None],
        *,
        lease_seconds: float,
        timeout_seconds: float,
        stopping: Stopping | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        """Keep what it needs.

        Args:
            store: where the leases are.
            ring: calls a worker of a queue.
            lease_seconds: how long a lease lives without a renewal.
            timeout_seconds: of a unit.
            stopping: when the process shall end; None: nobody ends it in order.
            patience_seconds: how long a unit may go on then.
        """
        self._store = store
        self._stopping = stopping or Stopping()
        self._stopping.on_begin(self._leave)
        self._patience_seconds = patience_seconds
        # Whether the unit that runs is given back, so that another worker goes on.
        self.leaving = False
        self._ring = ring
        self._pause_seconds = lease_seconds / 3
        self._lease_seconds = lease_seconds
        self._usual_seconds = self._timeout_seconds = timeout_seconds
        self._unit: Unit | BatchUnit | None = None
        self._since = 0.0
        self._unwanted: frozenset[str] = frozenset()
        self._unwanted_since: float | None = None
        self._changed = threading.Condition()
        self._sleeps = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, unit: Unit | BatchUnit) -> Iterator[Callable[[], frozenset[str]]]:
        """Renew the unit's lease while the block runs; gives a function that tells which jobs nobody wants any more."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = background.start("lease", self._renew_for_ever)
        with self._changed:
            self._unit = unit
            self._timeout_seconds = self._usual_seconds
            self._unwanted, self._unwanted_since = frozenset(), None
            self._begin_anew()
            if self._sleeps:
                self._changed.notify_all()
        if self._stopping.begun:  # it was pulled in that moment
            background.start("leaving", self._leave)
        try:
            yield lambda: self._unwanted
        finally:
            with self._changed:
                signal.setitimer(signal.ITIMER_REAL, 0)
                self._unit = None
                self._changed.notify_all()

    def progressed(self, *, timeout_seconds: float | None = None) -> None:
        """The unit that runs is not stuck: its time begins anew, and is this long from now on, if it is given."""
        with self._changed:
            if timeout_seconds is not None:
                self._timeout_seconds = timeout_seconds
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._since = time.monotonic()
        if self._unit is not None:
            # Later than the timeout, so that what gives up in order comes first.
            signal.setitimer(signal.ITIMER_REAL, self._timeout_seconds + self._lease_seconds)

    def _renew_for_ever(self) -> None:
        worked = time.monotonic()
        while True:
            # A unit that ends before the pause is over never needs a renewal; a cancel is noticed within a second.
            time.sleep(min(1.0, self._pause_seconds))
            with self._changed:
                if self._unit is None and time.monotonic() - worked > IDLE_SECONDS:
                    self._sleeps = True
                    self._changed.wait_for(lambda: self._unit is not None)
                    self._sleeps, worked = False, time.monotonic()
                    continue
                unit, since, timeout_seconds = self._unit, self._since, self._timeout_seconds
            if unit is None:
                continue
            worked = time.monotonic()
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

    def _leave(self) -> None:
        """Let the unit that runs end in time; else give it back as if nobody had tried it, and end the process."""
        with self._changed:
            unit = self._unit
            if unit is None or self._changed.wait_for(lambda: self._unit is not unit, self._patience_seconds):
                return
            self.leaving = True
            if self._changed.wait_for(lambda: self._unit is not unit, LEAVE_SECONDS):
                return
        log.info("unit.given_back", fence=unit.fence, lane=unit.lane, job_ids=list(unit.job_ids))
        try:
            ring, queue = self._store.release(unit.fence, STOPPED, counts=False)
            if ring:
                self._ring(queue)
        finally:
            os._exit(os.EX_OK)  # what runs cannot be interrupted

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
