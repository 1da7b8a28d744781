"""What becomes of bad rows, of jobs that end early, of workers that die and of a disk that is full."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.batch import MANIFEST_NAME
from shared.errors import StorageFailed, StorageFull
from shared.inputs import Inputs
from shared.job import Status, new_job_id
from shared.queue import BATCH
from shared.records import WORKER_LOST, BatchUnit, Submission
from shared.settings import Settings
from shared.storage import Storage, part_key
from tests.disk import Disk
from tests.integration.batch_files import (
    counts,
    csv_file,
    faults,
    files_of,
    numbered,
    parquet_file,
    result_rows,
    service,
)  # fmt: skip
from tests.integration.batch_runner import Finished, Runner
from tests.models import EXIT, MEMORY, RAISE, SHORT, register_echo, register_fitted, register_moody
from tests.wait import until
from worker.batch import BatchWork
from worker.drain import worker_name
from worker.model_cache import ModelCache
from worker.plan import FLUSH_SECONDS

ROW_BYTES = 60


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(
        register_moody, register_fitted, register_echo, max_row_bytes=ROW_BYTES, max_text_length=30
    ) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers that cut files into slices of a few rows, and take one at a time."""
    return Runner(base.model_copy(update={"slice_bytes": 40, "slice_rows": 3, "max_chunk_slices": 1}))


def pull(runner: Runner, worker: int = 0) -> BatchUnit:
    """A unit, which must be there, for this very process."""
    unit = runner.works[worker].pull(worker_name(), linger_seconds=0, answered=False, lane="")
    assert unit is not None
    return unit


def lose(runner: Runner, unit: BatchUnit) -> None:
    """The worker of a unit died, and the janitor saw it."""
    runner.store.release(unit.fence, WORKER_LOST)


def finish_with(runner: Runner, job_id: str, do: Callable[[BatchUnit], None]) -> Finished:
    """Have every unit of a job done by a function."""
    while not runner.read(job_id).done:
        do(pull(runner))
    return runner.finish(job_id)


CSV: dict[str, Any] = {"key_column": "id"}


@pytest.mark.parametrize(
    ("model", "line", "column", "code"),
    [
        pytest.param("moody", b"k", None, "wrong_number_of_fields", id="too-few-fields"),
        pytest.param("moody", b"k,1,2", None, "wrong_number_of_fields", id="too-many-fields"),
        pytest.param("moody", b"k,one", "x", "not_a_number", id="not-a-number"),
        pytest.param("moody", b"k,", "x", "missing_value", id="missing"),
        pytest.param("moody", b"k,NA", "x", "missing_value", id="missing-by-name"),
        pytest.param("moody", b"k,inf", "x", "not_finite", id="not-finite"),
        pytest.param("moody", b"k,-1e999", "x", "not_finite", id="too-large"),
        pytest.param("moody", b"k,\xff", "x", "not_utf8", id="encoding"),
        pytest.param("moody", f"k,{RAISE}".encode(), "x", "prediction_failed", id="predict-raises"),
        pytest.param("moody", f"k,{EXIT}".encode(), "x", "prediction_failed", id="predict-exits"),
        pytest.param("moody", f"k,{SHORT}".encode(), None, "bad_model_output", id="predict-gives-too-few"),
        pytest.param("moody", f"k,{MEMORY}".encode(), None, "out_of_memory", id="out-of-memory"),
    ],
)
@pytest.mark.parametrize("first", [1, 2, 11], ids=["first", "second", "last"])
def test_a_bad_row_is_named_and_spoils_no_other(
    runner: Runner, model: str, line: bytes, column: str | None, code: str, first: int
) -> None:
    lines = [f"k{number},{20 + number}".encode() for number in range(1, 11)]
    lines.insert(first - 1, line)

    done = runner.run(b"id,x\n" + b"\n".join(lines) + b"\n", model=model, **CSV)

    assert (done.job.status, faults(done)) == (Status.PARTIALLY_SUCCEEDED, [(first, "k", column, code)])
    assert result_rows(done)[1:] == [[f"k{number}", str((20 + number) * 2.0)] for number in range(1, 11)]
    assert list(done.job.errors) == done.errors


