"""What people see in a terminal: bars, tables, and what is shown again and again until Ctrl-C."""

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from foretell.progress import somebody_looks

from tests.client.command import COMMAND
from tests.client.test_files import FILE
from tests.system.service import Service
from tests.wait import until


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, service: Service, *arguments: str | Path) -> None:
        self._own, its = pty.openpty()
        os.set_blocking(self._own, False)
        self.seen = b""
        environment = os.environ | {"FORETELL_URL": service.address, "COLUMNS": "160", "LINES": "50", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [str(COMMAND), *map(str, arguments)], stdin=its, stdout=its, stderr=its, env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(its)

    def shows(self, *words: str) -> bool:
        """Whether it has shown all these so far."""
        # At the end of a command its terminal is gone, which is told as an error.
        with contextlib.suppress(BlockingIOError, OSError):
            while block := os.read(self._own, 65_536):
                self.seen += block
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self.seen).decode(errors="replace")
        return all(word in text for word in words)

    def close(self) -> None:
        """End it if it runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@contextlib.contextmanager
def terminal(service: Service, *arguments: str | Path) -> Iterator[Terminal]:
    """A command in a terminal, which does not outlive the block."""
    with contextlib.closing(Terminal(service, *arguments)) as shown:
        yield shown


def test_bars_show_how_a_file_goes_up_is_scored_and_comes_down(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(FILE)

    with terminal(service, "predict", path, "-m", "linear", "-o", tmp_path / "out.csv") as shown:
        until(lambda: shown.shows("upload", "scoring", "8,000/8,000 rows, 2 failed", "download", "names them."), 60)

        assert shown.process.wait(60) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["top", "--interval", "0.2"], ["workers_online", "ready", "storage"]),
        (["jobs", "--watch"], ["job", "status", "created"]),
    ],
    ids=["top", "jobs"],
)
def test_what_is_watched_ends_with_ctrl_c(service: Service, arguments: list[str], words: list[str]) -> None:
    with terminal(service, *arguments) as shown:
        until(lambda: shown.shows(*words), 60, f"{words} are shown")

        shown.process.send_signal(signal.SIGINT)

        assert shown.process.wait(60) == 0
        assert not shown.shows("Traceback")


@pytest.mark.parametrize("has_widgets", [True, False], ids=["with-ipywidgets", "without-ipywidgets"])
def test_a_notebook_shows_bars_if_it_can(has_widgets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    if has_widgets:
        (tmp_path / "ipywidgets.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    assert somebody_looks(io.StringIO()) is has_widgets
