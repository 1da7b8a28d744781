"""What happens around a batch job besides kills: its file changes, its model goes, a page of it is damaged."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.batch import Input
from shared.dialect import Dialect
from shared.job import Status
from shared.storage import artifact_key
from tests.integration.batch_files import counts, faults, result_rows, service
from tests.integration.batch_runner import Runner
from tests.models import register_moody


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files lie that jobs may read by uri."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Iterator[Runner]:
    """Small slices, so that a job has several chunks."""
    with service(register_moody, slice_bytes=100, slice_rows=10, input_prefixes=folder.as_uri()) as settings:
        yield Runner(settings)


def numbers(first: int, last: int) -> str:
    return "x\n" + "".join(f"{20 + number / 100:.2f}\n" for number in range(first, last))


def test_a_file_that_changes_under_a_job_is_not_half_old_and_half_new(runner: Runner, folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_text(numbers(0, 100))
    job_id = runner.submit(b"", given=Input(uri=path.as_uri()))
    runner.step()  # the plan
    runner.step()  # a chunk

    path.write_text(numbers(100, 200))
    done = runner.finish(job_id)

    assert done.job.failure is not None
    assert (done.job.status, done.job.failure["code"]) == (Status.FAILED, "input_changed")


def test_a_file_elsewhere_that_stays_as_it_is_is_scored(runner: Runner, folder: Path) -> None:
    path = folder / "same.csv"
    path.write_text(numbers(0, 50))

    done = runner.finish(runner.submit(b"", given=Input(uri=path.as_uri())))

    assert counts(done) == (50, 50, 0, 0)


def test_what_is_done_is_kept_if_the_model_is_gone(runner: Runner) -> None:
    job_id = runner.submit(numbers(0, 100).encode())
    runner.step()
    runner.step()
    runner.store.cancel(job_id)
    manifest = runner.registry.resolve("moody").manifest
    key = artifact_key(manifest.model, manifest.version, manifest.artifact)
    artifact = runner.storage.get(key)

    runner.storage.delete(key)
    try:
        done = Runner(runner.settings).finish(job_id)  # other workers, which have not loaded it
    finally:
        runner.storage.put(key, artifact)

    assert done.job.status is Status.CANCELLED
    assert len(result_rows(done)) - 1 == done.job.counts.succeeded > 0


def test_a_damaged_page_of_parquet_says_which_row_group_it_is_in(runner: Runner) -> None:
    path = Path(runner.settings.data_dir) / "damaged.parquet"
    table = pa.table({"x": [20 + number / 100 for number in range(50)]})
    pq.write_table(table, path, row_group_size=10, compression="snappy", use_dictionary=False, write_statistics=False)
    data = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[offset : offset + 40] = b"\xff" * 40

    done = runner.run(bytes(data))

    assert done.job.failure is not None
    assert done.job.failure["code"] == "invalid_input"
    assert "Row group 3" in done.job.failure["message"]


@pytest.mark.parametrize("slice_rows", [7, 10, 1000])
def test_a_large_row_group_is_read_right_whatever_slices_this_worker_would_have_made(
    runner: Runner, slice_rows: int
) -> None:
    table = pa.table({"x": [20 + number / 100 for number in range(333)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    planner, scorer = (
        Runner(runner.settings.model_copy(update={"slice_rows": rows, "slice_bytes": 1})) for rows in (10, slice_rows)
    )
    job_id = planner.submit(bytes(sink.getvalue()), output_format="csv")
    planner.step()

    done = scorer.finish(job_id)

    assert [float(value) for (value,) in result_rows(done)[1:]] == [value * 2 for value in table["x"].to_pylist()]


def test_half_a_character_of_utf_16_fails_its_row_alone(runner: Runner) -> None:
    text = "id,x\na,20\nb\ud800,21\nc,22\n".encode("utf-16-le", "surrogatepass")

    done = runner.run(text, dialect=Dialect(encoding="utf-16-le"), key_column="id")

    assert [(row, column, code) for row, _, column, code in faults(done)] == [(2, "id", "not_utf8")]
    assert counts(done) == (3, 2, 1, 0)


def test_columns_without_a_name_are_kept_apart(runner: Runner) -> None:
    done = runner.run(b",x,\n1,20,3\n", include_all=True)

    assert result_rows(done) == [["column_1", "x", "column_3", "prediction"], ["1", "20", "3", "40.0"]]
