"""The documents as a site: `python -m docs.pages site`, which is the second half of `make docs`.

A page lies in the site where its file lies in the repository, so that a link holds in both.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# What people read. A file of another kind is in the site if one of these names it.
DOCUMENTS: Final = ("*.md", "docs/**/*.md", "examples/*.md", "client/*.md", "benchmarks/*.md", "deploy/**/*.md")
CODE: Final = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)#\s]+)")


class BrokenLink(Exception):
    """A document names a file that is not there, is a folder, or lies outside the repository."""


class PagesRefused(Exception):
    """The generator found a broken link or anchor, and has said where."""


def documents(root: Path) -> list[Path]:
    """Every document of a repository, by its path there."""
    return sorted({path.relative_to(root) for pattern in DOCUMENTS for path in root.glob(pattern)})


def linked_files(root: Path, document: Path) -> Iterator[Path]:
    """The files of the repository that a document names, by their paths there.

    Raises BrokenLink. The generator checks links between documents and their anchors, but not those to other files.
    """
    for target in LINK.findall(CODE.sub("", (root / document).read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path = (root / document.parent / target).resolve()
        if not path.is_file() or not path.is_relative_to(root.resolve()):
            raise BrokenLink(f"{document} names {target}, which is no file of the repository")
        yield path.relative_to(root.resolve())


def gather(root: Path, folder: Path) -> None:
    """Copy all documents, and the files that they name, into a folder. Raises BrokenLink."""
    found = documents(root)
    for path in {*found, *(linked for document in found for linked in linked_files(root, document))}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)


def build(root: Path, site: Path) -> None:
    """Write the site of a repository into a folder, in place of what is there. Raises BrokenLink and PagesRefused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gather(root, folder / "pages")
        shutil.copyfile(root / "docs" / "zensical.toml", folder / "zensical.toml")
        generator = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=False)
        if generator.returncode != 0:
            raise PagesRefused("zensical refuses the documents; above it says why")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(folder / "site", site)


if __name__ == "__main__":
    try:
        build(Path(__file__).parents[1], Path(sys.argv[1]))
    except (BrokenLink, PagesRefused) as error:
        raise SystemExit(str(error)) from None
