"""What a file may look like: dialects, encodings, formats, compression; and how one that cannot be read is refused."""

import bz2
import codecs
import csv
import decimal
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from shared.dialect import Dialect
from shared.job import Status
from shared.settings import Settings
from tests.integration.batch_files import (
    counts,
    csv_file,
    faults,
    files_of,
    parquet_file,
    result_rows,
    result_table,
    service,
    zstd,
)  # fmt: skip
from tests.integration.batch_runner import Finished, Runner
from tests.models import register_echo, register_fitted, register_moody
from worker.drain import worker_name

NAMES = ["id", "x", "note"]
PLAIN = b"id,x,note\n007,1.50,a\n008,-2,b\n"
EXPECTED = b"id,note,prediction\n007,a,3.0\n008,b,-4.0\n"
KEPT: dict[str, Any] = {"key_column": "id", "include": ("note",)}


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(register_moody, register_echo, register_fitted) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers that cut files into slices of a few rows."""
    return Runner(base.model_copy(update={"slice_bytes": 60, "slice_rows": 3}))


def refusal(done: Finished) -> tuple[Status, str, str]:
    """Status, the failure's code, and the code of its first error."""
    assert done.job.failure is not None
    return done.job.status, done.job.failure["code"], done.job.errors[0]["code"]


def refused(runner: Runner, data: bytes, **options: Any) -> Finished:
    """A job whose file is no good."""
    job_id = runner.submit(data, **options)
    while not (job := runner.read(job_id)).done:
        runner.step()
    return Finished(job, {})


@pytest.mark.parametrize(
    ("dialect", "texts"),
    [
        pytest.param({"delimiter": ";"}, ['a;b "c"', "two\nlines", ""], id="semicolon"),
        pytest.param({"delimiter": "\t"}, ["a\tb", "two\r\nlines", " "], id="tab"),
        pytest.param({"delimiter": "|"}, ["a|b", ",", "'"], id="pipe"),
        pytest.param({"quote": "'"}, ["it's, one", '"', "x\ny"], id="single-quote"),
        pytest.param({"quote": ""}, ['5" pipe', '"', "''"], id="no-quote"),
        pytest.param({"encoding": "latin-1"}, ["caf\xe9", "\xfc,\xdf", "\x80"], id="latin-1"),
        pytest.param({"encoding": "cp1252"}, ["10 \u20ac", "\u201cx\u201d", "\xe9"], id="cp1252"),
        pytest.param({"encoding": "utf-16"}, ["\u20ac", "\U0001f600,", "\n"], id="utf-16"),
        pytest.param({"encoding": "utf-8-sig"}, ["\u20ac", "\U0001f600", ""], id="utf-8-with-a-mark"),
        pytest.param({"encoding": "shift_jis"}, ["\u8868", "\u30bd,\u30a2", "x"], id="shift-jis"),
    ],
)
def test_a_dialect_is_read_as_pythons_csv_module_reads_it(
    runner: Runner, dialect: dict[str, Any], texts: list[str]
) -> None:
    rows = [[f"00{number}", f"{number}.50", text] for number, text in enumerate(texts)]
    quote = dialect.get("quote", '"')
    quoting = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    text = csv_file(NAMES, rows, delimiter=dialect.get("delimiter", ","), **quoting)

    done = runner.run(text.encode(dialect.get("encoding", "utf-8")), dialect=Dialect(**dialect), **KEPT)

    assert result_rows(done)[1:] == [[key, note, str(float(x) * 2)] for key, x, note in rows]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN.replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(PLAIN.replace(b"\n", b"\r"), id="cr"),
        pytest.param(PLAIN.replace(b"\n", b"\n\n\n"), id="blank-lines"),
        pytest.param(b"\n\r\n" + PLAIN, id="blank-lines-before-the-header"),
        pytest.param(PLAIN.removesuffix(b"\n"), id="no-last-line-break"),
        pytest.param(codecs.BOM_UTF8 + PLAIN, id="byte-order-mark"),
        pytest.param(PLAIN.decode().encode("utf-16"), id="utf-16-that-nobody-named"),
        pytest.param(b"note,more,x,id\na,9,1.50,007\nb,9,-2,008\n", id="other-order-and-more-columns"),
        pytest.param(b' id ,"x",note\n007,1.50,a\n008,-2,b\n', id="blanks-and-quotes-in-the-header"),
        pytest.param(b'id,x,note,"more\nof it"\n007,1.50,a,\n008,-2,b,\n', id="line-break-in-the-header"),
        pytest.param(gzip.compress(PLAIN), id="gzip"),
        pytest.param(gzip.compress(PLAIN[:25]) + gzip.compress(PLAIN[25:]), id="several-gzip-members"),
        pytest.param(zstd(PLAIN), id="zstd"),
        pytest.param(zstd(PLAIN[:25]) + zstd(PLAIN[25:]), id="several-zstd-frames"),
        pytest.param(gzip.compress(codecs.BOM_UTF8 + PLAIN), id="byte-order-mark-within-gzip"),
    ],
)
def test_the_same_rows_give_the_same_bytes(runner: Runner, data: bytes) -> None:
    done = runner.run(data, **KEPT)

    assert done.result == EXPECTED


