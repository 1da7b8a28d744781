"""Autoscaling: how long jobs wait when ten times as many come, and how soon that is over.

    python -m benchmarks.autoscale                      seconds; nothing but this process
    python -m benchmarks.autoscale --every 1            with every second of it

A simulation, step by step, of one model's small jobs. What workers do is as in the service: a free process takes up to
64 jobs that wait in one unit, which costs so much and so much more a job. What is wanted is asked of the service's own
functions (shared/autoscale.py) with readings as the janitor takes them. Jobs come at random (a Poisson process): at the
usual rate, ten times as many for a while, and as before. Three times:

- fixed: as many processes all the time as the usual load needs;
- follows: an autoscaler that asks every 15 s, and whose processes take 30 s to start; it lets processes go at once;
- follows, starting in 2 s: the same where there are processes in stock.

`recovered` is the time from the leap until the 95th percentile of the waiting times of the jobs that came within ten
seconds is back below the target, and stays there. `process hours` are what was paid for.
"""

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.report import aligned
from shared.autoscale import READING_SECONDS, READINGS, Load, Policy, Reading, needed, wanted
from shared.queue import ONLINE
from shared.settings import Settings

USUAL: Final = 20.0  # jobs a second
TIMES: Final = 10
LEAP, FALL, END = 300.0, 1_200.0, 2_400.0  # seconds: when more come, when fewer do, when it is over
UNIT_SECONDS: Final = 0.02
JOB_SECONDS: Final = 0.02
MOST_JOBS: Final = 64  # of a unit
ASK_SECONDS: Final = 15.0
SPAN: Final = 10.0
SEED: Final = 7


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """How many processes there are."""

    name: str
    fixed: int | None = None  # None: as many as are wanted
    start_seconds: float = 30.0


SCALERS: Final = (
    Scaler(name="fixed", fixed=1),
    Scaler(name="follows"),
    Scaler(name="follows, starting in 2 s", start_seconds=2),
)


@dataclass(kw_only=True)
class Run:
    """A service while it is simulated."""

    scaler: Scaler
    policy: Policy
    waiting: deque[float] = field(default_factory=deque)  # when each job came
    busy: list[tuple[float, float, list[float]]] = field(default_factory=list)  # end, begin, jobs; a heap
    starting: list[float] = field(default_factory=list)  # when each will have started
    processes: int = 1
    accepted: int = 0
    ended: int = 0
    busy_seconds: float = 0.0
    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=READINGS))
    waits: dict[int, list[float]] = field(default_factory=dict)  # by the span in which the job came
    had: dict[int, int] = field(default_factory=dict)  # processes, those that start among them, by span
    paid_seconds: float = 0.0

    def load(self, now: float) -> Load:
        """What the service would say of its queue."""
        rate = MOST_JOBS / cost(MOST_JOBS) if len(self.waiting) >= MOST_JOBS else 1 / cost(1)
        reading = Reading(at=now, accepted=self.accepted, ended=self.ended, busy_seconds=self.busy_seconds)
        oldest = now - self.waiting[0] if self.waiting else 0.0
        count = len(self.waiting)
        return Load(queue=ONLINE, now=reading, waiting_seconds=count / rate, pieces=count, oldest_seconds=oldest)

    def reading(self, now: float) -> None:
        """As the janitor does it."""
        load = self.load(now)
        one = load.now
        self.readings.appendleft(
            Reading(
                at=now, accepted=one.accepted, ended=one.ended, busy_seconds=one.busy_seconds,
                needed=needed(load, list(self.readings), self.policy),
            )
        )  # fmt: skip

    def scale(self, now: float) -> None:
        """As an autoscaler does it: those that start last are let go first."""
        if self.scaler.fixed is not None:
            return
        more = wanted(self.load(now), list(self.readings), self.policy) - self.processes - len(self.starting)
        if more > 0:
            self.starting += [now + self.scaler.start_seconds] * more
        elif more < 0:
            unstarted = min(-more, len(self.starting))
            del self.starting[len(self.starting) - unstarted :]
            self.processes -= -more - unstarted

    def work(self, now: float) -> None:
        """End what is done by now, and have free processes take what waits."""
        while self.busy and self.busy[0][0] <= now:
            end, begin, jobs = heapq.heappop(self.busy)
            self.ended += len(jobs)
            self.busy_seconds += end - begin
        while self.waiting and len(self.busy) < self.processes:
            jobs = [self.waiting.popleft() for _ in range(min(MOST_JOBS, len(self.waiting)))]
            heapq.heappush(self.busy, (now + cost(len(jobs)), now, jobs))
            for came in jobs:
                self.waits.setdefault(int(came // SPAN), []).append(now - came)


def cost(jobs: int) -> float:
    """Seconds of a unit."""
    return UNIT_SECONDS + JOB_SECONDS * jobs


def simulated(scaler: Scaler, policy: Policy, step: float = 0.01) -> Run:
    """The whole time, step by step; jobs of the last minutes are worked off or not."""
    order = random.Random(SEED)
    run = Run(scaler=scaler, policy=policy, processes=scaler.fixed or 1)
    due = order.expovariate(USUAL)
    for number in range(int(END / step)):
        now = number * step
        while due <= now:
            run.waiting.append(due)
            run.accepted += 1
            due += order.expovariate(USUAL * (TIMES if LEAP <= now < FALL else 1))
        run.processes += sum(at <= now for at in run.starting)
        run.starting = [at for at in run.starting if at > now]
        run.work(now)
        if number % int(READING_SECONDS / step) == 0:
            run.reading(now)
        if number % int(ASK_SECONDS / step) == 0:
            run.scale(now)
        run.had[int(now // SPAN)] = run.processes + len(run.starting)
        run.paid_seconds += step * (run.processes + len(run.starting))
    for came in run.waiting:  # they wait still
        run.waits.setdefault(int(came // SPAN), []).append(END - came)
    return run


def quantile(values: Sequence[float], share: float) -> float:
    """Of one span."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def recovered(run: Run) -> float | None:
    """Seconds from the leap to the begin of the last span that is late, and its length; None: it never was over."""
    late = [span for span, waits in run.waits.items() if quantile(waits, 0.95) > run.policy.target_seconds]
    if not late:
        return 0.0
    return None if max(late) >= END // SPAN - 1 else (max(late) + 1) * SPAN - LEAP


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.autoscale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=6, help="show one in so many spans of ten seconds")
    every = parser.parse_args(arguments).every
    policy = Policy.of(Settings())
    runs = [simulated(scaler, policy) for scaler in SCALERS]
    head = ["s after the leap", "jobs/s"]
    for run in runs:
        head += [f"{run.scaler.name}: processes", "p50 s", "p95 s"]
    rows = [head]
    for span in range(0, int(END // SPAN), every):
        jobs = len(runs[0].waits.get(span, []))
        row = [f"{span * SPAN - LEAP:+.0f}", f"{jobs / SPAN:.0f}"]
        for run in runs:
            waits = run.waits.get(span, [])
            row += [str(run.had[span]), f"{quantile(waits, 0.5):.2f}", f"{quantile(waits, 0.95):.2f}"]
        rows.append(row)
    print(f"{aligned(rows)}\n")
    summary = [["", "most processes", "longest p95 s", "recovered after s", "process hours"]]
    for run in runs:
        after = recovered(run)
        worst = max(quantile(waits, 0.95) for waits in run.waits.values())
        cells = [str(max(run.had.values())), f"{worst:.1f}", "never" if after is None else f"{after:.0f}"]
        summary.append([run.scaler.name, *cells, f"{run.paid_seconds / 3600:.1f}"])
    print(aligned(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
