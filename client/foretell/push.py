"""An estimator as a skops file, and why it cannot be written as one."""

from collections import deque
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from foretell.errors import CannotWrite


def artifact_of(estimator: Any) -> bytes:
    """The bytes of a skops file.

    Raises:
        CannotWrite: which part of it cannot be written, and what to do.
    """
    try:
        from skops.io import dumps
    except ImportError as error:
        message = "To push an estimator install skops (pip install skops); a file that is written already needs none."
        raise CannotWrite(message) from error
    _check_names(estimator)
    try:
        return bytes(dumps(estimator))
    except Exception as error:
        raise CannotWrite(_explained(estimator, error, dumps)) from error


def feature_names(estimator: Any) -> Sequence[str] | None:
    """The names of the columns that it was fitted with, if it knows them."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _check_names(estimator: Any) -> None:
    """See that all functions and classes can be found by their names, which is all that is written of them.

    Raises:
        CannotWrite
    """
    waiting, seen = deque([(type(estimator).__name__, estimator)]), {id(estimator)}
    while waiting:
        place, part = waiting.popleft()
        if (reason := _nameless(part)) is not None:
            raise CannotWrite(f"{place} cannot be written as a skops file: {reason}")
        for name, inner in _parts(part):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append((f"{place} > {name}", inner))


def _nameless(part: Any) -> str | None:
    """Why nobody could find a function, a class, or the class of an object again."""
    named = part if isinstance(part, FunctionType | type) else type(part)
    name = named.__qualname__
    if "<lambda>" in name:
        return "a lambda has no name by which it could be found again. Write it as a function in a module."
    if "<locals>" in name:
        return f"{name} is made within a function, so nobody finds it again. Move it to the top of a module."
    if named.__module__ == "__main__":
        return f"{name} is defined in a script or a notebook, where nobody else finds it. Move it to a module."
    return None


def _explained(estimator: Any, error: Exception, dumps: Any) -> str:
    """The innermost part that cannot be written either, by its path."""
    place, part, found = type(estimator).__name__, estimator, True
    while found:
        found = False
        for name, inner in _parts(part):
            try:
                dumps(inner)
            except Exception as inner_error:  # noqa: BLE001 - whatever it is, it is why
                place, part, error, found = f"{place} > {name}", inner, inner_error, True
                break
    return f"{place} cannot be written as a skops file: {type(error).__name__}: {error}"


def _parts(part: Any) -> Iterator[tuple[str, Any]]:
    """What something consists of, with names for people."""
    if isinstance(part, dict):
        yield from ((str(name), inner) for name, inner in part.items())
    elif isinstance(part, list | tuple | set):
        for number, inner in enumerate(part):
            # A step of a pipeline, or a part of a ColumnTransformer: a name, and what it is called by.
            named = isinstance(inner, tuple) and len(inner) > 1 and isinstance(inner[0], str)
            yield (inner[0], inner[1]) if named else (f"[{number}]", inner)
    elif type(part).__module__ != "builtins" and hasattr(part, "__dict__"):
        yield from vars(part).items()
