"""A retry of a batch job tries exactly the rows that have no prediction, under their numbers in the file."""

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.batch import Input
from shared.job import Status
from shared.records import WORKER_LOST, BatchUnit
from shared.settings import Settings
from tests.integration.batch_files import (
    counts,
    csv_file,
    faults,
    files_of,
    numbered,
    parquet_file,
    result_rows,
    result_table,
    service,
    zstd,
)  # fmt: skip
from tests.integration.batch_runner import Finished, Runner
from tests.models import RAISE, register_echo, register_moody
from worker.drain import worker_name

ROWS = 60
BAD = (1, 7, 30, 31, 60)
KEY: dict[str, Any] = {"key_column": "id"}


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(register_moody, register_echo) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers that cut files into slices of a few rows, and take one at a time."""
    return Runner(base.model_copy(update={"slice_bytes": 40, "slice_rows": 7, "max_chunk_slices": 1}))


def table(count: int = ROWS, bad: tuple[int, ...] = BAD) -> dict[str, list[Any]]:
    """Columns of a file; the model refuses some rows."""
    return {
        "id": [f"k{number}" for number in range(1, count + 1)],
        "x": [RAISE if number in bad else 20.0 + number % 30 for number in range(1, count + 1)],
    }


def as_csv(columns: dict[str, list[Any]]) -> bytes:
    return csv_file(list(columns), list(zip(*columns.values(), strict=True))).encode()


FORMATS: dict[str, Callable[[dict[str, list[Any]]], bytes]] = {
    "csv": as_csv,
    "gzip": lambda columns: gzip.compress(as_csv(columns)),
    "zstd": lambda columns: zstd(as_csv(columns)),
    "parquet": lambda columns: parquet_file(columns, row_group_size=25),
}


def pull(runner: Runner) -> BatchUnit:
    unit = runner.works[0].pull(worker_name(), linger_seconds=0, answered=False, lane="")
    assert unit is not None
    return unit


def input_of(runner: Runner, job_id: str) -> Input:
    batch = runner.read(job_id).spec.batch
    assert batch is not None
    return batch.input


def again(runner: Runner, before: str, only: str | None, **options: Any) -> str:
    """A retry of a job; its id."""
    return runner.submit(b"", retry_of=before, given=input_of(runner, before), retry_only=only, **KEY | options)


def ids(done: Finished) -> list[str]:
    """The keys of the rows that were predicted."""
    if done.job.outputs["result"]["name"].endswith("parquet"):
        return [str(key) for key in result_table(done)["id"].to_pylist()]
    return [row[0] for row in result_rows(done)[1:]]


def cancelled(runner: Runner, data: bytes, chunks: int = 3, **options: Any) -> Finished:
    """A job that was cancelled after so many chunks."""
    job_id = runner.submit(data, **KEY, **options)
    for _ in range(1 + chunks):
        runner.works[0].do(pull(runner))
    runner.store.cancel(job_id)
    return runner.finish(job_id)


@pytest.mark.parametrize("kind", FORMATS)
def test_only_failed_rows_are_tried_again(runner: Runner, kind: str) -> None:
    first = runner.run(FORMATS[kind](table()), **KEY)

    done = runner.finish(again(runner, first.job.id, "failed"))

    assert [fault[:2] for fault in faults(first)] == [(number, f"k{number}") for number in BAD]
    assert (done.job.status, counts(done)) == (Status.FAILED, (len(BAD), 0, len(BAD), 0))
    assert done.files["errors"] == first.files["errors"]


def test_rows_that_are_good_the_second_time_are_all_that_the_result_has(runner: Runner) -> None:
    # Text that is too long for the first worker's settings, and not for the second's.
    data = csv_file(["text", "whole", "number", "flag"], [["a" * (number % 5), number, 1, 1] for number in range(20)])
    strict = Runner(runner.settings.model_copy(update={"max_text_length": 3}))
    first = strict.run(data.encode(), model="echo", key_column="whole")

    done = runner.finish(again(runner, first.job.id, "failed", model="echo", key_column="whole"))

    assert (done.job.status, counts(done)) == (Status.SUCCEEDED, (4, 4, 0, 0))
    assert [row[0] for row in result_rows(done)[1:]] == ["4", "9", "14", "19"]


@pytest.mark.parametrize("kind", FORMATS)
def test_only_what_was_not_reached_is_tried(runner: Runner, kind: str) -> None:
    first = cancelled(runner, FORMATS[kind](table()))

    done = runner.finish(again(runner, first.job.id, "skipped"))

    reached = len(ids(first)) + len(faults(first))
    assert 0 < reached < ROWS
    assert done.job.counts.total == ROWS - reached
    assert ids(first) + ids(done) == [f"k{number}" for number in range(1, ROWS + 1) if number not in BAD]
    assert [fault[0] for fault in faults(first) + faults(done)] == list(BAD)


def test_failed_means_every_row_without_a_prediction(runner: Runner) -> None:
    first = cancelled(runner, as_csv(table()))

    done = runner.finish(again(runner, first.job.id, "failed"))

    assert [fault[0] for fault in faults(done)] == list(BAD)
    assert ids(first) + ids(done) == [f"k{number}" for number in range(1, ROWS + 1) if number not in BAD]


def test_all_rows_are_tried_if_that_is_wanted(runner: Runner) -> None:
    first = runner.run(as_csv(table()), **KEY)

    done = runner.finish(again(runner, first.job.id, None))

    assert (done.result, done.files["errors"]) == (first.result, first.files["errors"])


@pytest.mark.parametrize("only", ["failed", None])
def test_a_retry_goes_on_when_the_job_before_is_removed(runner: Runner, only: str | None) -> None:
    first = runner.run(as_csv(table()), **KEY)
    job_id = again(runner, first.job.id, only)
    runner.works[0].do(pull(runner))

    runner.forget(first.job.id)

    done = runner.finish(job_id)
    assert done.files["errors"] == first.files["errors"]
    assert files_of(runner, job_id) == ["errors.jsonl", "input", "manifest.json", "result.csv"]


@pytest.mark.parametrize("only", ["failed", "skipped", None])
def test_a_retry_of_a_job_that_was_removed_before_fails(runner: Runner, only: str | None) -> None:
    first = runner.run(as_csv(table()), **KEY)
    job_id = again(runner, first.job.id, only)
    runner.forget(first.job.id)

    while not runner.read(job_id).done:
        runner.step()

    job = runner.read(job_id)
    assert job.failure is not None
    assert (job.status, job.failure["code"]) == (Status.FAILED, "input_gone")


def test_a_retry_can_be_retried_even_when_the_first_job_is_gone(runner: Runner) -> None:
    first = runner.run(as_csv(table()), **KEY)
    second = runner.finish(again(runner, first.job.id, "failed"))
    runner.forget(first.job.id)

    third = runner.finish(again(runner, second.job.id, "failed"))

    assert third.files["errors"] == first.files["errors"]


def test_a_retry_that_is_cancelled_knows_which_of_its_rows_it_did_not_reach(runner: Runner) -> None:
    first = runner.run(as_csv(table()), **KEY)
    job_id = again(runner, first.job.id, "failed")
    for _ in range(2):
        runner.works[0].do(pull(runner))
    runner.store.cancel(job_id)

    second = runner.finish(job_id)
    third = runner.finish(again(runner, job_id, "skipped"))

    assert second.job.counts.skipped == len(BAD) - len(faults(second)) > 0
    assert [fault[0] for fault in faults(second) + faults(third)] == list(BAD)


def test_a_retry_that_is_cancelled_before_its_plan_is_done_adds_no_rows(runner: Runner) -> None:
    first = runner.run(as_csv(table()), **KEY)
    job_id = again(runner, first.job.id, "failed")
    lost = pull(runner)
    runner.store.cancel(job_id)
    runner.store.release(lost.fence, WORKER_LOST)

    second = runner.finish(job_id)
    third = runner.finish(again(runner, job_id, "failed"))

    assert second.job.status is Status.CANCELLED
    assert [fault[0] for fault in faults(third)] == list(BAD)
    assert ids(third) == []


def test_a_retry_of_rows_that_a_worker_was_lost_with_predicts_them(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"slice_bytes": 40, "max_chunk_slices": 1}))
    job_id = runner.submit(numbered(20), **KEY)
    while not runner.read(job_id).done:
        unit = pull(runner)
        if unit.kind == "chunk" and unit.first == 1 and unit.attempt <= base.max_attempts:
            runner.store.release(unit.fence, WORKER_LOST)
        else:
            runner.works[0].do(unit)
    first = runner.finish(job_id)

    done = runner.finish(again(runner, job_id, "failed"))

    assert done.job.status is Status.SUCCEEDED
    assert {code for *_, code in faults(first)} == {"worker_lost"}
    assert ids(done) == [fault[1] for fault in faults(first)]


def test_a_retry_keeps_failed_rows_only_if_they_are_among_its_own(runner: Runner) -> None:
    first = runner.run(as_csv(table()), **KEY, max_failed_rows=1)
    skipped = runner.finish(again(runner, first.job.id, "skipped", keep_failed_rows=True))

    shown = [row[0] for row in result_rows(skipped)[1:]]

    reached = counts(first)[1] + counts(first)[2]
    assert shown == [f"k{number}" for number in range(reached + 1, ROWS + 1)]
