"""A real Chromium: where it is, pages of it that note what went wrong, and what axe finds in them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

AXE: Final = Path(__file__).parent / "axe" / "axe.min.js"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
QUIET: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")
# Patience of each step, milliseconds: a machine may do much else.
STEP_MILLIS: Final = 60_000
PHONE: Final = {"width": 390, "height": 844}
# Rules that axe is asked for: WCAG 2.2 at AA, and its own best practices.
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def executable() -> str:
    """The path of the browser; skips the test where there is none, but in CI."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        words = "no Chromium is here: `make browser` installs it, and CHROMIUM names one that is elsewhere"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return found


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """The browser at a path, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A page of a service, by itself: nothing is kept from others."""

    def __init__(self, browser: Browser, address: str, **more: Any) -> None:
        self.address = address
        self.context = browser.new_context(accept_downloads=True, **more)
        self.context.set_default_timeout(STEP_MILLIS)
        self.page: Page = self.context.new_page()
        # What the console said, and scripts that failed.
        self.faults: list[str] = []
        # Statuses of refusals that a test provokes: Chromium itself writes each down, whatever the page makes of it.
        self.provoked: set[int] = set()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}"))

    def _note(self, message: ConsoleMessage) -> None:
        text = message.text
        refused = text.startswith("Failed to load resource") and any(
            f"status of {code}" in text for code in self.provoked
        )
        if message.type in ("error", "warning") and not refused:
            self.faults.append(text)

    def open(self, place: str = "") -> Page:
        """Go to a place of the dashboard, such as `jobs/<id>`, and wait for its title."""
        # From nowhere, so that no title of the page before is taken for this one's.
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/#/{place}")
        self.page.locator("main h1").wait_for()
        return self.page

    def width(self) -> int:
        """How wide the page is, in CSS pixels: what does not fit makes it wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def violations(self) -> list[str]:
        """What axe finds, each with the first element that it found it in."""
        # By the debugger, since the page's policy lets no foreign script in.
        if self.page.evaluate("typeof axe") == "undefined":
            self.page.evaluate(f"{AXE.read_text()};0")
        found = self.page.evaluate("(tags) => axe.run({ runOnly: tags })", RULES)
        return [
            f"{violation['id']}: {violation['help']} ({violation['nodes'][0]['html'][:200]})"
            for violation in found["violations"]
        ]
