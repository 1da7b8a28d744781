"""The tables of docs/benchmarks.md, in Markdown, from the cells of a result."""

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]
Place = tuple[str, int, int]  # model, rows a job, clients


def places(cells: Sequence[Document]) -> list[tuple[Place, list[Document]]]:
    """The cells of small jobs, by model, rows a job and number of clients."""
    keys = sorted({_place(cell) for cell in cells})
    return [(key, [cell for cell in cells if _place(cell) == key]) for key in keys]


def _place(cell: Document) -> Place:
    return cell["model"], cell["rows"], cell["clients"]


def place_name(place: Place) -> str:
    model, rows, clients = place
    return f"{model}, {rows} row{'s' * (rows != 1)} a job, {clients} client{'s' * (clients != 1)}"


def jobs_table(cells: Sequence[Document]) -> str:
    """Every system and mode of one place, the one with most jobs a second first."""
    rows = [
        ["system", "mode", "jobs/s", "lowest", "highest", "p50 ms", "p95", "p99", "p99.9", "CPU s", "MiB", "refused"]
    ]
    for cell in sorted(cells, key=lambda cell: -cell["median"]["jobs_per_second"]):
        middle, paces = cell["median"], [one["jobs_per_second"] for one in cell["rounds"]]
        latencies = [middle[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms")]
        figures = [middle["jobs_per_second"], min(paces), max(paces), *latencies]
        rest = [
            f"{middle['cpu_seconds_per_1000_jobs']:.2f}",
            f"{middle['memory_mib']:,.0f}",
            f"{middle['refusals_per_1000_jobs']:,.0f}",
        ]
        rows.append([cell["system"], cell["mode"], *map(number, figures), *rest])
    return table(rows)


def files_table(cells: Sequence[Document]) -> str:
    """Every model and format, the system with most rows a second first."""
    names = [
        "model",
        "format",
        "rows",
        "system",
        "rows/s",
        "lowest",
        "highest",
        "seconds",
        "start",
        "upload",
        "peak MiB",
    ]
    rows = [names]
    for cell in sorted(cells, key=lambda cell: (cell["model"], cell["format"], -pace(cell))):
        middle, seconds = cell["median"], [one["seconds"] for one in cell["rounds"]]
        paces = [pace(cell), cell["rows"] / max(seconds), cell["rows"] / min(seconds)]
        times = [f"{middle[name]:.2f}" for name in ("seconds", "start_seconds", "upload_seconds")]
        named = [cell["model"], cell["format"], f"{cell['rows']:,}", file_system(cell)]
        rows.append([*named, *(f"{one:,.0f}" for one in paces), *times, f"{middle['peak_mib']:,.0f}"])
    return table(rows)


def file_system(cell: Document) -> str:
    """What scored a file, and how its model was faster; older results do not know of that."""
    return f"{cell['system']} by {cell['accelerate']}" if cell.get("accelerate") else str(cell["system"])


def pace(cell: Document) -> float:
    """Rows a second of a file."""
    return float(cell["rows"] / cell["median"]["seconds"])


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
