"""The start: how soon there is a prediction, what it takes of the processor, and what an idle service holds.

    python -m benchmarks.startup --rounds 5

Everything is installed. `first` is the start of a new folder, which trains the demo models; `next` are those after it.
A start is measured from the command to the answer of `POST /predict`, asked for every 50 ms; the processor time is that
of all processes, those that have ended by then included. Memory is the proportional set size of the last start's
processes, once they were idle for ten seconds; their processor time of these seconds is told too. An import is the
processor time of `python -c "import ..."`, without that of Python itself, the least of all rounds.
"""

import argparse
import contextlib
import http.client
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from benchmarks.ending import ended_by_signals
from benchmarks.processes import CHECKOUT, ProcessGroup, clean_environment, free_port
from benchmarks.report import aligned

MOST_SECONDS: Final = 120.0
IDLE_SECONDS: Final = 10.0
ROW: Final = b'{"x1": 0.06, "x2": 0.02, "x3": 0.02}'
IMPORTS: Final = ("api.app", "worker.app", "worker.services", "worker.train", "foretell")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start."""

    seconds: float  # to the first prediction
    cpu_seconds: float  # by then


@dataclass(frozen=True, kw_only=True)
class Idle:
    """A service that nobody asks anything."""

    names: tuple[str, ...]  # of its processes
    mib: tuple[float, ...]
    cpu_percent: float  # of one core


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="starts after the first one; default 5")
    rounds = parser.parse_args(arguments).rounds
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="ft-") as folder:
        first, _ = measure(Path(folder))
        found = [measure(Path(folder)) for _ in range(rounds)]
    starts, idle = [start for start, _ in found], found[-1][1]
    rows = [
        ["start", "s", "CPU s"],
        ["first", f"{first.seconds:.1f}", f"{first.cpu_seconds:.1f}"],
        [
            "next",
            f"{median(start.seconds for start in starts):.1f}",
            f"{median(start.cpu_seconds for start in starts):.1f}",
        ],
    ]
    print(aligned(rows))
    print(f"\nidle: {sum(idle.mib):.0f} MiB, {idle.cpu_percent:.1f} % of a core\n")
    print(
        aligned([["process", "MiB"], *([name, f"{mib:.0f}"] for name, mib in zip(idle.names, idle.mib, strict=True))])
    )
    print()
    print(aligned([["import", "CPU ms"], *([name, f"{import_ms(name, rounds):.0f}"] for name in IMPORTS)]))
    return 0


def measure(folder: Path) -> tuple[Start, Idle]:
    """Start the service on a folder, and end it."""
    port = free_port()
    environment = clean_environment()
    environment |= {"FORETELL_PORT": str(port), "FORETELL_DATA_DIR": str(folder / "var")}
    with ProcessGroup(folder) as group:
        began = time.perf_counter()
        group.start("foretell", [sys.executable, "-m", "deploy"], environment)
        group.wait_until(lambda: predicts(port), "prediction", seconds=MOST_SECONDS)
        seconds = time.perf_counter() - began
        cpu_seconds = group.cpu_seconds().servers
        time.sleep(IDLE_SECONDS)
        busy = group.cpu_seconds().servers
        time.sleep(IDLE_SECONDS)
        used = group.cpu_seconds().servers - busy
        processes = [process for process in group.processes() if process.is_running()]
        idle = Idle(
            names=tuple(name_of(process) for process in processes),
            mib=tuple(process.memory_full_info().pss / 2**20 for process in processes),
            cpu_percent=100 * used / IDLE_SECONDS,
        )
    return Start(seconds=seconds, cpu_seconds=cpu_seconds), idle


def predicts(port: int) -> bool:
    """Whether there is a prediction."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/predict", ROW, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def name_of(process: psutil.Process) -> str:
    """What a process is called; the supervisor has the name of Python."""
    return "supervisor" if "python" in process.name() else process.name()


def children_seconds() -> float:
    """Processor time of our own children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def import_ms(name: str, rounds: int) -> float:
    """Processor time of an import, milliseconds."""
    return 1000 * (least_seconds(f"import {name}", rounds) - least_seconds("pass", rounds))


def least_seconds(code: str, rounds: int) -> float:
    """Processor time of a Python process that runs this, the least of some rounds."""
    taken = []
    for _ in range(rounds):
        before = children_seconds()
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=MOST_SECONDS)
        taken.append(children_seconds() - before)
    return min(taken)


if __name__ == "__main__":
    sys.exit(main())
