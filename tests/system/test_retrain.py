"""`POST /models/<name>/retrain`: a challenger is trained beside the traffic, and takes production if it is better."""

import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from examples.rows import LABEL, lines
from tests.models import registry_of
from tests.processes import Answer, Http
from tests.system.rows import HOME
from tests.system.service import Job, Service
from tests.system.trainings import (
    aliases,
    begun,
    labelled,
    line,
    own_name,
    send_training,
    trained,
    versions,
)
from worker.registration import register

READINGS = b"".join(lines(1500, 0, labelled=True))


def insulated() -> bytes:
    """Readings of a house that needs half of the energy since it was insulated, which the demo model does not know."""
    table = pyarrow.csv.read_csv(pa.BufferReader(READINGS))
    halved = pc.multiply(table.column(LABEL), 0.5)
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table.set_column(table.num_columns - 1, LABEL, halved), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.fixture
def home(service: Service) -> str:
    """The demo model `home` under a name of its own: others use that one."""
    registry = registry_of(service.settings)
    manifest = registry.manifest("home", 1)
    sample = pa.Table.from_pylist([HOME, HOME | {"humidity_percent": 40.0, "heating_mode": "eco"}])
    return register(
        registry, own_name("home"), registry.artifact(manifest), format=manifest.format, sample=sample
    ).model


def predicted(http: Http, model: str) -> tuple[int, float]:
    """The version that predicts a reading now, and what it says."""
    answer = http("POST", f"/predict?model={model}", HOME)
    assert answer.status == 200, answer.body
    job = http("GET", answer.headers["location"]).json
    return job["model"]["version"], answer.json["prediction"]


def moves(http: Http, model: str, alias: str = "production") -> list[dict[str, Any]]:
    """The moves of an alias, newest first."""
    history: list[dict[str, Any]] = http("GET", f"/models/{model}/aliases/{alias}").json["history"]
    return history


def test_a_better_challenger_takes_production_while_the_service_runs_and_a_rollback_is_one_call(
    http: Http, home: str
) -> None:
    before = predicted(http, home)

    accepted = send_training(http, home, insulated(), target=LABEL)
    job = http.done(accepted.json["id"])
    after = predicted(http, home)
    back = http("POST", f"/models/{home}/rollback", {"why": "the cellar freezes"})
    restored = predicted(http, home)

    assert (accepted.status, accepted.headers["location"]) == (202, f"/jobs/{job['id']}")
    assert (job["status"], job["kind"], job["counts"]["succeeded"]) == ("succeeded", "train", 1500), job
    assert (job["result"]["version"], job["result"]["promoted"], job["result"]["alias"]) == (2, True, "production")
    assert (before[0], after[0]) == (1, 2)
    assert after[1] < 0.75 * before[1]
    assert (back.status, back.json["version"], restored) == (200, 1, before)
    assert [(move["from"], move["to"]) for move in moves(http, home)] == [(2, 1), (1, 2), (None, 1)]


def test_the_gate_tells_the_same_numbers_in_job_version_and_history(http: Http, home: str) -> None:
    job = trained(http, home, insulated(), target=LABEL)

    gate = job["result"]["gate"]
    version = http("GET", f"/models/{home}/versions/2").json
    move = moves(http, home)[0]
    assert (gate["passed"], gate["metric"], gate["champion_version"]) == (True, "rmse", 1)
    assert gate["challenger"] < gate["champion"]
    assert 0 < gate["low"] <= gate["improvement"] <= gate["high"]
    assert gate["rows"] == version["data"]["held_out"] > 100
    assert version["comparison"] == gate
    assert version["metrics"]["rmse"] == gate["challenger"]
    assert move["details"] == {name: value for name, value in gate.items() if name != "reason"}
    assert (move["why"], move["job_id"], move["who"]) == (gate["reason"], job["id"], f"job {job['id']}")
    assert (version["parent"], version["source_job"], version["data"]["target"]) == (1, job["id"], LABEL)
    assert version["data"]["input"]["sha256"] == job["input"]["sha256"] == hashlib.sha256(insulated()).hexdigest()


def test_a_challenger_that_is_not_better_is_kept_with_its_numbers_and_changes_nothing(http: Http, home: str) -> None:
    before = predicted(http, home)

    job = trained(http, home, READINGS, target=LABEL)

    gate = job["result"]["gate"]
    assert (job["status"], gate["passed"], job["result"]["promoted"], job["result"]["alias"]) == (
        "succeeded", False, False, None,
    )  # fmt: skip
    assert gate["low"] < 0
    assert "refused" in gate["reason"]
    assert (predicted(http, home), len(moves(http, home))) == (before, 1)
    assert http("GET", f"/models/{home}/versions/2").json["comparison"] == gate


@pytest.mark.parametrize(
    ("promote", "expected"),
    [
        ("auto", {"production": 2}),
        ("manual", {"production": 1, "challenger": 2}),
        ("never", {"production": 1}),
    ],
)
def test_who_passes_goes_where_the_request_says(
    http: Http, service: Service, promote: str, expected: dict[str, int]
) -> None:
    model = line(service)

    job = trained(http, model, promote=promote)

    assert job["result"]["gate"]["passed"] is True
    assert aliases(http, model) == expected


def as_json(http: Http, model: str, path: str, more: dict[str, Any]) -> Answer:
    kept = http("POST", "/files?name=fresh.csv", raw=labelled(), Content_Type="text/csv")
    return http("POST", path, {"input": {"file_id": kept.json["id"]}} | more)


def as_form(http: Http, model: str, path: str, more: dict[str, Any]) -> Answer:
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n' + json.dumps(more).encode() + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="fresh.csv"\r\n\r\n' + labelled() + b"\r\n--b--"
    )
    return http("POST", path, raw=parts, Content_Type="multipart/form-data; boundary=b")


