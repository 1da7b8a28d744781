"""Files of any bytes, read as workers read them: every row is accounted for, wherever the file is cut."""

import gzip
from typing import Any, Final

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, target
from hypothesis import strategies as st

from shared.dialect import Dialect
from shared.errors import InvalidRequest
from tests.fuzz.mutations import damaged
from tests.fuzz.profile import examples
from tests.fuzz.reading import ROW, Reading

# What means something to a reader of CSV, NDJSON or Parquet, or to what finds out which it is.
CSV_WORDS: Final = (
    *(b",", b",", b",", b'"', b"\n", b"\n", b"\r\n", b"\r", b";", b"\t", b"'", b'""', b",,", b"\n\n", b" "),
    *(b"1", b"-2.5e3", b"+7", b"0x1F", b"NaN", b"inf", b"1e999", b"null", b"9223372036854775808", b"007", b"."),
    *(b"true", b"FALSE", b"0", b"x", "é€".encode(), b"\xff", b"\x00", b"\x1a", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(
        "\u2028\x85\x0b\x0c".encode(),
        b"x" * 60,
        b"=1+1",
        b"\\",
        b"{",
        b"1,2,x,true\n",
        b"1,2,x\n",
        b'"1","2","x","1"\n',
    ),
)
JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\n", b"\r\n", b"\r", b" ", b'"', b'"a":', b'"b":', b'"c":', b'"d":'),
    *(b"1", b"-0", b"2.5", b"1e999", b"9223372036854775808", b"1" * 30, b"null", b"true", b"false", b"NaN", b"01"),
    *(b'"x"', b'"\\ud800"', b'"\\u0000"', "é".encode(), b"\xff", b"\x00", b"\xef\xbb\xbf", b"[" * 300, b'{"a":' * 200),
    *(b'{"a":1,"b":2,"c":"x","d":true}\n', b'[1,2,"x",null]\n', b'{"a":1,"a":2,"b":2,"c":"","e":[{}]}\n', b"x" * 60),
)
MAGIC: Final = (
    b"",
    b"PAR1",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xff\xfe",
    b"\xfe\xff",
    b"PK\x03\x04",
    b"\xef\xbb\xbf",
    b"{",
)
csv_bytes = st.lists(st.sampled_from(CSV_WORDS) | st.binary(max_size=3), max_size=60).map(b"".join)
json_bytes = st.lists(st.sampled_from(JSON_WORDS) | st.binary(max_size=3), max_size=40).map(b"".join)
dialects = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", ",", ";", "\t", " ", "|", "x"]),
    quote=st.sampled_from(['"', '"', "'", "", "x"]),
    header=st.booleans(),
    encoding=st.sampled_from(
        [
            "utf-8",
            "utf-8",
            "ascii",
            "utf-8-sig",
            "latin-1",
            "cp1252",
            "utf-16",
            "utf-32",
            "shift-jis",
            "cp037",
            "big5",
            "utf-16-le",
        ]
    ),
).filter(lambda dialect: dialect.quote != dialect.delimiter)
slice_sizes = st.sampled_from([1, 2, 7, 30, 1000])
row_limits = st.sampled_from([16, 40, 1000])
HEADER: Final = b"a,b,c,d\n"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(tmp_path_factory.mktemp("files"))


def refusal_or_rows(reading: Reading, data: bytes, **options: Any) -> list[ROW] | str:
    """The rows, or why there are none; any other exception is a fault."""
    try:
        return reading.rows(data, **options)
    except InvalidRequest as error:
        assert error.errors
        assert all(fault["code"] and fault["message"] for fault in error.errors)
        return str(error.errors[0]["code"])


@given(csv_bytes, dialects, slice_sizes, row_limits, st.booleans(), st.none() | st.just("a"))
@examples(160)
def test_a_csv_file_of_any_bytes_has_the_same_rows_wherever_it_is_cut(
    reading: Reading, data: bytes, dialect: Dialect, slice_bytes: int, max_row_bytes: int, keep: bool, key: str | None
) -> None:
    if dialect.header:
        data = dialect.delimiter.join("abcd").encode(dialect.encoding) + "\n".encode(dialect.encoding) + data
    options: dict[str, Any] = {"dialect": dialect, "format": "csv", "key": key, "include_all": keep}

    whole = refusal_or_rows(reading, data, slice_bytes=10_000, max_row_bytes=max_row_bytes, **options)
    cut = refusal_or_rows(reading, data, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes, **options)

    target(len(whole) if isinstance(whole, list) else -1)
    assert cut == whole


@given(json_bytes, slice_sizes, row_limits, st.none() | st.just("c"))
@examples(160)
def test_an_ndjson_file_of_any_bytes_has_the_same_rows_wherever_it_is_cut(
    reading: Reading, data: bytes, slice_bytes: int, max_row_bytes: int, key: str | None
) -> None:
    options: dict[str, Any] = {"format": "ndjson", "key": key, "max_row_bytes": max_row_bytes}

    whole = refusal_or_rows(reading, data, slice_bytes=10_000, **options)
    cut = refusal_or_rows(reading, data, slice_bytes=slice_bytes, **options)

    assert cut == whole


@given(csv_bytes | json_bytes, st.sampled_from(["gzip", "zstd"]), slice_sizes, st.sampled_from(["csv", "ndjson"]))
@examples(120)
def test_a_compressed_file_has_the_rows_of_the_plain_one(
    reading: Reading, data: bytes, compression: str, slice_bytes: int, format: str
) -> None:
    data = HEADER + data
    packed = gzip.compress(data) if compression == "gzip" else bytes(pa.compress(data, "zstd", asbytes=True))

    plain = refusal_or_rows(reading, data, format=format, slice_bytes=slice_bytes)
    unpacked = refusal_or_rows(reading, packed, format=format, slice_bytes=slice_bytes)

    assert unpacked == plain


@given(
    damaged(
        [
            gzip.compress(HEADER + b"1,2,x,true\n" * 50),
            bytes(pa.compress(HEADER + b"1,2,x,1\n" * 50, "zstd", asbytes=True)),
        ]
    )
)
@examples(150)
def test_a_damaged_compressed_file_is_refused_or_read(reading: Reading, data: bytes) -> None:
    refusal_or_rows(reading, data, slice_bytes=100)


@given(
    st.sampled_from(MAGIC),
    csv_bytes | json_bytes | st.binary(max_size=200),
    st.sampled_from(["", "x.csv", "x.ndjson.gz", "x.parquet", "x.json"]),
    dialects,
)
@examples(200)
def test_a_file_of_any_kind_is_refused_or_read(
    reading: Reading, magic: bytes, data: bytes, name: str, dialect: Dialect
) -> None:
    refusal_or_rows(reading, magic + data, name=name, dialect=dialect, slice_bytes=50)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "a": st.floats(allow_nan=False, allow_infinity=False),
                "b": st.none() | st.integers(-(2**63), 2**63 - 1),
                "c": st.text(max_size=50),
                "d": st.none() | st.booleans(),
            }
        ),
        max_size=20,
    ),
    slice_sizes,
)
@examples(80)
def test_rows_that_were_written_are_read(reading: Reading, rows: list[dict[str, Any]], slice_bytes: int) -> None:
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)

    read = refusal_or_rows(reading, data, format="ndjson", slice_bytes=slice_bytes)

    assert read == [{"values": row, "kept": {}} for row in rows]
