"""The facade of OpenAI's batch API, asked by OpenAI's public client."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import redis

from shared.keys import Keys
from tests.processes import Http
from tests.system.rows import HOME, LINEAR, LINEAR_ROWS, OTHER_TEXT, REFUSED_HOME, TEXT
from tests.system.service import Barrier, HeldFile, Service
from tests.wait import until

URL = "/v1/predictions"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.address}/v1", api_key="none", max_retries=0, timeout=40) as client:
        yield client


def request(custom_id: Any, row: Any, *, model: str = "linear", **more: Any) -> dict[str, Any]:
    """A line."""
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": model, "input": row, **more}}


def lines_of(requests: list[Any]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in requests)


def sent(client: openai.OpenAI, requests: list[Any], name: str = "lines.jsonl") -> str:
    return client.files.create(file=(name, io.BytesIO(lines_of(requests))), purpose="batch").id


def started(client: openai.OpenAI, requests: list[Any], **more: Any) -> Any:
    endpoint: Any = URL
    return client.batches.create(
        input_file_id=sent(client, requests), endpoint=endpoint, completion_window="24h", **more
    )


def done(client: openai.OpenAI, requests: list[Any], **more: Any) -> Any:
    batch = started(client, requests, **more)
    until(lambda: client.batches.retrieve(batch.id).completed_at, 60, "the batch is completed")
    return client.batches.retrieve(batch.id)


def content(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def predicted(http: Http, model: str, instances: list[Any], **more: Any) -> list[Any]:
    """What POST /jobs answers for the same rows."""
    answer = http("POST", "/jobs", {"model": model, "instances": instances, **more}, Prefer="wait=30")
    predictions: list[Any] = answer.json["result"]["predictions"]
    return predictions


def test_a_batch_predicts_every_line_under_its_custom_id(client: openai.OpenAI, http: Http) -> None:
    row = dict(zip(("x1", "x2", "x3"), LINEAR, strict=True))
    requests = [request("first", LINEAR_ROWS[0]), request('"2"\\', LINEAR_ROWS[1]), request("third", row)]

    batch = done(client, requests, metadata={"ticket": "42"})

    lines = content(client, batch.output_file_id)
    expected = predicted(http, "linear", [*LINEAR_ROWS, row])
    assert {line["custom_id"]: line["response"]["body"]["prediction"] for line in lines} == dict(
        zip(("first", '"2"\\', "third"), expected, strict=True)
    )
    assert {(line["response"]["status_code"], line["error"]) for line in lines} == {(200, None)}
    assert {line["response"]["body"]["model"] for line in lines} == {"linear@1"}
    assert len({line["id"] for line in lines}) == 3
    assert (batch.status, batch.request_counts.to_dict()) == ("completed", {"total": 3, "completed": 3, "failed": 0})
    assert (batch.error_file_id, batch.errors, batch.metadata) == (None, None, {"ticket": "42"})


def test_a_batch_is_a_job(client: openai.OpenAI, http: Http) -> None:
    batch = done(client, [request("a", LINEAR)], extra_body={"priority": "high", "result_ttl_seconds": 600})

    job = http("GET", f"/jobs/{batch.id}").json
    assert (job["kind"], job["status"], job["priority"]) == ("batch", "succeeded", "high")
    assert (job["options"]["key"], job["input"]["file_id"]) == ("custom_id", batch.input_file_id)
    assert http("GET", f"/jobs/{batch.id}/manifest").json["options"]["requests"]["url"] == URL


def test_a_line_that_is_wrong_is_in_the_error_file_and_spoils_no_other(client: openai.OpenAI) -> None:
    good, bad = request("good", HOME, model="home"), request("bad", REFUSED_HOME, model="home")
    requests: list[Any] = [
        good,
        bad,
        request("missing", {"hour": 1}, model="home"),
        request("other model", LINEAR),
        request("other method", HOME, model="home", method="predict_proba"),
        request(7, HOME, model="home"),
        good | {"custom_id": "other url", "url": "/v1/embeddings"},
        good | {"custom_id": "no row", "body": {"model": "home"}},
        good | {"custom_id": "rows", "body": {"model": "home", "instances": [HOME, HOME]}},
        ["no request"],
    ]

    batch = done(client, requests)

    assert [line["custom_id"] for line in content(client, batch.output_file_id)] == ["good"]
    lines = content(client, batch.error_file_id)
    found = {json.dumps(line["custom_id"]): line["response"]["body"]["error"]["code"] for line in lines}
    assert found == {
        '"bad"': "prediction_failed",
        '"missing"': "missing_column",
        '"other model"': "other_request",
        '"other method"': "other_request",
        "7": "bad_custom_id",
        '"other url"': "other_request",
        '"no row"': "not_one_row",
        '"rows"': "not_one_row",
        "null": "not_a_request",
    }
    assert lines[0]["response"]["body"]["error"] == {
        "message": lines[0]["response"]["body"]["error"]["message"],
        "type": "row_failed", "param": "heating_mode", "code": "prediction_failed", "row": 2,
    }  # fmt: skip
    assert (batch.status, batch.request_counts.failed) == ("completed", 9)


def test_a_custom_id_that_is_there_twice_is_refused(client: openai.OpenAI) -> None:
    batch = started(client, [request("a", LINEAR), request("b", LINEAR), ["no request"], request("a", LINEAR)])

    until(lambda: client.batches.retrieve(batch.id).failed_at, 60, "the batch has failed")

    failed = client.batches.retrieve(batch.id)
    assert failed.errors is not None
    assert failed.errors.data is not None
    (error,) = failed.errors.data
    assert (error.code, error.line, error.param) == ("duplicate_custom_id", 4, "custom_id")
    assert "custom_id 'a' is that of row 1 too" in str(error.message)
    assert (failed.status, failed.output_file_id, failed.error_file_id) == ("failed", None, None)
    assert failed.request_counts is not None
    assert failed.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}


def test_a_batch_of_which_every_line_is_wrong_is_completed_with_errors_alone(client: openai.OpenAI) -> None:
    batch = done(client, [request("a", [1, 2]), request("b", ["x", 0, 0])])

    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert [line["custom_id"] for line in content(client, batch.error_file_id)] == ["a", "b"]


def test_the_failed_lines_of_a_batch_are_tried_again_as_another_batch(client: openai.OpenAI, http: Http) -> None:
    batch = done(client, [request("good", LINEAR), request("bad", ["x", 0, 0])])

    retried = http.done(http("POST", f"/jobs/{batch.id}/retry", {"only": "failed"}).json["id"])

    again = client.batches.retrieve(retried["id"])
    assert (again.status, again.request_counts) == (
        "completed",
        batch.request_counts.model_copy(update={"total": 1, "completed": 0}),
    )
    assert [line["custom_id"] for line in content(client, again.error_file_id)] == ["bad"]


def test_the_first_line_says_what_is_asked_of_the_model(client: openai.OpenAI, http: Http) -> None:
    rows = [TEXT, OTHER_TEXT]

    batch = done(client, [request(str(n), row, model="support@1", top_k=2) for n, row in enumerate(rows)])

    bodies = [line["response"]["body"] for line in content(client, batch.output_file_id)]
    best = predicted(http, "support", rows, top_k=2)
    assert [[body["item_1"], body["item_2"]] for body in bodies] == [[one["item"] for one in row] for row in best]


def test_instances_may_hold_the_row(client: openai.OpenAI, http: Http) -> None:
    line = request("a", LINEAR)
    line["body"] = {"model": "linear", "instances": [LINEAR]}

    (answer,) = content(client, done(client, [line]).output_file_id)

    assert answer["response"]["body"]["prediction"] == predicted(http, "linear", [LINEAR])[0]


def test_many_lines_come_out_in_order_and_as_many_bytes_as_announced(client: openai.OpenAI) -> None:
    requests = [request(f"é{n}", [n / 10_000, 0, 0] if n % 5 else ["x", 0, 0]) for n in range(15_000)]

    batch = done(client, requests)

    for file_id, expected in (
        (batch.output_file_id, [n for n in range(15_000) if n % 5]),
        (batch.error_file_id, list(range(0, 15_000, 5))),
    ):
        raw = client.files.content(file_id).read()
        assert [int(json.loads(line)["custom_id"][1:]) for line in raw.splitlines()] == expected
        assert client.files.retrieve(file_id).bytes == len(raw)


def test_files_are_sent_read_listed_and_removed(client: openai.OpenAI, http: Http) -> None:
    requests = [request("a", LINEAR)]
    ids = [sent(client, requests, f"{name}.jsonl") for name in ("one", "two", "three")]

    about = client.files.retrieve(ids[0])
    assert (about.filename, about.purpose, about.bytes) == ("one.jsonl", "batch", len(lines_of(requests)))
    assert client.files.content(ids[0]).read() == lines_of(requests)
    assert http("GET", f"/files/{ids[0]}").json["format"] == "ndjson"
    # Page after page, two at a time.
    listed = [file.id for file in client.files.list(limit=2)]
    assert [file_id for file_id in listed if file_id in ids] == ids[::-1]
    assert len(set(listed)) == len(listed)
    assert client.files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(ids[0])
    with pytest.raises(openai.NotFoundError):
        client.files.list(after=ids[0])


def test_batches_are_listed_newest_first_page_after_page(client: openai.OpenAI, http: Http) -> None:
    ids = [done(client, [request("a", LINEAR)]).id for _ in range(3)]
    job = http.submit("linear", [LINEAR])["id"]

    listed = [batch.id for batch in client.batches.list(limit=2)]

    assert [batch_id for batch_id in listed if batch_id in ids] == ids[::-1]
    assert job not in listed
    with pytest.raises(openai.NotFoundError):
        client.batches.list(after="nobody")


def test_the_output_file_goes_with_its_batch(client: openai.OpenAI, http: Http) -> None:
    batch = done(client, [request("a", LINEAR)])
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"

    with pytest.raises(openai.ConflictError, match=f"DELETE /jobs/{batch.id}"):
        client.files.delete(batch.output_file_id)

    assert http("DELETE", f"/jobs/{batch.id}").status == 204
    with pytest.raises(openai.APIStatusError) as gone:
        client.files.content(batch.output_file_id)
    assert gone.value.status_code == 410


def test_a_batch_can_be_cancelled(client: openai.OpenAI, http: Http, held_workers: Barrier, folder: Path) -> None:
    batch = started(client, [request("a", str(folder / "never"), model="gate")])

    cancelled = client.batches.cancel(batch.id)

    assert cancelled.status in ("cancelling", "cancelled")
    until(lambda: client.batches.retrieve(batch.id).cancelled_at, 60, "the batch is cancelled")
    assert http("GET", f"/jobs/{batch.id}").json["status"] == "cancelled"


def test_a_batch_that_is_completed_cannot_be_cancelled(client: openai.OpenAI) -> None:
    batch = done(client, [request("a", LINEAR)])

    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def half_done(client: openai.OpenAI, held: HeldFile) -> Any:
    """A batch of which some lines are predicted; the others wait."""
    padding = "x" * 900_000
    paths = ["/"] * held.AT_ONCE + [str(held.gate)] * (held.ROWS - held.AT_ONCE)
    rows = [request(str(n), {"path": path, "padding": padding}, model="gate") for n, path in enumerate(paths)]
    batch = started(client, rows)

    def half() -> bool:
        counts = client.batches.retrieve(batch.id).request_counts
        return counts is not None and counts.completed > 0

    assert batch.status == "validating"
    until(half, 60, "some lines are predicted")
    return client.batches.retrieve(batch.id)


def test_the_statuses_are_those_of_openai(client: openai.OpenAI, http: Http, folder: Path) -> None:
    held = HeldFile(http, folder)

    running = half_done(client, held)

    assert (running.status, running.output_file_id, running.completed_at) == ("in_progress", None, None)
    held.let_through()
    until(lambda: client.batches.retrieve(running.id).status == "completed", 60, "it is completed")


def test_the_completion_window_is_the_deadline_of_the_job(client: openai.OpenAI, service: Service) -> None:
    batch = started(client, [request("a", LINEAR)])

    with redis.Redis.from_url(service.settings.redis_address) as store:
        deadline: Any = store.hget(Keys(service.settings.redis_prefix).job(batch.id), "deadline")
    assert batch.expires_at == int(deadline) // 1000
    assert batch.expires_at - batch.created_at == 24 * 3600


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        pytest.param([], "empty_file", id="empty"),
        pytest.param([[1, 2, 3]], "not_a_request", id="rows"),
        pytest.param([request("a", LINEAR) | {"url": "/v1/embeddings"}], "other_request", id="url"),
        pytest.param([request("a", LINEAR, temperature=1)], "unknown_field", id="unknown-field"),
        pytest.param([request("a", LINEAR, top_k=2)], "top_k_not_applicable", id="top-k"),
    ],
)
def test_a_file_that_no_batch_can_be_over_is_refused_in_words_that_openai_knows(
    client: openai.OpenAI, requests: list[Any], code: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        started(client, requests)

    assert refused.value.type == "invalid_request_error"
    assert isinstance(refused.value.response.json()["errors"][0], dict)
    assert refused.value.response.json()["errors"][0]["code"] == code


def test_an_unknown_model_file_or_batch_is_a_404(client: openai.OpenAI) -> None:
    endpoint: Any = URL
    with pytest.raises(openai.NotFoundError, match="There is no model 'nobody'"):
        started(client, [request("a", LINEAR, model="nobody")])
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="nobody", endpoint=endpoint, completion_window="24h")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.batches.retrieve("nobody")
    assert unknown.value.code == "job_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"completion_window": "169h"}, "/completion_window", id="window-too-long"),
        pytest.param({"completion_window": "1 day"}, "/completion_window", id="window"),
        pytest.param({"endpoint": "/v1/embeddings"}, "/endpoint", id="endpoint"),
        pytest.param({"nonsense": 1}, "/nonsense", id="unknown-field"),
        pytest.param({"webhook": {"url": "nonsense"}}, None, id="webhook"),
    ],
)
def test_a_wrong_field_is_named(client: openai.OpenAI, fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        started(client, [request("a", LINEAR)], extra_body=fields)

    assert param is None or refused.value.param == param


def test_a_file_for_another_purpose_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="purpose must be batch"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")


def test_a_repeat_under_the_same_key_is_the_same_batch(client: openai.OpenAI) -> None:
    file_id, endpoint = sent(client, [request("a", LINEAR)]), URL
    again: Any = {"extra_headers": {"Idempotency-Key": "batch"}}
    wanted: Any = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}

    batches = [client.batches.create(**wanted, **again).id for _ in range(2)]

    assert batches[0] == batches[1]


def test_models_are_listed_by_the_name_that_lines_ask_for(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}

    assert {"linear", "home", "support"} <= names
    assert client.models.retrieve("linear").object == "model"
