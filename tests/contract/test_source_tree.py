"""Nothing in the tree is left undone or hidden in a drawer."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "worker", "shared", "deploy", "examples", "benchmarks", "tests", "docs", ".ci", "client")
TEXT = {".py", ".lua", ".md", ".toml", ".yml", ".yaml", ".txt", ".csv", ".sh", ".html", ".js", ".css", ""}
# Put together here, so that this file does not hold them itself.
BANNED = [
    "TO" + "DO",
    "FIX" + "ME",
    "X" * 3,
    "HA" + "CK",
    "WI" + "P",
    "noqa: " + "ALL",
    "break" + "point()",
    "pdb" + ".",
]
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "lib"}


def files() -> Iterator[Path]:
    for place in FOLDERS:
        yield from (path for path in (ROOT / place).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    yield from (path for path in ROOT.iterdir() if path.is_file())


def texts() -> Iterator[tuple[Path, str]]:
    for path in files():
        if path.suffix in TEXT:
            yield path.relative_to(ROOT), path.read_text()


@pytest.mark.parametrize("word", BANNED)
def test_no_file_holds_a_word_for_unfinished_work(word: str) -> None:
    found = re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])")

    places = [
        f"{path}:{number}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if found.search(line)
    ]

    assert places == []


def test_no_file_or_folder_is_a_drawer() -> None:
    drawers = {
        str(path.relative_to(ROOT))
        for path in files()
        for part in path.relative_to(ROOT).with_suffix("").parts
        if part in DRAWERS
    }

    assert drawers == set()


def test_every_module_begins_with_what_it_is() -> None:
    silent = [
        str(path) for path, text in texts() if path.suffix == ".py" and text.strip() and not text.startswith('"""')
    ]

    assert silent == []


def test_nothing_is_merged_halfway() -> None:
    marker = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)

    assert [str(path) for path, text in texts() if marker.search(text)] == []
