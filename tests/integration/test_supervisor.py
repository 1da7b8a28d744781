"""The supervisor's children: each a process of its own, as the same command by itself would be."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import root
from tests.processes import clean_environment

# What a child tells of itself, into the file that is named in its environment.
TELLS = """
import json, os, signal, sys, time
from pathlib import Path

paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd") if int(number) > 2]
told = {
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    # Not that of the list itself.
    "files": [os.readlink(path) for path in paths if os.path.lexists(path)],
    "input": os.readlink("/proc/self/fd/0"),
    "name": Path("/proc/self/comm").read_text().strip(),
    "session": os.getsid(0) == os.getpid(),
    "blocked": [signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "handled": [name for name in ("SIGTERM", "SIGINT") if signal.getsignal(getattr(signal, name)) != signal.SIG_DFL],
}
Path(os.environ["TOLD"] + ".part").write_text(json.dumps(told))
Path(os.environ["TOLD"] + ".part").rename(os.environ["TOLD"])
ends = os.environ.get("ENDS")
if ends:
    sys.exit(int(ends) if ends.isdigit() else ends)
time.sleep(60)
"""

# The supervisor runs in a process that has nothing else, as it is meant to.
SUPERVISES = """
import os, signal, sys
from deploy.supervisor import Child, Supervisor

supervisor, folder = Supervisor(), sys.argv[1]

def child(name, *, forked=True, **environment):
    command = [sys.executable, "-m", "teller", "--some", "word"]
    told = {"TOLD": f"{folder}/{name}", "PYTHONPATH": folder, **environment}
    return Child(name, command, told, forked=forked, grace_seconds=5)

def told(name):
    return supervisor.wait_until(lambda: os.path.exists(f"{folder}/{name}"), 30)

try:
    exec(sys.argv[2])
finally:
    supervisor.stop()
"""

Supervise = Callable[[str], str]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def supervise(tmp_path: Path) -> Supervise:
    """Do something in a supervisor; what it says."""
    (tmp_path / "teller.py").write_text(TELLS)

    def run(what: str) -> str:
        environment = clean_environment() | {"PYTHONPATH": f"{root()}:{tmp_path}"}
        done = subprocess.run(
            [sys.executable, "-c", SUPERVISES, str(tmp_path), what],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def test_a_fork_is_what_the_same_command_would_be_by_itself(supervise: Supervise, tmp_path: Path) -> None:
    supervise("""
held = open(f"{folder}/lock", "w")
supervisor.start(child("fork"))
supervisor.start(child("alone", forked=False))
assert told("fork") and told("alone")
""")

    by_fork: dict[str, Any] = json.loads((tmp_path / "fork").read_text())
    by_itself: dict[str, Any] = json.loads((tmp_path / "alone").read_text())

    assert (by_fork.pop("name"), by_itself.pop("name")) == ("fork", Path(sys.executable).name[:15])
    for one in (by_fork, by_itself):
        assert str(tmp_path / "lock") not in one.pop("files")
        for name in ("TOLD", "LC_CTYPE"):  # the latter is set by Python when it starts in a locale of C
            one["environment"].pop(name, None)
    assert by_fork == by_itself
    assert by_fork["arguments"] == ["--some", "word"]
    assert (by_fork["session"], by_fork["input"], by_fork["blocked"]) == (True, os.devnull, [])


@pytest.mark.parametrize(
    ("ends", "said"),
    [("0", "ended with exit code 0"), ("3", "ended with exit code 3"), ("in words", "ended with exit code 1")],
)
def test_how_a_fork_ends_is_said_and_it_starts_again(supervise: Supervise, ends: str, said: str) -> None:
    heard = supervise(f"""
supervisor.start(child("teller", ENDS={ends!r}))
for _ in range(2):
    assert told("teller")
    os.remove(f"{{folder}}/teller")
""")

    assert f"foretell: teller {said}; it starts again in 0.5 s" in heard


def test_a_fork_that_is_told_to_end_at_once_ends(supervise: Supervise) -> None:
    heard = supervise("""
for number in range(20):
    one = child(f"teller-{number}")
    supervisor.start(one)
    one.end()
    one.await_end()
    print(one.process.exitcode)
""")

    assert heard.split() == [str(-signal.SIGTERM)] * 20


def test_ctrl_c_in_the_moment_of_the_fork_is_for_the_supervisor(supervise: Supervise) -> None:
    heard = supervise("""
setsid = os.setsid

def late():
    os.kill(os.getpid(), signal.SIGINT)
    setsid()

os.setsid = late
supervisor.start(child("fork"))
supervisor.start(child("alone", forked=False))
assert told("fork") and told("alone")
""")

    assert heard == ""


def test_what_cannot_be_started_is_said_and_tried_again(supervise: Supervise) -> None:
    heard = supervise(f"""
refusals, fork = [{errno.EAGAIN}, {errno.ENOMEM}], os.fork

def refusing():
    if refusals:
        raise OSError(refusals[0], os.strerror(refusals.pop(0)))
    return fork()

os.fork = refusing
supervisor.start(child("teller"))
assert told("teller")
""")

    assert f"teller cannot be started: {os.strerror(errno.EAGAIN)}; it starts again in 0.5 s" in heard
    assert f"teller cannot be started: {os.strerror(errno.ENOMEM)}; it starts again in 1 s" in heard


def test_a_child_that_ends_is_noticed_also_where_ends_were_ignored_before(supervise: Supervise) -> None:
    heard = supervise("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
supervisor = Supervisor()
one = child("teller", ENDS="3")
supervisor.start(one)
assert supervisor.wait_until(lambda: one.failures > 0, 30)
""")

    assert "teller ended with exit code 3" in heard
