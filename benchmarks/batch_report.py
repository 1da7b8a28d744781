"""What was measured with files, as rows, medians and ratios, in text and JSON."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from benchmarks.batch_files import TREES
from benchmarks.batch_systems import STEPS, SYSTEMS, Run
from benchmarks.report import aligned


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination that is measured, once a round; `accelerate` is how the service's model is to be faster."""

    model: str
    format: str
    rows: int
    system: str
    workers: int
    accelerate: str = ""

    @property
    def who(self) -> str:
        """The system, and how its model is faster."""
        return f"{self.system} by {self.accelerate}" if self.accelerate else self.system


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run, or the medians of several; `Run` and `Observation` say what each is."""

    seconds: float
    start_seconds: float
    upload_seconds: float
    download_seconds: float
    peak_mib: float
    memory_samples: float
    others_cpu_percent: float
    cpu_seconds: dict[str, float]
    steps_seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One figure over another of the same round: the median round, the lowest and the highest."""

    model: str
    format: str
    what: str
    median: float
    lowest: float
    highest: float
    wanted: str


class Pair(NamedTuple):
    """What is divided: `value` of the upper cell by that of the lower."""

    what: str
    upper: Cell
    lower: Cell
    value: Callable[[Figures, int, int], float]
    wanted: str = ""


# Of a row's seconds, and of memory, from the shortest file to a longer one.
GROWTH = "<= 1.10"

Rounds = dict[Cell, list[Figures]]


