"""The import contract of pyproject.toml holds."""

import subprocess
import sys
from pathlib import Path

from deploy.commands import root
from tests.processes import clean_environment

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def test_no_package_imports_what_it_must_not() -> None:
    answer = subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=root(),
        env=clean_environment(),
        capture_output=True,
        check=False,
        text=True,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert " 0 broken" in answer.stdout
