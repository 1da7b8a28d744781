"""Result rows as bytes: every reader gets back what was written, whatever the pieces were."""

import csv
import datetime
import gzip
import io
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import output
from worker.output import ParquetJoiner, arrow_rows, compress, csv_header, csv_rows, ndjson_rows

texts = st.text(st.sampled_from('ab,;"\n\r\t\\ \x00\x1f\x7fé€😀') | st.characters(codec="utf-8"), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**17), 10**17).map(float)


def same(written: str, value: float | None) -> bool:
    """Whether a field of a CSV file is the number, to the last bit."""
    return written == "" if value is None else repr(float(written)) == repr(value)


def parsed(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


@given(st.lists(st.tuples(texts | st.none(), floats | st.none(), st.booleans() | st.none())), st.integers(1, 5))
def test_csv_reads_back_as_it_was_written(rows: list[tuple[Any, Any, Any]], chunk: int) -> None:
    names = ["text", 'a "number"', "flag"]
    schema = pa.schema([(names[0], pa.string()), (names[1], pa.float64()), (names[2], pa.bool_())])
    chunks = [rows[at : at + chunk] for at in range(0, len(rows), chunk)]
    batches = [
        pa.record_batch(
            [pa.array([row[at] for row in part], field.type) for at, field in enumerate(schema)], schema=schema
        )
        for part in chunks
    ]

    data = csv_header(names) + csv_rows(pa.Table.from_batches(batches, schema))

    header, *read = parsed(data)
    assert header == names
    assert [row[0] for row in read] == [text or "" for text, _, _ in rows]
    assert all(same(row[1], number) for row, (_, number, _) in zip(read, rows, strict=True))
    assert [row[2] for row in read] == [{True: "true", False: "false", None: ""}[flag] for *_, flag in rows]


@given(st.lists(floats), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_are_written_with_as_few_digits_as_read_back(doubles: list[float], singles: list[float]) -> None:
    in_double = csv_rows(pa.table({"x": pa.array(doubles, pa.float64())})).decode().split()
    in_single = csv_rows(pa.table({"x": pa.array(singles, pa.float32())})).decode().split()

    assert [Decimal(text) for text in in_double] == [Decimal(repr(number)) for number in doubles]
    assert [Decimal(text) for text in in_single] == [Decimal(str(np.float32(number))) for number in singles]


@given(st.lists(texts | st.none(), min_size=1))
def test_no_row_of_a_single_column_is_a_blank_line(values: list[str | None]) -> None:
    data = csv_rows(pa.table({"x": pa.array(values, pa.string())}))

    assert parsed(data) == [[value or ""] for value in values]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        pytest.param(pa.array([1.0, -0.0, 0.1, None]), "1.0 -0.0 0.1 -", id="floats"),
        pytest.param(pa.array([math.nan, math.inf, -math.inf]), "nan inf -inf", id="not-finite"),
        pytest.param(pa.array([1, None, 2**63 - 1]), "1 - 9223372036854775807", id="integers"),
        pytest.param(pa.array(["a b", "a;b", "'a'"]), "a b|a;b|'a'", id="strings-that-need-no-quotes"),
        pytest.param(pa.array(["a,b", 'a"b']), '"a,b" "a""b"', id="strings-that-need-quotes"),
        pytest.param(pa.array([b"\xff", b"a,\xff"]).slice(1), '"a,\xff"', id="not-utf-8"),
        pytest.param(pa.array(["b", "a", "b"]).dictionary_encode(), "b a b", id="dictionary"),
        pytest.param(pa.array([Decimal("1.50")]), "1.50", id="decimal"),
        pytest.param(pa.array([datetime.date(2026, 11, 1)]), "2026-11-01", id="date"),
        pytest.param(pa.array([[1, 2], None]), '"[1,2]" -', id="nested"),
        pytest.param(pa.nulls(2), "- -", id="no-type"),
    ],
)
def test_each_type_has_its_way_in_csv(values: pa.Array, written: str) -> None:
    fields = written.split("|" if "|" in written else " ")

    data = csv_rows(pa.table({"x": values, "y": pa.array([0] * len(values))}))

    assert data.decode("latin-1") == "".join(f"{'' if field == '-' else field},0\n" for field in fields)


def test_a_header_is_quoted_where_it_must_be() -> None:
    assert csv_header(["id", "a b", "a,b", 'a"b', "a\nb", ""]) == b'id,a b,"a,b","a""b","a\nb",\n'
    assert csv_header([""]) == b'""\n'


json_texts = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4).map(json.dumps)


@given(st.lists(st.tuples(texts | st.none(), floats | st.none(), json_texts | st.none())), texts)
def test_ndjson_reads_back_as_it_was_written(rows: list[tuple[Any, Any, Any]], name: str) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    types = [pa.string(), pa.float64(), pa.binary()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]

    data = ndjson_rows(pa.table(arrays, names=["1" + name, "2", "3"]), frozenset({"3"}))

    read = [json.loads(line) for line in data.splitlines()]
    assert read == [
        {"1" + name: text, "2": number, "3": None if raw is None else json.loads(raw)} for text, number, raw in rows
    ]


