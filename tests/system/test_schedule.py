"""`PUT`, `GET` and `DELETE /models/<name>/schedule`."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Http
from tests.system.service import Service

PATH = "/models/linear/schedule"
ROWS = b"x1,x2,x3,y,z\n0.1,0.2,0.3,1,2\n"
POLICY = {"windows": 5, "drifted": 3}


@pytest.fixture(scope="module")
def file_id(http: Http) -> str:
    answer = http("POST", "/files?name=rows.csv", raw=ROWS, Content_Type="text/csv")
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


@pytest.fixture
def body(file_id: str) -> dict[str, Any]:
    """A schedule that is due once a year."""
    return {"cron": "0 3 1 1 *", "time_zone": "Europe/Berlin", "input": {"file_id": file_id}, "target": "y"}


@pytest.fixture(autouse=True)
def no_schedule(http: Http) -> Iterator[None]:
    """None before a test, and none after it."""
    http("DELETE", PATH)
    yield
    http("DELETE", PATH)


def test_a_schedule_that_was_kept_is_read_as_it_is(http: Http, body: dict[str, Any]) -> None:
    kept = http("PUT", PATH, body)

    read = http("GET", PATH)

    assert (kept.status, read.status) == (200, 200)
    assert read.json == kept.json
    assert read.headers["etag"] == kept.headers["etag"] == f'"{read.json["revision"]}"'
    assert {name: read.json[name] for name in body} == body
    assert (read.json["model"], read.json["enabled"], read.json["last_run"]) == ("linear", True, None)
    assert read.json["links"] == {"self": PATH, "model": "/models/linear"}


def test_the_next_run_is_shown_in_utc(http: Http, body: dict[str, Any]) -> None:
    shown = http("PUT", PATH, body).json["next_run_at"]

    moment = datetime.fromisoformat(shown)
    assert (moment.month, moment.day, moment.hour, moment.minute) == (1, 1, 2, 0)
    assert shown.endswith("Z")


def test_what_is_left_out_is_shown_as_it_is_by_default(http: Http, body: dict[str, Any]) -> None:
    kept = http("PUT", PATH, {**body, "gate": {"metric": "mae"}}).json

    assert (kept["held_out"], kept["combine"], kept["promote"]) == (0.2, "replace", "auto")
    assert kept["gate"] == {"metric": "mae", "min_improvement": 0.0, "max_regression": 0.0, "threshold": None}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"cron": None, "when_drifted": POLICY}, id="by-drift-alone"),
        pytest.param({"enabled": False}, id="off"),
    ],
)
def test_a_schedule_that_is_not_due_by_the_clock_has_no_next_run(
    http: Http, body: dict[str, Any], more: dict[str, Any]
) -> None:
    kept = http("PUT", PATH, {**body, **more})

    assert (kept.status, kept.json["next_run_at"]) == (200, None)


def test_another_schedule_takes_the_place_of_the_first(http: Http, body: dict[str, Any]) -> None:
    first = http("PUT", PATH, body)

    second = http("PUT", PATH, {**body, "cron": "0 4 1 1 *"}, If_Match=first.headers["etag"])

    assert second.status == 200
    assert http("GET", PATH).json["cron"] == "0 4 1 1 *"
    assert second.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_whoever_read_an_older_schedule_changes_nothing(http: Http, body: dict[str, Any], method: str) -> None:
    old = http("PUT", PATH, body).headers["etag"]
    new = http("PUT", PATH, {**body, "target": "z"}).headers["etag"]

    late = http(method, PATH, body if method == "PUT" else None, If_Match=old)

    assert (late.status, late.json["code"]) == (412, "schedule_changed")
    assert http("GET", PATH).headers["etag"] == new


@pytest.mark.parametrize("tag", ["*", '"1"', "nonsense"])
def test_a_schedule_that_must_exist_is_not_made(http: Http, body: dict[str, Any], tag: str) -> None:
    answer = http("PUT", PATH, body, If_Match=tag)

    assert (answer.status, answer.json["code"]) == (412, "schedule_changed")
    assert http("GET", PATH).status == 404


def test_a_deleted_schedule_is_gone(http: Http, body: dict[str, Any]) -> None:
    http("PUT", PATH, body)

    assert (http("DELETE", PATH).status, http("DELETE", PATH).status) == (204, 404)
    assert http("GET", PATH).json["code"] == "schedule_not_found"


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_model_that_does_not_exist_has_no_schedule(http: Http, body: dict[str, Any], method: str) -> None:
    answer = http(method, "/models/lineal/schedule", body if method == "PUT" else None)

    assert (answer.status, answer.json["code"]) == (404, "model_not_found")
    assert "linear" in answer.json["detail"]


@pytest.mark.parametrize(
    ("wrong", "pointer", "code"),
    [
        pytest.param({"cron": "0 25 * * *"}, "/cron", "bad_cron", id="hour"),
        pytest.param({"cron": "0 25 * * *", "enabled": False}, "/cron", "bad_cron", id="hour-of-one-that-is-off"),
        pytest.param({"cron": "@daily"}, "/cron", "bad_cron", id="word"),
        pytest.param({"cron": None}, "/cron", "never_due", id="never"),
        pytest.param({"time_zone": "Berlin"}, "/time_zone", "unknown_time_zone", id="zone"),
        pytest.param(
            {"cron": None, "when_drifted": POLICY, "time_zone": "Berlin"}, "/time_zone", "unknown_time_zone",
            id="zone-without-cron",
        ),
        pytest.param({"when_drifted": {"windows": 2, "drifted": 3}}, "/when_drifted/drifted", "too_large", id="m-of-n"),
        pytest.param({"when_drifted": {"windows": 0, "drifted": 1}}, "/when_drifted/windows", None, id="no-windows"),
        pytest.param({"when_drifted": {"windows": 101, "drifted": 1}}, "/when_drifted/windows", None, id="windows"),
        pytest.param({"input": {}}, "/input", "input_missing", id="no-input"),
        pytest.param({"input": {"uri": "file:///a", "file_id": "f"}}, "/input", "input_missing", id="two-inputs"),
        pytest.param({"input": {"uri": "file:///etc/passwd"}}, "/input/uri", "uri_not_allowed", id="uri"),
        pytest.param({"target": ""}, "/target", None, id="target"),
        pytest.param({"target": "x1"}, "/target", "column_taken", id="a-feature-as-target"),
        pytest.param({"held_out": 1}, "/held_out", None, id="held-out"),
        pytest.param({"gate": {"metrics": "mae"}}, "/gate/metrics", None, id="gate"),
        pytest.param({"recipe": {"folds": 1}}, "/recipe/folds", None, id="recipe"),
        pytest.param({"corn": "* * * * *"}, "/corn", "unknown_field", id="unknown-field"),
        pytest.param({"metadata": {"a": "x" * 5000}}, "/metadata", "too_large", id="metadata"),
        pytest.param({"recipe": {"params": {"a": "x" * 70_000}}}, "", "too_large", id="large"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused_with_what_is_wrong(
    http: Http, body: dict[str, Any], wrong: dict[str, Any], pointer: str, code: str | None
) -> None:
    answer = http("PUT", PATH, {**body, **wrong})

    assert answer.status == 422, answer.body
    (fault,) = answer.json["errors"]
    assert fault["pointer"] == pointer
    assert code is None or fault["code"] == code
    assert http("GET", PATH).status == 404


def test_params_that_are_nested_too_deeply_are_refused(http: Http, body: dict[str, Any]) -> None:
    deep = json.loads('{"a":' * 300 + "1" + "}" * 300)

    answer = http("PUT", PATH, {**body, "recipe": {"params": deep}})

    assert (answer.status, answer.json["code"]) == (400, "json_too_deep")


def test_a_target_is_needed(http: Http, body: dict[str, Any]) -> None:
    del body["target"]

    answer = http("PUT", PATH, body)

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/target")


def test_a_file_that_is_not_there_is_not_found(http: Http, body: dict[str, Any]) -> None:
    answer = http("PUT", PATH, {**body, "input": {"file_id": "nothing"}})

    assert (answer.status, answer.json["code"]) == (404, "file_not_found")


def test_the_copy_in_storage_follows_every_change(http: Http, service: Service, body: dict[str, Any]) -> None:
    copy = service.settings.data_dir / "storage" / "models" / "linear" / "schedule.json"

    http("PUT", PATH, body)
    first = json.loads(copy.read_bytes())
    http("PUT", PATH, {**body, "target": "z"})
    second = json.loads(copy.read_bytes())
    http("DELETE", PATH)

    assert (first["schedule"]["train"]["target"], second["schedule"]["train"]["target"]) == ("y", "z")
    assert second["revision"] > first["revision"]
    assert not copy.exists()


def test_a_file_of_the_operator_can_be_named_while_it_is_there_and_the_schedule_outlives_a_restart(
    start: Callable[..., Service], folder: Path
) -> None:
    (folder / "rows.csv").write_bytes(ROWS)
    service = start(input_prefixes=folder.as_uri())
    given = {"cron": "0 3 1 1 *", "input": {"uri": f"{folder.as_uri()}/rows.csv"}, "target": "y"}

    missing = service.http("PUT", PATH, {**given, "input": {"uri": f"{folder.as_uri()}/other.csv"}})
    kept = service.http("PUT", PATH, given)
    service.stop()
    again = Service(service.settings)
    read = again.http("GET", PATH)
    again.stop()

    assert (missing.status, missing.json["errors"][0]["code"]) == (422, "uri_not_found")
    assert re.fullmatch(r'"\d+"', kept.headers["etag"])
    assert read.json == kept.json
