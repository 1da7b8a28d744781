"""The quickstarts, typed as they stand there, one after another on a service that has just been started."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.commands import root
from tests.documents import NAME, blocks, keep_programs, steps, typed
from tests.processes import clean_environment
from tests.system.service import Service

START = root() / "docs" / "quickstart.md"
PERSONS = sorted((root() / "docs" / "quickstart").glob("*.md"))


def test_every_person_has_a_quickstart() -> None:
    assert {path.stem for path in PERSONS} == {"analyst", "data-scientist", "backend-engineer", "operator"}
    assert [path.stem for path in PERSONS if f"(quickstart/{path.name})" not in START.read_text()] == []


def test_the_quickstarts_answer_as_they_say(
    start: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start()  # models are added and, by the operator, who is the last one, keys
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORETELL_URL", service.address)
    environment = clean_environment(service.settings) | {"FORETELL_URL": service.address}

    for path in (START, *PERSONS):
        keep_programs(path, service.settings.port, tmp_path)
        typed(path, service.settings.port, tmp_path, environment)
        for program in blocks(path, "python"):
            if not NAME.match(program):
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(program, str(path), "exec"), {"__name__": "document"})  # noqa: S102

    assert min(len(steps(path)) for path in PERSONS) >= 5