def test_json_text_is_written_unchanged() -> None:
    table = pa.table({"n": pa.array(["1.50", "12345678901234567890123"]), "s": pa.array(['"\\u00e9"', "[ ]"])})

    assert ndjson_rows(table, frozenset({"n", "s"})) == (
        b'{"n":1.50,"s":"\\u00e9"}\n{"n":12345678901234567890123,"s":[ ]}\n'
    )


@pytest.mark.parametrize(
    ("values", "written"),
    [
        pytest.param(pa.array([1.0, math.nan, math.inf, None]), [1.0, None, None, None], id="floats"),
        pytest.param(pa.array([1, None]), [1, None], id="integers"),
        pytest.param(pa.array([True, False, None]), [True, False, None], id="booleans"),
        pytest.param(pa.array([Decimal("1.50")]), ["1.50"], id="decimal"),
        pytest.param(pa.array([datetime.date(2026, 11, 1)]), ["2026-11-01"], id="date"),
        pytest.param(pa.array([b"a\xff", b"b", None]), ["a\ufffd", "b", None], id="binary"),
        pytest.param(pa.array(["b", 'a"', None]).dictionary_encode(), ["b", 'a"', None], id="dictionary"),
        pytest.param(pa.array([[{"a": 1.5}], None]), [[{"a": 1.5}], None], id="nested"),
        pytest.param(pa.nulls(2), [None, None], id="no-type"),
    ],
)
def test_each_type_has_its_way_in_json(values: pa.Array, written: list[Any]) -> None:
    data = ndjson_rows(pa.table({"x": values}), frozenset())

    assert [orjson.loads(line)["x"] for line in data.splitlines()] == written


def test_a_table_without_rows_is_nothing() -> None:
    table = pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.string())})

    assert csv_rows(table) == ndjson_rows(table, frozenset()) == b""


@given(st.lists(st.binary(), min_size=1))
def test_compressed_pieces_are_a_file_together(pieces: list[bytes]) -> None:
    in_gzip = b"".join(compress(piece, "gzip") for piece in pieces)
    in_zstd = b"".join(compress(piece, "zstd") for piece in pieces)

    assert gzip.decompress(in_gzip) == b"".join(pieces)
    assert pa.CompressedInputStream(pa.BufferReader(in_zstd), "zstd").read() == b"".join(pieces)
    assert [compress(piece, "none") for piece in pieces] == pieces


def test_a_gzip_member_does_not_tell_the_time() -> None:
    assert compress(b"x", "gzip")[4:8] == bytes(4)


def joined(parts: list[bytes], schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    joiner = ParquetJoiner(sink, schema)
    for part in parts:
        joiner.add(part)
    joiner.close()
    return sink.getvalue()


tables = st.lists(st.lists(st.tuples(st.integers(-9, 9) | st.none(), texts | st.none()), max_size=9), max_size=6).map(
    lambda all_rows: [
        pa.table(
            {
                "n": pa.array([number for number, _ in rows], pa.int64()),
                "s": pa.array([text for _, text in rows], pa.string()),
            }
        )
        for rows in all_rows
    ]
)
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


@given(tables)
def test_parquet_reads_back_as_it_was_written(written: list[pa.Table]) -> None:
    parts = [arrow_rows(table) for table in written]

    data = joined(parts, SCHEMA)

    assert pq.read_table(io.BytesIO(data)).equals(pa.concat_tables([SCHEMA.empty_table(), *written]))


@given(tables, st.integers(1, 6))
def test_a_parquet_file_does_not_depend_on_how_tables_make_parts(written: list[pa.Table], together: int) -> None:
    streams = [arrow_rows(table) for table in written]

    parts = [b"".join(streams[at : at + together]) for at in range(0, len(streams), together)]

    assert joined(parts, SCHEMA) == joined(streams, SCHEMA)


def test_row_groups_are_written_as_they_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ROW_GROUP_ROWS", 25)
    part = arrow_rows(pa.table({"n": list(range(10))}))

    file = pq.ParquetFile(io.BytesIO(joined([part] * 8)))

    assert [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)] == [30, 30, 20]


def test_a_parquet_file_of_no_part_has_its_columns() -> None:
    assert pq.read_table(io.BytesIO(joined([], SCHEMA))).equals(SCHEMA.empty_table())


def test_a_parquet_file_needs_columns() -> None:
    with pytest.raises(ValueError, match="columns"):
        joined([])


def test_a_sink_needs_no_more_than_write() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.pieces: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.pieces.append(bytes(data))

    sink = Pieces()
    joiner = ParquetJoiner(sink)
    joiner.add(arrow_rows(pa.table({"n": [1, 2]})))

    joiner.close()

    assert pq.read_table(io.BytesIO(b"".join(sink.pieces)))["n"].to_pylist() == [1, 2]
