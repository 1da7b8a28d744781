"""The doors for other protocols, where no worker answers."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.job import Status
from shared.records import Outcome
from tests.integration.apis import Api
from tests.integration.test_job_store import pull
from tests.models import register_moody

MakeApi = Callable[..., Api]
ROWS = {"inputs": [[1.0]]}
TENSOR = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}]}
# What becomes of a job that failed: the sender's to mend, too late, or ours.
ENDS = {
    "prediction_failed": 422,
    "invalid_input": 422,
    "all_rows_failed": 422,
    "too_many_rows": 422,
    "unpacks_to_too_much": 422,
    "deadline_exceeded": 504,
    "worker_lost": 500,
    "internal": 500,
}


def test_a_job_that_was_cancelled_is_a_conflict(make_api: MakeApi) -> None:
    api = make_api()
    register_moody(api.settings)
    path, key = "/invocations?model=moody", {"Idempotency-Key": "k"}
    job = api.client.post(path, json=ROWS, headers={**key, "Prefer": "respond-async"})
    api.client.post(f"{job.headers['Location']}/cancel")

    answer = api.client.post(path, json=ROWS, headers=key)

    assert (answer.status_code, (answer.json or {})["code"]) == (409, "cancelled")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/invocations?model=moody", ROWS, id="mlflow"),
        pytest.param("/v2/models/moody/infer", TENSOR, id="v2"),
    ],
)
def test_a_job_that_failed_has_the_status_of_its_failure(make_api: MakeApi, path: str, body: dict[str, Any]) -> None:
    api = make_api()
    register_moody(api.settings)
    store, found = api.services.store, {}
    for code in ENDS:
        job = api.client.post(path, json=body, headers={"Idempotency-Key": code, "Prefer": "respond-async"})
        unit = pull(store)
        assert unit is not None
        failure = {"code": code, "message": f"It is {code}."}
        job_id = job.headers["Location"].rpartition("/")[2]
        store.commit(unit.fence, [Outcome(id=job_id, status=Status.FAILED, succeeded=0, failed=1, failure=failure)])

        answer = api.client.post(path, json=body, headers={"Idempotency-Key": code})

        told = answer.json or {}
        assert (told["code"], told["detail"], told["job_id"]) == (code, f"It is {code}.", job_id)
        assert told["status"] == answer.status_code
        found[code] = answer.status_code
    assert found == ENDS


def test_mlflow_is_told_of_conflicts_and_deadlines_in_its_own_words(make_api: MakeApi) -> None:
    api = make_api()
    register_moody(api.settings)
    path = "/invocations?model=moody"

    late = api.client.post(path, json=ROWS, headers={"Prefer": "wait=0", "Idempotency-Key": "k"})
    api.client.post(f"{late.headers['Location']}/cancel")
    cancelled = api.client.post(path, json=ROWS, headers={"Idempotency-Key": "k"})

    told = [(answer.status_code, (answer.json or {})["error_code"]) for answer in (late, cancelled)]
    assert told == [(504, "DEADLINE_EXCEEDED"), (409, "RESOURCE_CONFLICT")]


def test_a_list_of_batches_looks_at_so_many_jobs_and_says_where_to_go_on(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.LIST_SCAN", 1)
    monkeypatch.setattr("api.openai_batches.MOST_PAGES", 2)
    api = make_api()
    register_moody(api.settings)
    for _ in range(3):
        api.client.post("/jobs", json={"model": "moody", "instances": [[1.0]]})

    first = api.client.get("/v1/batches").json or {}
    second = api.client.get(f"/v1/batches?after={first['last_id']}").json or {}

    assert (first["data"], first["has_more"]) == ([], True)
    assert (second["data"], second["has_more"], second["last_id"]) == ([], False, None)


def test_a_tag_that_was_made_weak_on_the_way_is_the_same(make_api: MakeApi) -> None:
    client = make_api().client
    tag = client.get("/jobs").headers["ETag"]

    assert client.get("/jobs", headers={"If-None-Match": f"W/{tag}"}).status_code == 304
