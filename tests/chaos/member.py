"""One process of the service under chaos, with what a supervisor does for it."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos.clock import Clock
from tests.chaos.network import Link
from tests.processes import Http, Process, clean_environment
from tests.wait import until

# As in deploy/supervisor.py for a child that dies for the first time.
PAUSE_SECONDS: Final = 0.5
# As long as deploy/run.py gives a worker: a unit in hand, and what Celery needs.
GRACE_SECONDS: Final = 40.0


class Member:
    """A process that is started again when it ends, until it is stopped."""

    def __init__(
        self,
        name: str,
        role: str,
        command: Sequence[str],
        settings: Mapping[str, str],
        *,
        log: Path,
        clock: Clock,
        links: Sequence[Link],
        port: int | None = None,
    ) -> None:
        """Know how to start it.

        Args:
            name: what it is called in reports.
            role: the queue of a worker, `api` or `scheduler`.
            command: its command line.
            settings: its environment beside ours.
            log: where its output goes, of all its lives.
            clock: what it takes for the wall clock.
            links: its connections to others.
            port: of an API.
        """
        self.name, self.role, self.port, self.log, self.clock, self.links = name, role, port, log, clock, links
        # Held by who freezes or stops it, so that nobody else does meanwhile.
        self.lock = threading.RLock()
        # The code that it runs from its next life on; None: this one.
        self.folder: Path | None = None
        self.ended_by_itself: list[int] = []
        self._command, self._environment = command, {**clean_environment(), **settings, **clock.environment()}
        self._process: Process | None = None
        self._seen = 0  # bytes of its log before this life
        self._expected = False
        self._due = 0.0

    @property
    def pid(self) -> int:
        """Of its present life, or its last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again."""
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        self._expected = False
        self._process = Process(self._command, self._environment, self.log, self.folder)

    def look(self) -> None:
        """Start it again if it has ended, after a pause."""
        if self._process is None or not self.lock.acquire(blocking=False):
            return
        try:
            code = self._process.popen.poll()
            if code is None:
                return
            if not self._due:
                self._due = time.monotonic() + PAUSE_SECONDS
                if not self._expected:
                    self.ended_by_itself.append(code)
            elif time.monotonic() >= self._due:
                self._due = 0.0
                self.start()
        finally:
            self.lock.release()

    def ready(self) -> bool:
        """Whether it lives and has said that it works."""
        if not self.alive():
            return False
        if self.port is not None:
            return Http(self.port).alive()
        word = b"scheduler.ready" if self.role == "scheduler" else b"worker.ready"
        with self.log.open("rb") as log:
            log.seek(self._seen)
            return word in log.read()

    def said(self, since: int) -> list[dict[str, Any]]:
        """What its log has from a byte on: the lines that are JSON."""
        with self.log.open("rb") as log:
            log.seek(since)
            lines = log.read().splitlines()
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):  # of somebody else, or not written to its end
                found.append(json.loads(line))
        return [record for record in found if isinstance(record, dict)]

    def children(self) -> list[psutil.Process]:
        """The processes under it that do the work."""
        below = self._process.children() if self._process else []
        # multiprocessing has a process of its own beside them, which no request ever reaches.
        return [child for child in below if not _tracks_resources(child)]

    def alive(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.popen.poll() is None

    def kill(self) -> bool:
        """kill -9; Linux ends its children with it, and `look` starts it again. False if it did not live."""
        with self.lock:
            if self._process is None or not self.alive():
                return False
            self._expected = True
            self._process.kill()
            return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, if it lives."""
        if self._process is not None and self._process.popen.poll() is None:
            self._process.popen.send_signal(number)

    def tell_to_end(self) -> None:
        """SIGTERM once, however often it is told: two at the same moment may both be lost by CPython."""
        if not self._expected:
            self._expected = True
            self.signal(signal.SIGTERM)

    def replace(self, folder: Path) -> bool:
        """SIGTERM, and a start of the code of another folder when it has ended; False if it had to be killed."""
        with self.lock:
            ended = self._end(GRACE_SECONDS)
            self.folder = folder
            self.start()
        return ended

    def stop(self) -> bool:
        """SIGTERM, and no other start; False if it had to be killed."""
        with self.lock:
            ended = self._end(GRACE_SECONDS)
            self._process = None
        return ended

    def _end(self, seconds: float) -> bool:
        process = self._process
        if process is None or process.popen.poll() is not None:
            return True
        self.tell_to_end()
        try:
            until(lambda: process.popen.poll() is not None, seconds, f"{self.name} ends")
        except AssertionError:
            process.stop(0)
            return False
        return True


def _tracks_resources(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True


def supervise(members: Sequence[Member], stopped: threading.Event) -> threading.Thread:
    """Look after members until the event is set."""

    def look() -> None:
        while not stopped.wait(0.05):
            for member in members:
                member.look()

    thread = threading.Thread(target=look, name="supervisor", daemon=True)
    thread.start()
    return thread


def all_ready(members: Sequence[Member], seconds: float, say: Callable[[str], None]) -> list[str]:
    """Wait until all are ready; the names of those that were not in time."""
    end = time.monotonic() + seconds
    late = []
    for member in members:
        try:
            until(member.ready, max(0.0, end - time.monotonic()), member.name)
        except AssertionError:
            say(f"{member.name} is not ready")
            late.append(member.name)
    return late
