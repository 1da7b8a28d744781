"""A sampling profiler that looks into running processes: py-spy, in an environment of its own."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.environment import UnavailableError, interpreter

# More than that, and the profiler takes from the two cores what it wants to measure.
SAMPLES_PER_SECOND: Final = 300
PATIENCE_SECONDS: Final = 60.0
REASON_CHARACTERS: Final = 300


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Frames from the outermost to the innermost, each `function (file:line)`, and how often it was seen."""

    frames: tuple[str, ...]
    samples: int


def sampled(pid: int, seconds: float) -> list[Stack]:
    """What the thread that held the interpreter was at, by samples; the process is not stopped for them.

    Raises:
        UnavailableError: py-spy does not install here, or may not look into the process.
    """
    with tempfile.TemporaryDirectory(prefix="spy-") as folder:
        found = Path(folder) / "stacks"
        recording = ["--gil", "--nonblocking", "--rate", str(SAMPLES_PER_SECOND), "--format", "raw"]
        # Whole seconds: a duration in parts of one is refused.
        _spy("record", pid, [*recording, "--duration", str(max(1, round(seconds))), "--output", str(found)], seconds)
        stacks = [_stack(line) for line in found.read_text().splitlines()] if found.exists() else []
        # Without frames: the thread went on while it was read.
        return [stack for stack in stacks if stack.frames]


def python_threads(pid: int) -> frozenset[int]:
    """The threads of a process that the interpreter knows, by their numbers at the kernel. Raises UnavailableError."""
    told: Any = json.loads(_spy("dump", pid, ["--json", "--nonblocking"], 0))
    return frozenset(int(thread["os_thread_id"]) for thread in told)


def _stack(line: str) -> Stack:
    frames, _, count = line.rpartition(" ")
    return Stack(frames=tuple(frame for frame in frames.split(";") if frame), samples=int(count))


def _spy(action: str, pid: int, options: Sequence[str], seconds: float) -> str:
    command = [str(interpreter("profile").with_name("py-spy")), action, "--pid", str(pid), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"py-spy {action}: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-REASON_CHARACTERS:]
        raise UnavailableError(
            f"py-spy may not look into the process {pid} ({said}). It needs the right to trace: root, the capability "
            "SYS_PTRACE in a container, or `sysctl kernel.yama.ptrace_scope=0`"
        )
    return done.stdout
