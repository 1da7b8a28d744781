"""The command `foretell` in a test: in this process, or as one of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from foretell.cli.root import foretell

COMMAND = Path(sys.executable).with_name("foretell")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON document."""
        return json.loads(self.out)


class Command:
    """Runs commands against a service."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", url: str | None = None) -> Outcome:
        """One, in this process; its output is no terminal."""
        environment = {"FORETELL_URL": url or self.url}
        given = list(map(str, arguments))
        result = CliRunner().invoke(foretell, given, input=stdin, env=environment, prog_name="foretell")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stderr
        return Outcome(code=result.exit_code, out=result.stdout_bytes, err=result.stderr)

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """One as a process, with pipes; Ctrl-C ends it also where the tests themselves run in the background."""
        return subprocess.Popen(
            [str(COMMAND), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"FORETELL_URL": self.url} | dict(environment or {}),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