def test_a_category_that_the_pipeline_does_not_know_fails_its_row_alone(runner: Runner) -> None:
    data = b"id,colour,size\n1,red,1\n2,pink,2\n3,blue,3\n4,green,x\n5,green,5\n"

    done = runner.run(data, model="colours", **CSV)

    assert faults(done) == [(2, "2", "colour", "prediction_failed"), (4, "4", "size", "not_a_number")]
    assert "pink" in done.errors[0]["message"]
    assert [row[0] for row in result_rows(done)[1:]] == ["1", "3", "5"]


def test_a_quote_that_is_never_closed_takes_no_other_row_with_it(runner: Runner) -> None:
    done = runner.run(b'id,x\na,1\n"b,2\nc,3\nd,4\n', **CSV)

    assert faults(done) == [(2, None, None, "unclosed_quote")]
    assert result_rows(done)[1:] == [["a", "2.0"], ["c", "6.0"], ["d", "8.0"]]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_row_that_is_too_long_takes_no_other_row_with_it(runner: Runner, pack: Callable[[bytes], bytes]) -> None:
    data = b"id,x\na,1\nb," + b"2" * 500 + b"\nc,3\n" + b"d" * ROW_BYTES + b",4\ne,5"

    done = runner.run(pack(data), **CSV)

    assert faults(done) == [(2, None, None, "row_too_long"), (4, None, None, "row_too_long")]
    assert str(ROW_BYTES) in done.errors[0]["message"]
    assert result_rows(done)[1:] == [["a", "2.0"], ["c", "6.0"], ["e", "10.0"]]


def test_a_text_that_is_too_long_fails_its_row_alone(runner: Runner) -> None:
    done = runner.run(b"id,text\n1,good\n2," + b"g" * 31 + b"\n3," + b"g" * 30 + b"\n", model="words", **CSV)

    assert faults(done) == [(2, "2", "text", "text_too_long")]


@pytest.mark.parametrize(
    ("line", "key", "column", "code"),
    [
        ('{"id": "k", "x": "1"}', "k", "x", "not_a_number"),
        ('{"id": 7, "x": null}', 7, "x", "missing_value"),
        ('{"id": ["k"]}', ["k"], "x", "missing_column"),
        ('{"id": "k", "x": 1', None, None, "malformed_json"),
        ('"text"', None, "x", "not_a_number"),
        (f'{{"id": "k", "x": {RAISE}}}', "k", "x", "prediction_failed"),
    ],
    ids=["string", "null", "missing", "cut-off", "no-object", "predict-raises"],
)
def test_a_bad_line_of_json_is_named_and_spoils_no_other(
    runner: Runner, line: str, key: Any, column: str | None, code: str
) -> None:
    lines = [json.dumps({"id": number, "x": number}) for number in (1, 2)]
    data = "\n".join([lines[0], line, lines[1]]).encode()

    done = runner.run(data, name="rows.ndjson", **CSV)

    assert faults(done) == [(2, key, column, code)]
    assert [json.loads(row)["prediction"] for row in done.result.splitlines()] == [2.0, 4.0]


def test_bad_rows_of_parquet_are_named(runner: Runner) -> None:
    values = [1.0, None, float("inf"), 2.0, RAISE, float("nan"), 3.0]

    done = runner.run(parquet_file({"id": list("abcdefg"), "x": values}, row_group_size=5), **CSV)

    assert faults(done) == [
        (2, "b", "x", "missing_value"),
        (3, "c", "x", "not_finite"),
        (5, "e", "x", "prediction_failed"),
        (6, "f", "x", "missing_value"),
    ]


def test_the_first_fault_of_a_row_counts(runner: Runner) -> None:
    done = runner.run(b"flag,number,whole,text\nmaybe,x,1.5,a\n", model="echo")

    assert faults(done) == [(1, None, "whole", "not_an_integer")]


