"""Jobs in a browser: from rows and files to results and errors, with progress as it is made."""

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from playwright.sync_api import Download, Page, Route, expect
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from tests.browser.chromium import STEP_MILLIS, Visitor
from tests.models import registry_of
from tests.processes import Http
from tests.system.service import Barrier, HeldFile, Service
from worker.formats import FORMATS
from worker.registration import register
from worker.values import MISSING

expect.set_options(timeout=STEP_MILLIS)

ROWS = b"id,x1,x2,x3\n" + b"".join(b"r%d,%.3f,0.02,0.04\n" % (number, number / 1000) for number in range(200))
BAD_ROWS = b"id,x1,x2,x3\na,0.1,0.2,0.3\nb,many,0.2,0.3\nc,few,0.2,0.3\nd,0.1,,0.3\n"


@pytest.fixture
def barrier(http: Http, folder: Path) -> Iterator[Barrier]:
    barrier = Barrier(http, folder)
    yield barrier
    barrier.open()


@pytest.fixture
def held_file(http: Http, folder: Path) -> Iterator[HeldFile]:
    file = HeldFile(http, folder)
    yield file
    file.end()


def drop(page: Page, name: str, data: bytes) -> None:
    """Choose a file, which is what dropping one comes to."""
    page.locator('input[type="file"]').first.set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})


def status(page: Page) -> str:
    """The status that the page of a job shows."""
    return page.locator(".title-row .badge").get_attribute("data-status") or ""


