"""The commands and programs of docs/protocols.md, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.commands import root
from tests.system.service import Service
from tests.system.test_readme import demo

PAGE = (root() / "docs" / "protocols.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# What is another one each time.
OWN = re.compile(r'"(job_id|sha256)":"[^"]+"')
FRACTION = re.compile(r"[0-9]+\.[0-9]{6,}")
COMMANDS = demo(PAGE)


def told(output: str) -> str:
    """What must be in an answer; the last digits of a fraction may be those of another processor."""
    return FRACTION.sub(lambda found: f"{float(found[0]):.6f}", OWN.sub("", output)).strip()


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(4))
def test_a_command_answers_as_the_page_says(service: Service, tmp_path: Path, number: int) -> None:
    command, output = COMMANDS[number]

    answer = run(["bash", "-c", command.replace("127.0.0.1:8000", f"127.0.0.1:{service.settings.port}")], tmp_path)

    assert told(answer) == told(output)
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("number", range(2), ids=["v2", "openai"])
def test_a_program_prints_what_the_page_says(service: Service, tmp_path: Path, number: int) -> None:
    program, output = PROGRAMS[number]
    there = program.replace("127.0.0.1:8000", f"127.0.0.1:{service.settings.port}")

    assert run([sys.executable, "-c", there], tmp_path) == output
    assert len(PROGRAMS) == 2
