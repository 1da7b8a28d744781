"""How far a job over a file is, told to a function, or shown as bars in terminals and notebooks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

Stage = Literal["upload", "scoring", "fitting", "download"]
UNITS: Final[dict[Stage, str]] = {
    "upload": "bytes", "scoring": "rows", "fitting": "fits", "download": "bytes",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of a stage is done: bytes of upload and download, rows, fits; a total of None is not known yet."""

    stage: Stage
    done: int
    total: int | None
    failed: int = 0  # rows


Told = Callable[[Progress], None]
# True: bars; None: bars where somebody looks; False: nothing; a function is told.
Wanted = bool | Told | None


def nobody(progress: Progress) -> None:
    """Whom to tell if nobody wants to know."""


@contextmanager
def shown(wanted: Wanted, stream: TextIO | None = None) -> Iterator[Told]:
    """Whom to tell of progress, until the end of the block."""
    if callable(wanted):
        yield wanted
    elif wanted or (wanted is None and somebody_looks(stream or sys.stderr)):
        with bars(stream or sys.stderr) as told:
            yield told
    else:
        yield nobody


def somebody_looks(stream: TextIO) -> bool:
    """Whether a stream is a terminal, or this is a notebook that can show bars."""
    return is_notebook() or stream.isatty()


def is_notebook() -> bool:
    """Whether this is a notebook with ipywidgets, without which it shows no bar but a warning."""
    return "ipykernel" in sys.modules and find_spec("ipywidgets") is not None


@contextmanager
def bars(stream: TextIO) -> Iterator[Told]:
    """A bar for each stage."""
    # Here, since most programs show none.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    tasks: dict[Stage, TaskID] = {}
    columns = (
        TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[told]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=Console(file=stream)) as display:

        def told(progress: Progress) -> None:
            fields: dict[str, Any] = {"told": in_words(progress)}
            if progress.stage not in tasks:
                tasks[progress.stage] = display.add_task(progress.stage, total=progress.total, **fields)
            display.update(tasks[progress.stage], completed=progress.done, total=progress.total, **fields)

        yield told


def in_words(progress: Progress) -> str:
    """Such as `1,200/5,000 rows, 3 failed`."""
    if UNITS[progress.stage] == "bytes":
        return f"{size(progress.done)}" + (f"/{size(progress.total)}" if progress.total is not None else "")
    total = f"/{progress.total:,}" if progress.total is not None else ""
    return f"{progress.done:,}{total} {UNITS[progress.stage]}" + (
        f", {progress.failed:,} failed" if progress.failed else ""
    )


def size(size_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
