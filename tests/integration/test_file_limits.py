"""Files that are larger than they look, or than they may be: refused by name, at once, by a worker that lives on."""

import csv
import gzip
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.file_limits import FREE_BYTES
from shared.job import Status
from shared.settings import Settings
from tests.integration.batch_files import counts, csv_file, faults, files_of, parquet_file, result_rows, service, zstd
from tests.integration.batch_runner import Finished, Runner
from tests.models import register_fitted, register_moody

MIB = 2**20
KEPT: dict[str, Any] = {"key_column": "id"}


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(register_moody, register_fitted) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers with limits that small files reach."""
    return Runner(
        base.model_copy(
            update={
                "slice_bytes": 60, "slice_rows": 3, "max_file_rows": 10, "max_columns": 5, "max_text_length": 8,
                "max_json_depth": 4,
            }
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def roomy(base: Settings) -> Runner:
    """Workers with the usual limits, but for the memory of a part of a Parquet file."""
    return Runner(base.model_copy(update={"max_parquet_memory_mb": 256}))


def failure(done: Finished) -> tuple[str, str]:
    """Status, and the failure's code."""
    assert done.job.failure is not None, done.job
    return done.job.status, done.job.failure["code"]


def rows_in(format: str, count: int) -> bytes:
    """A file of so many rows."""
    rows = [[number, 20] for number in range(1, count + 1)]
    match format:
        case "parquet":
            return parquet_file(
                {"id": [row[0] for row in rows], "x": [float(row[1]) for row in rows]}, row_group_size=4
            )
        case "ndjson":
            return b"".join(b'{"id": %d, "x": %d}\n' % (row[0], row[1]) for row in rows)
        case "csv.gz":
            return gzip.compress(csv_file(["id", "x"], rows).encode())
    return csv_file(["id", "x"], rows).encode()


@pytest.mark.parametrize("format", ["csv", "csv.gz", "ndjson", "parquet"])
def test_a_file_of_too_many_rows_fails_and_leaves_none_out_silently(runner: Runner, format: str) -> None:
    done = runner.run(rows_in(format, 11), name=f"rows.{format}", **KEPT)

    assert failure(done) == (Status.FAILED, "too_many_rows")
    assert "more than 10 rows" in str(done.job.failure)
    total, succeeded, failed, skipped = counts(done)
    assert (succeeded + failed + skipped, failed) == (total or 0, 0)
    assert succeeded <= 10


@pytest.mark.parametrize("format", ["csv", "csv.gz", "ndjson", "parquet"])
def test_a_file_of_as_many_rows_as_may_be_is_scored(runner: Runner, format: str) -> None:
    done = runner.run(rows_in(format, 10), name=f"rows.{format}", **KEPT)

    assert (done.job.status, counts(done)) == (Status.SUCCEEDED, (10, 10, 0, 0))


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(("columns", "code"), [(5, None), (6, "too_many_columns")])
def test_a_file_of_too_many_columns_fails(runner: Runner, format: str, columns: int, code: str | None) -> None:
    names = ["x", *(f"c{number}" for number in range(columns - 1))]
    data = csv_file(names, [[1.0] * columns]).encode()
    if format == "parquet":
        data = parquet_file({name: [1.0] for name in names})

    done = runner.run(data, name=f"rows.{format}")

    assert done.job.failure is None if code is None else done.job.errors[0]["code"] == code


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_a_text_that_is_too_long_fails_its_row_alone(runner: Runner, format: str) -> None:
    texts = ["short", "too long for it", "ünïcödé!"]
    match format:
        case "csv":
            data = csv_file(["id", "text"], list(enumerate(texts))).encode()
        case "ndjson":
            data = "".join(f'{{"id": {n}, "text": "{text}"}}\n' for n, text in enumerate(texts)).encode()
        case _:
            data = parquet_file({"id": [0, 1, 2], "text": texts})

    done = runner.run(data, model="words", name=f"rows.{format}", **KEPT)

    assert [(row, column, code) for row, _, column, code in faults(done)] == [(2, "text", "text_too_long")]
    assert counts(done) == (3, 2, 1, 0)


def test_a_row_of_json_that_is_nested_too_deeply_fails_alone(runner: Runner) -> None:
    deep = b'{"id": 2, "x": 1, "more": [[[[1]]]]}\n'

    done = runner.run(b'{"id": 1, "x": 1}\n' + deep + b'{"id": 3, "x": 1}\n', name="rows.ndjson", **KEPT)

    assert [(row, code) for row, _, _, code in faults(done)] == [(2, "json_too_deep")]
    assert counts(done) == (3, 2, 1, 0)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_file_that_unpacks_to_too_many_times_its_size_fails(base: Settings, compression: str) -> None:
    runner = Runner(base.model_copy(update={"max_compression_ratio": 50}))
    text = b"id,x\n" + b"1,2" + b" " * (FREE_BYTES + MIB)
    packed = gzip.compress(text) if compression == "gzip" else zstd(text)

    done = runner.run(packed, name="rows.csv")

    assert failure(done) == (Status.FAILED, "unpacks_to_too_much")
    assert "FORETELL_MAX_COMPRESSION_RATIO" in str(done.job.failure)
    assert [name for name in files_of(runner, done.job.id) if name.startswith("unpacked")] == []


