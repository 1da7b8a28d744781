"""What was done and found, for people and as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.injection import Injected
from tests.chaos.ledger import Finding, Submission
from tests.chaos.workload import Rows


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How long after a fault the service worked again."""

    kind: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Of one run."""

    seed: int
    seconds: float  # for which faults began
    total_seconds: float
    storage: str
    broker: str
    faults: Mapping[str, int]
    not_injected: Mapping[str, str]  # kinds that cannot be made here, and why
    not_done: Sequence[str]
    zombies: int  # went on after their unit had gone to another
    restarts_by_themselves: Mapping[str, int]
    jobs: Mapping[str, int]  # by kind and status
    owners: Mapping[str, int]  # jobs of each
    rows: int
    snapshots: int
    retried: Mapping[str, int]
    sent_twice: int
    webhooks: int  # ends that were to be told
    webhook_requests: int  # that came for them
    lost: int
    doubled: int
    recoveries: Mapping[str, float]  # the slowest of each kind, seconds
    slowest_recovery: Recovery | None
    slowest_job_seconds: float  # a small one, from acknowledgement to end
    findings: Sequence[Finding]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"\nseed {self.seed}, faults for {self.seconds:g} s, {self.total_seconds:.0f} s in all"
        yield f"storage {self.storage}, messages through {self.broker}\n"
        yield f"{'fault':48} {'times':>6} {'slowest recovery':>18}"
        for kind, times in sorted(self.faults.items()):
            slowest = f"{self.recoveries[kind]:.1f} s" if kind in self.recoveries else "-"
            yield f"{kind:48} {times:>6} {slowest:>18}"
        yield f"{'in all':48} {sum(self.faults.values()):>6}"
        for kind, why in self.not_injected.items():
            yield f"not injected: {kind}: {why}"
        for what, times in Counter(self.not_done).items():
            yield f"found nothing to be done to ({times}): {what}"
        yield f"zombies that went on after their unit had gone to another: {self.zombies}"
        yield f"ended by themselves and were started again: {listed(self.restarts_by_themselves)}\n"
        yield f"jobs    {sum(self.jobs.values())} ({listed(self.jobs)})"
        yield f"owners  {listed(self.owners)}"
        yield f"rows    {self.rows}"
        yield f"reads   {self.snapshots}"
        yield f"retried {sum(self.retried.values())} ({listed(self.retried)}); sent twice {self.sent_twice}"
        yield f"ends told by webhook {self.webhooks}, in {self.webhook_requests} requests"
        yield f"slowest small job {self.slowest_job_seconds:.1f} s"
        if self.slowest_recovery:
            yield f"slowest recovery  {self.slowest_recovery.seconds:.1f} s ({self.slowest_recovery.kind})"
        yield f"lost    {self.lost}"
        yield f"doubled {self.doubled}\n"
        for finding in self.findings:
            yield f"FOUND   {finding.promise}: {finding.what}"
        yield "nothing found" if not self.findings else f"{len(self.findings)} findings"


def recoveries(injected: Sequence[Injected], finished: Sequence[tuple[float, float]]) -> list[Recovery]:
    """From the end of each fault until the first end of a small job that was acknowledged after it.

    Args:
        injected: the faults.
        finished: when each small job was acknowledged and when it was done, seconds of the same clock.
    """
    found = []
    for fault in injected:
        ends = [end for acknowledged, end in finished if acknowledged >= fault.ended]
        if ends:
            found.append(Recovery(kind=fault.kind, seconds=max(0.0, min(ends) - fault.ended)))
    return found


def slowest(recovered: Sequence[Recovery]) -> dict[str, float]:
    """The slowest of each kind, seconds."""
    most: dict[str, float] = {}
    for recovery in recovered:
        most[recovery.kind] = max(recovery.seconds, most.get(recovery.kind, 0.0))
    return most


def jobs_by_status(submissions: Sequence[Submission]) -> Counter[str]:
    """How many jobs of each kind ended how."""
    counted: Counter[str] = Counter()
    for submission in submissions:
        if submission.seen:
            counted[f"{submission.seen['kind']} {submission.seen['status']}"] += 1
    return counted


def is_small(submission: Submission) -> bool:
    """Whether it is a job with rows in the request."""
    return isinstance(submission.work, Rows)


def listed(counts: Mapping[str, int]) -> str:
    """Counts by their names."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
