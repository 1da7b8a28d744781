"""What libraries warn of, thread by thread: `warnings.catch_warnings` acts on every thread of a process at once.

One hook stands for the whole process; what it does with a warning depends on the thread that caused it.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any, Final, TextIO

_ALWAYS: Final = ("always", None, Warning, None, 0)


class _Thread(threading.local):
    """What becomes of this thread's warnings: with None they are shown, else added to the list or dropped."""

    caught: "list[str] | _Dropped | None" = None


class _Dropped:
    """Nobody wants them."""


_thread: Final = _Thread()
_shown: Final = warnings.showwarning


def _hook(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    caught = _thread.caught
    if isinstance(caught, list):
        caught.append(" ".join(str(message).split()))
    elif caught is None:
        _shown(message, category, filename, lineno, file, line)


def _install() -> None:
    if warnings.showwarning is not _hook:
        warnings.showwarning = _hook
    if not warnings.filters or warnings.filters[0] != _ALWAYS:
        warnings.simplefilter("always")


@contextlib.contextmanager
def _with(caught: Any) -> Iterator[Any]:
    _install()
    before, _thread.caught = _thread.caught, caught
    try:
        yield caught
    finally:
        _thread.caught = before


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Drop the warnings of this thread."""
    return _with(_Dropped())


def collected() -> contextlib.AbstractContextManager[list[str]]:
    """Collect the texts of this thread's warnings."""
    return _with([])