def test_a_job_of_bad_rows_alone_fails_and_says_why(runner: Runner) -> None:
    done = runner.run(b"id,x\na,one\nb,two\nc,13\nd,\ne,three\n", **CSV)

    assert (done.job.status, counts(done)) == (Status.FAILED, (5, 0, 5, 0))
    assert done.job.failure is not None
    assert done.job.failure["code"] == "all_rows_failed"
    assert "not_a_number in column x (3 rows), " in done.job.failure["message"]
    assert done.result == b"id,prediction\n"
    assert [error["row"] for error in done.errors] == [1, 2, 3, 4, 5]
    assert done.manifest["reasons"][0] == {"code": "not_a_number", "column": "x", "rows": 3}


@pytest.mark.parametrize("options", [{"max_failed_rows": 2}, {"max_failed_fraction": 0.04}], ids=["rows", "fraction"])
def test_too_many_bad_rows_end_a_job_early(runner: Runner, options: dict[str, Any]) -> None:
    lines = numbered(60).decode().splitlines()
    for number in (3, 12, 24):
        lines[number] = f"{number},x"

    done = runner.run("\n".join(lines).encode(), **CSV, **options)

    assert done.job.status is Status.FAILED
    assert done.job.failure is not None
    assert done.job.failure["code"] == "too_many_failed_rows"
    assert "not_a_number in column x (3 rows)" in done.job.failure["message"]
    assert [fault[:2] for fault in faults(done)] == [(3, "3"), (12, "12"), (24, "24")]
    total, succeeded, failed, skipped = counts(done)
    assert (total, failed) == (60, 3)
    assert 0 < skipped == 60 - 3 - succeeded
    assert len(result_rows(done)) - 1 == succeeded
    assert done.manifest["skipped_rows"] == [[60 - skipped + 1, 60]]


@pytest.mark.parametrize("options", [{"max_failed_rows": 3}, {"max_failed_fraction": 0.05}], ids=["rows", "fraction"])
def test_as_many_bad_rows_as_are_allowed_do_not_end_a_job(runner: Runner, options: dict[str, Any]) -> None:
    lines = numbered(60).decode().splitlines()
    for number in (3, 12, 24):
        lines[number] = f"{number},x"

    done = runner.run("\n".join(lines).encode(), **CSV, **options)

    assert (done.job.status, counts(done)) == (Status.PARTIALLY_SUCCEEDED, (60, 57, 3, 0))


def test_rows_that_kill_their_worker_fail_with_their_slice_alone(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"slice_bytes": 40}))
    job_id = runner.submit(numbered(50), **CSV)

    def do(unit: BatchUnit) -> None:
        deadly = unit.kind == "chunk" and any(
            piece.first_row <= 20 < piece.first_row + piece.rows for piece in unit.slices
        )
        if deadly and unit.attempt <= base.max_attempts:
            lose(runner, unit)
        else:
            runner.works[0].do(unit)

    done = finish_with(runner, job_id, do)

    lost = [fault[0] for fault in faults(done)]
    assert 21 in lost
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert len(lost) * 5 <= 40 + 5
    assert {code for *_, code in faults(done)} == {"worker_lost"}
    assert [fault[1] for fault in faults(done)] == list(map(str, lost))
    assert [int(row[0]) for row in result_rows(done)[1:]] == [n for n in range(1, 51) if n not in lost]


def test_a_final_unit_that_is_lost_is_done_again(runner: Runner) -> None:
    expected = runner.run(numbered(20), **CSV)
    job_id = runner.submit(numbered(20), **CSV)

    def do(unit: BatchUnit) -> None:
        if unit.kind == "final" and unit.attempt == 1:
            lose(runner, unit)
        else:
            runner.works[0].do(unit)

    done = finish_with(runner, job_id, do)

    assert done.result == expected.result


def test_a_part_of_a_lease_that_was_lost_is_never_read(runner: Runner) -> None:
    job_id = runner.submit(numbered(3), **CSV)
    runner.works[0].do(pull(runner))
    lost = pull(runner)
    lose(runner, lost)
    runner.storage.put(part_key(job_id, lost.first, lost.fence, "result"), b"nonsense\n")

    done = runner.finish(job_id)

    assert len(result_rows(done)) == 4
    assert b"nonsense" not in done.result


