"""The rows that come with an artifact: enough to try it on, and no more than a worker has memory for."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest

from shared.batch import Format
from shared.errors import InvalidRequest
from tests.integration.train_runner import encoded
from worker.sample import MOST_BYTES, MOST_COLUMNS, MOST_ROWS, read_sample

FORMATS: list[Format] = ["csv", "ndjson", "parquet"]
ROWS = pa.table({"a": [1.5, 2.5, None], "b": ["x", 'y "quoted"\nin two lines', "z"]})


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", **options)
    return bytes(sink.getvalue())


def refused(data: bytes, format: Format) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_sample(data, format)
    assert [error["code"] for error in caught.value.errors] == ["bad_sample"]
    return caught.value.message


@pytest.mark.parametrize("format", FORMATS)
def test_a_sample_is_read_as_it_was_written(format: Format) -> None:
    assert read_sample(encoded(ROWS, format), format) == ROWS


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_first_rows_are_read(format: Format) -> None:
    table = pa.table({"a": np.arange(MOST_ROWS + 5000) + 0.5, "b": ['two\n"lines"' + "x" * 100] * (MOST_ROWS + 5000)})

    assert read_sample(encoded(table, format), format) == table.slice(0, MOST_ROWS)


@pytest.mark.parametrize("format", FORMATS)
def test_the_type_of_a_column_is_that_of_all_its_rows(format: Format) -> None:
    table = pa.table({"a": [*range(MOST_ROWS - 1), 0.5], "b": ["x" * 200] * MOST_ROWS})

    assert read_sample(encoded(table, format), format).schema.field("a").type == pa.float64()


def test_rows_of_a_small_file_that_are_many_once_unpacked_are_not_unpacked() -> None:
    data = parquet_of(pa.table({"a": np.zeros(20_000_000)}), row_group_size=20_000_000)
    assert len(data) < 100_000
    before = pa.total_allocated_bytes()

    table = read_sample(data, "parquet")

    assert table.num_rows == MOST_ROWS
    assert pa.total_allocated_bytes() - before < MOST_BYTES / 8


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: parquet_of(pa.table({"a": ["x" * 2**20] * 1000})), id="one-long-text-in-every-row"),
        pytest.param(
            lambda: parquet_of(pa.table({"a": np.zeros(10_000_000)}), use_dictionary=False, row_group_size=10_000_000),
            id="one-large-group",
        ),
        pytest.param(
            lambda: parquet_of(pa.table({f"c{i}": np.zeros(MOST_ROWS) for i in range(1000)}), row_group_size=MOST_ROWS),
            id="many-columns",
        ),
    ],
)
def test_a_parquet_file_that_unpacks_to_too_much_is_refused(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) < 2**20

    assert "more than 64 MiB unpacked; send fewer rows" in refused(data, "parquet")


@pytest.mark.parametrize(
    ("format", "data"),
    [
        pytest.param("csv", b",".join([b"a"] * 5000) + b"\n" + (b"," * 4999 + b"\n") * 2000, id="csv"),
        pytest.param(
            "ndjson", b"".join(orjson.dumps({f"c{row}": 1}) + b"\n" for row in range(9000)), id="names-of-their-own"
        ),
    ],
)
def test_a_text_file_that_makes_a_huge_table_is_refused(format: Format, data: bytes) -> None:
    assert "more than 64 MiB unpacked; send fewer rows" in refused(data, format)


@pytest.mark.parametrize("format", FORMATS)
def test_too_many_columns_are_refused(format: Format) -> None:
    table = pa.table({f"c{number}": [1] for number in range(MOST_COLUMNS + 1)})

    assert f"more than {MOST_COLUMNS} columns" in refused(encoded(table, format), format)


@pytest.mark.parametrize(
    ("format", "data", "words"),
    [
        pytest.param("csv", b" \n", "The sample is empty", id="empty"),
        pytest.param("csv", b"a,b\n1\n", "cannot be read as csv: ", id="csv"),
        pytest.param("parquet", b"PAR1 and no more", "cannot be read as parquet: ", id="parquet"),
        pytest.param("ndjson", b'{"a": 1}\n{"a": ', "cannot be read as ndjson: line 2: ", id="ndjson"),
        pytest.param("ndjson", b"[1]\n", "Line 1 of the sample is no JSON object", id="no-object"),
        pytest.param("ndjson", b'\n{"a": {"b": 1}}', "Column a of line 2 of the sample is an object", id="nested"),
        pytest.param("ndjson", b'{"a": 1}\n{"a": "x"}\n', "cannot be read as ndjson: ", id="mixed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(format: Format, data: bytes, words: str) -> None:
    message = refused(data, format)

    assert re.match(f"(The sample )?{re.escape(words)}", message), message