def test_a_file_goes_from_upload_to_download(visitor: Visitor, folder: Path) -> None:
    page = visitor.open("new?model=linear&by=file")

    drop(page, "rows.csv", ROWS)
    page.get_by_text("The first 50 rows are as linear@production takes them.").wait_for()
    page.get_by_label("Key column").select_option("id")
    page.get_by_role("button", name="Submit the file").click()
    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")
    page.get_by_role("img", name="Histogram of prediction").wait_for()
    with page.expect_download() as started:
        page.get_by_role("button", name="Download the result").click()
    started.value.save_as(folder / "result.csv")

    with (folder / "result.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(200)]
    assert all(float(row["prediction"]) for row in rows)
    assert visitor.violations() == []


def test_bad_rows_are_shown_before_and_grouped_after(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear&by=file")

    visitor.provoked.add(422)
    drop(page, "rows.csv", BAD_ROWS)
    page.get_by_text("Of the first 4 rows some will fail").wait_for()
    assert page.locator("table .bad-text").all_inner_texts() == ["many", "few", "none"]
    page.get_by_role("button", name="Submit the file").click()

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "partially_succeeded")
    groups = page.locator(".reasons > li > p")
    expect(groups).to_have_text([re.compile("2 rows: not_a_number in column x1"), re.compile("1 row: .* in column x2")])
    assert visitor.violations() == []


def test_a_file_without_a_column_is_not_sent(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear&by=file")

    drop(page, "rows.csv", b"x1,x2\n1,2\n")

    page.get_by_text("Column x3 is not in the file.").wait_for()
    assert not page.get_by_role("button", name="Submit the file").is_visible()


def test_texts_that_mean_a_missing_value_are_no_faults(visitor: Visitor, service: Service) -> None:
    model = make_pipeline(SimpleImputer(), LinearRegression()).fit([[1.0, 2.0], [2.0, 1.0]], [1.0, 2.0])
    sample = pa.table({"a": [1.0, None], "b": [0.5, 1.5]})
    register(registry_of(service.settings), "gaps", FORMATS["skops"].dump(model), format="skops", sample=sample)
    page = visitor.open("new?model=gaps&by=file")

    drop(page, "rows.csv", b"a,b\n" + "".join(f"{text},1\n \t{text} ,+.5e1\n" for text in MISSING).encode())
    page.get_by_text(f"The first {2 * len(MISSING)} rows are as gaps@production takes them.").wait_for()
    visitor.provoked.add(422)
    drop(page, "rows.csv", b"a,b\n0x1F,1\nNone,1\nnone,1\n")

    page.get_by_text("Of the first 3 rows some will fail").wait_for()
    assert page.locator("table .bad-text").all_inner_texts() == ["0x1F", "none"]


def test_lines_are_judged_one_by_one(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear&by=file")

    visitor.provoked.add(422)
    drop(page, "rows.ndjson", b'5\n{"x1": 1, "x2": 2}\nnull\n{"x1": 1, "x2": 2, "x3": 3, "id": "a"}\n')

    page.get_by_text("2 of the first 4 lines are no JSON objects and were not looked at.").wait_for()
    page.get_by_text("Of the first 2 rows some will fail").wait_for()
    expect(page.locator(".faults li")).to_have_text(re.compile("Row 2: .*x3"))
    expect(page.get_by_role("button", name="Submit the file")).to_be_visible()


def test_a_file_that_cannot_be_unpacked_is_said(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear&by=file")

    drop(page, "rows.csv.gz", gzip.compress(ROWS)[:40] + b"not a part of it")

    page.get_by_text("A browser cannot unpack this file").wait_for()
    expect(page.get_by_role("button", name="Submit the file")).to_be_visible()


def test_a_file_keeps_its_key_until_something_is_changed(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear&by=file")
    keys = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(status=502)

    def submit() -> None:
        with page.expect_response(lambda response: response.status == 502):
            page.get_by_role("button", name="Submit the file").click()

    visitor.provoked.add(502)
    page.route(re.compile(r"/jobs\?model="), lose)
    drop(page, "rows.csv", ROWS)
    submit()
    submit()
    page.get_by_label("Key column").select_option("id")
    submit()

    first, again, changed = keys
    assert first == again != changed


def test_rows_whose_answer_was_lost_make_one_job(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear")
    accepted = []

    def lose(route: Route) -> None:
        accepted.append(route.fetch().json()["id"])
        route.fulfill(status=502)

    visitor.provoked.add(502)
    page.route("**/jobs", lose, times=1)
    for name in ("x1", "x2", "x3"):
        page.get_by_label(name).fill("0.02")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("The service answered 502.").wait_for()
    page.get_by_role("button", name="Submit").click()

    page.locator(".title-row .badge").wait_for()
    assert page.url.rpartition("/")[2] == accepted[0]


def test_typed_rows_are_refused_by_field_and_then_predicted(visitor: Visitor) -> None:
    page = visitor.open("new?model=linear")

    visitor.provoked.add(422)
    page.get_by_label("x1").fill("a lot")
    page.get_by_label("x2").fill("0.02")
    page.get_by_label("x3").fill("0.04")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Column x1 must be a number").first.wait_for()
    assert page.get_by_label("x1").get_attribute("aria-invalid") == "true"
    page.get_by_label("x1").fill("0.06")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("1 row is as linear@1 takes them.").wait_for()
    page.get_by_role("button", name="Submit").click()

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")
    expect(page.get_by_role("group", name="Rows of the result").get_by_role("cell")).to_have_count(1)


def test_progress_comes_without_a_reload(visitor: Visitor, held_file: HeldFile) -> None:
    job = held_file.half_done()

    page = visitor.open(f"jobs/{job['id']}")
    expect(page.locator("#fraction")).to_have_text("50 %")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "0.5")
    assert visitor.violations() == []
    held_file.let_through()

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    page.get_by_text("The job succeeded: 18 rows succeeded, 0 failed.").wait_for(state="attached")


def test_a_job_is_cancelled_once_it_is_confirmed(visitor: Visitor, http: Http, barrier: Barrier) -> None:
    job = barrier.hold()
    page = visitor.open(f"jobs/{job['id']}")

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Leave it as it is").click()
    assert http("GET", f"/jobs/{job['id']}").json["cancel_requested"] is False
    page.get_by_role("button", name="Cancel").click()
    assert visitor.violations() == []
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_text("The job stops in a moment.").wait_for()
    barrier.let_through(job["id"])

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "cancelled")


def test_a_press_goes_on_across_an_event(visitor: Visitor, barrier: Barrier) -> None:
    held = [barrier.hold() for _ in range(2)]
    waiting = barrier.submit()
    page = visitor.open(f"jobs/{waiting['id']}")
    assert status(page) == "queued"

    page.get_by_role("button", name="Cancel").hover()
    page.mouse.down()
    barrier.let_through(held[0]["id"])
    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "running")
    page.mouse.up()

    page.get_by_role("dialog", name="Cancel this job?").wait_for()


def test_what_cannot_be_downloaded_is_said_and_not_saved(visitor: Visitor, http: Http) -> None:
    job = http.done(http.submit("linear", [[0.1, 0.2, 0.3]])["id"])
    page = visitor.open(f"jobs/{job['id']}")
    saved: list[Download] = []
    page.on("download", lambda download: saved.append(download))

    visitor.provoked |= {404, 410}
    assert http("DELETE", f"/jobs/{job['id']}").status == 204
    page.get_by_role("button", name="Download the result").click()

    page.locator(".toast.error").get_by_text("request ").wait_for()
    assert saved == []


def test_a_failed_job_says_why_and_is_retried(visitor: Visitor, http: Http) -> None:
    job = http.done(http.submit("lookup", ["unknown"])["id"])
    page = visitor.open(f"jobs/{job['id']}")

    assert job["failure"]["message"] in page.locator(".faults").inner_text()
    page.get_by_role("button", name="Retry").click()
    page.get_by_label("Which rows").select_option("all")
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()

    page.get_by_text("a retry of").wait_for()
    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "failed")
    assert page.url.rpartition("/")[2] != job["id"]
