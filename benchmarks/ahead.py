"""Who does better than Foretell, and where: what a page of one's own numbers is tempted to leave out."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.tables import Document, Place, number, pace, place_name, places, table

# The figures of small jobs in which less is better.
LESS = {
    "p50_ms": "a shorter p50",
    "p99_ms": "a shorter p99",
    "cpu_seconds_per_1000_jobs": "less CPU a job",
    "memory_mib": "less memory",
}


def ahead(cells: Sequence[Document], files: Sequence[Document]) -> str:
    """A section in Markdown on the cells of small jobs and of files."""
    compared = [(place, there) for place, there in places(cells) if _own(there)]
    parts = ["## Where others are ahead"]
    if compared:
        parts += [
            "Beside the better of Foretell's two modes, `poll` and `wait`, by the median. Most of those that are ahead "
            "answer a request and keep nothing: with them a job is lost with its connection.",
            table([["where", "Foretell, jobs/s", "more jobs a second"], *_faster(compared)]),
            "\n".join(f"- {what}: {_counted(name, compared)}" for name, what in LESS.items()),
        ]
    if slower := [line for cell in files if cell["system"] == "foretell" and (line := _faster_with_file(cell, files))]:
        parts.append("With files:\n\n" + "\n".join(slower))
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _faster(compared: Sequence[tuple[Place, list[Document]]]) -> list[list[str]]:
    rows = []
    for place, there in compared:
        own = max(cell["median"]["jobs_per_second"] for cell in _own(there))
        better = [cell for cell in _others(there) if cell["median"]["jobs_per_second"] > own]
        better.sort(key=lambda cell: -cell["median"]["jobs_per_second"])
        names = [f"{cell['system']} {number(cell['median']['jobs_per_second'])}" for cell in better]
        rows.append([place_name(place), number(own), ", ".join(names) or "nobody"])
    return rows


def _counted(name: str, compared: Sequence[tuple[Place, list[Document]]]) -> str:
    """The systems that need less, the most frequent first, each with the number of places where they do."""
    better: Counter[str] = Counter()
    measured: Counter[str] = Counter()
    for _, there in compared:
        own = min(cell["median"][name] for cell in _own(there))
        for cell in _others(there):
            measured[cell["system"]] += 1
            better[cell["system"]] += cell["median"][name] < own
    names = [f"{system} at {count} of {measured[system]}" for system, count in better.most_common() if count]
    return ", ".join(names) or "nobody"


def _faster_with_file(own: Document, files: Sequence[Document]) -> str:
    """Who scores the same file sooner; a shorter one is no comparison."""
    same = ("model", "format", "rows")
    there = [cell for cell in files if all(cell[name] == own[name] for name in same) and cell["system"] != "foretell"]
    others = [cell for cell in there if pace(cell) > pace(own)]
    names = ", ".join(f"{cell['system']} with {pace(cell):,.0f} rows/s" for cell in others)
    return f"- {own['model']}, {own['format']}: {names}; Foretell {pace(own):,.0f}" if others else ""


def _own(there: Sequence[Document]) -> list[Document]:
    return [cell for cell in there if cell["system"] == "foretell"]


def _others(there: Sequence[Document]) -> list[Document]:
    """Systems that predict; the empty task does not."""
    return [cell for cell in there if cell["system"] != "foretell" and cell["mode"] != "call"]
