"""The libraries that are installed, against those that the service was tried with."""

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.commands import root
from deploy.doctor.finding import Finding, ok, problem, warning
from shared import __version__

# As `make lock` writes it: `name==version`, and behind a semicolon where it is needed.
PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)\s*(;?)")
MOST_NAMED: Final = 5
ACTION: Final = "install requirements.txt as it is (make run does), and start every process of the service again"


def libraries() -> Iterator[Finding]:
    """Compare what is installed with requirements.txt, if that is there."""
    lock, here = root() / "requirements.txt", f"Foretell {__version__} on Python {platform.python_version()}"
    if not lock.exists():
        yield ok("libraries", f"{here}; there is no requirements.txt to compare them with")
        return
    missing, others, number = [], [], 0
    for name, versions, everywhere in pinned(lock):
        number += 1
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if everywhere:
                missing.append(f"{name} {' or '.join(versions)}")
            continue
        if installed not in versions:
            others.append(f"{name} {installed} (locked: {' or '.join(versions)})")
    if missing:
        yield problem("libraries", f"not installed: {_named(missing)}", ACTION)
    if others:
        yield warning(
            "libraries", f"other releases are installed than the service was tried with: {_named(others)}", ACTION
        )
    if not missing and not others:
        yield ok("libraries", f"{here}; {number} libraries as in requirements.txt")


def pinned(lock: Path) -> list[tuple[str, list[str], bool]]:
    """Name, the versions that it may have, and whether it is needed on every machine and Python."""
    found: dict[str, list[str]] = {}
    sometimes = set()
    for line in lock.read_text().splitlines():
        if match := PINNED.match(line):
            name, version, condition = match.groups()
            found.setdefault(name, []).append(version)
            if condition:
                sometimes.add(name)
    return [(name, versions, name not in sometimes) for name, versions in found.items()]


def _named(found: list[str]) -> str:
    more = f" and {len(found) - MOST_NAMED} more" if found[MOST_NAMED:] else ""
    return ", ".join(found[:MOST_NAMED]) + more
