"""Aliases: movable names for versions. Every move is a compare-and-set, and stands in the model's history."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

import orjson

from shared.errors import InvalidRequest
from shared.job import from_millis

PRODUCTION: Final = "production"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # of a model
# Moves of an alias that are kept; each takes some 200 bytes and its details.
MOST_MOVES: Final = 1000


class Any_(Enum):  # noqa: N801  # an enum has the only sentinel that type checkers can tell from other values
    """Whatever version an alias points to, or none."""

    ANY = "any"


ANY: Final = Any_.ANY


def check_alias(alias: str) -> None:
    """See that a word can name an alias.

    Raises:
        InvalidRequest
    """
    if not NAME.fullmatch(alias) or alias.isdecimal():
        raise InvalidRequest(
            f"{alias[:100]!r} is no name of an alias; use up to 64 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit, and not digits alone, which name a version."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A wish to have an alias point to a version."""

    alias: str
    version: int
    expected: int | Any_ | None  # what the alias must point to now; None: it must not exist
    who: str
    why: str
    job_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> bytes:
        """What the history says of it; see `entry_of`."""
        return entry_of(self.alias, self.version, who=self.who, why=self.why, job_id=self.job_id, details=self.details)


def entry_of(
    alias: str, version: int | None, *, who: str, why: str, job_id: str | None = None, details: Mapping[str, Any]
) -> bytes:
    """An entry of the history as JSON without its beginning, which the scripts write: when, and from where.

    `version` is None where the alias is removed.
    """
    told = {"who": who, "why": why, "job_id": job_id, "details": dict(details)}
    return orjson.dumps({"alias": alias, "to": version} | told)[1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class AliasState:
    """Where an alias points."""

    alias: str
    version: int
    revision: int  # moves so far: its ETag
    moved_at: datetime | None  # None: before moves were noted


def load_state(alias: str, fields: Sequence[bytes | None]) -> AliasState | None:
    """From the fields alias:, revision: and moved: of a model; None if there is no such alias."""
    version, revision, moved = fields
    if version is None:
        return None
    return AliasState(alias=alias, version=int(version), revision=int(revision or 0), moved_at=from_millis(moved))


def back(history: Sequence[Mapping[str, Any]], there: frozenset[int]) -> int | None:
    """The version to roll back to; None if there is nothing before the current one.

    The moves are undone one after the other: a rollback takes back the move that it reverts, so two rollbacks go two
    steps back, and not to and fro.

    Args:
        history: the moves of one alias, newest first.
        there: the versions that exist; others are skipped.
    """
    path: list[int] = []
    for move in reversed(history):
        if move["to"] is None:  # the alias was removed, and began anew
            path.clear()
            continue
        if not path and move["from"] is not None:
            path.append(move["from"])
        if move["details"].get("rollback") and move["to"] in path:
            while path[-1] != move["to"]:
                path.pop()
        else:
            path.append(move["to"])
    current = path.pop() if path else None
    return next((version for version in reversed(path) if version in there and version != current), None)