def test_a_small_file_may_unpack_to_many_times_its_size(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"max_compression_ratio": 1}))
    text = b"id,x\n" + b"1,2\n" * 100_000

    done = runner.run(gzip.compress(text), name="rows.csv")

    assert counts(done) == (100_000, 100_000, 0, 0)


def test_a_file_that_unpacks_to_too_many_bytes_fails_whatever_its_ratio(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"max_unpacked_bytes": 1000}))

    done = runner.run(gzip.compress(b"id,x\n" + b"1,2\n" * 1000), name="rows.csv")

    assert failure(done) == (Status.FAILED, "unpacks_to_too_much")


def test_a_frame_that_wants_a_window_of_gigabytes_is_refused_and_not_given_it(runner: Runner) -> None:
    # RFC 8878, sections 3.1.1.1.2 and 3.1.1.2: a window of 2^31 bytes, and a last block of one raw byte.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x09\x00\x00" + b"x"

    done = runner.run(frame, name="rows.csv")

    # Refused for the window that it wants: one that was given it would be unpacked, to a file with a column `x`.
    (error,) = done.job.errors
    assert error["code"] == "not_decompressed"
    assert "too much memory" in error["message"]


def one_text(rows: int, length: int, *, typed: bool) -> bytes:
    """A column that is one long text in every row: next to nothing in a file, whose footer says so too."""
    table = pa.table({"text": pa.array(["a" * length] * 100)})
    file = io.BytesIO()
    if typed:
        indices = pa.array([0] * rows, pa.int32())
        table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["a" * length]))})
    with pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=typed) as writer:
        writer.write_table(table if typed else pa.concat_tables([table] * (rows // 100)), row_group_size=rows)
    return file.getvalue()


@pytest.mark.parametrize("typed", [True, False], ids=["as-a-dictionary", "as-strings"])
def test_a_parquet_file_whose_rows_take_gigabytes_fails_and_its_worker_lives(roomy: Runner, typed: bool) -> None:
    data = one_text(50_000, 100_000, typed=typed)
    assert len(data) < 10_000

    done = roomy.run(data, model="words")

    assert failure(done) == (Status.FAILED, "unpacks_to_too_much")
    assert "FORETELL_MAX_PARQUET_MEMORY_MB" in str(done.job.failure)
    assert roomy.run(one_text(100, 10, typed=typed), model="words").job.status == Status.SUCCEEDED


def test_rows_that_no_file_of_that_size_has_are_refused_before_any_is_scored(base: Settings) -> None:
    runner = Runner(base.model_copy(update={"max_compression_ratio": 1}))
    data = parquet_file({"x": pa.array([0.0]).take(pa.array([0] * (FREE_BYTES + 1)))}, row_group_size=FREE_BYTES + 1)

    done = runner.run(data)

    assert failure(done) == (Status.FAILED, "unpacks_to_too_much")
    assert counts(done)[1] == 0


def with_footer(data: bytes, old: bytes, new: bytes) -> bytes:
    """The same Parquet file with other numbers in its footer, which is as long as before."""
    assert len(old) == len(new)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[begin:]
    assert old in footer
    return data[:begin] + footer.replace(old, new)


def varint(number: int) -> bytes:
    """As Thrift's compact protocol writes an integer: zigzag, seven bits a byte."""
    number, out = number << 1, b""
    while number > 127:
        number, out = number >> 7, out + bytes([number & 127 | 128])
    return out + bytes([number])


@pytest.mark.parametrize("claimed", [200_001, 1_000_000], ids=["one-row-more", "many-rows-more"])
def test_a_footer_that_promises_more_rows_than_there_are_fails_the_job(roomy: Runner, claimed: int) -> None:
    data = parquet_file({"x": [float(number % 7) for number in range(200_000)]}, row_group_size=200_000)

    done = roomy.run(with_footer(data, varint(200_000), varint(claimed)))

    assert done.job.status == Status.FAILED
    assert done.job.errors[0]["code"] == "bad_input"


def test_a_footer_of_absurd_length_is_refused(roomy: Runner) -> None:
    data = parquet_file({"x": [1.0]})

    done = roomy.run(data[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1")

    assert done.job.errors[0]["code"] == "bad_input"


def test_a_parquet_file_of_many_columns_is_read_in_fewer_rows_at_a_time(base: Settings) -> None:
    names = [f"c{number}" for number in range(2000)]
    table = pa.table({"x": [1.0] * 3000, **{name: [0.0] * 3000 for name in names}})
    runner = Runner(base.model_copy(update={"max_parquet_memory_mb": 64, "slice_rows": 2**20}))

    done = runner.run(parquet_file(table), include_all=True)

    assert counts(done) == (3000, 3000, 0, 0)


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "'=1"]


def test_cells_that_a_spreadsheet_would_run_pass_as_they_are(runner: Runner) -> None:
    rows = [[text, text, 1] for text in FORMULAS]
    data = csv_file(["id", "note", "x"], rows, quoting=csv.QUOTE_ALL).encode()

    done = runner.run(data, name="rows.csv", key_column="id", include=("note",))

    assert [row[:2] for row in result_rows(done)[1:]] == [[text, text] for text in FORMULAS]
    bad = runner.run(
        csv_file(["id", "x"], [[text, "bad"] for text in FORMULAS], quoting=csv.QUOTE_ALL).encode(),
        name="b.csv",
        **KEPT,
    )
    assert [error["key"] for error in bad.errors] == FORMULAS
