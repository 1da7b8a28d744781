"""What a browser shows of a service that has nothing yet, and while its Redis is away."""

import signal
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import STEP_MILLIS, Visitor
from tests.kept import short_folder
from tests.system.service import Service, quick_settings

expect.set_options(timeout=STEP_MILLIS)


@pytest.fixture(scope="module")
def service(browser: Browser) -> Iterator[Service]:
    """One without models and jobs, whose Redis can be halted."""
    with short_folder() as folder:
        service = Service(quick_settings(folder / "var", demo_models=False, redis_timeout_seconds=1))
        yield service
        service.stop()


def redis_of(service: Service) -> psutil.Process:
    """Its embedded server."""
    servers = [
        process for process in service.process.children() if {"redis", "valkey"} & set(process.name().split("-"))
    ]
    (found,) = servers
    return found


def test_a_store_that_is_away_is_said_and_what_was_seen_stays(visitor: Visitor, service: Service) -> None:
    page = visitor.open("jobs")
    page.get_by_text("There are no jobs yet.").wait_for()

    visitor.provoked.add(503)
    redis_of(service).send_signal(signal.SIGSTOP)
    try:
        expect(page.get_by_role("alert")).to_contain_text("What was accepted is kept. This page tries again by itself.")
        assert page.get_by_text("There are no jobs yet.").is_visible()
        assert visitor.violations() == []
    finally:
        redis_of(service).send_signal(signal.SIGCONT)

    expect(page.locator("#banner")).to_be_hidden()


def test_a_new_service_says_what_to_do_next(visitor: Visitor) -> None:
    for place, words in {"": "Nothing ended within", "jobs": "no jobs yet", "models": "no models yet"}.items():
        page = visitor.open(place)
        page.get_by_text(words).wait_for()
        assert "curl -s" in page.locator("pre").first.inner_text()
        assert visitor.violations() == []
