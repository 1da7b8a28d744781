"""Another version of the code, to run beside this one."""

import shutil
from pathlib import Path
from typing import Final

from deploy.commands import root
from shared.schema import SCHEMA

PACKAGES: Final = ("api", "deploy", "examples", "shared", "worker")


def next_version(folder: Path) -> Path:
    """A copy of the code whose specs are of the next schema, with a field that this version does not know."""
    for package in PACKAGES:
        shutil.copytree(root() / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").symlink_to(root() / "tests")
    schema, job = folder / "shared" / "schema.py", folder / "shared" / "job.py"
    _replace(schema, f"SCHEMA: Final = {SCHEMA}\n", f"SCHEMA: Final = {SCHEMA + 1}\n")
    _replace(
        job,
        "    schema: int = SCHEMA",
        '    tomorrow: str = "only the next version knows it"\n    schema: int = SCHEMA',
    )
    return folder


def _replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path} does not have {before!r} once"
    path.write_text(text.replace(before, after))
