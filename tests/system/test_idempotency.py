"""Idempotency-Key: the same key and body is the same job, whoever comes first."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.processes import Answer, Http
from tests.system.rows import LINEAR, LINEAR_RECORD

CLIENTS = 20


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def body(**more: Any) -> dict[str, Any]:
    return {"model": "linear", "instances": [LINEAR], **more}


def test_the_same_key_and_body_is_the_same_job(http: Http, key: str) -> None:
    first = http("POST", "/jobs", body(), Idempotency_Key=key)

    second = http("POST", "/jobs", body(), Idempotency_Key=key)

    assert (first.status, second.status) == (202, 202)
    assert second.json["id"] == first.json["id"]
    assert second.headers["location"] == first.headers["location"]


def test_a_repeat_gives_the_outcome_of_the_first(http: Http, key: str) -> None:
    job = http.done(http("POST", "/jobs", body(), Idempotency_Key=key).json["id"])

    answer = http("POST", "/jobs", body(), Idempotency_Key=key, Prefer="wait=30")

    assert (answer.status, answer.json) == (200, job)


def test_another_body_under_the_same_key_is_refused(http: Http, key: str) -> None:
    http("POST", "/jobs", body(), Idempotency_Key=key)

    answer = http("POST", "/jobs", body(priority="high"), Idempotency_Key=key)

    assert (answer.status, answer.json["code"]) == (422, "idempotency_key_reused")


def test_another_key_is_another_job(http: Http, key: str) -> None:
    first = http("POST", "/jobs", body(), Idempotency_Key=key).json

    second = http("POST", "/jobs", body(), Idempotency_Key=f"{key}-2").json

    assert second["id"] != first["id"]


def test_clients_that_come_at_once_get_one_job(http: Http, key: str) -> None:
    mine = body(metadata={"key": key})

    def submit(_: int) -> Answer:
        return http("POST", "/jobs", mine, Idempotency_Key=key)

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(submit, range(CLIENTS)))

    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    listed = http("GET", "/jobs?limit=200&model=linear").json["jobs"]
    assert [job["metadata"] == {"key": key} for job in listed].count(True) == 1


def test_a_key_that_was_only_validated_is_still_free(http: Http, key: str) -> None:
    http("POST", "/jobs?validate_only=true", body(priority="high"), Idempotency_Key=key)

    answer = http("POST", "/jobs", body(), Idempotency_Key=key)

    assert answer.status == 202


def test_a_refused_body_leaves_its_key_free(http: Http, key: str) -> None:
    http("POST", "/jobs", body(top_k=3), Idempotency_Key=key)

    answer = http("POST", "/jobs", body(), Idempotency_Key=key)

    assert answer.status == 202


def test_a_prediction_with_a_key_is_one_job(http: Http, key: str) -> None:
    row = LINEAR_RECORD

    answers = [http("POST", "/predict", row, Idempotency_Key=key) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].headers["location"] == answers[1].headers["location"]


@pytest.mark.parametrize("wrong", ["", "x" * 256], ids=["empty", "too-long"])
def test_a_key_that_cannot_be_kept_is_refused(http: Http, wrong: str) -> None:
    answer = http("POST", "/jobs", body(), Idempotency_Key=wrong)

    assert (answer.status, answer.json["code"]) == (400, "bad_idempotency_key")
