"""Keys in a browser: signing in and out, and what a key may not do."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import STEP_MILLIS, Visitor
from tests.kept import Kept, short_folder, started_again
from tests.processes import Http
from tests.system.access import Keyed
from tests.system.service import Service
from tests.wait import until

expect.set_options(timeout=STEP_MILLIS)

READER = ["jobs:read", "models:read"]


@pytest.fixture(scope="module")
def service(browser: Browser, kept: Kept) -> Iterator[Service]:
    """One with keys."""
    with short_folder() as folder:
        service = started_again(kept, folder)
        yield service
        service.stop()


@pytest.fixture(scope="module")
def admin(service: Service) -> Keyed:
    """A client with the first key, of which every process has heard."""
    http = Http(service.settings.port)
    made = http("POST", "/keys", {"name": "admin", "scopes": ["admin"]})
    until(lambda: all(http("GET", "/jobs").status == 401 for _ in range(10)), what="nobody is let in without a key")
    return Keyed(service.settings.port, made.json["key"])


@pytest.fixture
def key(admin: Keyed) -> Callable[..., str]:
    """Make a key."""
    return lambda *scopes: admin("POST", "/keys", {"name": "k", "scopes": list(scopes)}).json["key"]


def sign_in(page: Page, key: str, *, keep: bool = False) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    if keep:
        page.get_by_label("Keep me signed in").check()
    page.get_by_role("button", name="Sign in").click()


def test_a_key_opens_what_was_asked_for_and_a_wrong_one_does_not(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open("models")
    assert page.title().startswith("Sign in")
    assert visitor.violations() == []

    sign_in(page, "ft_wrong")
    page.get_by_text("This key is not valid").wait_for()
    sign_in(page, key(*READER))

    page.get_by_role("link", name="linear").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.reload()
    page.get_by_role("heading", name="Sign in").wait_for()


def test_a_kept_key_outlives_the_window(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open()
    sign_in(page, key(*READER), keep=True)
    page.get_by_role("heading", name="Queues").wait_for()

    other = visitor.context.new_page()
    other.goto(f"{visitor.address}/#/jobs")

    other.get_by_role("heading", name="Jobs").wait_for()


def test_a_key_of_the_window_is_not_kept(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open()
    sign_in(page, key(*READER))
    page.get_by_role("heading", name="Queues").wait_for()

    other = visitor.context.new_page()
    other.goto(f"{visitor.address}/")

    other.get_by_role("heading", name="Sign in").wait_for()


def test_what_a_key_may_not_do_is_disabled_and_says_why(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open("models/linear")
    sign_in(page, key(*READER))

    page.get_by_text("Your key may not retrain: it does not have the scope train.").wait_for()
    page.goto(f"{visitor.address}/#/new")

    page.get_by_text("Your key may not submit jobs: it does not have the scope jobs:write.").wait_for()
    assert visitor.violations() == []


def test_a_key_of_one_scope_sees_a_sentence_in_place_of_the_rest(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open()
    sign_in(page, key("models:read"))

    for place, words in {"": "see what goes on", "jobs": "read jobs"}.items():
        page.goto(f"{visitor.address}/#/{place}")
        page.get_by_text(f"Your key may not {words}: it does not have the scope jobs:read.").wait_for()
    page.goto(f"{visitor.address}/#/models")
    page.get_by_role("link", name="linear").wait_for()


def test_a_revoked_key_leads_to_the_sign_in(visitor: Visitor, admin: Keyed) -> None:
    made = admin("POST", "/keys", {"name": "k", "scopes": READER}).json
    page = visitor.open()
    sign_in(page, made["key"])
    page.get_by_role("heading", name="Queues").wait_for()

    visitor.provoked.add(401)
    admin("DELETE", f"/keys/{made['id']}")

    page.get_by_role("heading", name="Sign in").wait_for()


def test_a_job_is_submitted_and_downloaded_with_a_key(visitor: Visitor, key: Callable[..., str]) -> None:
    page = visitor.open("new?model=linear")
    sign_in(page, key("jobs:read", "jobs:write", "models:read"))

    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")
    with page.expect_download() as started:
        page.get_by_role("button", name="Download the result").click()

    assert started.value.suggested_filename.endswith(".json")