def as_raw(http: Http, model: str, path: str, more: dict[str, Any]) -> Answer:
    return http("POST", f"{path}?{urlencode(more)}", raw=labelled(), Content_Type="text/csv")


@pytest.mark.parametrize("send", [as_json, as_form, as_raw], ids=["json", "form", "raw"])
@pytest.mark.parametrize("route", ["retrain", "jobs"])
def test_every_form_of_a_training_gives_the_same_training(http: Http, service: Service, send: Any, route: str) -> None:
    model, other = line(service), line(service)
    path = f"/models/{model}/retrain" if route == "retrain" else "/jobs"
    more = {"target": "y"} | ({} if route == "retrain" else {"kind": "train", "model": model})

    answer = send(http, model, path, more)
    by_raw = trained(http, other)

    assert answer.status == 202, answer.body
    job = http.done(answer.json["id"])
    assert job["input"]["name"] == ("" if send is as_raw else "fresh.csv")
    assert job["result"]["gate"] == by_raw["result"]["gate"]
    made, by_raw_made = (http("GET", f"/models/{name}/versions/2").json for name in (model, other))
    assert made["data"]["sha256"] == by_raw_made["data"]["sha256"]
    assert made["data"]["input"]["sha256"] == by_raw_made["data"]["input"]["sha256"]


def test_a_key_that_is_sent_twice_trains_once(http: Http, service: Service) -> None:
    model, key = line(service), {"Idempotency-Key": own_name("key")}

    first = send_training(http, model, labelled(), headers=key)
    http.done(first.json["id"])
    again = send_training(http, model, labelled(), headers=key)
    other = send_training(http, model, labelled(seed=2), headers=key)

    assert again.json["id"] == first.json["id"]
    assert versions(http, model) == [2, 1]
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


def test_a_check_says_from_which_version_it_would_start_and_starts_nothing(http: Http, service: Service) -> None:
    model = line(service)

    answer = send_training(http, model, labelled(), validate_only="true")

    assert (answer.status, answer.json["valid"], answer.json["model"]["version"]) == (200, True, 1)
    assert http("GET", f"/jobs?model={model}").json["jobs"] == []


def test_a_target_that_the_file_lacks_is_refused_by_name_at_once(http: Http, home: str) -> None:
    answer = send_training(http, home, READINGS, target="kw")

    assert answer.status == 422
    assert answer.json["errors"] == [
        {
            "column": "kw", "code": "missing_column",
            "message": "Column 'kw' is not in the file. Did you mean it by 'kwh'?",
        }
    ]  # fmt: skip
    assert versions(http, home) == [1]


@pytest.mark.parametrize(
    ("query", "pointer", "words"),
    [
        pytest.param(
            {"recipe": {"params": {"trees__max_iters": 5}}}, "/recipe/params/trees__max_iters",
            "did you mean trees__max_iter", id="unknown-parameter",
        ),
        pytest.param(
            {"recipe": {"params": {"trees__max_iter": "many"}}}, "/recipe/params/trees__max_iter",
            "must be an int", id="value",
        ),
        pytest.param({"recipe": {"param_grid": {}}}, "/recipe/param_grid", "name at least one", id="empty-grid"),
        pytest.param({"time": "heating_mode"}, "/time", "2026-01-31T12:00:00", id="no-times"),
    ],
)  # fmt: skip
def test_what_only_a_worker_can_see_fails_the_job_before_any_fit(
    http: Http, home: str, query: dict[str, Any], pointer: str, words: str
) -> None:
    said = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}

    job = trained(http, home, READINGS, target=LABEL, **said)

    (fault,) = job["failure"]["errors"]
    assert (job["status"], job["failure"]["code"], fault["pointer"]) == ("failed", "invalid_input", pointer)
    assert words in fault["message"]
    assert job["progress"]["fits"] is None
    assert versions(http, home) == [1]


def test_a_first_version_is_made_of_another_model_and_judged_by_itself(http: Http, service: Service) -> None:
    base, name = line(service), own_name("first")
    recipe = json.dumps({"base": base})

    refused = trained(http, name, recipe=recipe, gate=json.dumps({"threshold": 0.001}))
    during = http("GET", f"/models/{name}").json["aliases"]
    passed = trained(http, name, recipe=recipe, gate=json.dumps({"threshold": 0.5}))

    assert [job["result"]["gate"]["passed"] for job in (refused, passed)] == [False, True]
    assert (during, aliases(http, name)) == ({}, {"production": 2})
    assert passed["result"]["gate"]["threshold"] == 0.5


def test_names_with_odd_characters_are_names_where_they_are_allowed(http: Http, service: Service) -> None:
    model = line(service, name=f"A.b_c-{own_name('9')}")

    job = trained(http, model)

    assert (job["status"], job["result"]["model"]) == ("succeeded", model)


def test_rows_from_before_can_be_trained_on_again(http: Http, service: Service) -> None:
    model = line(service)
    trained(http, model)

    job = trained(http, model, labelled(100, seed=5), combine="append")

    assert job["status"] == "succeeded", job["failure"]
    assert http("GET", f"/models/{model}/versions/3").json["data"]["rows"] == 300


def test_a_search_tells_which_parameters_it_chose(http: Http, service: Service) -> None:
    model = line(service)
    recipe = json.dumps({"param_grid": {"fit_intercept": [True], "positive": [True, False]}, "folds": 2})

    job = http.done(begun(http, model, recipe=recipe))

    assert job["result"]["params"] == {"fit_intercept": True, "positive": False}
    manifest: Job = http("GET", f"/jobs/{job['id']}/manifest").json
    assert [(fit["candidate"], fit["fold"]) for fit in manifest["fits"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
