"""Every page of the dashboard: readable by all, on a phone, in the dark, with data and without, and with no fault."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.chromium import PHONE, STEP_MILLIS, Visitor
from tests.processes import Http
from tests.system.rows import HOME, LINEAR
from tests.system.service import Service, scored_file
from tests.system.trainings import labelled, line, send_training

expect.set_options(timeout=STEP_MILLIS)

MARKUP = '<img src=x onerror="document.title=1">'
WINDOWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True},
}


@pytest.fixture(scope="module")
def places(http: Http, service: Service) -> dict[str, str]:
    """Where everything is, by what it shows."""
    model = line(service)
    trained = http.done(send_training(http, model, labelled(), target="y").json["id"])
    file = scored_file(http, b"id,x1,x2,x3\na,1,2,3\nb,x,2,3\nc,1,,3\nd,3,2,1\n", model="linear", key="id")
    assert file["status"] == "partially_succeeded", file
    rows = http.done(http.submit("linear", [LINEAR] * 30)["id"])
    failed = http.done(http.submit("home", [HOME | {"heating_mode": MARKUP}])["id"])
    assert failed["status"] == "failed", failed
    return {
        "overview": "",
        "jobs": "jobs",
        "rows": f"jobs/{rows['id']}",
        "file": f"jobs/{file['id']}",
        "failed": f"jobs/{failed['id']}",
        "training": f"jobs/{trained['id']}",
        "new-job": "new?model=linear",
        "new-file": "new?model=linear&by=file",
        "models": "models",
        "model": f"models/{model}",
        "nowhere": "nowhere",
    }


@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_is_accessible_and_fits(visit: Callable[..., Visitor], places: dict[str, str], window: str) -> None:
    visitor = visit(**WINDOWS[window])

    found = {}
    for name, place in places.items():
        visitor.open(place)
        expect(visitor.page.locator("main").get_by_text(re.compile("^(Loading|Reading)$"))).to_have_count(0)
        found[name] = visitor.violations()
        assert visitor.width() <= visitor.page.viewport_size["width"], name  # type: ignore[index]  # it has one

    assert found == {name: [] for name in places}


def test_what_users_wrote_is_no_markup(visitor: Visitor, places: dict[str, str]) -> None:
    page = visitor.open(places["failed"])

    page.get_by_text(MARKUP).first.wait_for()

    assert page.locator("main img").count() == 0
    assert page.title().startswith("Job")


def test_the_keyboard_goes_from_the_skip_link_to_the_content(visitor: Visitor) -> None:
    page = visitor.open("jobs")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_the_theme_is_kept(visitor: Visitor) -> None:
    page = visitor.open()

    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()

    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_jobs_are_filtered_as_the_address_says(visitor: Visitor, places: dict[str, str]) -> None:
    page = visitor.open("jobs?kind=batch")
    page.locator(f'a[href="#/{places["file"]}"]').wait_for()
    assert page.locator(f'a[href="#/{places["rows"]}"]').count() == 0

    page.get_by_label("Status").select_option("cancelled")

    page.get_by_text("No job is like that.").wait_for()
    assert page.url.endswith("#/jobs?status=cancelled&kind=batch")


def test_the_overview_shows_what_ended(visitor: Visitor, places: dict[str, str]) -> None:
    page = visitor.open()

    page.get_by_role("region", name="Failures of late").get_by_text("prediction_failed").first.wait_for()
    page.get_by_role("img", name="Jobs in 10 s").wait_for()
    page.get_by_role("row", name="online").get_by_text("just now").wait_for()
    page.get_by_text("2 worker processes", exact=True).first.wait_for()


def test_the_overview_says_when_more_workers_are_wanted(visitor: Visitor, places: dict[str, str]) -> None:
    def as_if_busy(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        for queue in told["queues"]:
            if queue["name"] == "online":
                queue["scale"] |= {"processes": 2, "wanted_processes": 9}
        route.fulfill(response=answer, json=told)

    visitor.page.route("**/overview", as_if_busy)

    page = visitor.open()

    page.get_by_text("2 worker processes, 9 wanted").wait_for()
    visitor.page.unroute_all(behavior="wait")
