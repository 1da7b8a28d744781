"""What a check has found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from redis.exceptions import RedisError

from shared.connection import Connections, Server
from shared.errors import ServiceError
from shared.keys import Keys
from shared.settings import Settings


class Status(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # the service works, and may not always
    PROBLEM = "problem"  # some of it does not work, or loses what it accepted


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    status: Status
    found: str
    action: str = ""  # what to do; empty: nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A service whose Redis answers."""

    settings: Settings
    server: Server
    connections: Connections
    keys: Keys


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, status=Status.OK, found=found)


def warning(check: str, found: str, action: str) -> Finding:
    """It should be changed."""
    return Finding(check=check, status=Status.WARNING, found=found, action=action)


def problem(check: str, found: str, action: str) -> Finding:
    """It must be changed."""
    return Finding(check=check, status=Status.PROBLEM, found=found, action=action)


def made(name: str, findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; that it broke off is one too, and ends no other check."""
    try:
        yield from findings()
    except ServiceError as error:
        found = error.message
    except (RedisError, OSError) as error:
        found = f"{type(error).__name__}: {error}"
    else:
        return
    yield problem(name, f"the check broke off: {found}", "see to what it says, and run this again")


def in_words(size_bytes: float) -> str:
    """A size as people read it: 512 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.3g} {unit}" if size_bytes < 100 else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
