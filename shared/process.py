"""How long a process lives: not longer than the one that started it; and what it is called."""

import ctypes
import os
import signal
import sys

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


def die_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have Linux send this process a signal when its parent is gone, so that kill -9 of a parent leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent_pid:  # it was gone before we asked
            os.kill(os.getpid(), number)


def be_called(name: str) -> None:
    """Have `top`, `pgrep` and `ps -o comm` show a name, of up to 15 bytes; what this process forks has it too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
