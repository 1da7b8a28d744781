"""Lua scripts: each with what it needs of that which all may use, and no more.

A script begins anew with each call: Redis makes every function before it each time, used or not
(docs/decisions/0034-hot-path.md).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LUA: Final = Path(__file__).parent / "lua"
# What may come before a script, in this order.
BEFORE: Final = ("base", "outbox", "prelude")

COMMENT: Final = re.compile(r"^[ ]*--.*\n", re.MULTILINE)
# What may come before a script is in parts: each begins with `local` at the start of a line, and ends at the next.
PART: Final = re.compile(r"^(?=local )", re.MULTILINE)
NAMES: Final = re.compile(r"local (?:function )?(\w+(?:,\s*\w+)*)")
WORD: Final = re.compile(r"\w+")


class Script:
    """One Lua script as it is sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = complete(_code(name)).encode()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


def complete(code: str) -> str:
    """The code, after what it needs."""
    return linked(PART.split("".join(_code(part) for part in BEFORE)), code)


def linked(parts: Sequence[str], code: str) -> str:
    """The code, with those parts before it that it needs, or that they need.

    A word that is no name but is spelt like one only brings a part too many.
    """
    needed, kept = set(WORD.findall(code)), [code]
    for part in reversed(parts):  # Lua looks for a name above only
        named = NAMES.match(part)
        if named is not None and needed.intersection(WORD.findall(named[1])):
            needed.update(WORD.findall(part))
            kept.append(part)
    return "".join(reversed(kept))


def loaded(names: Sequence[str]) -> dict[str, Script]:
    """The scripts of these names."""
    return {name: Script(name) for name in names}


def _code(name: str) -> str:
    return COMMENT.sub("", (LUA / f"{name}.lua").read_text())
