"""What a system takes while something runs: its peak of memory, and the CPU time of each kind of process."""

import contextlib
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.processes import ProcessGroup

SAMPLE_SECONDS = 0.05
LOOK_FOR_PROCESSES_SECONDS = 0.5
# The kernel walks all pages of a process for its proportional set size, some 25 ms for each GiB, on the cores that are
# being measured: so many times the CPU time of a reading pass before the next.
PAUSE_FACTOR = 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# What a kind of process has in its name or in its command line; the first that is there counts.
KINDS = {
    "worker-batch": "batch worker",
    "worker-online": "online worker",
    "worker-": "other workers",
    "scheduler ": "scheduler",
    "api ": "api",
    "api.server": "api",
    "--queues batch": "batch worker",
    "--queues online": "online worker",
    "--queues": "other workers",
    " beat": "scheduler",
    "celery": "worker",
    "valkey": "redis",
    "redis-server": "redis",
    "-m deploy": "supervisor",
}
SCRIPT = "script"
OTHER = "other"


class Observation:
    """A context manager; what it found is there once it is left.

    `peak_bytes` is the largest sum, over all processes, of the proportional set size, which counts a shared page once.
    It is sampled every 50 ms from the resident sizes: the proportional one is read of one process after the other, as
    often as a twentieth of a core allows, and what the resident size has changed since then is added. A shorter peak
    may be missed. `cpu_seconds` is user and system time by kind of process; `script` is what began and ended meanwhile.
    `others_cpu_fraction` is the part of all cores that went to neither these processes nor this one.
    """

    def __init__(self, processes: ProcessGroup) -> None:
        self._group = processes
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample_until_over, daemon=True)
        self.peak_bytes = 0
        self.samples = 0
        self.cpu_seconds: dict[str, float] = {}
        self.others_cpu_fraction = 0.0

    def __enter__(self) -> Self:
        self._cpu_before, self._machine_before, self._own_before = self._cpu(), _machine_cpu(), _own_cpu()
        self._began = time.perf_counter()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        took = time.perf_counter() - self._began
        spent, machine, own = self._cpu(), _machine_cpu() - self._machine_before, _own_cpu() - self._own_before
        self._over.set()
        self._sampler.join()
        grown = {name: seconds - self._cpu_before.get(name, 0.0) for name, seconds in spent.items()}
        self.cpu_seconds = {name: seconds for name, seconds in grown.items() if seconds > 0}
        others = machine - own - sum(self.cpu_seconds.values())
        self.others_cpu_fraction = max(0.0, others) / took / (os.cpu_count() or 1)

    def _cpu(self) -> dict[str, float]:
        ended = os.times()
        return cpu_seconds_by_kind(self._group) | {SCRIPT: ended.children_user + ended.children_system}

    def _sample_until_over(self) -> None:
        processes: list[int] = []
        shared: dict[int, int] = {}  # resident minus proportional size of each process, by the last reading
        look_again_at = read_again_at = 0.0
        while not self._over.is_set():
            now = time.perf_counter()
            if now >= look_again_at:
                processes = [process.pid for process in self._group.processes()]
                look_again_at = now + LOOK_FOR_PROCESSES_SECONDS
            new = [pid for pid in processes if pid not in shared]
            if processes and (new or now >= read_again_at):
                cpu_before = time.thread_time()
                for pid in new or [processes[self.samples % len(processes)]]:
                    shared[pid] = _resident_bytes(pid) - _proportional_bytes(pid)
                read_again_at = now + PAUSE_FACTOR * (time.thread_time() - cpu_before)
            self.peak_bytes = max(self.peak_bytes, sum(max(0, _resident_bytes(pid) - shared[pid]) for pid in processes))
            self.samples += 1
            self._over.wait(SAMPLE_SECONDS)


def cpu_seconds_by_kind(group: ProcessGroup) -> dict[str, float]:
    """User and system time of each kind of process so far; that of descendants which have ended is included."""
    total: defaultdict[str, float] = defaultdict(float)
    for process in group.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total[kind_of(process)] += times.user + times.system + times.children_user + times.children_system
    return dict(total)


def kind_of(process: psutil.Process) -> str:
    """One of the kinds, by the name and the command line."""
    line = " ".join((process.name(), *process.cmdline()))
    return next((kind for mark, kind in KINDS.items() if mark in line), OTHER)


def _resident_bytes(pid: int) -> int:
    """0 of a process that has ended."""
    try:
        statm = Path(f"/proc/{pid}/statm")
        if statm.exists():
            return int(statm.read_bytes().split()[1]) * PAGE_BYTES
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0


def _proportional_bytes(pid: int) -> int:
    """The resident size where the system knows no other."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return _resident_bytes(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), _resident_bytes(pid))


def _machine_cpu() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system
