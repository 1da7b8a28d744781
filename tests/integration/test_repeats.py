"""A request that repeats its Idempotency-Key makes nothing new, so no limit that is reached by now refuses it."""

import io
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.api_keys import Scope
from tests.integration.apis import Api
from tests.models import register_moody
from tests.processes import RedisServer

MakeApi = Callable[..., Api]
Send = Callable[[FlaskClient, str], TestResponse]
URL: Final = "https://93.184.216.34/foretell"
HOOK: Final = {"webhook": {"url": URL}}
CSV: Final = b"x,y\n" + b"1,2\n" * 249
ONNX: Final = b"\x08" + b"\0" * 999
NOTHING: Final = dict.fromkeys(("waiting_jobs", "waiting_rows", "stored_bytes", "upload_bytes_per_day"), 1)


def rows(client: FlaskClient, key: str, **more: Any) -> TestResponse:
    """A job over rows, whose end is told."""
    body = {"model": "moody", "instances": [[1.0], [2.0]], **HOOK, **more}
    return client.post("/jobs", json=body, headers={"Idempotency-Key": key})


def sent(
    path: str, data: Callable[[], Any], content_type: str | None = None
) -> Callable[[FlaskClient, str], TestResponse]:
    """A request with a file."""

    def send(client: FlaskClient, key: str) -> TestResponse:
        headers = {"Idempotency-Key": key, "Prefer": "wait=0"}
        return client.post(path, data=data(), headers=headers, content_type=content_type)

    return send


HOOKED: Final = f"webhook={URL}"
JOB: Final = json.dumps({"model": "moody", **HOOK})
REQUESTS: Final = {
    "rows": rows,
    "file": sent(f"/jobs?model=moody&{HOOKED}", lambda: CSV, "text/csv"),
    "form": sent("/jobs", lambda: {"job": JOB, "file": (io.BytesIO(CSV), "a.csv")}),
    "form-that-ends-with-its-job": sent("/jobs", lambda: {"file": (io.BytesIO(CSV), "a.csv"), "job": JOB}),
    "training": sent(f"/models/moody/retrain?target=y&{HOOKED}", lambda: CSV, "text/csv"),
    "artifact": sent("/models/own/versions", lambda: ONNX, "application/onnx"),
    "artifact-in-a-form": sent("/models/own/versions", lambda: {"artifact": (io.BytesIO(ONNX), "a.onnx")}),
}  # fmt: skip


@pytest.fixture
def roomy(make_api: MakeApi) -> Api:
    """An API without limits, with the model moody and a secret."""
    api = make_api()
    register_moody(api.settings)
    api.client.post("/webhooks/secret")
    return api


@pytest.fixture
def narrow(roomy: Api, make_api: MakeApi) -> Api:
    """Another on the same Redis and storage, under whose limits nothing new is accepted."""
    api = make_api(max_waiting_webhooks=1, **{f"owner_{name}": most for name, most in NOTHING.items()})
    assert api.client.post("/webhooks/test", json={"url": URL}).status_code == 202
    return api


@pytest.mark.parametrize("request_with", REQUESTS.values(), ids=REQUESTS)
def test_a_repeat_is_answered_as_the_first_although_every_limit_is_reached(
    roomy: Api, narrow: Api, request_with: Send
) -> None:
    first = request_with(roomy.client, "one")
    assert first.status_code == 202, first.text
    stored, used = roomy.stored(), roomy.used(roomy.client)

    again, new = request_with(narrow.client, "one"), request_with(narrow.client, "two")

    assert (again.status_code, again.json) == (202, first.json), again.text
    assert again.headers["Location"] == first.headers["Location"]
    assert new.status_code in (422, 429), new.text
    assert (new.json or {})["errors"][0]["code"] in {*NOTHING, "waiting_webhooks"}
    assert (roomy.stored(), roomy.used(roomy.client)) == (stored, used)