@dataclass(kw_only=True)
class Measured:
    """The rounds of each cell; peers that could not be installed or did not do it, and why."""

    rounds: Rounds = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def figures(run: Run) -> Figures:
    seen = run.observation
    return Figures(
        seconds=run.seconds,
        start_seconds=run.start_seconds,
        upload_seconds=run.upload_seconds,
        download_seconds=run.download_seconds,
        peak_mib=seen.peak_bytes / 2**20,
        memory_samples=seen.samples,
        others_cpu_percent=seen.others_cpu_fraction * 100,
        cpu_seconds=seen.cpu_seconds,
        steps_seconds=run.steps_seconds,
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    raw = [asdict(one) for one in rounds]
    middle: dict[str, Any] = {}
    for name, first in raw[0].items():
        if isinstance(first, dict):
            keys = {key: None for one in raw for key in one[name]}
            middle[name] = {key: statistics.median(one[name].get(key, 0.0) for one in raw) for key in keys}
        else:
            middle[name] = statistics.median(one[name] for one in raw)
    return Figures(**middle)


def ratios(rounds: Rounds) -> list[Ratio]:
    """Everything that can be compared, in the order of the cells."""
    found = []
    for pair in _pairs(rounds):
        upper, lower = rounds[pair.upper], rounds[pair.lower]
        values = [
            pair.value(one, pair.upper.rows, pair.lower.rows) / pair.value(other, pair.lower.rows, pair.lower.rows)
            # An interrupted run may have one round more of the one than of the other.
            for one, other in zip(upper, lower, strict=False)
        ]
        found.append(
            Ratio(
                model=pair.upper.model,
                format=pair.upper.format,
                what=pair.what,
                median=statistics.median(values),
                lowest=min(values),
                highest=max(values),
                wanted=pair.wanted,
            )
        )
    return found


def _pairs(cells: Iterable[Cell]) -> list[Pair]:
    there = list(cells)
    return [pair for own in there if own.system == "foretell" for pair in _pairs_of(own, there)]


def _pairs_of(own: Cell, there: Sequence[Cell]) -> list[Pair]:
    pairs = []
    size, by = f"{own.rows:,} rows, {own.workers} workers", f", by {own.accelerate}" if own.accelerate else ""
    floor, plain = replace(own, system="floor", accelerate=""), replace(own, accelerate="")
    if floor in there:
        pairs.append(Pair(f"seconds: {own.who} / floor, {size}", own, floor, _seconds, _wanted(own)))
        pairs.append(Pair(f"seconds: {own.who} / floor, start left out, {size}", own, floor, _work_seconds))
    if plain != own and plain in there:
        pairs.append(Pair(f"seconds: {own.who} / foretell, {size}", own, plain, _seconds))
    most = max(cell.rows for cell in there if cell == replace(own, rows=cell.rows))
    for naive in there if own.rows == most else ():  # a shorter file is there for what grows, below
        same = (naive.model, naive.format) == (own.model, own.format) and plain == own
        if naive.system not in ("floor", "foretell") and same and own.workers == 2:
            wanted = ">= 5" if naive.system == "celery" else ""
            scaled = "" if naive.rows == own.rows else f", extrapolated from {naive.rows:,} rows"
            pairs.append(Pair(f"seconds: {naive.system} / foretell, {size}{scaled}", naive, own, _seconds, wanted))
    alone = replace(own, workers=1)
    if own.workers == 2 and alone in there:
        pairs.append(Pair(f"seconds: 1 worker / 2, {own.rows:,} rows{by}", alone, own, _seconds, ">= 1.8"))
    fewest = replace(own, rows=min(cell.rows for cell in there if cell == replace(own, rows=cell.rows)))
    if fewest != own:
        sizes = f"{own.rows:,} / {fewest.rows:,} rows, {own.workers} workers{by}"
        pairs.append(Pair(f"peak memory: {sizes}", own, fewest, lambda one, _rows, _other: one.peak_mib, GROWTH))
        pairs.append(Pair(f"seconds a row: {sizes}", own, fewest, _seconds, GROWTH))
    return pairs


def _wanted(own: Cell) -> str:
    """Beside the script: ahead of it where the model was made faster, a twentieth behind with trees, else a tenth."""
    if own.format != "csv":
        return ""
    return "<= 1.00" if own.accelerate else "<= 1.05" if own.model in TREES else "<= 1.10"


def _seconds(one: Figures, rows: int, wanted_rows: int) -> float:
    """What so many rows would have taken: the start once, the work for each row."""
    return one.start_seconds + _work_seconds(one, rows, wanted_rows)


def _work_seconds(one: Figures, rows: int, wanted_rows: int) -> float:
    return (one.seconds - one.start_seconds) * wanted_rows / rows


def text(measured: Measured) -> str:
    """The medians, the CPU time of each kind of process, the time of each step, the ratios, and what is missing."""
    rounds = measured.rounds
    middles = {cell: medians(all_rounds) for cell, all_rounds in rounds.items()}
    kinds = sorted({kind for one in middles.values() for kind in one.cpu_seconds})
    columns = ("seconds", "rows/s", "start s", "upload s", "download s", "peak MiB", "CPU s", "others' CPU %")
    named = ("model", "format", "rows", "system", "workers")
    lines: list[tuple[str, ...]] = [(*named, *columns)]
    spent: list[tuple[str, ...]] = [(*named, *kinds)]
    steps: list[tuple[str, ...]] = [(*named, *STEPS)]
    for cell in sorted(middles, key=lambda cell: (cell.model, cell.format, cell.rows)):
        one = middles[cell]
        who = (cell.model, cell.format, f"{cell.rows:,}", cell.who, str(cell.workers))
        lines.append((*who, *_measured(cell, one)))
        spent.append((*who, *_named(one.cpu_seconds, kinds)))
        if len(one.steps_seconds) > 1:
            steps.append((*who, *_named(one.steps_seconds, STEPS)))

    compared: list[tuple[str, ...]] = [("model", "format", "what", "ratio", "lowest", "highest", "wanted")]
    for ratio in ratios(rounds):
        values = (f"{ratio.median:.2f}", f"{ratio.lowest:.2f}", f"{ratio.highest:.2f}")
        compared.append((ratio.model, ratio.format, ratio.what, *values, ratio.wanted))
    tables = {
        "Medians": lines,
        "CPU seconds of each kind of process": spent,
        "Where the time goes: seconds, summed over all processes": steps,
        "Ratios, each of two runs in the same round": compared,
    }
    parts = [f"{title}\n\n{aligned(table)}" for title, table in tables.items() if len(table) > 1]
    left_out = [f"{system}: {reason}" for system, reason in measured.unavailable.items()]
    return "\n\n".join(parts + (["Not measured:\n" + "\n".join(left_out)] if left_out else []))


def _measured(cell: Cell, one: Figures) -> tuple[str, ...]:
    return (
        f"{one.seconds:.2f}",
        f"{cell.rows / one.seconds:,.0f}",
        f"{one.start_seconds:.2f}",
        f"{one.upload_seconds:.2f}",
        f"{one.download_seconds:.2f}",
        f"{one.peak_mib:,.0f}",
        f"{sum(one.cpu_seconds.values()):.2f}",
        f"{one.others_cpu_percent:.0f}",
    )


def _named(seconds: dict[str, float], names: Sequence[str]) -> list[str]:
    return [f"{seconds[name]:.2f}" if name in seconds else "" for name in names]


def as_json(measured: Measured) -> dict[str, Any]:
    """All rounds, their medians and the ratios, and what could not be measured."""
    return {
        "cells": [
            asdict(cell) | {"median": asdict(medians(all_rounds)), "rounds": [asdict(one) for one in all_rounds]}
            for cell, all_rounds in measured.rounds.items()
        ],
        "ratios": [asdict(one) for one in ratios(measured.rounds)],
        "unavailable": measured.unavailable,
        "systems": {
            system.name: {"setup": system.setup}
            for system in SYSTEMS
            if any(cell.system == system.name for cell in measured.rounds)
        },
    }
