"""What libraries warn of, thread by thread: `warnings.catch_warnings` acts on every thread of a process at once.

One hook stands for all threads that want one; what it does with a warning depends on the thread that caused it.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any, Final, TextIO

# What Python does not show by default; see the library reference, warnings, "Default Warning Filter".
_HIDDEN: Final = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class _Thread(threading.local):
    """What becomes of this thread's warnings: with None they are shown, else added to the list or dropped."""

    caught: "list[str] | _Dropped | None" = None


class _Dropped:
    """Nobody wants them."""


class _Hook:
    """Stands for as long as any thread wants it, so that no thread takes it away from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("always")
                warnings.showwarning = _hook

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._before.__exit__(None, None, None)


_thread: Final = _Thread()
_installed: Final = _Hook()
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
    elif caught is None and not issubclass(category, _HIDDEN):
        _shown(message, category, filename, lineno, file, line)


@contextlib.contextmanager
def _with(caught: Any) -> Iterator[Any]:
    with _installed:
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
