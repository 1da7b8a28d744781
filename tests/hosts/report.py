"""What was done and found, for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.ledger import Finding
from tests.chaos.report import listed


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done and found."""

    kind: str  # of the hosts
    total_seconds: float
    disasters: Mapping[str, Sequence[float]]  # of each the seconds until a job that came after it was done
    jobs: Mapping[str, int]
    rows: int
    files: int
    longest_pause_seconds: float  # in which no job was acknowledged
    retried: Mapping[str, int]
    restarts: Mapping[str, int]
    forgotten: int  # ends that were seen, and not there after a failover
    strays: Sequence[str]  # files that no record knows
    findings: Sequence[Finding]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"\nhosts are {self.kind}; {self.total_seconds:.0f} s in all\n"
        for what, times in self.disasters.items():
            yield f"{what:45} {len(times):>3} times, a job that came then was done after {max(times):.1f} s at most"
        yield f"jobs      {sum(self.jobs.values())} ({listed(self.jobs)})"
        yield f"rows      {self.rows} in {self.files} files, each once and in order"
        yield f"longest pause between two acknowledgements {self.longest_pause_seconds:.1f} s"
        yield f"retried   {sum(self.retried.values())} ({listed(self.retried)})"
        yield f"ended by themselves and were started again: {listed(self.restarts)}"
        yield f"ends that were seen and came again after a failover: {self.forgotten}"
        yield f"files that no record knows: {len(self.strays)}"
        for finding in self.findings:
            yield f"FOUND   {finding.promise}: {finding.what}"
        yield "nothing found" if not self.findings else f"{len(self.findings)} findings"
