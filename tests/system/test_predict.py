"""`POST /predict`: one flat object of features in, one prediction out."""

import pytest

from examples import linear
from tests.processes import Http
from tests.system.rows import LINEAR, LINEAR_RECORD, REFUSED_HOME, TEXT
from tests.system.service import Barrier


def test_one_row_is_predicted_by_the_default_model(http: Http) -> None:
    (expected,) = linear.train()[0].predict([list(LINEAR_RECORD.values())]).tolist()

    answer = http("POST", "/predict", LINEAR_RECORD)

    assert answer.status == 200
    assert answer.json == {"prediction": pytest.approx(expected)}


def test_another_model_is_named_in_the_query(http: Http) -> None:
    answer = http("POST", "/predict?model=support@1", {"text": TEXT})

    assert answer.status == 200
    assert isinstance(answer.json["prediction"], str)


def test_a_prediction_is_a_job_like_any_other(http: Http) -> None:
    answer = http("POST", "/predict", LINEAR_RECORD)

    job = http("GET", answer.headers["location"]).json
    assert (job["status"], job["result"]["predictions"]) == ("succeeded", [answer.json["prediction"]])


def test_past_the_wait_the_answer_is_the_job(http: Http, held_workers: Barrier) -> None:
    answer = http("POST", "/predict", LINEAR_RECORD, Prefer="wait=1")

    assert (answer.status, answer.json["status"]) == (202, "queued")
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"
    assert 1 <= int(answer.headers["retry-after"]) <= 30


@pytest.mark.parametrize(
    ("row", "column"),
    [({"x1": 1, "x2": 2}, "x3"), (LINEAR_RECORD | {"x2": "high"}, "x2"), (LINEAR_RECORD | {"x1": None}, "x1")],
    ids=["missing", "wrong", "null"],
)
def test_a_wrong_feature_is_refused_by_name(http: Http, row: dict[str, object], column: str) -> None:
    answer = http("POST", "/predict", row)

    assert (answer.status, answer.json["errors"][0]["column"]) == (422, column)


@pytest.mark.parametrize("body", [[LINEAR], "x1", 1.5], ids=["array", "string", "number"])
def test_a_body_that_is_no_object_is_refused(http: Http, body: object) -> None:
    answer = http("POST", "/predict", body)

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")


def test_an_unknown_model_is_not_found(http: Http) -> None:
    answer = http("POST", "/predict?model=lineal", LINEAR_RECORD)

    assert (answer.status, answer.json["code"]) == (404, "model_not_found")


def test_a_row_that_the_model_refuses_is_the_senders_to_mend(http: Http) -> None:
    answer = http("POST", "/predict?model=home", REFUSED_HOME)

    assert (answer.status, answer.json["code"]) == (422, "prediction_failed")
    assert answer.json["errors"][0]["row"] == 1
