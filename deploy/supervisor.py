"""A supervisor in the foreground: starts children in order, restarts what dies, stops everything in reverse order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from deploy.commands import root
from shared.process import die_with_parent

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
    stage: int = 0  # the highest is stopped first
    once: bool = False  # it has an end; not restarted
    grace_seconds: float = 10.0
    # Sent by Linux when the supervisor itself is killed. Redis writes its file to the end first.
    orphan_signal: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the supervisor."""
        self.started = time.monotonic()
        parent = os.getpid()
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environment),
            cwd=root(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Safe although it runs between fork and exec: this process has one thread.
            preexec_fn=lambda: die_with_parent(parent, self.orphan_signal),
        )

    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()
            self.due = time.monotonic() + self.grace_seconds

    def await_end(self) -> None:
        """Wait until it has ended, and kill it after its time of grace."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, self.due - time.monotonic()))
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not end within {self.grace_seconds:g} s; it is killed")
            os.killpg(self.process.pid, signal.SIGKILL)  # with its own children
            self.process.wait()

    def ended_because(self) -> str:
        """How the process ended, for people."""
        code = self.process.returncode if self.process else 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(f"foretell: {text}", file=sys.stderr, flush=True)


class Supervisor:
    """Children in the order in which they are started."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.stopping = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, child: Child) -> None:
        """Start a child and keep it alive from now on."""
        self.children.append(child)
        child.start()

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
            if child.running() or (child.process is None and child.once):
                continue
            if child.process is not None:
                self._bury(child)
            elif time.monotonic() >= child.due:
                child.start()

    def _bury(self, child: Child) -> None:
        """Note a death, and when to start again."""
        reason = child.ended_because()
        failed = child.process is not None and child.process.returncode != 0
        child.process = None
        if child.once:
            if failed:
                say(f"{child.name} {reason}")
            return
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
