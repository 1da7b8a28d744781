"""The Python environment of each peer: installed on demand into .venv-bench/<peer>, from a lock file with hashes."""

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import CHECKOUT

LOCKS = CHECKOUT / "benchmarks" / "environments"
FOLDER = CHECKOUT / ".venv-bench"
INSTALL_SECONDS = 1_800.0
REASON_CHARACTERS = 500
STAMP = "installed"

# Printed by the environment's own Python.
VERSIONS = """
import importlib.metadata, json, platform, sys
found = {name: importlib.metadata.version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version()} | found))
"""


class UnavailableError(Exception):
    """A peer that cannot be installed or started here; the message says why."""


@functools.cache
def interpreter(peer: str) -> Path:
    """The Python of a peer's environment, which is installed first if it is not there or its lock file has changed.

    Raises:
        UnavailableError: a package does not install on this machine or this Python.
    """
    lock, folder = LOCKS / f"{peer}.txt", FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / STAMP
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"installing {lock.relative_to(CHECKOUT)} into {folder.relative_to(CHECKOUT)}", flush=True)
        for command in _commands(lock, folder, python):
            _run(command, f"cannot install {peer}")
        stamp.write_text(digest)  # last: an interrupted installation begins again
    return python


def versions(peer: str, packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of packages in a peer's environment. Raises UnavailableError."""
    found = _run([str(interpreter(peer)), "-c", VERSIONS, *packages], f"cannot look into {peer}")
    return dict(json.loads(found))


def _commands(lock: Path, folder: Path, python: Path) -> list[list[str]]:
    """By uv, which make has installed; else by pip."""
    uv = Path(sys.executable).with_name("uv")
    hashed = ["--require-hashes", "--requirement", str(lock)]
    if uv.exists():
        return [
            [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *hashed],
        ]
    return [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *hashed],
    ]


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what}: not within {INSTALL_SECONDS:.0f} s") from error
    if done.returncode:
        raise UnavailableError(f"{what}: {(done.stderr or done.stdout).strip()[-REASON_CHARACTERS:]}")
    return done.stdout
