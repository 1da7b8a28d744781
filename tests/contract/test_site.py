"""The documents are a site in which every link leads somewhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import root
from docs.pages import BrokenLink, PagesRefused, build, documents

CONFIGURATION = root() / "docs" / "zensical.toml"
DECISIONS = root() / "docs" / "decisions"


def named(entry: Any) -> list[str]:
    """The pages in a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in named(part)]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with one document."""
    (tmp_path / "docs").mkdir()
    text = re.sub(r"(?s)^nav = .*?^\]\n", "", CONFIGURATION.read_text(), flags=re.MULTILINE)
    (tmp_path / "docs" / "zensical.toml").write_text(text)
    return tmp_path


def test_the_site_has_every_document_and_fetches_nothing(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "removed.html").write_text("a page that was there before")

    build(root(), tmp_path / "site")

    pages = {path.relative_to(tmp_path / "site"): path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    wanted = {
        path.parent / "index.html" if path.name == "README.md" else path.with_suffix(".html")
        for path in documents(root())
    }
    assert wanted - set(pages) == set()
    assert Path("removed.html") not in pages
    assert (tmp_path / "site" / "shared" / "keys.py").is_file()
    # A list or a table that follows a paragraph without an empty line is one on a code host only.
    unseen = re.compile(r"^(?:- |\d+\. |<p>\||\| )", re.MULTILINE)
    assert [str(path) for path, text in pages.items() if unseen.search(re.sub(r"(?s)<pre.*?</pre>", "", text))] == []
    fetched = re.compile(r'<(?:script|img|iframe)[^>]*src="?https?:|<link[^>]*rel="?stylesheet[^>]*href="?https?:')
    assert [str(path) for path, text in pages.items() if fetched.search(text)] == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("[x](docs/nowhere.md)", BrokenLink, id="page"),
        pytest.param("[x](docs)", BrokenLink, id="folder"),
        pytest.param("[x](../outside.md)", BrokenLink, id="outside"),
        pytest.param("# One\n\n[x](#two)", PagesRefused, id="anchor"),
    ],
)
def test_a_link_that_leads_nowhere_stops_the_build(text: str, error: type[Exception], small: Path) -> None:
    (small / "README.md").write_text(text)
    (small.parent / "outside.md").write_text("")

    with pytest.raises(error):
        build(small, small / "site")

    assert not (small / "site").exists()


def test_every_document_is_in_the_navigation() -> None:
    navigation = named(tomllib.loads(CONFIGURATION.read_text())["project"]["nav"])

    decisions = {f"docs/decisions/{path.name}" for path in DECISIONS.glob("0*.md")}
    assert {str(path) for path in documents(root())} - decisions - set(navigation) == set()
    assert len(navigation) == len(set(navigation))


def test_every_decision_is_in_their_list_by_its_title() -> None:
    titles = [
        f"- [{path.name[:4]}]({path.name}): {path.read_text().splitlines()[0].removeprefix('# ')}"
        for path in sorted(DECISIONS.glob("0*.md"))
    ]

    assert [line for line in (DECISIONS / "README.md").read_text().splitlines() if line.startswith("- ")] == titles
