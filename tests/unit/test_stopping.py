"""Processes of a worker hear that they shall end, also one that is made while their parent ends."""

import os
import subprocess
import sys
import threading

from deploy.commands import root
from tests.wait import until
from worker.stopping import Farewell, Stopping


def test_what_is_to_be_done_is_done_when_the_parent_lets_go() -> None:
    stopping, farewell, done = Stopping(), Farewell(), threading.Event()
    stopping.on_begin(done.set)
    stopping.listen(farewell.end)
    assert not stopping.begun

    farewell.tell()

    until(done.is_set, what="it has begun")
    assert stopping.begun


def heard_of(farewell: Farewell) -> int:
    """The exit code of a child that lets go of its own end and waits: 0 if it hears of the end within ten seconds."""
    child = os.fork()
    if child == 0:
        done, stopping = threading.Event(), Stopping()
        farewell.drop()
        stopping.on_begin(done.set)
        stopping.listen(farewell.end)
        os._exit(0 if done.wait(10) else 1)
    farewell.tell()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_hears_of_it() -> None:
    assert heard_of(Farewell()) == 0


def test_a_child_that_is_made_after_it_was_told_hears_of_it_at_once() -> None:
    farewell = Farewell()
    farewell.tell()
    farewell.tell()

    assert heard_of(farewell) == 0


def test_a_process_that_waits_for_ever_ends_at_last() -> None:
    code = "import signal; from worker.stopping import end_at_last; end_at_last(0.1); signal.pause()"

    ended = subprocess.run([sys.executable, "-c", code], cwd=root(), capture_output=True, text=True, timeout=60)

    assert (ended.returncode, "worker.cut_off" in ended.stdout + ended.stderr) == (0, True)
