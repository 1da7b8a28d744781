"""`POST /jobs`: every form of rows, every demo model, every method, and what is refused."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from deploy.commands import root
from examples import linear
from tests.processes import Answer, Http
from tests.system.rows import HOME, LINEAR, OTHER_LINEAR, OTHER_TEXT, REFUSED_HOME, TEXT
from tests.system.service import Barrier, Job, Service

ROWS = [LINEAR, OTHER_LINEAR]
RECORDS = [dict(zip(("x1", "x2", "x3"), row, strict=True)) for row in ROWS]
TURNED = [dict(reversed(record.items())) for record in RECORDS]
COLUMNS = {name: [record[name] for record in TURNED] for name in ("x3", "x1", "x2")}
SPLIT = {"columns": ["x3", "x1", "x2"], "data": [[row[2], row[0], row[1]] for row in ROWS]}
README = (root() / "examples" / "README.md").read_text()
CURLS = dict(re.findall(r"^## (\w+)$.*?^```\n(curl .*?)^```$", README, re.MULTILINE | re.DOTALL))
INTENTS = set(re.findall(r"`(\w+)`", README.partition("answer is one of")[2].partition(". Ask")[0]))


def predicted(http: Http, body: dict[str, Any]) -> list[Any]:
    """The predictions of a job that must succeed."""
    answer = http("POST", "/jobs", body)
    assert answer.status == 202, answer.body
    job = http.done(answer.json["id"])
    assert job["status"] == "succeeded", job
    predictions: list[Any] = job["result"]["predictions"]
    return predictions


def refused(http: Http, body: Any, status: int = 422) -> dict[str, Any]:
    """The problem document of a body that must be refused."""
    answer = http("POST", "/jobs", body)
    assert answer.status == status, answer.body
    problem: dict[str, Any] = answer.json
    return problem


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"instances": ROWS}, id="arrays"),
        pytest.param({"instances": RECORDS}, id="records"),
        pytest.param({"instances": TURNED}, id="records-in-another-order"),
        pytest.param({"instances": [ROWS[0], RECORDS[1]]}, id="an-array-and-a-record"),
        pytest.param({"dataframe_split": SPLIT}, id="dataframe_split"),
        pytest.param({"dataframe_split": SPLIT | {"index": ["a", "b"]}}, id="dataframe_split-with-index"),
        pytest.param({"dataframe_records": TURNED}, id="dataframe_records"),
        pytest.param({"inputs": ROWS}, id="inputs-as-rows"),
        pytest.param({"inputs": TURNED}, id="inputs-as-records"),
        pytest.param({"inputs": COLUMNS}, id="inputs-as-columns"),
    ],
)
def test_rows_in_any_form_are_predicted_in_their_order(http: Http, form: dict[str, Any]) -> None:
    expected = linear.train()[0].predict(ROWS).tolist()

    predictions = predicted(http, {"model": "linear", **form})

    assert predictions == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "good"),
    [
        pytest.param("linear", lambda prediction: 25 <= prediction <= 346, id="linear"),
        pytest.param("support", lambda prediction: prediction in INTENTS, id="support"),
        pytest.param(
            "recommend",
            lambda prediction: len({item["item"] for item in prediction}) == 3 and 0 < prediction[0]["score"] < 1,
            id="recommend",
        ),
        pytest.param("home", lambda prediction: 0 <= prediction < 10, id="home"),
    ],
)
def test_the_curl_command_of_a_demo_model_works(service: Service, model: str, good: Callable[[Any], bool]) -> None:
    command = CURLS[model].replace("http://127.0.0.1:8000", service.address)

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    job = service.http.done(json.loads(done.stdout)["id"])
    assert job["model"]["requested"] == model
    assert [good(prediction) for prediction in job["result"]["predictions"]] == [True]


def test_every_demo_model_has_a_curl_command(http: Http) -> None:
    names = {model["name"] for model in http("GET", "/models").json["models"]}

    assert set(CURLS) == {"linear", "support", "recommend", "home"}
    assert set(CURLS) <= names


def test_texts_may_be_sent_as_bare_strings(http: Http) -> None:
    texts = [TEXT, OTHER_TEXT]

    as_strings = predicted(http, {"model": "support", "instances": texts})

    assert as_strings == predicted(http, {"model": "support", "instances": [{"text": text} for text in texts]})


@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
def test_scores_come_in_the_order_of_the_classes(http: Http, method: str) -> None:
    texts = [TEXT, OTHER_TEXT]
    classes = http("GET", "/models/support").json["versions"][0]["signature"]["classes"]
    labels = predicted(http, {"model": "support", "instances": texts})

    scores = predicted(http, {"model": "support", "instances": texts, "method": method})

    assert [len(row) for row in scores] == [len(classes), len(classes)]
    assert [classes[row.index(max(row))] for row in scores] == labels


def test_probabilities_of_a_row_sum_up_to_one(http: Http) -> None:
    (probabilities,) = predicted(
        http, {"model": "support", "instances": ["Cancel my order, please"], "method": "predict_proba"}
    )

    assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("model", "row", "method"),
    [
        pytest.param("linear", ROWS[0], "predict_proba", id="not-a-classifier"),
        pytest.param("support", "hello", "transform", id="not-a-transformer"),
        pytest.param("home", HOME, "guess", id="no-such-method"),
        pytest.param("home", HOME, "__class__", id="an-attribute"),
    ],
)
def test_an_unknown_method_is_refused_with_those_that_there_are(http: Http, model: str, row: Any, method: str) -> None:
    methods = http("GET", f"/models/{model}").json["versions"][0]["signature"]["methods"]

    problem = refused(http, {"model": model, "instances": [row], "method": method})

    assert problem["code"] == "unknown_method"
    assert [name for name in methods if name not in problem["detail"]] == []
    assert problem["errors"][0]["pointer"] == "/method"


def test_top_k_gives_the_most_probable_classes_best_first(http: Http) -> None:
    text = "The lamp does not turn on any more"
    classes = http("GET", "/models/support").json["versions"][0]["signature"]["classes"]
    (scores,) = predicted(http, {"model": "support", "instances": [text], "method": "predict_proba"})
    best = sorted(zip(scores, classes, strict=True), reverse=True)[:3]

    (top,) = predicted(http, {"model": "support", "instances": [text], "top_k": 3})

    assert [entry["item"] for entry in top] == [item for _, item in best]
    assert [entry["score"] for entry in top] == pytest.approx([score for score, _ in best])


def test_top_k_past_the_number_of_classes_gives_all_of_them(http: Http) -> None:
    classes = http("GET", "/models/support").json["versions"][0]["signature"]["classes"]

    (top,) = predicted(http, {"model": "support", "instances": ["hello"], "top_k": 1000})

    assert sorted(entry["item"] for entry in top) == sorted(classes)


@pytest.mark.parametrize(
    ("reference", "version"),
    [("linear", 1), ("linear@production", 1), ("linear@1", 1)],
    ids=["name", "alias", "number"],
)
def test_a_job_is_pinned_to_the_version_that_was_meant(http: Http, reference: str, version: int) -> None:
    sha256 = http("GET", f"/models/linear/versions/{version}").json["sha256"]

    job = http.submit(reference, ROWS)

    assert job["model"] == {"requested": reference, "name": "linear", "version": version, "sha256": sha256}


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        pytest.param("lineal", "linear", id="no-such-model"),
        pytest.param("linear@99", "production", id="no-such-version"),
        pytest.param("linear@staging", "production", id="no-such-alias"),
        pytest.param("linear@" + "9" * 5000, "production", id="an-endless-version"),
    ],
)
def test_an_unknown_model_is_not_found_but_told_what_there_is(http: Http, reference: str, there: str) -> None:
    problem = refused(http, {"model": reference, "instances": ROWS}, status=404)

    assert problem["code"] == "model_not_found"
    assert there in problem["detail"]


def resolved(pointer: str, document: Any) -> Any:
    """What a JSON pointer (RFC 6901) points at."""
    for part in pointer.split("/")[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.parametrize(
    ("model", "rows", "row", "column", "code"),
    [
        pytest.param("linear", [ROWS[0], ["high", 0, 0]], 2, "x1", "not_a_number", id="a-text-for-a-number"),
        pytest.param("linear", [ROWS[0], ROWS[1], [0, 0, True]], 3, "x3", "not_a_number", id="true-for-a-number"),
        pytest.param("linear", [[0, None, 0]], 1, "x2", "missing_value", id="null-where-none-is-allowed"),
        pytest.param("home", [HOME | {"occupants": 1.5}], 1, "occupants", "not_an_integer", id="a-part-of-a-person"),
        pytest.param("home", [HOME | {"window_open": "no"}], 1, "window_open", "not_a_boolean", id="a-text-for-a-bool"),
        pytest.param("support", ["fine", {"text": 5}], 2, "text", "not_a_string", id="a-number-for-a-text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_column(
    http: Http, model: str, rows: list[Any], row: int, column: str, code: str
) -> None:
    problem = refused(http, {"model": model, "instances": rows})

    (error,) = problem["errors"]
    assert (error["row"], error["column"], error["code"]) == (row, column, code)


def test_an_integer_that_no_column_can_hold_is_refused(http: Http) -> None:
    (error,) = refused(http, {"model": "home", "instances": [HOME, HOME | {"hour": 2**63}]})["errors"]

    assert (error["row"], error["column"]) == (2, "hour")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"instances": [ROWS[0], [1, "wrong", 3]]}, id="arrays"),
        pytest.param({"instances": [RECORDS[0], RECORDS[1] | {"x2": "wrong"}]}, id="records"),
        pytest.param({"dataframe_split": SPLIT | {"data": [[1, 2, 3], [1, 2, "wrong"]]}}, id="dataframe_split"),
        pytest.param({"dataframe_records": [RECORDS[0], RECORDS[1] | {"x2": "wrong"}]}, id="dataframe_records"),
        pytest.param({"inputs": [ROWS[0], [1, "wrong", 3]]}, id="inputs-as-rows"),
        pytest.param({"inputs": COLUMNS | {"x2": [1, "wrong"]}}, id="inputs-as-columns"),
    ],
)
def test_a_pointer_leads_to_the_wrong_value_in_the_body_that_was_sent(http: Http, form: dict[str, Any]) -> None:
    body = {"model": "linear", **form}

    (error,) = refused(http, body)["errors"]

    assert (error["row"], error["column"]) == (2, "x2")
    assert resolved(error["pointer"], body) == "wrong"


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        pytest.param([], "no_rows", ["at least one"], id="no-rows"),
        pytest.param([[1, 2]], "wrong_number_of_values", ["x1", "x2", "x3"], id="a-short-row"),
        pytest.param([{"x1": 1, "x2": 2, "x_3": 3}], "missing_column", ["x3", "x_3"], id="a-misspelt-column"),
        pytest.param(["1,2,3"], "not_a_row", ["x1", "x2", "x3"], id="a-text-for-a-row"),
    ],
)
def test_a_wrong_row_is_refused_with_what_the_model_takes(
    http: Http, rows: list[Any], code: str, words: list[str]
) -> None:
    problem = refused(http, {"model": "linear", "instances": rows})

    assert problem["errors"][0]["code"] == code
    assert [word for word in words if word not in problem["errors"][0]["message"]] == []


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"a": document}
    return document


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        pytest.param({"instanses": ROWS}, "/instanses", id="an-unknown-field"),
        pytest.param({"inputs": ROWS}, "/instances", id="two-forms-at-once"),
        pytest.param({"instances": None}, "/instances", id="no-rows-in-any-form"),
        pytest.param({"priority": "urgent"}, "/priority", id="an-unknown-priority"),
        pytest.param({"top_k": 2}, "/top_k", id="top_k-of-a-regressor"),
        pytest.param({"top_k": 0}, "/top_k", id="top_k-of-nothing"),
        pytest.param({"deadline_seconds": 0}, "/deadline_seconds", id="a-deadline-that-is-over"),
        pytest.param({"result_ttl_seconds": 10**9}, "/result_ttl_seconds", id="kept-for-too-long"),
        pytest.param({"metadata": {"note": "x" * 5000}}, "/metadata", id="too-much-metadata"),
        pytest.param({"metadata": nested(300)}, "/metadata", id="metadata-nested-too-deep"),
        pytest.param({"metadata": "mine"}, "/metadata", id="metadata-that-is-no-object"),
        pytest.param({"kind": "guess"}, "/kind", id="an-unknown-kind"),
    ],
)
def test_a_wrong_option_is_refused_by_its_pointer(http: Http, more: dict[str, Any], pointer: str) -> None:
    problem = refused(http, {"model": "linear", "instances": ROWS, **more})

    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("body", [[], "rows", 1, None, True], ids=["array", "string", "number", "null", "boolean"])
def test_a_body_that_is_no_object_is_refused(http: Http, body: Any) -> None:
    answer = http("POST", "/jobs", raw=json.dumps(body).encode(), Content_Type="application/json")

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")


def test_a_column_that_comes_twice_is_refused(http: Http) -> None:
    split = {"columns": ["x1", "x2", "x3", "x1"], "data": [[0.06, 0.02, 0.04, 0.5]]}

    problem = refused(http, {"model": "linear", "dataframe_split": split})

    assert "x1" in problem["detail"]


def test_metadata_comes_back_with_the_job(http: Http) -> None:
    metadata = {"ticket": "42", "tags": ["a", {"b": None}], "ümlaut": 1.5}

    job = http.done(http.submit("linear", ROWS, metadata=metadata)["id"])

    assert job["metadata"] == metadata


def test_a_model_that_refuses_one_row_predicts_the_others(http: Http) -> None:
    rows = [HOME, REFUSED_HOME, HOME]

    job = http.done(http.submit("home", rows)["id"])

    assert job["status"] == "partially_succeeded"
    assert [prediction is None for prediction in job["result"]["predictions"]] == [False, True, False]
    assert [(error["row"], error["code"]) for error in job["errors"]] == [(2, "prediction_failed")]
    assert job["counts"] == {"total": 3, "pending": 0, "succeeded": 2, "failed": 1, "skipped": 0}


def test_a_high_priority_overtakes_what_waits_already(http: Http, held_workers: Barrier) -> None:
    normal = http.submit("linear", ROWS)

    high = http.submit("linear", ROWS, priority="high")

    assert (normal["queue_position"], high["queue_position"]) == (1, 1)
    assert http("GET", f"/jobs/{normal['id']}").json["queue_position"] == 2


def test_a_job_past_its_deadline_fails(http: Http, held_workers: Barrier) -> None:
    job = http.done(http.submit("linear", ROWS, deadline_seconds=0.2)["id"])

    assert (job["status"], job["failure"]["code"]) == ("failed", "deadline_exceeded")
    assert job["counts"] == {"total": 2, "pending": 0, "succeeded": 0, "failed": 0, "skipped": 2}


class TestValidateOnly:
    """`POST /jobs?validate_only=true`"""

    def ask(self, http: Http, body: Job) -> Answer:
        return http("POST", "/jobs?validate_only=true", body)

    def test_says_what_would_be_done(self, http: Http) -> None:
        answer = self.ask(http, {"model": "linear@production", "instances": ROWS})

        assert answer.status == 200
        assert (answer.json["valid"], answer.json["rows"]) == (True, 2)
        assert (answer.json["model"]["name"], answer.json["model"]["version"]) == ("linear", 1)

    def test_starts_nothing(self, http: Http) -> None:
        newest = http.submit("linear", ROWS)["id"]

        answer = self.ask(http, {"model": "linear", "instances": ROWS})

        assert "location" not in answer.headers
        assert http("GET", "/jobs?limit=1").json["jobs"][0]["id"] == newest

    def test_refuses_what_a_submission_would_refuse(self, http: Http) -> None:
        answer = self.ask(http, {"model": "linear", "instances": [ROWS[0], [1, 2, "x"]]})

        assert (answer.status, answer.json["errors"][0]["row"]) == (422, 2)
