"""A host: an address, a folder that no other host sees, and processes that are started again when they end."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.hosts.wires import Wires
from tests.processes import Process, clean_environment

# Between the end of a process and its next start.
PAUSE_SECONDS: Final = 0.5


@dataclass(kw_only=True)
class Unit:
    """What is to run: as an operator would write it down for the system's own supervisor."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: Process | None = None
    due: float = 0.0
    ended: list[int] = field(default_factory=list)  # exit codes of the times that it ended by itself


class Host:
    """One of the machines."""

    def __init__(self, name: str, folder: Path, wires: Wires) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir(parents=True)
        self.address = wires.address(name)
        self.units: list[Unit] = []
        self._wires = wires
        self._lock = threading.RLock()
        self._on = True

    def add(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Unit:
        """Start something that is to run from now on."""
        unit = Unit(name=name, command=command, environment=clean_environment() | dict(environment or {}))
        with self._lock:
            self.units.append(unit)
            self._start(unit)
        return unit

    def around(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a command here."""
        return self._wires.around(self.name, command)

    def log(self, unit: Unit) -> Path:
        """What all lives of a unit have said."""
        return self.folder / f"{unit.name}.log"

    def look(self) -> None:
        """Start what has ended, after a pause."""
        with self._lock:
            for unit in self.units if self._on else ():
                if unit.process is None or unit.process.popen.poll() is None:
                    continue
                if not unit.due:
                    unit.due = time.monotonic() + PAUSE_SECONDS
                    unit.ended.append(unit.process.popen.returncode)
                elif time.monotonic() >= unit.due:
                    unit.due = 0.0
                    self._start(unit)

    def cut(self) -> None:
        """Take it off the network; where that is not possible, halt all that runs on it."""
        self._wires.cut(self.name)
        if not self._wires.cuts:
            self._signal(signal.SIGSTOP)

    def mend(self) -> None:
        """Undo that."""
        self._wires.mend(self.name)
        if not self._wires.cuts:
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Everything on it ends at once, as when the power fails."""
        with self._lock:
            self._on = False
            self._signal(signal.SIGKILL)
            for unit in self.units:
                if unit.process is not None:
                    unit.process.stop(0)

    def boot(self) -> None:
        """Start all of it again."""
        with self._lock:
            for unit in self.units:
                self._start(unit)
            self._on = True

    def tell_to_end(self) -> None:
        """SIGTERM to everything, and no other start."""
        with self._lock:
            self._on = False
            for unit in self.units:
                if unit.process is not None and unit.process.popen.poll() is None:
                    unit.process.popen.terminate()

    def stop(self, seconds: float) -> list[str]:
        """Wait until everything has ended; the names of what had to be killed."""
        self.tell_to_end()
        killed = []
        for unit in self.units:
            if unit.process is not None:
                end = time.monotonic() + seconds
                while unit.process.popen.poll() is None and time.monotonic() < end:
                    time.sleep(0.02)
                if unit.process.popen.poll() is None:
                    killed.append(f"{self.name} {unit.name}")
                unit.process.stop(0)
        return killed

    def pids(self) -> set[int]:
        """Of everything that runs on it."""
        return {process.pid for process in self._processes()}

    def _start(self, unit: Unit) -> None:
        unit.process = Process(self.around(unit.command), unit.environment, self.log(unit))

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for unit in self.units:
            if unit.process is not None and unit.process.popen.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += [psutil.Process(unit.process.pid), *unit.process.children()]
        return found


def supervise(hosts: Callable[[], Sequence[Host]], stopped: threading.Event) -> threading.Thread:
    """Look after all hosts until the event is set, as the system of each would."""

    def look() -> None:
        while not stopped.wait(0.05):
            for host in hosts():
                host.look()

    thread = threading.Thread(target=look, name="supervisor", daemon=True)
    thread.start()
    return thread
