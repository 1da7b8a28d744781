"""The dashboard: all that its files ask for is served, and nothing in them could turn what users wrote into markup."""

import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from api.browsing import DASHBOARD

FILES = sorted(path.name for path in DASHBOARD.iterdir())
MODULES = [name for name in FILES if name.endswith(".js")]
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml; charset=utf-8"}
ASKED_FOR = re.compile(r"""(?:from|src=|href=)\s*"(/dashboard/[^"]+)""")
# What takes text for markup or code, or what the page's policy forbids.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|javascript:"
    r"|\.style\b|style:|[\"']style[\"']"
)


def asked_for() -> Iterator[str]:
    for name in FILES:
        yield from ASKED_FOR.findall((DASHBOARD / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type_and_looked_at_anew(client: FlaskClient, name: str) -> None:
    response = client.get(f"/dashboard/{name}")

    assert response.status_code == 200
    assert response.content_type in ("text/javascript; charset=utf-8", TYPES.get(name.rpartition(".")[2]))
    assert "no-cache" in response.headers["Cache-Control"] or "max-age=0" in response.headers["Cache-Control"]
    assert response.headers["ETag"]


def test_every_file_that_is_asked_for_is_there_and_no_other() -> None:
    assert {path.rpartition("/")[2] for path in asked_for()} | {"index.html"} == set(FILES)


@pytest.mark.parametrize("name", MODULES)
def test_no_module_takes_text_for_markup(name: str) -> None:
    assert FORBIDDEN.findall((DASHBOARD / name).read_text()) == []


def test_the_page_has_nothing_within_it_that_its_policy_forbids() -> None:
    page = (DASHBOARD / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|https?:", page) == []


def test_nothing_else_is_served(client: FlaskClient) -> None:
    assert client.get("/dashboard/nothing.js").status_code == 404
    assert client.get("/dashboard/..%2fdocs.html").status_code == 404