@pytest.mark.parametrize(
    ("data", "name"),
    [(gzip.compress(PLAIN), "rows.csv"), (PLAIN, "rows.csv.gz"), (zstd(PLAIN), "rows.parquet")],
    ids=["gzip-called-csv", "csv-called-gzip", "zstd-called-parquet"],
)
def test_what_a_file_is_told_by_its_content_and_not_by_its_name(runner: Runner, data: bytes, name: str) -> None:
    done = runner.run(data, name=name, **KEPT)

    assert done.result == EXPECTED


@pytest.mark.parametrize(
    "data", [b"1.5,a,k\n2,a,a\n", b"1.5,1.5,k\n2,a,a\n"], ids=["values", "the-same-value-twice-in-the-first-row"]
)
def test_without_a_header_columns_go_by_position(runner: Runner, data: bytes) -> None:
    done = runner.run(data, dialect=Dialect(header=False), key_column="column_3")

    assert done.result == b"column_3,prediction\nk,3.0\na,4.0\n"


def test_a_file_without_a_header_and_with_too_few_columns_is_refused(runner: Runner) -> None:
    done = refused(runner, b"1\n2\n", model="pair", dialect=Dialect(header=False))

    assert refusal(done) == (Status.FAILED, "invalid_input", "bad_input")


@pytest.mark.parametrize(
    "data",
    [b"id,x", b"id,x\n", b"\xef\xbb\xbfid,x\r\n\r\n", gzip.compress(b"id,x\n")],
    ids=["no-line-break", "line-break", "byte-order-mark", "gzip"],
)
def test_a_header_alone_is_a_file_of_no_rows(runner: Runner, data: bytes) -> None:
    done = runner.run(data, key_column="id")

    assert (done.job.status, counts(done)) == (Status.SUCCEEDED, (0, 0, 0, 0))
    assert (done.result, done.files["errors"]) == (b"id,prediction\n", b"")


def test_bytes_that_an_encoding_does_not_have_fail_their_row_alone(runner: Runner) -> None:
    done = runner.run(b"id,x,note\n1,1,\x80\n2,2,\x81\n3,3,a\n", dialect=Dialect(encoding="cp1252"), **KEPT)

    assert faults(done) == [(2, "2", "note", "not_utf8")]
    assert [row[0] for row in result_rows(done)] == ["id", "1", "3"]


@pytest.mark.parametrize("name", ["", "rows.jsonl", "rows.ndjson.gz"])
def test_lines_of_json_are_rows(runner: Runner, name: str) -> None:
    data = b'{"id": "007", "x": 1.50}\n\r\n{"x": -2, "more": [1], "id": 8}'

    done = runner.run(data, name=name, key_column="id")

    assert done.result == b'{"id":"007","prediction":3.0}\n{"id":8,"prediction":-4.0}\n'


