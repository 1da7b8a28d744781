"""The clock of the chaos suite: what a process sees of a step, and what it does not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.clock import Clock
from tests.processes import clean_environment

TELL = """
import sys, time
from datetime import UTC, datetime
import pandas, pyarrow, pydantic, orjson

before, steady = time.time(), time.monotonic()
print("ready", flush=True)
sys.stdin.readline()
print(round((time.time() - before) / 3600), round((time.monotonic() - steady) / 3600))
print(round((time.time_ns() / 1e9 - datetime.now(UTC).timestamp()) / 3600))
print(round((datetime.now().timestamp() - before) / 3600), type(datetime.now(UTC)) is datetime)
print(orjson.dumps(datetime.now(UTC)).decode()[:3])
"""


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    clock = Clock(tmp_path / "clock")
    yield clock
    clock.close()


@pytest.mark.parametrize("hours", [5, -5])
def test_a_step_moves_the_wall_clock_of_a_process_that_runs_and_nothing_else(clock: Clock, hours: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TELL],
        env=clean_environment() | clock.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"

    clock.set(hours * 3600)
    said, _ = process.communicate("\n")

    assert said.split("\n") == [f"{hours} 0", "0", f"{hours} True", '"20', ""]
