"""How many worker processes a queue wants: pure functions of what waits, what came, and what the work has cost lately.

The service and benchmarks/autoscale.py call the same ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.queue import BATCH, ONLINE, TRAIN
from shared.settings import Settings

# Between two readings, and for how long they are kept.
READING_SECONDS: Final = 10
READINGS: Final = 60
# Over which time jobs that come are averaged: files and trainings come seldom.
ARRIVAL_SECONDS: Final[Mapping[str, float]] = {ONLINE: 60, BATCH: 300, TRAIN: 300}
# The cost of a job is that of the newest readings which together have so much work, and are so long: a load that
# changes the size of micro-batches changes it too.
COST_BUSY_SECONDS: Final = 5.0
COST_SECONDS: Final = 20.0
# Of a job of which nothing is known yet.
GUESS_SECONDS: Final[Mapping[str, float]] = {ONLINE: 0.05, BATCH: 10, TRAIN: 60}
# Processes that are always busy let jobs wait for long: the part of their time that is planned with.
UTILISATION: Final = 0.8
# A unit that has run for so long keeps its process for itself, and counts as one that is needed.
LONG_UNIT_SECONDS: Final = 10.0
# If what waits is older than the target, it takes longer than was measured: so many times at most.
MOST_LATE: Final = 4.0
# Of a process: so little more than a whole number of them wants no other.
TOLERANCE: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What an operator wants."""

    target_seconds: float
    hold_seconds: float
    min_processes: int
    max_processes: int

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """As the settings say."""
        return cls(
            target_seconds=settings.autoscale_target_seconds,
            hold_seconds=settings.autoscale_hold_seconds,
            min_processes=settings.autoscale_min_processes,
            max_processes=settings.autoscale_max_processes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What had happened to a queue at a moment, and what it needed then."""

    at: float  # seconds
    accepted: int  # jobs, ever
    ended: int
    busy_seconds: float  # of all processes, ever
    needed: float = 0.0  # processes


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a queue has to do now."""

    queue: str
    now: Reading
    waiting_seconds: float = 0.0  # of one process, that what waits will take as far as its pace is known
    unmeasured: int = 0  # waiting jobs whose pace is not
    pieces: int = 0  # units that wait and could run at once
    long_units: int = 0  # that have run for LONG_UNIT_SECONDS
    oldest_seconds: float = 0.0  # how long the oldest job has waited


def cost_seconds(load: Load, readings: Sequence[Reading]) -> float | None:
    """Time of one process that a job took lately; None if none ended.

    `readings`: newest first.
    """
    found = None
    for reading in readings:
        busy, ended = load.now.busy_seconds - reading.busy_seconds, load.now.ended - reading.ended
        if busy < 0 or ended < 0:  # the counters began anew since
            break
        if ended:
            found = busy / ended
            if busy >= COST_BUSY_SECONDS and load.now.at - reading.at >= COST_SECONDS:
                break
    return found


def arriving(load: Load, readings: Sequence[Reading]) -> float:
    """Jobs a second that came lately."""
    since = [reading for reading in readings if load.now.at - reading.at <= ARRIVAL_SECONDS[load.queue]]
    if not since or since[-1].accepted > load.now.accepted or since[-1].at >= load.now.at:
        return 0.0
    # What came within a moment is no pace.
    return (load.now.accepted - since[-1].accepted) / max(load.now.at - since[-1].at, READING_SECONDS)


def backlog_seconds(load: Load, readings: Sequence[Reading]) -> float:
    """Time of one process that all that waits will take."""
    cost = cost_seconds(load, readings)
    return load.waiting_seconds + load.unmeasured * (GUESS_SECONDS[load.queue] if cost is None else cost)


def needed(load: Load, readings: Sequence[Reading], policy: Policy) -> float:
    """Processes that keep up with what comes, and work off what waits within the target."""
    keep_up = arriving(load, readings) * (cost_seconds(load, readings) or 0.0) / UTILISATION
    late = min(MOST_LATE, max(1.0, load.oldest_seconds / policy.target_seconds))
    catch_up = min(late * backlog_seconds(load, readings) / policy.target_seconds, load.pieces)
    return max(keep_up, load.long_units) + catch_up


def wanted(load: Load, readings: Sequence[Reading], policy: Policy) -> int:
    """Processes that are wanted: the most that were needed within the time to hold, between the least and the most."""
    most = needed(load, readings, policy)
    for reading in readings:
        if load.now.at - reading.at <= policy.hold_seconds:
            most = max(most, reading.needed)
    # Whatever waits has somebody who does it.
    least = max(policy.min_processes, 1 if most > 0 else 0)
    return min(policy.max_processes, max(least, math.ceil(most - TOLERANCE)))
