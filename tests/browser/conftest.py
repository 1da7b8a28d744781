"""A browser, and a service with models and jobs for it to show."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import Visitor, executable, launched
from tests.kept import Kept, short_folder, started_again
from tests.processes import Http
from tests.system.service import Service


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is; without it the tests are skipped."""
    return executable()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Ended with the module: while it runs, this thread has a running event loop, and other tests could start none."""
    with launched(chromium) as browser:
        yield browser


@pytest.fixture(scope="package")
def service(chromium: str, kept: Kept) -> Iterator[Service]:
    """The one that tests share who leave it as it is, or make what is their own; none is started without a browser."""
    with short_folder() as folder:
        service = started_again(kept, folder)
        yield service
        service.stop()


@pytest.fixture(scope="package")
def http(service: Service) -> Http:
    """A client of the shared service."""
    return service.http


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Callable[..., Visitor]]:
    """Make a visitor of the shared service; what its console says at the end is a failure."""
    visitors: list[Visitor] = []

    def made(**more: Any) -> Visitor:
        visitors.append(Visitor(browser, more.pop("address", service.address), **more))
        return visitors[-1]

    yield made
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.faults for visitor in visitors] == [[] for _ in visitors]


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """One with an ordinary window."""
    return visit()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """Its page."""
    return visitor.page
