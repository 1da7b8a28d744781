"""The end of a worker process in order: it pulls nothing more, and what it has in hand is finished or given back.

The processes of a worker hear of it through a pipe that their parent alone holds open for writing. Closing it reaches
all of them at once, also one whose main thread is in native code, where no signal would be handled: a thread reads.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from worker import background

log = structlog.get_logger()

# How long Celery may take to end, beside what its units may; less than whoever stops the worker waits (deploy/run.py).
CELERY_SECONDS: Final = 25.0


def end_at_last(seconds: float) -> None:
    """End this process after so long, whatever it waits for: Celery may wait for its broker for ever.

    Its children end with it, and what they still held is given back when their leases are over.
    """

    def end() -> None:
        time.sleep(seconds)
        log.warning("worker.cut_off", seconds=seconds)
        os._exit(os.EX_OK)

    background.start("end", end)


class Stopping:
    """Whether this process shall end."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def begun(self) -> bool:
        """From now on nothing is pulled."""
        return self._begun.is_set()

    def on_begin(self, callback: Callable[[], None]) -> None:
        """Have something done when it begins, in another thread than the one that works; in the order of the calls."""
        self._callbacks.append(callback)

    def begin(self) -> None:
        """End."""
        self._begun.set()
        for callback in self._callbacks:
            callback()

    def listen(self, end: int) -> None:
        """Begin when the pipe of which `end` is the file descriptor has nobody left who could write into it."""

        def wait() -> None:
            os.read(end, 1)
            self.begin()

        background.start("stopping", wait)


def hush_celery() -> None:
    """Celery takes the end of a process that has given back what it had, with exit code 0, for a loss: not an error."""
    logging.getLogger("celery.worker.request").addFilter(
        lambda record: "exited prematurely: exitcode 0 " not in record.getMessage()
    )


class Farewell:
    """The parent's end of that pipe, made before it forks."""

    def __init__(self) -> None:
        self.end, self._held = os.pipe()
        self._told = False

    def drop(self) -> None:
        """In a child: it must not hold open what its parent closes."""
        if not self._told:  # else the parent had let go of it before it forked
            os.close(self._held)
            self._told = True

    def tell(self) -> None:
        """Have all children end; a second time changes nothing."""
        if not self._told:
            self._told = True
            os.close(self._held)
