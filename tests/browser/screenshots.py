"""The pictures of docs/dashboard.md: a service with data of the demo models, seen in light, dark and on a phone.

python -m tests.browser.screenshots [FOLDER]
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, expect

from deploy.commands import root
from tests.browser.chromium import PHONE, STEP_MILLIS, Visitor, executable, launched
from tests.kept import short_folder
from tests.system.rows import HOME
from tests.system.service import Service, quick_settings, scored_file
from tests.system.trainings import labelled, line, send_training
from tests.wait import until

WIDE: Final = {"width": 1120, "height": 760}
MODEL: Final = "price"


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    folder = Path(given[0]) if given else root() / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=STEP_MILLIS)
    with launched(executable()) as browser, short_folder() as short:
        service = Service(quick_settings(short / "var"))
        try:
            job_id = filled(service)
            take(browser, service, job_id, folder)
        finally:
            service.stop()
    return 0


def filled(service: Service) -> str:
    """Give it jobs, failures and versions; the id of a job over a file."""
    http, chance = service.http, random.Random(7)
    until(lambda: http("GET", "/models/home").status == 200, 120, "the demo models are there")
    line(service, name=MODEL)
    for seed in range(4):
        http.done(send_training(http, MODEL, labelled(300, slope=2 + seed / 9, seed=seed), target="y").json["id"])
    for _ in range(60):
        rows = [[chance.gauss(0, 0.05) for _ in range(3)] for _ in range(chance.randint(1, 40))]
        http.submit("linear", rows)
    http.submit("home", [HOME | {"heating_mode": "tropical"}])
    job: dict[str, Any] = scored_file(http, rooms(chance), model="home", key="id")
    return str(job["id"])


def rooms(chance: random.Random) -> bytes:
    """A CSV file for the model `home`, with a few bad rows."""
    lines = ["id," + ",".join(HOME)]
    for number in range(3000):
        hour = "noon" if number % 400 == 7 else chance.randint(0, 23)
        measured = [chance.gauss(5, 8), chance.gauss(20, 1), chance.gauss(45, 9), 300 * chance.random()]
        values = ",".join(f"{value:.1f}" for value in measured)
        lines.append(f"room-{number},{hour},{values},{chance.randint(0, 4)},false,{chance.choice(['comfort', 'eco'])}")
    return "\n".join(lines).encode()


def take(browser: Browser, service: Service, job_id: str, folder: Path) -> None:
    """Take the pictures."""
    seen = {
        "overview": ("", "light", WIDE),
        "job": (f"jobs/{job_id}", "light", WIDE),
        "model": (f"models/{MODEL}", "dark", WIDE),
        "new-job": ("new?model=home", "light", WIDE),
        "jobs-phone": ("jobs", "light", PHONE),
    }
    for name, (place, scheme, window) in seen.items():
        visitor = Visitor(browser, service.address, color_scheme=scheme, viewport=window)
        page = visitor.open(place)
        expect(page.locator("main")).not_to_contain_text("Loading")
        page.locator("svg, table, fieldset").first.wait_for()
        page.screenshot(path=folder / f"dashboard-{name}.png")
        visitor.context.close()


if __name__ == "__main__":
    sys.exit(main())
