"""How messages count things and name some of many."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

MOST_NAMED: Final = 10


def named(labels: Iterable[Any]) -> str:
    """Labels as Python writes them, so that '1' and 1 are told apart."""
    return listed([repr(label) for label in labels])


def listed(names: Sequence[str]) -> str:
    """The first MOST_NAMED names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def counted(number: int, noun: str) -> str:
    """Such as 1 row or 2 rows."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