def half_done(runner: Runner, **options: Any) -> str:
    """A job of 60 rows that is planned, with two of its chunks scored."""
    job_id = runner.submit(numbered(60), **CSV, **options)
    for _ in range(3):
        runner.works[0].do(pull(runner))
    return job_id


def test_a_cancelled_job_keeps_what_was_done(runner: Runner) -> None:
    job_id = half_done(runner)

    runner.store.cancel(job_id)

    done = runner.finish(job_id)
    total, succeeded, failed, skipped = counts(done)
    assert (done.job.status, total, failed) == (Status.CANCELLED, 60, 0)
    assert [int(row[0]) for row in result_rows(done)[1:]] == list(range(1, succeeded + 1))
    assert skipped == 60 - succeeded < 60
    assert done.manifest["skipped_rows"] == [[succeeded + 1, 60]]
    assert (done.manifest["status"], done.manifest["counted"]) == ("cancelled", True)
    assert files_of(runner, job_id) == ["errors.jsonl", "input", "manifest.json", "result.csv"]


def test_a_chunk_that_is_under_way_when_its_job_is_cancelled_still_counts_or_stops(runner: Runner) -> None:
    job_id = half_done(runner)
    unit = pull(runner)
    runner.store.cancel(job_id)

    runner.works[0].do(unit)

    done = runner.finish(job_id)
    assert done.job.status is Status.CANCELLED
    assert done.job.counts.skipped == 60 - done.job.counts.succeeded
    assert len(result_rows(done)) - 1 == done.job.counts.succeeded


def test_rows_between_two_finished_chunks_are_skipped_by_number(runner: Runner) -> None:
    job_id = half_done(runner)
    under_way = pull(runner)
    runner.works[1].do(pull(runner, 1))
    runner.store.cancel(job_id)
    lose(runner, under_way)

    done = runner.finish(job_id)

    missing = [n for n in range(1, 61) if str(n) not in {row[0] for row in result_rows(done)}]
    runs = done.manifest["skipped_rows"]
    assert len(runs) == 2
    assert [row for first, last in runs for row in range(first, last + 1)] == missing


def test_a_job_that_is_cancelled_before_its_plan_has_a_manifest_alone(runner: Runner) -> None:
    job_id = runner.submit(numbered(5), **CSV)
    lost = pull(runner)
    runner.store.cancel(job_id)
    lose(runner, lost)

    done = runner.finish(job_id)

    assert (done.job.status, list(done.files)) == (Status.CANCELLED, ["manifest"])
    assert done.manifest["counted"] is False


def test_a_job_whose_deadline_is_over_keeps_what_was_done(runner: Runner) -> None:
    spec = runner.read(runner.submit(numbered(60), **CSV)).spec
    assert spec.batch is not None
    runner.store.cancel(str(spec.batch.input.key).split("/")[1])
    job_id = new_job_id()
    late = Submission(id=job_id, spec=spec, alias=None, queue=BATCH, ttl_seconds=600, deadline_seconds=2)
    runner.store.submit(late)
    for _ in range(3):
        runner.works[0].do(pull(runner))

    until(lambda: runner.store.tick([BATCH])[0], what="the janitor ends it")

    done = runner.finish(job_id)
    assert done.job.failure is not None
    assert (done.job.status, done.job.failure["code"]) == (Status.FAILED, "deadline_exceeded")
    assert len(result_rows(done)) - 1 == done.job.counts.succeeded > 0
    assert done.job.counts.skipped == 60 - done.job.counts.succeeded


def packed_rows() -> tuple[bytes, list[str]]:
    """Enough rows, a slice each, that they are not unpacked in one turn; and their ids."""
    ids = [f"{number}{'x' * 40}" for number in range(1, 601)]
    return gzip.compress(
        csv_file(["id", "x"], [[key, 20 + number % 30] for number, key in enumerate(ids)]).encode()
    ), ids


