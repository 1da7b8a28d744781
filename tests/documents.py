"""Documents whose examples are run as they stand there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.commands import root

MARK: Final = "=== next ==="
# What differs from run to run: numbers of versions, which other tests made too.
DIFFERS: Final = re.compile(r"(@|version )[0-9]+")
# JSON that is too long for a line goes on in the next one, after one blank.
LONG: Final = re.compile(r"\n (?=\S)")
# Somebody else does it: the service runs, and the client is installed.
DONE: Final = ("make run", "pip install")
# A program that is kept in a file says its name first.
NAME: Final = re.compile(r"# (\w+\.py)\n")


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def steps(path: Path) -> list[tuple[str, str]]:
    """The commands of a document, each with the output that is shown below it."""
    found = []
    for block in blocks(path, "console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.rstrip("\n").split("\n")
            end = next(n for n in range(1, len(lines) + 1) if complete("\n".join(lines[:n])))
            command, output = "\n".join(lines[:end]), "".join(f"{line}\n" for line in lines[end:])
            if not command.startswith(DONE):
                found.append((command, output))
    return found


def complete(command: str) -> bool:
    """Whether a command is at its end: it goes on over the line while a quote is open, or after a backslash."""
    return command.count("'") % 2 == 0 and not command.endswith("\\")


def pattern(output: str) -> re.Pattern[str]:
    """What an output must be like: `...` stands for anything."""
    parts = (re.escape(part) for part in DIFFERS.sub(r"\g<1>N", LONG.sub("", output)).split("..."))
    return re.compile(".*?".join(parts), re.DOTALL)


def placed(text: str, instead: Mapping[str, str]) -> str:
    """A text of a document, with what is another thing here."""
    for there, here in instead.items():
        text = text.replace(there, here)
    return text


def keep_programs(path: Path, port: int, folder: Path, instead: Mapping[str, str] | None = None) -> None:
    """Write the programs of a document that say their names into a folder; `instead` is that of `typed`."""
    for program in blocks(path, "python"):
        if named := NAME.match(program):
            there = {"127.0.0.1:8000": f"127.0.0.1:{port}", **(instead or {})}
            (folder / named[1]).write_text(placed(program, there))


def typed(
    path: Path, port: int, folder: Path, environment: Mapping[str, str], instead: Mapping[str, str] | None = None
) -> None:
    """Type the commands of a document in a folder, to a service on a port; AssertionError if one answers otherwise.

    `instead` has what stands in the document for something else here, such as other ports.
    """
    there = {"127.0.0.1:8000": f"127.0.0.1:{port}", ".venv/bin/python": sys.executable, **(instead or {})}
    # One shell, since a command may use what another one has set; what is said on standard error comes in its turn.
    script = placed("".join(f"{command}\necho '{MARK}'\n" for command, _ in steps(path)), there)
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    shell = subprocess.Popen(
        ["bash", "-c", f"exec 2>&1\n{script}"], cwd=folder, start_new_session=True,
        env={**environment, "PATH": search, "HOME": str(folder), "PYTHONPATH": str(root())},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said, _ = shell.communicate(timeout=600)
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing is left of it, as it should be
            os.killpg(shell.pid, signal.SIGKILL)

    answers = said.replace("\r\n", "\n").split(f"{MARK}\n")[:-1]
    assert len(answers) == len(steps(path)), said
    for (command, output), answer in zip(steps(path), answers, strict=True):
        # Whether an answer ends its last line is not seen in a document.
        shown = placed(output, there).rstrip("\n")
        assert pattern(shown).fullmatch(DIFFERS.sub(r"\g<1>N", answer).rstrip("\n")), (path.name, command, answer)
