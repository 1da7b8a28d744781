"""A supervisor in the foreground: starts children in order, restarts what dies, stops everything in reverse order."""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import Final

from deploy.commands import root
from shared.process import be_called, die_with_parent

FORK: Final = multiprocessing.get_context("fork")
ENDING: Final = (signal.SIGINT, signal.SIGTERM)
# What Python ignores, and other programs expect as the system has it.
NOT_FOR_OTHERS: Final = (signal.SIGPIPE, signal.SIGXFSZ)
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# A child that ran for so long starts again with the first pause.
STABLE_SECONDS = 30.0
TURN_SECONDS = 0.1


@dataclass
class Child:
    """One process and how it is kept alive."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    # It is `python -m ...`, and runs in a fork of this process with all that has been imported here.
    forked: bool = False
    stage: int = 0  # the highest is stopped first
    once: bool = False  # it has an end; not restarted
    grace_seconds: float = 10.0
    # Sent by Linux when the supervisor itself is killed. Redis writes its file to the end first.
    orphan_signal: signal.Signals = signal.SIGKILL
    process: ForkProcess | None = None
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)
    ended: bool = False  # for good

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the supervisor.

        Raises:
            OSError: the system takes no more processes.
        """
        self.started = time.monotonic()
        process = FORK.Process(target=self._become, args=(os.getpid(),), name=self.name)
        # A signal that comes before the process has its own handlers would be lost in a copy of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        self.process = process

    def _become(self, parent: int) -> None:
        """Be the child, after the fork.

        No other thread here runs Python. The one that there is, of pyarrow's allocator, is ended and begun by itself.
        """
        os.setsid()
        die_with_parent(parent, self.orphan_signal)
        # As Python itself begins.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C that came before the session began was for the supervisor: what is ignored waits no more.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        close_others()
        os.chdir(root())
        if not self.forked:
            for number in NOT_FOR_OTHERS:
                signal.signal(number, signal.SIG_DFL)
            os.execve(self.command[0], list(self.command), dict(self.environment))  # noqa: S606  # our own command line
        os.environ.clear()
        os.environ.update(self.environment)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it may have been closed before us
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a file, as Python made it
        be_called(self.name)
        _, _, module, *sys.argv[1:] = self.command
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.exitcode is None

    def end(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()
            self.due = time.monotonic() + self.grace_seconds

    def await_end(self) -> None:
        """Wait until it has ended, and kill it after its time of grace."""
        if self.process is None or self.process.pid is None:
            return
        # Not join(seconds), which waits for the end of a pipe that the child has closed.
        while self.running() and time.monotonic() < self.due:
            time.sleep(TURN_SECONDS / 5)
        if self.running():
            say(f"{self.name} did not end within {self.grace_seconds:g} s; it is killed")
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.killpg(self.process.pid, signal.SIGKILL)  # with its own children
            self.process.join()

    def ended_because(self) -> str:
        """How the process ended, for people."""
        code = (self.process.exitcode if self.process else None) or 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def close_others() -> None:
    """Close all files of this process but for its standard streams: pipes of others, the lock of the data folder."""
    for number in [int(file.name) for file in Path("/dev/fd").iterdir()]:
        if number > 2:
            with contextlib.suppress(OSError):  # that of the list itself
                os.close(number)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(f"foretell: {text}", file=sys.stderr, flush=True)


class Supervisor:
    """Children in the order in which they are started."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.stopping = False
        for number in ENDING:
            signal.signal(number, self._stop)
        # Whoever starts us may have it ignored: then the system would not tell how a child has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, child: Child) -> None:
        """Start a child and keep it alive from now on."""
        self.children.append(child)
        self._begin(child)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look after the children until the condition holds; False if it did not in time, or the end was asked for."""
        end = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < end:
            if condition():
                return True
            self._look()
            time.sleep(TURN_SECONDS)
        return False

    def run(self) -> None:
        """Look after the children until SIGINT or SIGTERM."""
        while not self.stopping:
            self._look()
            time.sleep(TURN_SECONDS)

    def _look(self) -> None:
        for child in self.children:
            if child.running() or child.ended:
                continue
            if child.process is not None:
                self._bury(child)
            elif time.monotonic() >= child.due:
                self._begin(child)

    def _begin(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            self._pause(child, f"cannot be started: {error.strerror}")

    def _bury(self, child: Child) -> None:
        """Note a death, and when to start again."""
        reason = child.ended_because()
        failed = child.process is not None and child.process.exitcode != 0
        child.process = None
        if child.once:
            child.ended = True
            if failed:
                say(f"{child.name} {reason}")
            return
        self._pause(child, reason)

    def _pause(self, child: Child, reason: str) -> None:
        child.failures = 1 if time.monotonic() - child.started > STABLE_SECONDS else child.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (child.failures - 1))
        child.due = time.monotonic() + pause
        say(f"{child.name} {reason}; it starts again in {pause:g} s")

    def stop(self) -> None:
        """End the children stage by stage, the last started first; kill what does not end, which loses no job."""
        for stage in sorted({child.stage for child in self.children}, reverse=True):
            living = [child for child in self.children if child.stage == stage and child.running()]
            for child in living:
                child.end()
            for child in living:
                child.await_end()
