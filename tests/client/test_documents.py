"""The examples of the documents, run as they stand there."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foretell import Client

from deploy.commands import root
from tests.documents import blocks, steps, typed
from tests.processes import clean_environment
from tests.system.service import Service

CLIENT = root() / "docs" / "client.md"
CLI = root() / "docs" / "cli.md"
README = root() / "client" / "README.md"
ROOT = root() / "README.md"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the documents speak of."""
    folder = tmp_path_factory.mktemp("documents")
    for name, arguments in {"rows.csv": ["1000", "--bad", "1"], "labelled.csv": ["20000", "--labelled"]}.items():
        command = [sys.executable, "-m", "examples.rows", *arguments]
        made = subprocess.run(command, cwd=root(), env=clean_environment(), capture_output=True, check=True, timeout=60)
        (folder / name).write_bytes(made.stdout)
    return folder


@pytest.fixture
def place(files: Path, service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with them, and a service whose model is as it was at first."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("FORETELL_URL", service.address)
    client.promote("home", 1)
    (files / "predictions.parquet").unlink(missing_ok=True)
    yield files
    client.promote("home", 1)


@pytest.mark.parametrize("path", [CLIENT, README, ROOT], ids=["docs/client.md", "client/README.md", "README.md"])
def test_the_python_of_a_document_runs(path: Path, place: Path) -> None:
    said = io.StringIO()

    with contextlib.redirect_stdout(said):
        exec(compile("\n".join(blocks(path, "python")), str(path), "exec"), {"__name__": "document"})  # noqa: S102

    assert (place / "predictions.parquet").stat().st_size > 0
    if path == CLIENT:
        assert "2 heating_mode [" in said.getvalue()  # threads of other tests may log meanwhile
        assert "invalid_request /instances/0/1" in said.getvalue()


def test_the_commands_of_the_document_answer_as_it_says(service: Service, place: Path) -> None:
    assert len(steps(CLI)) > 12

    typed(CLI, service.settings.port, place, os.environ)

    assert "_foretell" in (place / ".bashrc").read_text()


def test_the_commands_of_the_package_answer_as_it_says(service: Service, place: Path) -> None:
    assert len(steps(README)) == 3

    typed(README, service.settings.port, place, os.environ)

    assert (place / "predictions.parquet").stat().st_size > 0


def test_every_command_is_in_the_document() -> None:
    from foretell.cli.root import foretell

    table = CLI.read_text().partition("## Commands")[2].partition("## Scripts")[0]

    for name, command in foretell.commands.items():
        for below in getattr(command, "commands", {"": None}):
            assert f"`{name}" in table or f"`{name} {below}" in table, name
            assert below in table, f"{name} {below}"
