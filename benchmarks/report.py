"""What was measured, as rows, medians and ratios, in text and JSON."""

import contextlib
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import environment
from benchmarks.load import Outcome
from benchmarks.peer_systems import SYSTEMS
from benchmarks.systems import System


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination that is measured, once a round; `rows` is of each job."""

    model: str
    rows: int
    clients: int
    system: str
    mode: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """CPU is that of all server processes, Redis included, and memory too; the client's CPU stands apart.

    Refusals are answers that asked to come again later, as clients then did. `others_cpu_percent` is the share of all
    cores that went to neither: where it is high, something else was running.
    """

    jobs_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    cpu_seconds_per_1000_jobs: float
    memory_mib: float
    client_cpu_seconds_per_1000_jobs: float
    others_cpu_percent: float
    refusals_per_1000_jobs: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A figure of one cell over another's in the same round: the median round, the lowest and the highest."""

    model: str
    rows: int
    clients: int
    what: str
    median: float
    lowest: float
    highest: float
    wanted: str


Rounds = dict[Cell, list[Figures]]


@dataclass(kw_only=True)
class Measured:
    """The rounds of each cell; cells that could not be measured, and systems that could not be installed, and why."""

    rounds: Rounds = field(default_factory=dict)
    missing: dict[Cell, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


class Pair(NamedTuple):
    """What is divided: a figure of the upper cell by that of the lower."""

    what: str
    upper: Cell
    lower: Cell
    figure: str
    wanted: str = ""


# The goals that Foretell sets itself, of one row a job, by what is compared, the model and the number of clients.
WANTED = {
    ("wait", "synchronous", "linear-bench", 16): ">= 0.6",
    ("wait", "best", "forest-bench", 16): ">= 1.0",
    ("poll", "tutorial", "linear-bench", 16): ">= 4",
    ("poll", "tutorial", "forest-bench", 16): ">= 4",
    ("poll", "bentoml-tasks", "linear-bench", 16): ">= 6",
    ("poll", "bentoml-tasks", "forest-bench", 16): ">= 6",
    ("wait", "empty-task", "linear-bench", 1): "<= 1.5",
}
POLLED = ("tutorial", "rq", "bentoml-tasks", "ray-tasks")
BATCHING = tuple(system.name for system in SYSTEMS if system.batches and system.environment)

COLUMNS: tuple[tuple[str, Callable[[Cell, Sequence[Figures]], str]], ...] = (
    ("model", lambda cell, _: cell.model),
    ("rows", lambda cell, _: str(cell.rows)),
    ("clients", lambda cell, _: str(cell.clients)),
    ("system", lambda cell, _: cell.system),
    ("mode", lambda cell, _: cell.mode),
    ("jobs/s", lambda _, rounds: f"{medians(rounds).jobs_per_second:,.1f}"),
    ("lowest", lambda _, rounds: f"{min(one.jobs_per_second for one in rounds):,.1f}"),
    ("highest", lambda _, rounds: f"{max(one.jobs_per_second for one in rounds):,.1f}"),
    ("p50 ms", lambda _, rounds: f"{medians(rounds).p50_ms:,.1f}"),
    ("p95 ms", lambda _, rounds: f"{medians(rounds).p95_ms:,.1f}"),
    ("p99 ms", lambda _, rounds: f"{medians(rounds).p99_ms:,.1f}"),
    ("p99.9 ms", lambda _, rounds: f"{medians(rounds).p99_9_ms:,.1f}"),
    ("CPU s/1000", lambda _, rounds: f"{medians(rounds).cpu_seconds_per_1000_jobs:.2f}"),
    ("MiB", lambda _, rounds: f"{medians(rounds).memory_mib:,.0f}"),
    ("refused/1000", lambda _, rounds: f"{medians(rounds).refusals_per_1000_jobs:,.0f}"),
    ("client CPU s/1000", lambda _, rounds: f"{medians(rounds).client_cpu_seconds_per_1000_jobs:.2f}"),
    ("others' CPU %", lambda _, rounds: f"{medians(rounds).others_cpu_percent:.0f}"),
)


def figures(outcome: Outcome, *, memory_bytes: int) -> Figures:
    """Raises ValueError if no job ended within the measured window."""
    if not outcome.jobs:
        raise ValueError("no job ended within the measured window: measure for longer")
    cpu = outcome.cpu_seconds
    others_cpu_seconds = cpu.machine - cpu.servers - outcome.client_cpu_seconds
    return Figures(
        jobs_per_second=outcome.jobs / outcome.seconds,
        p50_ms=outcome.latency_ms(50),
        p95_ms=outcome.latency_ms(95),
        p99_ms=outcome.latency_ms(99),
        p99_9_ms=outcome.latency_ms(99.9),
        cpu_seconds_per_1000_jobs=cpu.servers / outcome.jobs * 1000,
        memory_mib=memory_bytes / 2**20,
        client_cpu_seconds_per_1000_jobs=outcome.client_cpu_seconds / outcome.jobs * 1000,
        refusals_per_1000_jobs=outcome.refusals / outcome.jobs * 1000,
        others_cpu_percent=max(0.0, others_cpu_seconds) / outcome.seconds / (os.cpu_count() or 1) * 100,
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    names = [field.name for field in fields(Figures)]
    return Figures(**{name: statistics.median(getattr(one, name) for one in rounds) for name in names})


def ratios(rounds: Rounds) -> list[Ratio]:
    """Foretell's cells over what each is compared with, if that was measured too."""
    found = []
    for pair in (pair for cell in rounds if cell.system == "foretell" for pair in _pairs(cell, rounds)):
        # An interrupted run may have one round more of the one than of the other.
        rows = zip(rounds[pair.upper], rounds[pair.lower], strict=False)
        paired = [getattr(mine, pair.figure) / getattr(theirs, pair.figure) for mine, theirs in rows]
        found.append(
            Ratio(
                model=pair.upper.model,
                rows=pair.upper.rows,
                clients=pair.upper.clients,
                what=pair.what,
                median=statistics.median(paired),
                lowest=min(paired),
                highest=max(paired),
                wanted=pair.wanted,
            )
        )
    return found


def _pairs(own: Cell, rounds: Rounds) -> Iterator[Pair]:
    if own.mode == "poll":
        for system in POLLED:
            other = replace(own, system=system)
            if other in rounds:
                yield Pair(f"jobs/s: poll / {system}", own, other, "jobs_per_second", _wanted(own, system))
        return
    synchronous = replace(own, system="synchronous", mode="sync")
    if synchronous in rounds:
        wanted = _wanted(own, "synchronous")
        yield Pair("jobs/s: wait / synchronous", own, synchronous, "jobs_per_second", wanted)
    batching = [cell for name in BATCHING if (cell := replace(own, system=name, mode="sync")) in rounds]
    if batching:
        best = max(batching, key=lambda cell: medians(rounds[cell]).jobs_per_second)
        what = f"jobs/s: wait / best peer that batches ({best.system})"
        yield Pair(what, own, best, "jobs_per_second", _wanted(own, "best"))
    empty = replace(own, system="empty-task", mode="call")
    if empty in rounds:
        yield Pair("p50: wait / empty-task", own, empty, "p50_ms", _wanted(own, "empty-task"))


def _wanted(own: Cell, other: str) -> str:
    return WANTED.get((own.mode, other, own.model, own.clients), "") if own.rows == 1 else ""


def text(measured: Measured) -> str:
    """The medians of all cells, the ratios if there is anything to compare, and what could not be measured."""
    rounds = measured.rounds
    lines = [tuple(heading for heading, _ in COLUMNS)]
    for cell in sorted(rounds, key=_order):
        lines.append(tuple(show(cell, rounds[cell]) for _, show in COLUMNS))

    compared: list[tuple[str, ...]] = [("model", "rows", "clients", "what", "ratio", "lowest", "highest", "wanted")]
    for one in sorted(ratios(rounds), key=lambda ratio: (ratio.model, ratio.rows, ratio.clients)):
        values = (f"{one.median:.2f}", f"{one.lowest:.2f}", f"{one.highest:.2f}")
        compared.append((one.model, str(one.rows), str(one.clients), one.what, *values, one.wanted))
    parts = [aligned(table) for table in (lines, compared) if len(table) > 1]
    left_out = [f"{system}: {reason}" for system, reason in measured.unavailable.items()] + [
        f"{cell.system}, {cell.mode}, {cell.model}, {cell.rows} rows, {cell.clients} clients: {reason}"
        for cell, reason in measured.missing.items()
    ]
    return "\n\n".join(parts + (["Not measured:\n" + "\n".join(left_out)] if left_out else []))


def _order(cell: Cell) -> tuple[str, int, int]:
    return cell.model, cell.rows, cell.clients


def as_json(measured: Measured, options: Any) -> dict[str, Any]:
    """All rounds, their medians and the ratios, how they were measured, and what could not be."""
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "warm_up_seconds": options.warm_up,
        "cells": [
            asdict(cell) | {"median": asdict(medians(all_rounds)), "rounds": [asdict(one) for one in all_rounds]}
            for cell, all_rounds in measured.rounds.items()
        ],
        "ratios": [asdict(one) for one in ratios(measured.rounds)],
        "missing": [asdict(cell) | {"reason": reason} for cell, reason in measured.missing.items()],
        "unavailable": measured.unavailable,
        "systems": {
            system.name: {"setup": system.setup, "versions": _versions(system)}
            for system in SYSTEMS
            if any(cell.system == system.name for cell in measured.rounds)
        },
    }


def _versions(system: System) -> dict[str, str]:
    if system.environment:
        return environment.versions(system.environment, (*system.packages, "scikit-learn"))
    return {"python": platform.python_version()} | own_versions((*system.packages, "scikit-learn"))


def own_versions(packages: Sequence[str]) -> dict[str, str]:
    """Of packages in the environment that runs this."""
    return {name: importlib.metadata.version(name) for name in packages}


def circumstances(command: str, packages: Sequence[str] = ()) -> dict[str, Any]:
    """What was run, when, on which machine, with which versions."""
    return {
        "command": command,
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()} | own_versions(packages),
    }


def _processor() -> str:
    """Its name, where the system tells one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [any(word[:1].isdigit() for word in column[1:]) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            word.rjust(width) if right else word.ljust(width)
            for word, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )
