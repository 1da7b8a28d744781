"""MLflow's scoring protocol, asked by its public client, and with the payloads that its documentation shows."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from tests.processes import Answer, Http
from tests.system.rows import (
    HOME,
    LINEAR,
    LINEAR_RECORDS,
    LINEAR_ROWS,
    REFUSED_HOME,
    TEXT,
    TURNED_COLUMNS,
    TURNED_RECORDS,
    TURNED_SPLIT,
)
from tests.system.service import Barrier, Service

CSV = {"Content_Type": "text/csv"}
INVALID = "INVALID_PARAMETER_VALUE"


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    made: Any = ScoringServerClient
    return made("127.0.0.1", service.settings.port)


@pytest.fixture(scope="module")
def expected(http: Http) -> list[float]:
    """What POST /jobs answers for LINEAR_ROWS."""
    return predicted(http, "linear", LINEAR_ROWS)


def predicted(http: Http, model: str, instances: list[Any], **more: Any) -> list[Any]:
    answer = http("POST", "/jobs", {"model": model, "instances": instances, **more}, Prefer="wait=30")
    predictions: list[Any] = answer.json["result"]["predictions"]
    return predictions


def invoked(http: Http, body: Any = None, query: str = "", **more: Any) -> Answer:
    return http("POST", f"/invocations{query}", body, **more)


def csv_of(rows: list[dict[str, Any]]) -> bytes:
    return str(pd.DataFrame(rows).to_csv(index=False)).encode()


def test_the_client_finds_the_server_ready(client: Any, http: Http) -> None:
    client.wait_server_ready(timeout=30)

    assert client.get_version() == http("GET", "/version").body.decode()
    assert [http("GET", path).body for path in ("/ping", "/health")] == [b"\n", b"\n"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pd.DataFrame(TURNED_RECORDS), id="data-frame"),
        pytest.param(np.array(LINEAR_ROWS), id="array"),
        pytest.param(LINEAR_ROWS, id="lists"),
    ],
)
def test_the_client_gets_the_predictions_of_a_job(client: Any, expected: list[float], data: Any) -> None:
    response = client.invoke(data)

    assert response.get_predictions("ndarray").tolist() == expected
    assert response.get_predictions()[0].tolist() == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dataframe_split": TURNED_SPLIT | {"index": [0, 1]}}, id="split"),
        pytest.param({"dataframe_records": TURNED_RECORDS}, id="records"),
        pytest.param({"instances": LINEAR_ROWS}, id="instances"),
        pytest.param({"inputs": TURNED_COLUMNS}, id="columns"),
        pytest.param({"inputs": LINEAR_RECORDS}, id="inputs"),
    ],
)
def test_rows_come_in_every_form(http: Http, expected: list[float], body: dict[str, Any]) -> None:
    answer = invoked(http, body)

    assert (answer.status, answer.json) == (200, {"predictions": expected})
    job = http("GET", answer.headers["location"]).json
    assert (job["kind"], job["status"]) == ("predict", "succeeded")


def test_csv_is_read_as_a_file_is(http: Http, expected: list[float]) -> None:
    answer = invoked(http, raw=csv_of(TURNED_RECORDS), **CSV)

    assert (answer.status, answer.json) == (200, {"predictions": expected})
    assert http("GET", answer.headers["location"]).json["kind"] == "batch"


def test_csv_may_have_texts_truths_and_missing_numbers(http: Http) -> None:
    answer = invoked(http, query="?model=home", raw=csv_of([HOME, HOME | {"hour": 3}]), **CSV)

    assert answer.json == {"predictions": predicted(http, "home", [HOME, HOME | {"hour": 3}])}


def test_many_rows_of_csv_are_answered_in_order(http: Http) -> None:
    rows = [{"x1": number / 10_000, "x2": 0, "x3": 0} for number in range(20_000)]

    found = invoked(http, raw=csv_of(rows), **CSV).json["predictions"]

    assert len(found) == len(rows)
    assert np.all(np.diff(found) > 0)


def test_params_say_what_a_job_may_say(http: Http) -> None:
    body = {"inputs": [TEXT], "params": {"method": "predict_proba", "priority": "high", "metadata": {"ticket": "42"}}}

    answer = invoked(http, body, "?model=support@production")

    assert answer.json["predictions"] == predicted(http, "support", [TEXT], method="predict_proba")
    job = http("GET", answer.headers["location"]).json
    assert (job["priority"], job["metadata"]) == ("high", {"ticket": "42"})


@pytest.mark.parametrize(
    ("body", "query", "status", "error_code", "pointer"),
    [
        pytest.param({"inputs": [[1, 2]]}, "", 422, INVALID, "/inputs/0", id="row"),
        pytest.param({}, "", 422, INVALID, "/instances", id="no-rows"),
        pytest.param({"inputs": [LINEAR], "rows": 1}, "", 422, INVALID, "/rows", id="unknown-field"),
        pytest.param(
            {"inputs": [LINEAR], "params": {"top_k": 0}}, "", 422, INVALID, "/params/top_k", id="param"
        ),
        pytest.param(
            {"inputs": [LINEAR], "params": {"n": 1}}, "", 422, INVALID, "/params/n", id="unknown-param"
        ),
        pytest.param({"inputs": [LINEAR], "params": {"top_k": 2}}, "", 422, INVALID, "/params/top_k", id="other"),
        pytest.param({"inputs": [LINEAR]}, "?model=nobody", 404, "RESOURCE_DOES_NOT_EXIST", None, id="model"),
        pytest.param({"inputs": [LINEAR]}, "?modell=linear", 400, "BAD_REQUEST", None, id="query"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_in_words_that_mlflow_knows(
    http: Http, body: dict[str, Any], query: str, status: int, error_code: str, pointer: str | None
) -> None:
    answer = invoked(http, body, query)

    assert (answer.status, answer.json["error_code"]) == (status, error_code), answer
    assert answer.json["message"] == answer.json["detail"]
    assert [one.get("pointer") for one in answer.json["errors"]] == ([pointer] if pointer else [])


def test_the_client_reads_why_it_is_refused(client: Any) -> None:
    with pytest.raises(Exception, match=r"INVALID_PARAMETER_VALUE.*Column x1 must be a number"):
        client.invoke([["a", 0, 0]])


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_row_that_the_model_refuses_fails_the_request_and_is_named(http: Http, form: str) -> None:
    rows = [HOME, REFUSED_HOME]
    sent: dict[str, Any] = {"raw": csv_of(rows), **CSV} if form == "csv" else {"body": {"dataframe_records": rows}}

    answer = invoked(http, query="?model=home", **sent)

    assert (answer.status, answer.json["code"]) == (422, "prediction_failed")
    assert answer.json["errors"][0]["row"] == 2
    assert http("GET", f"/jobs/{answer.json['job_id']}").json["status"] == "partially_succeeded"


def test_a_column_that_csv_lacks_is_named(http: Http) -> None:
    answer = invoked(http, raw=b"x1,x2\n1,2\n", **CSV)

    assert (answer.status, answer.json["errors"][0]["column"]) == (422, "x3")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_no_rows_are_refused(http: Http, form: str) -> None:
    sent: dict[str, Any] = {"raw": b"x1,x2,x3\n", **CSV} if form == "csv" else {"body": {"inputs": []}}

    answer = invoked(http, **sent)

    assert (answer.status, answer.json["errors"][0]["code"]) == (422, "no_rows")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_repeat_under_the_same_key_is_the_same_job(http: Http, form: str) -> None:
    payload = csv_of(LINEAR_RECORDS) if form == "csv" else json.dumps({"inputs": LINEAR_ROWS}).encode()
    headers: dict[str, Any] = {"Content_Type": "text/csv" if form == "csv" else "application/json"}

    answers = [invoked(http, raw=payload, Idempotency_Key=f"mlflow-{form}", **headers) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].headers["location"] == answers[1].headers["location"]


def test_who_does_not_wait_gets_a_job(http: Http, held_workers: Barrier) -> None:
    job = invoked(http, {"inputs": LINEAR_ROWS}, Prefer="respond-async")
    late = invoked(http, {"inputs": LINEAR_ROWS}, Prefer="wait=0")

    assert (job.status, job.json["status"]) == (202, "queued")
    assert (late.status, late.json["code"]) == (504, "not_done_in_time")
    held_workers.open()
    assert http.done(late.json["job_id"])["status"] == "succeeded"
