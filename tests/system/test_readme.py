"""The demo of the README, typed by a shell as it stands there."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.commands import root
from tests.system.service import Service

README = (root() / "README.md").read_text()
STARTS = ("curl", "printf", ".venv/bin/python")
JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# What the README says of an answer, whatever the ids and times in it are.
TOLD = re.compile(
    r'"(?:status|code|prediction|detail|item|counts|row|promoted|version)":'
    r'(?:"[^"]*"|{[^}]*}|[0-9.]+(?=[,}])|true|false)'
)
NUMBER = re.compile(r'("\w+":)([0-9]+\.[0-9]+)')


def demo(page: str = README) -> list[tuple[str, str]]:
    """Every command of the README, but for the start, or of another page, with the output that is shown below it."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.rstrip().split("\n")
            # A command goes on over the line while a quote is open.
            end = next(n for n in range(1, len(lines) + 1) if "\n".join(lines[:n]).count("'") % 2 == 0)
            steps.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return [(command, output) for command, output in steps if command.startswith(STARTS)]


def told(output: str) -> list[str]:
    """What must be in an answer: the parts of JSON that say something, and every line of a CSV file."""
    return TOLD.findall(output) or output.strip().split("\n")


def says(answer: str, part: str) -> bool:
    """Whether an answer has a part; of a fraction the last digits may be those of another processor."""
    number = NUMBER.fullmatch(part)
    if number is None:
        return part in answer
    values = re.findall(re.escape(number[1]) + r"([0-9.eE+-]+)", answer)
    return any(math.isclose(float(value), float(number[2]), rel_tol=1e-9) for value in values)


def new_job(answer: str) -> str | None:
    """The id of the job that an answer is about, if it is one."""
    try:
        return str(json.loads(answer)["id"])
    except (ValueError, KeyError, TypeError):
        return None


def test_the_demo_of_the_readme_answers_as_it_says(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start()  # a model is trained again, which others need not see
    job_id = ""
    answers = []

    for command, _ in demo():
        if job_id and JOB_ID.search(command):
            service.http.done(job_id, seconds=240)  # files give way to all else that wants the processor
            command = JOB_ID.sub(job_id, command)
        typed = command.replace("127.0.0.1:8000", f"127.0.0.1:{service.settings.port}")
        typed = typed.replace(".venv/bin/python", sys.executable)
        shell = subprocess.run(
            ["bash", "-c", typed], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root())},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        job_id = new_job(shell.stdout) or job_id
        answers.append(shell.stdout)

    assert len(answers) >= 13
    for (command, output), answer in zip(demo(), answers, strict=True):
        assert [part for part in told(output) if not says(answer, part)] == [], command


def test_every_file_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"^\| `(\w+/)` \|", README, re.MULTILINE)

    assert len(links) > 10
    assert [link for link in links if not link.startswith("http") and not (root() / link).exists()] == []
