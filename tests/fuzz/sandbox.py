"""A process in which compiled code reads damaged files: if it crashes, hangs or eats memory, the test says so."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

import psutil

from worker.formats.memory import at_most

# Longest that one example may take: a small file is read in milliseconds.
MOST_SECONDS: Final = 60.0
Function = Callable[..., str]


class Sandbox:
    """Calls a function of a module in another process, which is started again after each end of it."""

    def __init__(self, function: Function, *, most_bytes: int) -> None:
        """Keep what is called with bytes, and how much memory one call may take, in bytes of address space."""
        self._function = function
        self._most_bytes = most_bytes
        self._process: Any = None
        self._connection: Connection | None = None

    def call(self, *arguments: Any) -> str:
        """What the function says of the arguments.

        Raises:
            AssertionError: the process died, hung, or the function raised.
        """
        connection = self._connection or self._start()
        connection.send(arguments)
        if not connection.poll(MOST_SECONDS):
            self.stop()
            raise AssertionError(f"no answer within {MOST_SECONDS:g} s")
        try:
            kind, answer = connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            raise AssertionError(f"the process ended with {code}") from None
        assert kind == "said", answer
        return str(answer)

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def size_bytes(self) -> int:
        """The memory that the process has touched."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            assert self._connection is not None
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> Connection:
        # Not forked: what libraries have started in the process of the tests would not be there.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function, self._most_bytes), daemon=True)
        self._process.start()
        theirs.close()
        return self._connection


def _serve(connection: Connection, function: Function, most_bytes: int) -> None:
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            with at_most(most_bytes):
                answer = ("said", function(*arguments))
        except BaseException:  # noqa: BLE001  # whatever it is, the test is told
            answer = ("raised", traceback.format_exc())
        connection.send(answer)