def test_a_compressed_file_whose_unpacking_is_interrupted_gives_the_same(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"slice_bytes": 1}))
    data, ids = packed_rows()
    job_id = runner.submit(data, **CSV)
    resumed: list[int] = []

    def do(unit: BatchUnit) -> None:
        if unit.kind == "plan" and unit.position and not resumed:
            resumed.append(unit.position["rows"])
            lose(runner, unit)
        else:
            runner.works[len(resumed)].do(unit)

    done = finish_with(runner, job_id, do)

    assert 0 < resumed[0] < len(ids)
    assert result_rows(done)[1:] == [[key, str((20 + number % 30) * 2.0)] for number, key in enumerate(ids)]
    assert files_of(runner, job_id) == ["errors.jsonl", "input", "manifest.json", "result.csv"]


class Shaky(Storage):
    """Storage that is slow at its third write, and away for a moment at the n-th."""

    def __init__(self, url: str, fails_at: int) -> None:
        super().__init__(url)
        self.writes = 0
        self.fails_at = fails_at

    def put(self, key: str, data: bytes | memoryview) -> None:
        self.writes += 1
        if self.writes == 3:
            # So long that what was found so far is made known: when it is tried again, that is another part.
            threading.Event().wait(FLUSH_SECONDS * 1.1)
        if self.writes == self.fails_at:
            raise StorageFailed(f"{key} cannot be written.")
        super().put(key, data)


@pytest.mark.parametrize("fails_at", [1, 5], ids=["at-once", "after-slices-were-made-known"])
def test_storage_that_is_away_for_a_moment_loses_no_row(base: Settings, fails_at: int) -> None:
    runner = Runner(base.model_copy(update={"slice_bytes": 1}))
    data, ids = packed_rows()
    job_id = runner.submit(data, **CSV)
    shaky = Shaky((base.data_dir / "storage").as_uri(), fails_at)
    work = BatchWork(
        runner.store, shaky, Inputs(base, shaky), runner.registry, ModelCache(runner.registry, 2**30), lambda _: None,
        runner.settings,
    )  # fmt: skip

    done = finish_with(runner, job_id, work.do)

    assert (done.job.status, counts(done)) == (Status.SUCCEEDED, (600, 600, 0, 0))
    assert [row[0] for row in result_rows(done)[1:]] == ids


class FullForManifests(Storage):
    """Storage that has room for everything but a manifest, which is written last."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        if key.endswith(MANIFEST_NAME):
            raise StorageFull
        super().put(key, data)


def test_a_disk_that_is_full_at_the_very_end_keeps_nothing_that_is_not_counted(base: Settings) -> None:
    runner = Runner(base)
    job_id = runner.submit(numbered(100), **CSV)
    full = FullForManifests((base.data_dir / "storage").as_uri())
    work = BatchWork(
        runner.store, full, Inputs(base, full), runner.registry, ModelCache(runner.registry, 2**30), lambda _: None,
        runner.settings,
    )  # fmt: skip

    done = finish_with(runner, job_id, work.do)

    assert done.job.failure is not None
    assert (done.job.status, done.job.failure["code"]) == (Status.FAILED, "storage_full")
    assert files_of(runner, job_id) == ["input"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    try:
        disk = Disk(tmp_path, 2**20)
    except OSError as error:
        pytest.skip(f"only root may mount a small disk: {error}")
    yield tmp_path
    disk.close()


def test_a_full_disk_fails_the_job_and_harms_nothing_else(base: Settings, small_disk: Path) -> None:
    settings = base.model_copy(update={"storage": small_disk.as_uri(), "slice_bytes": 20_000, "redis_prefix": "small"})
    register_moody(settings)
    runner = Runner(settings)
    before = runner.run(numbered(100), **CSV)
    # The parts and the result take as much as the file each.
    data = numbered(35_000)

    done = runner.run(data, **CSV)

    assert done.job.failure is not None
    assert (done.job.status, done.job.failure["code"]) == (Status.FAILED, "storage_full")
    assert runner.storage.get(before.job.outputs["result"]["key"]) == before.result
    left = [path.name for path in (small_disk / "jobs" / done.job.id).rglob("*") if path.is_file()]
    assert left == ["input"]
    runner.forget(done.job.id)
    assert runner.run(numbered(5_000), **CSV).job.status is Status.SUCCEEDED
