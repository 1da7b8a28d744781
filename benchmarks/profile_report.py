"""What a profile has measured, in text and as a section of docs/benchmarks.md."""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.report import aligned
from benchmarks.tables import Document, table

# Parts that the kernel has counted, not the profiler.
KERNEL: Final = "kernel: sockets, threads that wake each other"
NO_PYTHON: Final = "threads that run no Python: the web server's own, libraries'"
Rows = list[list[str]]


def text(document: Document) -> str:
    """All tables, for a terminal."""
    told = [f"{title}\n\n{aligned(rows)}" for title, rows in _tables(document)]
    if document["not_traced"]:
        told.append(_not_traced(document))
    return "\n\n".join(told)


def section(document: Document, source: str) -> str:
    """The section in Markdown; `source` is the link to the result, if it lies in the repository."""
    machine = document["machine"]
    parts = [
        "## Where the time goes",
        f"From {f'[a profile]({source})' if source else 'a profile'} by `{document['command']}`, which ended at "
        f"{document['ended_at']}, on {machine['cores']} cores ({machine['processor']}). {document['clients']} "
        f"clients, one row a job, the linear model; CPU time is what the kernel counted over "
        f"{document['seconds']:g} s without a profiler, client and others apart. The parts are shares of samples of "
        "the thread that holds the interpreter, of one process of each kind in a second load; they "
        "share out the user time of threads that run Python.",
    ]
    if document["not_traced"]:
        parts.append(_not_traced(document))
    for title, rows in _tables(document):
        parts += [f"### {title}", table(rows)]
    return "\n\n".join(parts)


def _not_traced(document: Document) -> str:
    return f"The parts of processes are missing: {document['not_traced']}."


def _tables(document: Document) -> Iterator[tuple[str, Rows]]:
    modes = document["jobs"]
    yield "CPU microseconds a job, by process", _by_mode("process", {mode: one["us"] for mode, one in modes.items()})
    yield "The loads of these", _loads(modes)
    for role in dict.fromkeys(role for one in modes.values() for role in one.get("parts_us", {})):
        shown = {mode: one["parts_us"][role] for mode, one in modes.items() if "parts_us" in one}
        samples = ", ".join(f"{mode} {one['samples'][role]}" for mode, one in modes.items() if "samples" in one)
        yield f"The {role}: microseconds a job, by part (samples: {samples})", _by_mode("part", shown)
    yield "What a job costs at least: microseconds of each part alone", _least(document)
    yield from _file(document["file"])


def _by_mode(what: str, columns: dict[str, dict[str, float]]) -> Rows:
    """Each with its share of the sum; the one with most first."""
    named = dict.fromkeys(name for one in columns.values() for name in one)  # those with as much stay in this order
    names = sorted(named, key=lambda name: -max(_values(columns, name)))
    sums = {mode: sum(one.values()) for mode, one in columns.items()}
    rows = [[what, *(head for mode in columns for head in (f"{mode}, us", "%"))]]
    for name in names:
        cells = []
        for mode, one in columns.items():
            us = one.get(name, 0.0)
            cells += [f"{us:.0f}", f"{100 * us / sums[mode]:.0f}" if sums[mode] else ""]
        rows.append([name, *cells])
    rows.append(["together", *(cell for mode in columns for cell in (f"{sums[mode]:.0f}", "100"))])
    return rows


def _values(columns: dict[str, dict[str, float]], name: str) -> list[float]:
    return [one.get(name, 0.0) for one in columns.values()]


def _loads(modes: Document) -> Rows:
    rows = [["mode", "jobs/s", "p50 ms", "others' CPU %"]]
    for mode, one in modes.items():
        figures = (one["jobs_per_second"], one["p50_ms"], one["others_cpu_percent"])
        rows.append([mode, *(f"{figure:,.1f}" for figure in figures)])
    return rows


def _least(document: Document) -> Rows:
    rows = [["part", "us"], *([part, f"{us:.1f}"] for part, us in document["alone_us"].items())]
    return [*rows, ["the least, with the micro-batch", f"{document['least_us']:.1f}"]]


def _file(file: Document) -> Iterator[tuple[str, Rows]]:
    steps, lone, cpu = file["steps_ns"], file["alone_ns"], file["cpu_ns"]
    rows = [["step", "ns", "alone, CPU ns"]]
    for step in dict.fromkeys([*steps, *lone]):
        rows.append([step, *(f"{one[step]:.0f}" if step in one else "" for one in (steps, lone))])
    rows.append(["together", f"{sum(steps.values()):.0f}", f"{sum(lone.values()):.0f}"])
    yield f"A CSV file of {file['rows']:,} rows: nanoseconds a row, by step, summed over processes", rows
    named: Sequence[tuple[str, float]] = sorted(cpu.items(), key=lambda pair: -pair[1])
    spent = [["process", "CPU ns a row"], *([kind, f"{ns:.0f}"] for kind, ns in named)]
    spent.append(["together", f"{sum(cpu.values()):.0f}"])
    pace = f"{file['seconds']:.2f} s, {file['rows'] / file['seconds']:,.0f} rows/s"
    yield f"The same, by process ({pace}; others {file['others_cpu_percent']:.0f} % of the machine)", spent
