"""Parquet files with damage, read as workers read them: rows, or a refusal; in bounded memory, and without a crash."""

import io
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from shared.errors import InvalidRequest
from tests.fuzz.mutations import damaged
from tests.fuzz.profile import examples
from tests.fuzz.reading import Reading
from tests.fuzz.sandbox import Sandbox
from worker.sample import read_sample

# Address space that reading a file of a few kilobytes may take on top.
MOST_BYTES: Final = 2**30


def written(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def wholes() -> list[bytes]:
    """Small files of the kinds that writers make."""
    columns = {"a": [1.5, None, 3.0], "b": [1, None, 3], "c": ["x", "ä", "x"], "d": [True, None, False]}
    plain = pa.table({name: pa.array(values) for name, values in columns.items()})
    others = pa.table(
        {
            "a": pa.array([Decimal("1.50"), Decimal("2.00"), None]),
            "b": pa.array([1, 2, 3], pa.uint64()),
            "c": pa.array(["x", "y", "x"]).dictionary_encode(),
            "d": pa.nulls(3),
            "more": pa.array([[1, 2], None, []]),
            "when": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
        }
    )
    return [
        written(plain, compression="none"),
        written(plain, compression="snappy", row_group_size=1),
        written(others, compression="zstd", data_page_version="2.0", write_page_checksum=True),
        written(others, compression="gzip", use_dictionary=False, version="1.0"),
        written(plain.slice(0, 0)),
    ]


def read(data: bytes) -> str:
    """Called in the sandbox: how many rows there are, or the code of the refusal."""
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:
        try:
            rows = Reading(Path(folder)).rows(data, slice_rows=2)
        except InvalidRequest as error:
            assert error.errors[0]["message"]
            return str(error.errors[0]["code"])
    return f"{len(rows)} rows"


def sampled(data: bytes) -> str:
    """Called in the sandbox: the same of a file that is the sample of an artifact."""
    try:
        return f"{read_sample(data, 'parquet').num_rows} rows"
    except InvalidRequest as error:
        return str(error.errors[0]["code"])


@pytest.fixture(scope="module")
def reader() -> Iterator[Sandbox]:
    sandbox = Sandbox(read, most_bytes=MOST_BYTES)
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sandbox]:
    sandbox = Sandbox(sampled, most_bytes=MOST_BYTES)
    yield sandbox
    sandbox.stop()


@pytest.mark.parametrize("data", wholes())
def test_an_undamaged_file_is_read(reader: Sandbox, data: bytes) -> None:
    assert reader.call(data) == sampled(data) == f"{pq.read_metadata(io.BytesIO(data)).num_rows} rows"


def test_a_file_whose_column_names_are_no_text_is_refused(reader: Sandbox) -> None:
    data = written(pa.table({"colour": ["red"]})).replace(b"colour", b"colo\xff\xff")

    assert reader.call(data) == "bad_input"
    assert sampled(data) == "bad_sample"


@given(damaged(wholes()))
@examples(300)
def test_a_damaged_parquet_file_is_refused_or_read(reader: Sandbox, data: bytes) -> None:
    assert reader.call(data)


@given(damaged(wholes()))
@examples(200)
def test_a_damaged_parquet_sample_is_refused_or_read(sampler: Sandbox, data: bytes) -> None:
    assert sampler.call(data)
