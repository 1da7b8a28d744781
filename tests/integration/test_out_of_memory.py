"""A process that had no memory for a unit ends, as Python may be in disorder then; after other errors it goes on."""

import subprocess
import sys

import pytest

from deploy.commands import root
from tests.processes import clean_environment

PROGRAM = """
import sys
from types import SimpleNamespace
from shared.errors import ModelUnusable, StoreUnavailable
from worker.staged import StagedRunner

def release(fence, outcome, **_):
    if "away" in sys.argv:
        raise StoreUnavailable
    print("given back:", outcome.decode(), flush=True)
    return False, "batch"

def run(unit, stopped):
    exec(sys.argv[1])

store = SimpleNamespace(renew=lambda fence: frozenset(), release=release)
batches = SimpleNamespace(fail=lambda unit, code, *_: print("failed:", code, flush=True) or True)
spec = SimpleNamespace(register=None, traceparent=None)
unit = SimpleNamespace(job_id="a", job_ids=("a",), kind="chunk", fence="1", lane="", queue="batch", spec=spec)
StagedRunner(store, batches, run, print, lease_seconds=60, timeout_seconds=60).do(unit)
print("goes on")
"""
AFTERWARDS = """
try:
    raise MemoryError
except MemoryError:
    raise TypeError("'frame' object is not callable")
"""


def told_of(error: str, *more: str) -> tuple[int, str]:
    """How the process ends that has such an error with a unit, and what it says before."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, error, *more],
        env=clean_environment(), cwd=root(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("raise MemoryError", id="no-memory"),
        pytest.param("raise SystemError('error return without exception set')", id="python-in-disorder"),
        pytest.param(AFTERWARDS, id="what-comes-of-it"),
        pytest.param('raise RuntimeError("can\'t start new thread")', id="no-thread"),
    ],
)
def test_a_process_that_had_no_memory_gives_its_unit_back_and_ends(error: str) -> None:
    exit_code, told = told_of(error)

    assert exit_code == 0
    assert "given back:" in told
    assert '"out_of_memory"' in told
    assert "goes on" not in told


def test_it_ends_although_the_unit_cannot_be_given_back() -> None:
    exit_code, told = told_of("raise MemoryError", "away")

    assert exit_code == 0
    assert "unit.out_of_memory" in told
    assert "given back:" not in told
    assert "goes on" not in told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param("raise ValueError", "internal", id="another"),
        pytest.param("raise ModelUnusable('It needs more.') from MemoryError()", "model_unusable", id="one-of-ours"),
    ],
)
def test_after_another_error_the_process_goes_on(error: str, code: str) -> None:
    exit_code, told = told_of(error)

    assert exit_code == 0
    assert told.endswith(f"failed: {code}\nbatch\ngoes on\n")
