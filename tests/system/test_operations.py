"""Health, readiness, version, and documentation that needs no internet."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from shared import __version__
from tests.processes import Http
from tests.system.service import Service

REFERENCE_IN_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?!data:)([^"')\s;]+)""")


class Assets(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the reference of a script, an image or a link."""
        given = dict(attrs)
        reference = given.get("href") if tag == "link" else given.get("src")
        if reference:
            self.references.append(reference)


def test_the_process_answers(http: Http) -> None:
    answer = http("GET", "/healthz")

    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_readiness_names_every_part_with_its_state(service: Service) -> None:
    answer = service.http("GET", "/readyz")

    assert (answer.status, answer.json["ready"]) == (200, True)
    assert {name: check["ready"] for name, check in answer.json["checks"].items()} == {
        "redis": True,
        "storage": True,
        "workers_online": True,
        "workers_batch": True,
        "workers_train": True,
        "workers_control": True,
        "workers_webhooks": True,
        "scheduler": True,
    }


def test_the_version_is_the_one_of_the_package(http: Http) -> None:
    answer = http("GET", "/version")

    assert (answer.status, answer.json["version"]) == (200, __version__)


@pytest.fixture(scope="module")
def page(http: Http) -> str:
    """The page of the documentation."""
    answer = http("GET", "/docs/")
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/html")
    return answer.body.decode()


def test_every_asset_of_the_documentation_comes_from_this_server(http: Http, page: str) -> None:
    references = Assets(page).references
    styles = [urljoin("/docs/", reference) for reference in references if reference.endswith(".css")]
    references += [
        urljoin(style, nested)
        for style in styles
        for nested in REFERENCE_IN_CSS.findall(http("GET", style).body.decode())
    ]

    assert any(reference.endswith(".js") for reference in references)
    assert [reference for reference in references if urlsplit(reference).netloc] == []
    answers = {reference: http("GET", urljoin("/docs/", reference)) for reference in references}
    assert {reference: answer.status for reference, answer in answers.items() if answer.status != 200} == {}
    assert [reference for reference, answer in answers.items() if not answer.body] == []


def test_the_documentation_shows_the_document_of_this_server(http: Http) -> None:
    (shown,) = re.findall(r'\burl: "([^"]*)"', http("GET", "/docs/docs.js").body.decode())

    answer = http("GET", shown)

    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")


def test_the_documentation_asks_no_validator_on_the_internet(http: Http) -> None:
    # Without this setting Swagger UI sends the document's address to validator.swagger.io, unless it is on loopback.
    assert re.search(r"\bvalidatorUrl: null\b", http("GET", "/docs/docs.js").body.decode())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_whoever_comes_by_finds_the_documentation(http: Http, path: str) -> None:
    answer = http("GET", path)

    found = http("GET", answer.headers["location"]) if answer.status in (301, 302, 308) else answer
    assert (found.status, found.headers["content-type"].partition(";")[0]) == (200, "text/html")
