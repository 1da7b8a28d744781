"""The pictures of docs/benchmarks.md: bars of medians, with lines from the lowest to the highest round.

    .venv-bench/plots/bin/python -m benchmarks.plots RESULT.json FOLDER

Prints the names of the pictures as JSON: only what was measured is drawn. Runs in an environment of its own, which has
matplotlib.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from benchmarks.tables import file_system

Document = dict[str, Any]

DPI = 110
OWN, JOBS, REQUESTS = "#1f5fa8", "#e0862e", "#9aa5b1"
MEANINGS = {
    OWN: "Foretell",
    JOBS: "submit and poll, or call and wait: a job",
    REQUESTS: "one request, one answer: no job",
}
KINDS = {"poll": JOBS, "call": JOBS, "sync": REQUESTS}
USUAL_CLIENTS = 16
BAR_INCHES = 0.27


def draw(document: Document, folder: Path) -> list[str]:
    """Draw everything that was measured; the names of the pictures in their order on the page."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[], Any]] = {}
    cells = document.get("jobs", {}).get("cells", [])
    for rows in sorted({cell["rows"] for cell in cells}):
        chosen = [cell for cell in cells if cell["rows"] == rows and cell["clients"] == USUAL_CLIENTS]
        title = f"{rows} {'row' if rows == 1 else 'rows'} a job, {USUAL_CLIENTS} clients"
        if chosen:
            pictures[f"benchmarks-jobs-{rows}.png"] = partial(_throughput, chosen, title)
            pictures[f"benchmarks-latency-{rows}.png"] = partial(_latency, chosen, title)
    single = [cell for cell in cells if cell["rows"] == 1]
    if len({cell["clients"] for cell in single}) > 2:
        pictures["benchmarks-clients.png"] = partial(_by_clients, single)
    files = [cell for cell in document.get("files", {}).get("cells", []) if cell["format"] == "csv"]
    if files:
        pictures["benchmarks-files.png"] = partial(_files, files)
    for name, picture in pictures.items():
        figure = picture()
        figure.savefig(folder / name, dpi=DPI, facecolor="white")
        pyplot.close(figure)
    return list(pictures)


def _throughput(cells: list[Document], title: str) -> Any:
    kind = Kind(
        title=f"Jobs a second, {title}",
        unit="jobs/s",
        value=lambda one: one["jobs_per_second"],
        colour=_job_colour,
        name=_job_name,
    )
    return _bars(cells, kind)