def test_lines_of_json_may_be_arrays_if_the_job_says_what_they_are(runner: Runner) -> None:
    done = runner.run(b"[1]\n[2]\n3\n", name="rows.ndjson")

    assert done.result == b'{"prediction":2.0}\n{"prediction":4.0}\n{"prediction":6.0}\n'


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array([1.5, 2, None, 4, float("nan"), 6, 17.5, 8.5, 9.5, 10]), id="floats"),
        pytest.param(pa.array([1, 2, None, 4, None, 6, 17, 18, 19, 10], pa.int8()), id="integers"),
        pytest.param(
            pa.array([decimal.Decimal(n) / 2 if n not in (3, 5) else None for n in range(1, 11)]), id="decimals"
        ),
        pytest.param(pa.array([1.5, 2, None, 4, None, 6, 17, 8.5, 19, 10]).dictionary_encode(), id="dictionary"),
    ],
)
def test_parquet_is_read_by_slices_within_row_groups(runner: Runner, column: pa.Array) -> None:
    keys = pa.array([f"k{number}" for number in range(10)]).dictionary_encode()

    done = runner.run(parquet_file({"more": [0] * 10, "id": keys, "x": column}, row_group_size=7), key_column="id")

    wanted = [value if value is None or value != value else float(value) * 2 for value in column.to_pylist()]
    good = [number for number, value in enumerate(wanted) if value is not None and value == value]
    assert result_table(done).to_pydict() == {
        "id": [f"k{number}" for number in good], "prediction": [wanted[number] for number in good]
    }  # fmt: skip
    assert faults(done) == [(3, "k2", "x", "missing_value"), (5, "k4", "x", "missing_value")]


def test_a_parquet_file_of_no_rows_gives_one(runner: Runner) -> None:
    done = runner.run(parquet_file({"x": pa.array([], pa.float64())}))

    assert (done.job.status, result_table(done).to_pydict()) == (Status.SUCCEEDED, {"prediction": []})


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rows.csv", PLAIN)
    return out.getvalue()


TABLE = parquet_file({"x": [1.0]})


