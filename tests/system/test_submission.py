"""`POST /jobs`: every form of rows, every demo model, every method."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from deploy.commands import root
from examples import linear
from tests.processes import Answer, Http
from tests.system.rows import (
    HOME,
    LINEAR_RECORDS,
    LINEAR_ROWS,
    OTHER_TEXT,
    REFUSED_HOME,
    TEXT,
    TURNED_COLUMNS,
    TURNED_RECORDS,
    TURNED_SPLIT,
)
from tests.system.service import Barrier, Job, Service

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


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"instances": LINEAR_ROWS}, id="arrays"),
        pytest.param({"instances": LINEAR_RECORDS}, id="records"),
        pytest.param({"instances": TURNED_RECORDS}, id="records-in-another-order"),
        pytest.param({"instances": [LINEAR_ROWS[0], LINEAR_RECORDS[1]]}, id="an-array-and-a-record"),
        pytest.param({"dataframe_split": TURNED_SPLIT}, id="dataframe_split"),
        pytest.param({"dataframe_split": TURNED_SPLIT | {"index": ["a", "b"]}}, id="dataframe_split-with-index"),
        pytest.param({"dataframe_records": TURNED_RECORDS}, id="dataframe_records"),
        pytest.param({"inputs": LINEAR_ROWS}, id="inputs-as-rows"),
        pytest.param({"inputs": TURNED_RECORDS}, id="inputs-as-records"),
        pytest.param({"inputs": TURNED_COLUMNS}, id="inputs-as-columns"),
    ],
)
def test_rows_in_any_form_are_predicted_in_their_order(http: Http, form: dict[str, Any]) -> None:
    expected = linear.train()[0].predict(LINEAR_ROWS).tolist()

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

    job = http.submit(reference, LINEAR_ROWS)

    assert job["model"] == {"requested": reference, "name": "linear", "version": version, "sha256": sha256}


def test_metadata_comes_back_with_the_job(http: Http) -> None:
    metadata = {"ticket": "42", "tags": ["a", {"b": None}], "ümlaut": 1.5}

    job = http.done(http.submit("linear", LINEAR_ROWS, metadata=metadata)["id"])

    assert job["metadata"] == metadata


def test_a_model_that_refuses_one_row_predicts_the_others(http: Http) -> None:
    rows = [HOME, REFUSED_HOME, HOME]

    job = http.done(http.submit("home", rows)["id"])

    assert job["status"] == "partially_succeeded"
    assert [prediction is None for prediction in job["result"]["predictions"]] == [False, True, False]
    assert [(error["row"], error["code"]) for error in job["errors"]] == [(2, "prediction_failed")]
    assert job["counts"] == {"total": 3, "pending": 0, "succeeded": 2, "failed": 1, "skipped": 0}


def test_a_high_priority_overtakes_what_waits_already(http: Http, held_workers: Barrier) -> None:
    normal = http.submit("linear", LINEAR_ROWS)

    high = http.submit("linear", LINEAR_ROWS, priority="high")

    assert (normal["queue_position"], high["queue_position"]) == (1, 1)
    assert http("GET", f"/jobs/{normal['id']}").json["queue_position"] == 2


def test_a_job_past_its_deadline_fails(http: Http, held_workers: Barrier) -> None:
    job = http.done(http.submit("linear", LINEAR_ROWS, deadline_seconds=0.2)["id"])

    assert (job["status"], job["failure"]["code"]) == ("failed", "deadline_exceeded")
    assert job["counts"] == {"total": 2, "pending": 0, "succeeded": 0, "failed": 0, "skipped": 2}


class TestValidateOnly:
    """`POST /jobs?validate_only=true`"""

    def ask(self, http: Http, body: Job) -> Answer:
        return http("POST", "/jobs?validate_only=true", body)

    def test_says_what_would_be_done(self, http: Http) -> None:
        answer = self.ask(http, {"model": "linear@production", "instances": LINEAR_ROWS})

        assert answer.status == 200
        assert (answer.json["valid"], answer.json["rows"]) == (True, 2)
        assert (answer.json["model"]["name"], answer.json["model"]["version"]) == ("linear", 1)

    def test_starts_nothing(self, http: Http) -> None:
        newest = http.submit("linear", LINEAR_ROWS)["id"]

        answer = self.ask(http, {"model": "linear", "instances": LINEAR_ROWS})

        assert "location" not in answer.headers
        assert http("GET", "/jobs?limit=1").json["jobs"][0]["id"] == newest

    def test_refuses_what_a_submission_would_refuse(self, http: Http) -> None:
        answer = self.ask(http, {"model": "linear", "instances": [LINEAR_ROWS[0], [1, 2, "x"]]})

        assert (answer.status, answer.json["errors"][0]["row"]) == (422, 2)
