"""The processes of one system under test: started, measured with all their descendants, and ended by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.load import CpuSeconds
from shared.settings import PREFIX

CHECKOUT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 20.0
LOG_TAIL_BYTES = 2_000


class ProcessGroup:
    """A context manager: whatever was started in it has ended when it is left, on errors and interrupts too."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._roots: list[psutil.Popen] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _signals_held_back():
            while self._roots:
                _end(self._roots.pop())
        if isinstance(error, Exception):
            error.add_note(self.log_tails())

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> psutil.Popen:
        """Start a process that logs to `<name>.log`; a session of its own keeps the terminal's Ctrl-C from it."""
        with (self._log_folder / f"{name}.log").open("ab") as log, _signals_held_back():
            process = psutil.Popen(
                command,
                env=environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_let_signals_through,
            )
            self._roots.append(process)
        return process

    def stop(self, process: psutil.Popen, *, seconds: float) -> int:
        """Ask a process to end, and wait until it has; its exit code."""
        self._roots.remove(process)
        process.terminate()
        try:
            return int(process.wait(seconds))
        finally:
            _end(process)

    def wait_until(self, ready: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Raises RuntimeError if a process ends first, or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            for process in self._roots:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended with {process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {what} within {seconds:.0f} s")
            time.sleep(0.05)

    def run(self, name: str, command: list[str], environment: dict[str, str], *, seconds: float) -> float:
        """Run a process to its end; how long that took. Raises RuntimeError if it fails or the time is over."""
        started = time.perf_counter()
        self.start(name, command, environment)
        process = self._roots[-1]
        try:
            returncode = process.wait(seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired) as error:
            raise RuntimeError(f"{command} took longer than {seconds:.0f} s") from error
        took = time.perf_counter() - started
        self._roots.pop()
        if returncode:
            raise RuntimeError(f"{command} ended with {returncode}")
        return took

    def cpu_seconds(self) -> CpuSeconds:
        """User and system time; that of descendants which have ended is included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        machine = psutil.cpu_times()
        return CpuSeconds(servers=total, machine=sum(machine) - machine.idle - getattr(machine, "iowait", 0.0))

    def memory_bytes(self) -> int:
        """Proportional set size, which counts shared pages once; resident set size where the system has no such."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
        return total

    def processes(self) -> Iterator[psutil.Process]:
        """Everything that was started and has not ended, with its descendants."""
        for root in self._roots:
            yield from _with_descendants(root)

    def log_tails(self) -> str:
        """The last lines that each process has logged."""
        logs = sorted(self._log_folder.glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n{log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors='replace')}" for log in logs
        )


def clean_environment() -> dict[str, str]:
    """That of this process, without settings of a service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def port_answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _with_descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(root: psutil.Popen) -> None:
    """Ask the root to end its own descendants, then kill what is left of them."""
    processes = {*_with_descendants(root), *_session(root)}
    with contextlib.suppress(psutil.NoSuchProcess):
        root.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired, psutil.TimeoutExpired):
        root.wait(STOP_SECONDS)
    _, alive = psutil.wait_procs(processes, timeout=2)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=2)


def _session(root: psutil.Popen) -> Iterator[psutil.Process]:
    """The processes that the root started or that these did, even if the root itself has crashed."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == root.pid:
                yield process


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """An interrupt between starting a process and noting it, or while ending it, would leave it behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _let_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
