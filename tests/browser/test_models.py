"""Models in a browser: what is known of them, promotion and rollback, training."""

from playwright.sync_api import expect

from tests.browser.chromium import STEP_MILLIS, Visitor
from tests.processes import Http
from tests.system.service import Service, scored_file
from tests.system.trainings import labelled, line, trained

expect.set_options(timeout=STEP_MILLIS)


def test_a_version_is_promoted_and_rolled_back(visitor: Visitor, service: Service, http: Http) -> None:
    model = line(service)
    line(service, slope=2, name=model)
    page = visitor.open(f"models/{model}")
    page.get_by_text("production: version 2").wait_for()

    page.get_by_role("button", name="Promote version 1").click()
    page.get_by_label("Why (it stands in the history)").fill("a test of it")
    assert visitor.violations() == []
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    page.get_by_text("production: version 1").wait_for()
    moved = http("GET", f"/models/{model}/aliases/production").json
    assert (moved["version"], moved["history"][0]["why"]) == (1, "a test of it")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()

    page.get_by_text("production: version 2").wait_for()
    assert http("GET", f"/models/{model}/aliases/production").json["version"] == 2
    expect(page.get_by_role("region", name="Moves of production").locator("li").first).to_contain_text("1 → 2")


def test_a_promotion_that_somebody_else_was_faster_with_is_refused(
    visitor: Visitor, service: Service, http: Http
) -> None:
    model = line(service)
    for slope in (2, 3):
        line(service, slope=slope, name=model)
    page = visitor.open(f"models/{model}")

    visitor.provoked.add(412)
    page.get_by_role("button", name="Promote version 1").click()
    page.get_by_role("dialog").wait_for()
    http("PUT", f"/models/{model}/aliases/production", {"version": 2})
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()

    page.locator(".toast.error").get_by_text("request ").wait_for()
    assert http("GET", f"/models/{model}/aliases/production").json["version"] == 2


def test_a_model_is_retrained_by_dropping_a_file(visitor: Visitor, service: Service) -> None:
    model = line(service)
    page = visitor.open(f"models/{model}")

    page.get_by_role("region", name="Retrain").locator('input[type="file"]').set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": labelled()}
    )
    expect(page.get_by_label("Column to learn").first).to_have_value("y")
    page.get_by_role("button", name="Train", exact=True).click()

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")
    page.get_by_role("link", name=f"{model}@2").click()
    page.get_by_role("img", name="How much better version 2 is").wait_for()
    page.get_by_role("img", name="rmse of versions").wait_for()
    assert visitor.violations() == []


def test_a_file_with_tabs_is_learnt_from(visitor: Visitor, service: Service) -> None:
    page = visitor.open(f"models/{line(service)}")
    retrain = page.get_by_role("region", name="Retrain")

    retrain.locator('input[type="file"]').set_input_files(
        {"name": "rows.tsv", "mimeType": "text/plain", "buffer": labelled().replace(b",", b"\t")}
    )
    expect(retrain.get_by_label("Column to learn")).to_have_value("y")
    page.get_by_role("button", name="Train", exact=True).click()

    expect(page.locator(".title-row .badge")).to_have_attribute("data-status", "succeeded")


def test_changing_a_schedule_leaves_what_the_form_does_not_show(visitor: Visitor, service: Service, http: Http) -> None:
    model = line(service)
    assert trained(http, model)["result"]["promoted"]  # whose rows others can be appended to
    sent = http("POST", "/files?name=rows.csv", raw=labelled(), Content_Type="text/csv")
    wanted = {
        "cron": None, "when_drifted": {"windows": 5, "drifted": 3}, "enabled": False, "target": "y", "group": "id",
        "input": {"file_id": sent.json["id"]}, "combine": "append", "promote": "manual", "priority": "low",
        "gate": {"metric": "mae", "min_improvement": 0.5}, "recipe": {"params": {"fit_intercept": False}, "seed": 7},
        "metadata": {"team": "roofs"},
    }  # fmt: skip
    put = http("PUT", f"/models/{model}/schedule", wanted)
    assert put.status == 200, put.body
    page = visitor.open(f"models/{model}")
    schedule = page.get_by_role("region", name="Schedule")

    schedule.get_by_text("Change it").click()
    schedule.get_by_label("Time zone").fill("Europe/Berlin")
    schedule.get_by_role("button", name="Keep the schedule").click()
    page.get_by_text("The schedule is kept.").wait_for()

    changed = http("GET", f"/models/{model}/schedule").json
    assert changed == put.json | {"time_zone": "Europe/Berlin", "revision": changed["revision"]}
    assert changed["revision"] > put.json["revision"]


def test_a_schedule_is_kept_and_removed(visitor: Visitor, service: Service, http: Http) -> None:
    model = line(service)
    page = visitor.open(f"models/{model}")
    schedule = page.get_by_role("region", name="Schedule")

    schedule.get_by_text("Make one").click()
    schedule.get_by_label("Column to learn").fill("y")
    schedule.locator('input[type="file"]').set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": labelled()}
    )
    schedule.get_by_role("button", name="Keep the schedule").click()
    schedule.get_by_role("button", name="Remove the schedule").wait_for()
    assert http("GET", f"/models/{model}/schedule").json["cron"] == "0 3 * * 1"
    schedule.get_by_role("button", name="Remove the schedule").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove it").click()

    schedule.get_by_text("None: it is trained when somebody asks.").wait_for()
    assert http("GET", f"/models/{model}/schedule").status == 404


def test_drift_is_shown_by_feature(visitor: Visitor, service: Service, http: Http) -> None:
    model = line(service)
    job = trained(http, model)
    assert job["result"]["promoted"], job
    scored_file(http, b"a,b\n" + b"9.5,%d\n" * 200 % tuple(number % 3 - 1 for number in range(200)), model=model)

    page = visitor.open(f"models/{model}")

    drift = page.get_by_role("group", name="Drift per feature")
    row = drift.get_by_role("row").filter(has=page.get_by_role("rowheader", name="a", exact=True))
    expect(row).to_contain_text("drifted")
    drift.get_by_role("img", name="Index of a in the newest files").wait_for()
    assert visitor.violations() == []
