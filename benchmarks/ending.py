"""How a run of benchmarks ends: whole, void since an answer was wrong, or interrupted, and without leftovers."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from benchmarks.connection import VoidRunError


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end what runs, and every process with it."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finding_void(run: Callable[[], None]) -> str:
    """Run it; why what it measured is void, or nothing. A system of our own that does not start makes it so, too."""
    try:
        run()
    except (VoidRunError, RuntimeError) as error:
        print("void:", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return str(error)
    except KeyboardInterrupt:
        print("interrupted; every process has ended", file=sys.stderr)
        return "interrupted"
    return ""


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
