"""A process that is stuck where none of its threads can run ends, so that its worker starts another."""

import signal
import subprocess
import sys

import pytest

from deploy.commands import root
from tests.processes import clean_environment

PROGRAM = """
import ctypes
import sys
import time
from types import SimpleNamespace
from worker.lease import LeaseKeeper

store = SimpleNamespace(renew=lambda fence: frozenset())
usual_seconds, own_seconds = float(sys.argv[3]), float(sys.argv[4]) or None
keeper = LeaseKeeper(store, print, lease_seconds=0.2, timeout_seconds=usual_seconds)
with keeper.keep(SimpleNamespace(fence="1", lane="", job_ids=("a",))):
    keeper.progressed(timeout_seconds=own_seconds)
    for _ in range(int(sys.argv[1])):
        time.sleep(0.05)
        keeper.progressed()
    # Unlike time.sleep it holds the interpreter.
    ctypes.PyDLL(None).usleep(int(sys.argv[2]))
print("done")
"""


@pytest.mark.parametrize(
    ("steps", "stuck_micros", "seconds", "exit_code"),
    [
        pytest.param(0, 60_000_000, (0.4, 0), -signal.SIGALRM, id="stuck"),
        pytest.param(40, 60_000_000, (1, 0), -signal.SIGALRM, id="stuck-later"),
        pytest.param(40, 0, (1, 0), 0, id="slow-but-not-stuck"),
        pytest.param(0, 60_000_000, (600, 0.4), -signal.SIGALRM, id="stuck-in-a-unit-with-less-time"),
        pytest.param(40, 60_000_000, (600, 1), -signal.SIGALRM, id="stuck-later-in-a-unit-with-less-time"),
        pytest.param(0, 1_000_000, (0.4, 600), 0, id="not-stuck-in-a-unit-with-more-time"),
    ],
)
def test_a_process_that_holds_the_interpreter_for_ever_is_ended(
    steps: int, stuck_micros: int, seconds: tuple[float, float], exit_code: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(steps), str(stuck_micros), *map(str, seconds)],
        env=clean_environment(), cwd=root(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert ended.returncode == exit_code, ended.stderr
    assert ("done" in ended.stdout) == (exit_code == 0)
