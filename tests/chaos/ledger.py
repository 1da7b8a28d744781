"""What clients sent, what was promised to them, and what they saw: the memory that the service is compared with."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.owner import DEFAULT_OWNER
from tests.chaos.workload import Work

Job = dict[str, Any]

# What may never change of a job that is done.
FINAL: Final = ("status", "revision", "counts", "result", "failure", "finished_at", "attempt", "model")
# Ways that a status may take, seen from outside: some are too short to be seen.
FOLLOWING: Final[Mapping[str, frozenset[str]]] = {
    "queued": frozenset({"running", "succeeded", "partially_succeeded", "failed", "cancelled"}),
    # Back to queued when a worker is lost.
    "running": frozenset({"queued", "succeeded", "partially_succeeded", "failed", "cancelled"}),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A promise that was not kept."""

    promise: str
    what: str


@dataclass(kw_only=True)
class Submission:
    """One thing that a client wants done, under one Idempotency-Key of its owner, however often it is sent."""

    key: str
    work: Work
    owner: str = DEFAULT_OWNER
    webhook: str | None = None  # where its end is to be told
    job_ids: set[str] = field(default_factory=set)
    acknowledged_at: float | None = None  # of the real clock
    cancel_promised: bool = False
    cancel_tried: bool = False
    seen: Job | None = None  # the newest snapshot

    @property
    def job_id(self) -> str:
        """Of the job that was acknowledged first."""
        return next(iter(self.job_ids))

    @property
    def done(self) -> bool:
        """Whether its job was seen done."""
        return bool(self.seen and self.seen["done"])


class Ledger:
    """Written by many threads."""

    def __init__(self) -> None:
        self.submissions: dict[tuple[str, str], Submission] = {}  # by owner and key
        self.findings: list[Finding] = []
        self.retried: Counter[str] = Counter()
        self.snapshots = 0
        self.sent_twice = 0
        self._lock = threading.Lock()

    def begin(self, key: str, work: Work, *, owner: str = DEFAULT_OWNER, webhook: str | None = None) -> Submission:
        """Something will be sent."""
        with self._lock:
            submission = Submission(key=key, work=work, owner=owner, webhook=webhook)
            self.submissions[owner, key] = submission
            return submission

    def retry(self, why: str) -> None:
        """A request came to nothing and is sent again."""
        with self._lock:
            self.retried[why] += 1

    def count_twice(self) -> None:
        """What was sent at the same time as another was taken too."""
        with self._lock:
            self.sent_twice += 1

    def acknowledge(self, submission: Submission, job: Job) -> None:
        """The service said that it keeps a job."""
        with self._lock:
            if submission.acknowledged_at is None:
                submission.acknowledged_at = time.time()
            submission.job_ids.add(job["id"])
            if len(submission.job_ids) > 1:
                self._find(
                    "one key, one job",
                    f"{submission.owner}'s {submission.key} made the jobs {sorted(submission.job_ids)}",
                )

    def observe(self, submission: Submission, job: Job) -> None:
        """A snapshot, read after the one before was."""
        with self._lock:
            self.snapshots += 1
            before, submission.seen = submission.seen, job
            counts = job["counts"]
            parts = [counts[name] for name in ("pending", "succeeded", "failed", "skipped")]
            if counts["total"] is not None and counts["total"] != sum(parts):
                self._find("counts add up", f"{_name(job)}: {counts}")
            if before is None:
                return
            if job["revision"] < before["revision"]:
                self._find("revisions grow", f"{_name(job)}: {before['revision']}, then {job['revision']}")
            if before["done"]:
                changed = [name for name in FINAL if job[name] != before[name]]
                if changed:
                    self._find("what is final stays", f"{_name(job)}: {', '.join(changed)} changed")
            elif job["status"] != before["status"] and job["status"] not in FOLLOWING[before["status"]]:
                self._find("statuses go forward", f"{_name(job)}: {before['status']}, then {job['status']}")

    def find(self, promise: str, what: str) -> None:
        """Note a promise that was not kept."""
        with self._lock:
            self._find(promise, what)

    def acknowledged(self) -> list[Submission]:
        """Everything that the service said it keeps."""
        with self._lock:
            return [submission for submission in self.submissions.values() if submission.job_ids]

    def outstanding(self) -> list[Submission]:
        """What was acknowledged and not seen done."""
        return [submission for submission in self.acknowledged() if not submission.done]

    def _find(self, promise: str, what: str) -> None:
        self.findings.append(Finding(promise=promise, what=what))


def _name(job: Job) -> str:
    return f"{job['kind']} job {job['id']}"
