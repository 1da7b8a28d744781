"""A job over a file as a batch of OpenAI: its status, and the size of what it made."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.openai_batches import batch_document, status_of
from api.openai_outputs import OutputFile, outputs_of
from shared.batch import BatchOptions, Input, Requests
from shared.job import Counts, Job, Spec, Status
from shared.storage import Storage

REQUESTS = Requests(url="/v1/predictions", body={"model": "m"}, window="24h")
NOW = datetime(2026, 1, 31, tzinfo=UTC)
JOB = Job(
    id="01a20398-b3bb-754b-81ee-e13ce405c294", status=Status.QUEUED, revision=1, counts=Counts(total=None),
    created_at=NOW,
    spec=Spec(
        requested="m", model="m", version=3, method="predict",
        batch=BatchOptions(input=Input(key="k", file_id="f"), requests=REQUESTS),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({}, "validating", id="queued"),
        pytest.param({"status": Status.RUNNING, "phase": "validating"}, "validating", id="validating"),
        pytest.param({"status": Status.RUNNING, "phase": "scoring"}, "in_progress", id="scoring"),
        pytest.param({"status": Status.RUNNING, "phase": "finalising"}, "finalizing", id="finalising"),
        pytest.param({"status": Status.RUNNING, "cancel_requested": True}, "cancelling", id="cancelling"),
        pytest.param({"status": Status.SUCCEEDED}, "completed", id="succeeded"),
        pytest.param({"status": Status.PARTIALLY_SUCCEEDED}, "completed", id="partially"),
        pytest.param({"status": Status.FAILED, "failure": {"code": "all_rows_failed"}}, "completed", id="no-row"),
        pytest.param({"status": Status.FAILED, "failure": {"code": "deadline_exceeded"}}, "expired", id="deadline"),
        pytest.param({"status": Status.FAILED, "failure": {"code": "worker_lost"}}, "failed", id="failed"),
        pytest.param({"status": Status.CANCELLED, "cancel_requested": True}, "cancelled", id="cancelled"),
    ],
)
def test_a_status_is_said_in_the_words_of_openai(change: dict[str, Any], status: str) -> None:
    assert status_of(replace(JOB, **change)) == status


def test_a_batch_that_failed_says_why_and_when() -> None:
    failure = {"code": "deadline_exceeded", "message": "Too late."}

    batch = batch_document(replace(JOB, status=Status.FAILED, failure=failure, finished_at=NOW))

    assert (batch.expired_at, batch.failed_at, batch.completed_at) == (int(NOW.timestamp()), None, None)
    assert batch.errors is not None
    assert [(error.code, error.message) for error in batch.errors.data] == [("deadline_exceeded", "Too late.")]
    assert batch.expires_at - batch.created_at == 24 * 3600


@pytest.mark.parametrize(
    "key", ["a", 'a"b\\', "é", "\u0001", ""], ids=["plain", "quoted", "accent", "control", "empty"]
)
def test_a_line_is_longer_than_the_stored_one_by_as_much_as_is_counted_on(key: str) -> None:
    result = orjson.dumps({"custom_id": key, "item_1": "x,}", "score_1": 0.5})
    error = orjson.dumps({"row": 12345, "key": key, "column": "x", "code": "not_a_number", "message": 'No "number".'})

    for name, stored in (("result", result), ("errors", error), ("unreached", orjson.dumps({"key": key}))):
        (file,) = outputs_of(replace(JOB, outputs={name: {"rows": 1, "bytes": len(stored) + 1}})).values()
        line = file.rendered(name, stored, 7)

        assert len(line) + 1 == file.size_bytes
        assert orjson.loads(line)["custom_id"] == key


def test_a_file_without_lines_is_none() -> None:
    assert outputs_of(replace(JOB, outputs={"result": {"rows": 0, "bytes": 0}})) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"status": Status.CANCELLED}, "batch_cancelled", id="cancelled"),
        pytest.param(
            {"status": Status.FAILED, "failure": {"code": "deadline_exceeded"}}, "batch_expired", id="expired"
        ),
    ],
)
def test_lines_that_were_not_reached_follow_the_bad_ones(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    storage = Storage(tmp_path.as_uri())
    error = {"row": 2, "key": "b", "column": "x", "code": "not_a_number", "message": "No number."}
    outputs = {}
    for name, lines in (("errors", [error]), ("unreached", [{"key": "c"}, {"key": None}])):
        raw = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        storage.put(name, raw)
        outputs[name] = {"key": name, "rows": len(lines), "bytes": len(raw)}
    counts = Counts(total=2, succeeded=1, failed=1, skipped=0)  # its plan had not seen the others
    job = replace(JOB, outputs=outputs, counts=counts, finished_at=NOW, **change)

    (file,) = outputs_of(job).values()
    raw = b"".join(file.blocks(storage))

    bad, *left = [orjson.loads(line) for line in raw.splitlines()]
    assert (bad["custom_id"], bad["response"]["status_code"], bad["error"]) == ("b", 422, None)
    assert [(line["custom_id"], line["response"], line["error"]["code"]) for line in left] == [
        ("c", None, code),
        (None, None, code),
    ]
    assert len({line["id"] for line in (bad, *left)}) == 3
    assert len(raw) == file.size_bytes == file.document().bytes
    batch = batch_document(job)
    assert batch.error_file_id == file.id
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}


def test_a_file_that_is_refused_says_which_lines_are_to_blame() -> None:
    fault = {"row": 7, "column": "custom_id", "code": "duplicate_custom_id", "message": "It is that of row 3 too."}
    failure = {"code": "invalid_input", "message": "It is that of row 3 too. (row 7)"}

    batch = batch_document(replace(JOB, status=Status.FAILED, failure=failure, errors=(fault,), finished_at=NOW))

    assert batch.errors is not None
    assert [error.model_dump() for error in batch.errors.data] == [
        {"code": "duplicate_custom_id", "message": "It is that of row 3 too.", "line": 7, "param": "custom_id"}
    ]
    assert (batch.status, batch.request_counts.total) == ("failed", 0)


def test_predictions_of_several_columns_are_all_in_the_body() -> None:
    file = OutputFile(job=JOB, kind="output")

    line = orjson.loads(file.rendered("result", b'{"custom_id":"a","item_1":"x","score_1":0.5}', 1))

    assert line["response"]["body"] == {"object": "prediction", "model": "m@3", "item_1": "x", "score_1": 0.5}


def test_a_file_larger_than_a_block_is_rendered_in_bounded_memory(tmp_path: Path) -> None:
    line, rows = b'{"custom_id":"%b","prediction":0.5}\n' % (b"k" * 1000), 40_000
    storage = Storage(tmp_path.as_uri())
    with storage.writer("result") as writer:
        for _ in range(rows // 1000):
            writer.write(line * 1000)
    stored = {"rows": rows, "bytes": rows * len(line), "key": "result"}
    file = OutputFile(job=replace(JOB, outputs={"result": stored}), kind="output")

    tracemalloc.start()
    try:
        size_bytes = sum(map(len, file.blocks(storage)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size_bytes == file.size_bytes > 40 * 2**20
    assert peak_bytes < 10 * 2**20
