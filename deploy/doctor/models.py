"""The models that aliases point to: whether each can be loaded here, with the libraries that are installed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from deploy.commands import root
from deploy.doctor.finding import Finding, Reached, ok, problem, warning
from shared.errors import ModelNotFound
from shared.registry import Registry
from shared.settings import environment_of
from shared.storage import Storage

# Of all versions together.
MOST_SECONDS: Final = 120.0
# A line of worker.loading; libraries that write past Python's own output may add others.
COMPLETE: Final = re.compile(rb'\{"version":.*\}$')


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a process that loads versions has said until it ended."""

    outcomes: dict[str, dict[str, Any]]  # <name>@<version> -> {warnings} or {error}
    fault: str  # how it ended, if there is more to be done; empty: its time was over


def models(reached: Reached, most_seconds: float = MOST_SECONDS) -> Iterator[Finding]:
    """Load each version, in processes of their own: an artifact may end the one that loads it."""
    champions = _champions(reached)
    began, left, faults = time.monotonic(), champions, 0
    while left and (seconds := began + most_seconds - time.monotonic()) > 0:
        trial = _try(reached, left, seconds)
        for version, outcome in trial.outcomes.items():
            findings = list(_judged(version, outcome))
            faults += len(findings)
            yield from findings
        left = [version for version in left if version not in trial.outcomes]
        if left and trial.fault:
            faults += 1
            yield _unusable(left[0], trial.fault)
            left = left[1:]
    if left:
        others = f"; {len(left) - 1} more were not tried" if left[1:] else ""
        yield warning(
            "models",
            f"{left[0]} was not loaded when {most_seconds:g} s were over{others}",
            "look at how long workers take for it: model.preloaded in their logs",
        )
    elif not champions:
        yield ok("models", "none is registered")
    elif not faults:
        what = "version that an alias points to loads" if len(champions) == 1 else "versions that aliases point to load"
        yield ok("models", f"{len(champions)} {what} here, in {time.monotonic() - began:.1f} s")


def _champions(reached: Reached) -> list[str]:
    """The versions that an alias points to.

    Raises:
        StoreUnavailable
    """
    registry = Registry(reached.connections, reached.keys, Storage.of(reached.settings))
    found = []
    for name in registry.names():
        try:
            aliases = registry.model(name).aliases
        except ModelNotFound:  # it was deleted just now
            continue
        found += [f"{name}@{version}" for version in sorted(set(aliases.values()))]
    return found


def _judged(version: str, outcome: dict[str, Any]) -> Iterator[Finding]:
    if "error" in outcome:
        yield _unusable(version, outcome["error"])
    for told in outcome.get("warnings", ()):
        yield warning("models", f"{version}: {told}", "fit it again, or install the releases that it was made with")


def _unusable(version: str, why: str) -> Finding:
    name = version.rpartition("@")[0]
    return problem(
        "models",
        f"{version} cannot be loaded: {why}",
        "restore its files, install what it needs, or register it again; until then its alias can be moved back: "
        f"python -m worker rollback {name}",
    )


def _try(reached: Reached, versions: Sequence[str], seconds: float) -> Trial:
    """Have a process load versions, one after the other."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.loading", *versions],
        cwd=root(),
        env=os.environ | environment_of(reached.settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    fault = ""
    try:
        said, errors = process.communicate(timeout=seconds)
        fault = _ending(process.returncode, errors)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    finally:
        process.kill()  # at Ctrl-C; else it has ended
    outcomes = map(orjson.loads, filter(COMPLETE.match, said.splitlines()))
    return Trial(outcomes={outcome.pop("version"): outcome for outcome in outcomes}, fault=fault)


def _ending(code: int, errors: bytes) -> str:
    if code < 0:
        return f"the process that loads it was ended by {signal.Signals(-code).name}"
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"the process that loads it ended with {code}: {lines[-1] if lines else 'it said nothing'}"