def test_a_repeat_by_reference_and_a_repeated_retry_are_answered_as_the_first(roomy: Api, narrow: Api) -> None:
    file_id = (roomy.client.post("/files", data=CSV, headers={"Content-Type": "text/csv"}).json or {})["id"]
    about = {"input": {"file_id": file_id}, **HOOK}
    requests = [
        ("/jobs", {"model": "moody", **about}),
        ("/jobs", {"kind": "train", "model": "moody", "target": "y", **about}),
        ("/models/moody/retrain", {"target": "y", **about}),
    ]
    ended = (rows(roomy.client, "ended").json or {})["id"]
    roomy.client.post(f"/jobs/{ended}/cancel")
    requests.append((f"/jobs/{ended}/retry", {"only": "all"}))

    for number, (path, body) in enumerate(requests):
        headers = {"Idempotency-Key": f"key-{number}"}
        first = roomy.client.post(path, json=body, headers=headers)
        again = narrow.client.post(path, json=body, headers=headers)

        assert first.status_code == 202, first.text
        assert (again.status_code, (again.json or {})["id"]) == (202, (first.json or {})["id"])


def test_a_repeat_needs_no_secret_of_webhooks_any_more(roomy: Api, redis_server: RedisServer) -> None:
    first = rows(roomy.client, "one")
    redis_server.client.delete(*redis_server.client.keys("*webhook_secret:*"))

    again, new = rows(roomy.client, "one"), rows(roomy.client, "two")

    assert (again.status_code, again.json) == (202, first.json)
    assert (new.json or {})["code"] == "webhook_secret_missing"


def test_a_refused_request_with_another_body_is_refused_for_itself(roomy: Api, narrow: Api) -> None:
    rows(roomy.client, "one")

    answer = rows(narrow.client, "one", priority="high")

    assert (answer.json or {})["code"] == "limit_reached"


@pytest.mark.parametrize("changed", [CSV[:-4] + b"1,3\n", CSV + b"1,2\n"], ids=["other-rows", "longer"])
def test_another_file_under_the_same_key_is_refused_and_not_stored(roomy: Api, changed: bytes) -> None:
    REQUESTS["file"](roomy.client, "one")
    stored = roomy.stored()

    answer = sent(f"/jobs?model=moody&{HOOKED}", lambda: changed, "text/csv")(roomy.client, "one")

    assert (answer.status_code, (answer.json or {})["code"]) == (422, "idempotency_key_reused")
    assert roomy.stored() == stored


def test_a_file_under_the_key_of_a_job_over_rows_is_refused(roomy: Api) -> None:
    rows(roomy.client, "one")

    answer = REQUESTS["file"](roomy.client, "one")

    assert (answer.status_code, (answer.json or {})["code"]) == (422, "idempotency_key_reused")


def test_the_bytes_of_a_repeat_count_as_far_as_the_day_has_room(roomy: Api, make_api: MakeApi) -> None:
    tight = make_api(owner_upload_bytes_per_day=1500)
    REQUESTS["file"](tight.client, "one")

    again = REQUESTS["file"](tight.client, "one")

    assert again.status_code == 202
    assert tight.used(tight.client)["upload_bytes_per_day"] == 1500


def test_a_repeat_of_a_job_that_was_removed_says_that_it_is_gone(roomy: Api, narrow: Api) -> None:
    job_id = (REQUESTS["file"](roomy.client, "one").json or {})["id"]
    roomy.client.post(f"/jobs/{job_id}/cancel")
    roomy.client.delete(f"/jobs/{job_id}")

    again = REQUESTS["file"](narrow.client, "one")

    assert (again.status_code, (again.json or {})["code"]) == (410, "job_gone")


def test_a_repeat_needs_the_scope_of_the_first(roomy: Api) -> None:
    writer, trainer = (roomy.client_of("team-a", scopes=[scope]) for scope in (Scope.JOBS_WRITE, Scope.TRAIN))
    path = "/jobs?model=moody"
    send = sent(path, lambda: CSV, "text/csv")
    assert send(writer, "one").status_code == 202

    again = send(trainer, "one")

    assert (again.status_code, (again.json or {})["code"]) == (403, "forbidden")


def test_a_retry_whose_end_could_not_be_told_is_refused(roomy: Api, narrow: Api) -> None:
    ended = (rows(roomy.client, "ended").json or {})["id"]
    untold = (roomy.client.post("/jobs", json={"model": "moody", "instances": [[1.0]]}).json or {})["id"]
    for job_id in (ended, untold):
        roomy.client.post(f"/jobs/{job_id}/cancel")

    told, other = (narrow.client.post(f"/jobs/{job_id}/retry", json={"only": "all"}) for job_id in (ended, untold))

    assert told.status_code == 429, told.text
    assert (told.json or {})["errors"][0]["code"] == "waiting_webhooks"
    assert other.status_code == 202