@pytest.mark.parametrize(
    ("data", "code", "hint"),
    [
        pytest.param(zipped(), "unsupported_format", "ZIP archive or an Excel workbook", id="zip-or-xlsx"),
        pytest.param(bz2.compress(PLAIN), "unsupported_format", "bzip2", id="bzip2"),
        pytest.param(lzma.compress(PLAIN), "unsupported_format", "xz", id="xz"),
        pytest.param(gzip.compress(TABLE), "unsupported_format", "send the Parquet file", id="parquet-in-gzip"),
        pytest.param(TABLE[:-20], "bad_input", "Parquet", id="parquet-cut-off"),
        pytest.param(b"", "bad_input", "no rows", id="empty"),
        pytest.param(gzip.compress(b""), "bad_input", "no rows", id="empty-in-gzip"),
        pytest.param(b"\n\n\r\n", "bad_input", "no rows", id="blank"),
        pytest.param(bytes(range(255, 127, -1)) * 9, "bad_encoding", "encoding", id="binary"),
        pytest.param(b"\x1f\x8b\x08\x00garbage", "not_decompressed", "gzip", id="damaged-gzip"),
        pytest.param(zstd(PLAIN)[:-3], "not_decompressed", "zstd", id="zstd-cut-off"),
        pytest.param(b'"id,x\n1,2\n', "bad_input", "unclosed_quote", id="quote-open-in-the-header"),
        pytest.param(b"x,id,x\n1,2,3\n", "duplicate_column", "'x' more than once", id="column-twice"),
        pytest.param(b"id,xx\n1,2\n", "missing_column", "Did you mean it by 'xx'?", id="misspelt-column"),
        pytest.param(b"id,colour\n1,2\n", "missing_column", "It has id, colour.", id="missing-column"),
        pytest.param(b"QUJD" * 50_000, "bad_input", "is this a CSV file", id="a-long-line"),
        pytest.param(b"x" * 2**21, "bad_input", "row_too_long", id="no-line-at-all"),
        pytest.param(parquet_file({"x": ["1"]}), "wrong_type", "must hold numbers; in the file its type is string",
                     id="strings-in-parquet"),
        pytest.param(parquet_file({"y": [1]}), "missing_column", "Column 'x'", id="missing-column-in-parquet"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_scored_is_refused_with_what_to_do(
    runner: Runner, data: bytes, code: str, hint: str
) -> None:
    done = refused(runner, data)

    assert refusal(done) == (Status.FAILED, "invalid_input", code)
    assert hint in done.job.errors[0]["message"]


@pytest.mark.parametrize(
    ("options", "code"),
    [({"key_column": "idd"}, "unknown_key"), ({"include": ("nte",)}, "unknown_include")],
    ids=["key", "include"],
)
def test_a_column_to_keep_that_is_not_there_is_named(runner: Runner, options: dict[str, Any], code: str) -> None:
    done = refused(runner, PLAIN, **options)

    assert refusal(done) == (Status.FAILED, "invalid_input", code)
    assert "Did you mean" in done.job.errors[0]["message"]


def test_what_was_unpacked_of_a_file_that_is_cut_off_does_not_stay(base: Settings) -> None:
    # Some slices are unpacked, too few to be made known, before the end is seen.
    whole = csv_file(NAMES, [(number, 20, "y" * 4000) for number in range(700)])
    runner = Runner(base.model_copy(update={"slice_bytes": 2**19, "max_row_bytes": 5000}))

    done = refused(runner, gzip.compress(whole.encode(), 1) + gzip.compress(PLAIN)[:-9])

    runner.janitor.remove_parts()
    assert refusal(done) == (Status.FAILED, "invalid_input", "not_decompressed")
    assert not [name for name in files_of(runner, done.job.id) if name.startswith(("parts", "unpacked"))]


def test_what_was_scored_of_a_file_that_is_cut_off_can_be_read(base: Settings) -> None:
    # More slices than are unpacked ahead, so that some are scored before the end is seen.
    rows: list[tuple[int, int, str]] = [(number, 20 + number % 9, os.urandom(2000).hex()) for number in range(1000)]
    data = gzip.compress(csv_file(NAMES, rows).encode())[:-1000]
    runner = Runner(base.model_copy(update={"slice_bytes": 4000, "max_row_bytes": 5000}))
    job_id = runner.submit(data, key_column="id")

    while not runner.read(job_id).done:
        unit = runner.works[0].pull(worker_name(), linger_seconds=0, answered=False, lane="")
        assert unit is not None
        runner.works[0].do(unit)

    runner.janitor.remove_parts()
    job = runner.read(job_id)
    done = Finished(job, {kind: runner.storage.get(about["key"]) for kind, about in job.outputs.items()})
    assert refusal(done) == (Status.FAILED, "invalid_input", "not_decompressed")
    found = result_rows(done)[1:]
    assert found == [[str(key), str(x * 2.0)] for key, x, _ in rows][: len(found)]
    assert len(found) == job.counts.succeeded > 0
    assert files_of(runner, job_id) == ["errors.jsonl", "input", "manifest.json", "result.csv"]


TYPED = [
    ["007", "007", "1.50", "true"],
    ["1e3", "1e3", "1e3", "FALSE"],
    ["1.50", "9007199254740993", " 2 ", "1"],
    ["NA", "", "NA", ""],
    ["", "-0", ".5", "0"],
    ["00", "12.0", "5", "False"],
]


@pytest.mark.parametrize("slice_bytes", [1, 45, 10_000])
def test_types_never_depend_on_the_slice(base: Settings, slice_bytes: int) -> None:
    data = csv_file(["text", "whole", "number", "flag"], TYPED).encode()
    runner = Runner(base.model_copy(update={"slice_bytes": slice_bytes}))

    done = runner.run(data, model="echo", key_column="whole", include_all=True)

    assert result_rows(done) == [
        ["whole", "text", "number", "flag", "prediction"],
        *(
            [whole, text, number, flag, said]
            for (text, whole, number, flag), said in zip(
                TYPED,
                [
                    "'007'|7|1.5|True",
                    "'1e3'|1000|1000.0|False",
                    "'1.50'|9007199254740993|2.0|True",
                    "'NA'|None|None|None",
                    "None|0|0.5|False",
                    "'00'|12|5.0|False",
                ],
                strict=True,
            )
        ),
    ]


@pytest.mark.parametrize("slice_bytes", [1, 10_000])
def test_included_json_is_repeated_as_it_was(base: Settings, slice_bytes: int) -> None:
    lines = ['{"x":1,"id":"007","more":1.5}', '{"x":2,"id":7,"more":{"a":[1,"b"]}}', '{"x":3,"id":null,"more":true}']
    runner = Runner(base.model_copy(update={"slice_bytes": slice_bytes}))

    done = runner.run("\n".join(lines).encode(), key_column="id", include=("more",))

    expected = [json.loads(line) for line in lines]
    assert [json.loads(line) for line in done.result.splitlines()] == [
        {"id": row["id"], "more": row["more"], "prediction": row["x"] * 2.0} for row in expected
    ]
