"""`/docs` in a real browser: it shows the API, and does nothing that the policy of its page forbids."""

import hashlib
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import AXE, Visitor
from tests.system.service import Service


def test_the_page_shows_the_api_without_a_word_from_the_console(service: Service, visitor: Visitor) -> None:
    visitor.page.goto(f"{service.address}/docs/")
    visitor.page.get_by_text("Submit a job").first.wait_for()

    operations = sum(len(path) for path in service.http("GET", "/openapi.json").json["paths"].values())
    assert visitor.page.locator(".opblock-summary-path").count() == operations


def test_a_console_would_tell_of_what_is_forbidden(folder: Path, browser: Browser) -> None:
    file = folder / "page.html"
    file.write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\"><p style='color: red'>x</p>"
    )
    visitor = Visitor(browser, "")

    visitor.page.goto(file.as_uri())
    visitor.page.get_by_text("x").wait_for()
    visitor.context.close()

    assert len(visitor.faults) == 1
    assert "Content Security Policy" in visitor.faults[0]


def test_axe_is_the_one_that_was_published() -> None:
    digest, name = AXE.with_name("SHA256SUMS").read_text().split()

    assert name == AXE.name
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == digest
