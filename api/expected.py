"""The ends of jobs that this process accepted, kept for a moment for whoever looks at them first.

Most small jobs are done before they are looked at, and on the connection that they were submitted on, so by the same
process: it need not ask Redis then. Later looks do, as do all at jobs of other processes.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Final

from shared.announcement import load_end
from shared.job import Job, Spec
from shared.records import Submission

# From the submit on. It bounds how old a look may be, should the news be lost that the job was deleted meanwhile.
KEPT_SECONDS: Final = 2.0
# Of a job that was not looked at; the oldest goes first.
MOST: Final = 1000


class _Expected:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.until = time.monotonic() + KEPT_SECONDS
        self.end: bytes | None = None


class Expectations:
    """Of one process, for any number of threads."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Expected] = {}  # the oldest first
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether anything is kept or waited for."""
        return bool(self._jobs)

    def add(self, accepted: Submission) -> bool:
        """Wait for the end of a job that was accepted just now, if it is over rows and does not expire meanwhile."""
        if accepted.spec.kind != "predict" or accepted.ttl_seconds <= KEPT_SECONDS:
            return False
        with self._lock:
            self._jobs[accepted.id] = _Expected(accepted.spec)
            if len(self._jobs) > MOST:
                del self._jobs[next(iter(self._jobs))]
        return True

    def hear(self, ends: Mapping[str, bytes]) -> None:
        """Keep those ends, by job, that are waited for."""
        for job_id, end in ends.items():
            if (expected := self._jobs.get(job_id)) is not None:
                expected.end = end

    def take(self, job_id: str, owner: str) -> Job | None:
        """The finished job of an owner, once; None if Redis must be asked."""
        expected = self._jobs.get(job_id)
        if expected is None or expected.end is None or expected.spec.owner != owner:
            return None
        self.forget((job_id,))
        return load_end(expected.end, expected.spec) if time.monotonic() < expected.until else None

    def awaits(self, job_id: str, owner: str) -> Spec | None:
        """The spec of an owner's job whose end has yet to be heard; None if nothing is waited for."""
        expected = self._jobs.get(job_id)
        if expected is None or expected.end is not None or expected.spec.owner != owner:
            return None
        return expected.spec

    def forget(self, job_ids: Iterable[str]) -> None:
        """Keep nothing of jobs that were deleted, or read."""
        with self._lock:
            for job_id in job_ids:
                self._jobs.pop(job_id, None)

    def forget_old(self) -> None:
        """Drop what was not looked at in time."""
        now = time.monotonic()
        with self._lock:
            while self._jobs:
                oldest = next(iter(self._jobs))
                if now < self._jobs[oldest].until:
                    break
                del self._jobs[oldest]

    def forget_all(self) -> None:
        """What became of the jobs may not have been heard."""
        with self._lock:
            self._jobs.clear()