def _latency(cells: list[Document], title: str) -> Any:
    kind = Kind(
        title=f"Until a client has its predictions, {title}: median, and a mark at p99",
        unit="milliseconds, logarithmic",
        value=lambda one: one["p50_ms"],
        mark=lambda one: one["p99_ms"],
        colour=_job_colour,
        name=_job_name,
    )
    figure = _bars(cells, kind)
    for axes in figure.axes:
        axes.set_xscale("log")
        axes.set_xlim(left=1)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def _files(cells: list[Document]) -> Any:
    # A round knows its seconds, and only its cell the rows.
    told = [
        {
            **cell,
            "median": {"pace": cell["rows"] / cell["median"]["seconds"]},
            "rounds": [{"pace": cell["rows"] / one["seconds"]} for one in cell["rounds"]],
        }
        for cell in cells
    ]
    kind = Kind(
        title="Rows a second of a CSV file, from start to result",
        unit="rows/s",
        value=lambda one: one["pace"],
        colour=lambda cell: OWN if cell["system"] == "foretell" else REQUESTS,
        name=lambda cell: f"{file_system(cell)}, {cell['rows']:,} rows",
    )
    return _bars(told, kind)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a picture of bars shows: a figure of each cell, perhaps with a mark at a second one."""

    title: str
    unit: str
    value: Callable[[Document], float]
    mark: Callable[[Document], float] | None = None
    colour: Callable[[Document], str]
    name: Callable[[Document], str]


def _bars(cells: list[Document], kind: Kind) -> Any:
    """A panel for each model, the best bar at the top: the longest, or of latencies the shortest."""
    models = sorted({cell["model"] for cell in cells})
    counts = [sum(cell["model"] == model for cell in cells) for model in models]
    height = 1.2 + sum(0.7 + BAR_INCHES * count for count in counts)
    figure, panels = pyplot.subplots(
        len(models), 1, figsize=(9, height), layout="constrained", squeeze=False, height_ratios=counts
    )
    for axes, model in zip(panels[:, 0], models, strict=True):
        ordered = sorted(
            (cell for cell in cells if cell["model"] == model), key=lambda cell: kind.value(cell["median"])
        )
        _panel(axes, ordered[::-1] if kind.mark else ordered, kind)
        axes.set_title(model, fontsize=10, loc="left")
    figure.suptitle(kind.title, fontsize=11)
    _legend(figure, {kind.colour(cell) for cell in cells})
    return figure


def _panel(axes: Any, cells: list[Document], kind: Kind) -> None:
    middles = [kind.value(cell["median"]) for cell in cells]
    spread = _spread(middles, [[kind.value(one) for one in cell["rounds"]] for cell in cells])
    axes.barh([kind.name(cell) for cell in cells], middles, color=[kind.colour(cell) for cell in cells], xerr=spread)
    for at, (cell, middle) in enumerate(zip(cells, middles, strict=True)):
        label, right = _number(middle), middle + spread[1][at]
        if kind.mark:
            marked = kind.mark(cell["median"])
            axes.plot(marked, at, marker="|", markersize=10, color="black")
            label, right = f"{label} / {_number(marked)}", max(right, marked)
        axes.annotate(f" {label}", (right, at), va="center", fontsize=8)
    axes.margins(x=0.14)
    axes.set_xlabel(kind.unit, fontsize=8)
    _plain(axes)


def _spread(middles: list[float], rounds: list[list[float]]) -> list[list[float]]:
    """How far the lowest round is below each median, and the highest above it."""
    return [
        [middle - min(one) for middle, one in zip(middles, rounds, strict=True)],
        [max(one) - middle for middle, one in zip(middles, rounds, strict=True)],
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _by_clients(cells: list[Document]) -> Any:
    """A panel for each model: a group of bars for each number of clients, a bar for each of the best-known ways."""
    names = {
        "foretell poll": OWN,
        "foretell wait": "#6ea6de",
        "tutorial poll": JOBS,
        "bentoml-tasks poll": "#f2bd8c",
        "synchronous sync": "#6c757d",
        "litserve sync": REQUESTS,
        "mlserver-batching sync": "#c9d0d7",
    }
    models = sorted({cell["model"] for cell in cells})
    clients = sorted({cell["clients"] for cell in cells})
    figure, panels = pyplot.subplots(
        len(models), 1, figsize=(9, 0.8 + 2.3 * len(models)), layout="constrained", squeeze=False
    )
    width = 0.8 / len(names)
    for axes, model in zip(panels[:, 0], models, strict=True):
        for position, (name, colour) in enumerate(names.items()):
            found = {cell["clients"]: cell for cell in cells if cell["model"] == model and _job_name(cell) == name}
            at = [place + (position - len(names) / 2 + 0.5) * width for place, n in enumerate(clients) if n in found]
            there = [[one["jobs_per_second"] for one in found[n]["rounds"]] for n in clients if n in found]
            middles = [found[n]["median"]["jobs_per_second"] for n in clients if n in found]
            axes.bar(at, middles, width, label=name, color=colour, yerr=_spread(middles, there))
        axes.set_xticks(range(len(clients)), [f"{number} client{'s' * (number != 1)}" for number in clients])
        axes.set_title(model, fontsize=10, loc="left")
        axes.set_ylabel("jobs/s", fontsize=8)
        _plain(axes)
    figure.suptitle("Jobs a second by the number of clients, 1 row a job", fontsize=11)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _plain(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, colours: set[str]) -> None:
    shown = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in MEANINGS if colour in colours]
    words = [meaning for colour, meaning in MEANINGS.items() if colour in colours]
    if JOBS in colours:
        figure.legend(shown, words, loc="outside lower center", ncols=len(words), fontsize=8)


def _job_name(cell: Document) -> str:
    return f"{cell['system']} {cell['mode']}"


def _job_colour(cell: Document) -> str:
    return OWN if cell["system"] == "foretell" else KINDS[cell["mode"]]


if __name__ == "__main__":
    print(json.dumps(draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))))
