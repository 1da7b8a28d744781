"""Rows of a CSV slice: told apart as Python's csv module does, and typed as a plain reference types them."""

import csv
import io
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Layout
from shared.dialect import Dialect
from shared.signature import Feature, FeatureType, Signature
from worker.csv_rows import read_csv
from worker.cutter import cut_csv
from worker.rows import SliceRows

MOST_CHARACTERS = 20
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
CODES = {"number": "not_a_number", "integer": "not_an_integer", "boolean": "not_a_boolean"}


def signature(*features: Feature) -> Signature:
    return Signature(container="table", features=features, methods=("predict",))


def layout(
    *names: str, key: str | None = None, include: tuple[str, ...] = (), dialect: Dialect | None = None
) -> Layout:
    return Layout(format="csv", names=names, key=key, include=include, dialect=dialect or Dialect())


def read(data: bytes | memoryview, where: Layout, *features: Feature) -> SliceRows:
    return read_csv(data, where, signature(*features), max_text_length=MOST_CHARACTERS)


def one(text: bytes, kind: FeatureType, *, nullable: bool = False) -> Any:
    """The value of a text beside an id, or the code of its fault."""
    rows = read(b"1," + text + b"\n", layout("id", "x"), Feature(name="x", type=kind, nullable=nullable))
    return rows.faults[0].code if rows.faults else rows.features["x"][0].as_py()


def reference(text: str, kind: FeatureType, *, nullable: bool) -> Any:
    """What a field means, value by value; a code of a fault is a 1-tuple."""
    if kind == "string":
        if text == "" and nullable:
            return None
        return text if len(text) <= MOST_CHARACTERS else ("text_too_long",)
    plain = text.strip(" \t")
    if plain in MISSING:
        return None if nullable else ("missing_value",)
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(plain.lower(), ("not_a_boolean",))
    if not NUMBER.fullmatch(plain):
        endless = kind == "number" and plain.lower().lstrip("+-") in ("inf", "infinity")
        return ("not_finite",) if endless else (CODES[kind],)
    number = float(plain)
    if kind == "number":
        return number if math.isfinite(number) else ("not_finite",)
    if re.fullmatch(r"[+-]?[0-9]+", plain):
        return int(plain) if -(2**63) <= int(plain) < 2**63 else ("out_of_range",)
    if abs(number) >= 2**63:
        return ("out_of_range",)
    return int(number) if number.is_integer() else ("not_an_integer",)


def rows_of(data: bytes, dialect: Dialect) -> list[list[bytes]]:
    """The rows as Python's csv module has them."""
    reader = csv.reader(
        io.StringIO(data.decode("latin-1"), newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    return [[field.encode("latin-1") for field in row] for row in reader if row]


def text_of(field: bytes) -> str | None:
    try:
        return field.decode()
    except UnicodeDecodeError:
        return None


DIALECTS = st.sampled_from(
    [Dialect(), Dialect(delimiter=";"), Dialect(delimiter="\t", quote="'"), Dialect(quote=""), Dialect(delimiter=" ")]
)


@st.composite
def slices(draw: st.DrawFn) -> tuple[bytes, Dialect]:
    """Bytes with everything that tells rows apart, and no quote left open, as the cutter hands them out."""
    dialect = draw(DIALECTS)
    special = [b"\n", b"\r", b"\r\n", b"a", b"1", dialect.delimiter.encode(), dialect.quote.encode() or b'"']
    parts = st.sampled_from([*special, "é".encode(), b"\xff", b"\x00", b"\xef\xbb\xbf", "\u2028".encode()])
    data = b"".join(draw(st.lists(parts, max_size=40)))
    cuts = list(cut_csv([data], dialect, slice_bytes=1000, max_row_bytes=1000))
    return b"".join(cut.data for cut in cuts if not cut.slice.fault), dialect


@given(slices(), st.integers(1, 4))
def test_rows_are_those_of_the_csv_module(given_slice: tuple[bytes, Dialect], width: int) -> None:
    data, dialect = given_slice
    names = [f"c{n}" for n in range(width)]

    rows = read(
        data,
        layout(*names, key="c0", include=tuple(names), dialect=dialect),
        Feature(name=names[-1], type="string"),
    )

    expected = rows_of(data, dialect)
    assert rows.count == len(expected)
    assert rows.kept.column_names == names
    assert rows.kept.num_rows == rows.count
    for position, (kept, row) in enumerate(zip(rows.kept.to_pylist(), expected, strict=True)):
        fields = [text_of(field) for field in row] if len(row) == width else [None] * width
        assert list(kept.values()) == fields
        found = [(fault.code, fault.key) for fault in rows.faults if fault.position == position]
        if len(row) != width:
            assert found == [("wrong_number_of_fields", text_of(row[0]))]
        elif None in fields:
            assert found == [("not_utf8", fields[0])]


@given(slices(), st.integers(1, 3))
def test_a_slice_has_as_many_rows_as_the_cutter_counted(given_slice: tuple[bytes, Dialect], width: int) -> None:
    data, dialect = given_slice
    names = [f"c{n}" for n in range(width)]

    for cut in cut_csv([data], dialect, slice_bytes=8, max_row_bytes=1000):
        if not cut.slice.fault:
            rows = read(bytes(cut.data), layout(*names, dialect=dialect), Feature(name="c0", type="string"))

            assert rows.count == cut.slice.rows


TEXTS = st.one_of(
    st.sampled_from([*MISSING, "inf", "-Infinity", "NAN", "nan(1)", "0x1F", "1e999", "1e-999", "TrUe", "FALSE", "1_0"]),
    st.text("0123456789+-.eE \tx", max_size=8),
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(repr),
    st.text(max_size=MOST_CHARACTERS + 2),
    st.sampled_from(["9" * 400, "-" + "9" * 4000, "." + "0" * 400 + "1", "3.0", "-0", "007", "9007199254740993"]),
)
FEATURES = tuple(
    Feature(name=f"{kind}{'_or_null' * nullable}", type=kind, nullable=nullable)
    for kind in ("number", "integer", "boolean", "string")
    for nullable in (False, True)
)


@given(st.lists(st.lists(TEXTS, min_size=len(FEATURES), max_size=len(FEATURES)), min_size=1, max_size=6), st.booleans())
def test_values_and_faults_are_those_of_a_plain_reference(table: list[list[str]], repeated: bool) -> None:
    names = [feature.name for feature in FEATURES]
    written = io.StringIO(newline="")
    csv.writer(written).writerows([str(n), *row] for n, row in enumerate(table))

    rows = read(
        written.getvalue().encode(), layout("id", *names, key="id", include=tuple(names) if repeated else ()), *FEATURES
    )

    good, faults = [], []
    for position, row in enumerate(table):
        values = [reference(text, f.type, nullable=f.nullable) for text, f in zip(row, FEATURES, strict=True)]
        bad = [(name, value[0]) for name, value in zip(names, values, strict=True) if type(value) is tuple]
        faults += [(position, *bad[0], str(position))] if bad else []
        good += [] if bad else [(position, values)]
    assert [(fault.position, fault.column, fault.code, fault.key) for fault in rows.faults] == faults
    assert [list(row.values()) for row in rows.features.to_pylist()] == [values for _, values in good]
    assert (list(range(len(table))) if rows.good is None else rows.good.tolist()) == [position for position, _ in good]


@given(TEXTS, st.lists(TEXTS, max_size=3), st.sampled_from(FEATURES))
def test_a_text_means_the_same_whatever_stands_beside_it(text: str, others: list[str], feature: Feature) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(["r", value] for value in [text, *others])
    alone = io.StringIO(newline="")
    csv.writer(alone).writerow(["r", text])

    among = read(written.getvalue().encode(), layout("id", feature.name), feature)
    single = read(alone.getvalue().encode(), layout("id", feature.name), feature)

    assert [f for f in among.faults if f.position == 0] == list(single.faults)
    assert among.features.column(0).to_pylist()[: single.features.num_rows] == single.features.column(0).to_pylist()


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        pytest.param(b" 1.5\t", "number", 1.5, id="blanks-around-a-number"),
        pytest.param(b"+1.5", "number", 1.5, id="leading-plus"),
        pytest.param(b"1e999", "number", "not_finite", id="overflow"),
        pytest.param(b"-Infinity", "number", "not_finite", id="infinity"),
        pytest.param(b"1,5", "number", "wrong_number_of_fields", id="decimal-comma"),
        pytest.param(b"0x1F", "number", "not_a_number", id="hexadecimal-number"),
        pytest.param(b"0x1F", "integer", "not_an_integer", id="hexadecimal-integer"),
        pytest.param(b"3.0", "integer", 3, id="whole-float"),
        pytest.param(b"3.5", "integer", "not_an_integer", id="fraction"),
        pytest.param(b"9007199254740993", "integer", 9007199254740993, id="past-the-precision-of-a-float"),
        pytest.param(b"-9223372036854775808", "integer", -(2**63), id="smallest-integer"),
        pytest.param(b"9223372036854775808", "integer", "out_of_range", id="integer-past-64-bits"),
        pytest.param(b"1e30", "integer", "out_of_range", id="large-float-for-an-integer"),
        pytest.param(b"007", "integer", 7, id="leading-zeros-of-an-integer"),
        pytest.param(b"007", "string", "007", id="leading-zeros-of-a-string"),
        pytest.param(b" a ", "string", " a ", id="blanks-of-a-string"),
        pytest.param(b"NA", "string", "NA", id="NA-is-a-string"),
        pytest.param(b"", "string", "", id="empty-string"),
        pytest.param("é".encode() * 20, "string", "é" * 20, id="length-is-in-characters"),
        pytest.param(b"a" * 21, "string", "text_too_long", id="long-string"),
        pytest.param(b"tRUE", "boolean", True, id="any-case"),
        pytest.param(b"0", "boolean", False, id="zero-is-false"),
        pytest.param(b"yes", "boolean", "not_a_boolean", id="yes-is-no-boolean"),
        pytest.param(b"", "number", "missing_value", id="empty-number"),
        pytest.param(b"NA", "boolean", "missing_value", id="NA"),
        pytest.param(b"\xff", "string", "not_utf8", id="latin-1"),
        pytest.param(b"\xff", "number", "not_utf8", id="latin-1-for-a-number"),
    ],
)
def test_a_text_has_a_value_or_a_fault(text: bytes, kind: FeatureType, value: Any) -> None:
    assert one(text, kind) == value


@pytest.mark.parametrize("kind", ["number", "integer", "boolean", "string"])
def test_a_missing_value_is_null_in_a_nullable_feature(kind: FeatureType) -> None:
    assert one(b"", kind, nullable=True) is None


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        pytest.param(b"k,a", "x", "Column x must be a number; found the string 'a'.", id="not-a-number"),
        pytest.param(b"k,1e999", "x", "Column x must be a finite number; found the string '1e999'.", id="not-finite"),
        pytest.param(
            b"k,", "x", "Column x is empty, and the model takes no missing values; send a number.", id="empty"
        ),
        pytest.param(b"k, NA", "x", "Column x is NA, and the model takes no missing values; send a number.", id="NA"),
        pytest.param(b"k", None, "The row has 1 field, but the header has 2 columns.", id="too-few-fields"),
        pytest.param(b"k,1,2", None, "The row has 3 fields, but the header has 2 columns.", id="too-many-fields"),
        pytest.param(
            b"k,\xff",
            "x",
            "Column x has bytes that are no text in the encoding of the file; say which it has, such as latin-1.",
            id="not-utf8",
        ),
    ],
)
def test_a_fault_says_what_is_wrong_where(row: bytes, column: str | None, message: str) -> None:
    data = b'1,1\n\n"2\n",2\r\n' + row + b"\n4,4\n"

    rows = read(data, layout("id", "x", key="id"), Feature(name="x", type="number"))

    (fault,) = rows.faults
    assert (fault.position, fault.column, fault.message, fault.key) == (2, column, message, "k")
    assert rows.good is not None
    assert rows.good.tolist() == [0, 1, 3]
    assert rows.good.dtype == np.int64
    assert rows.features.to_pydict() == {"x": [1.0, 2.0, 4.0]}
    assert rows.kept["id"].to_pylist() == ["1", "2\n", None if column is None else "k", "4"]


def test_only_the_first_fault_in_signature_order_is_told() -> None:
    features = [Feature(name="b", type="number"), Feature(name="a", type="integer")]

    rows = read(b"x,y\n1,z\n", layout("a", "b"), *features)

    assert [(fault.position, fault.column) for fault in rows.faults] == [(0, "b"), (1, "b")]


def test_bytes_that_are_not_utf8_do_not_matter_in_a_column_that_nobody_needs() -> None:
    rows = read(b"\xff,1\n\xfe,a\n", layout("other", "x"), Feature(name="x", type="number"))

    assert [fault.code for fault in rows.faults] == ["not_a_number"]


@pytest.mark.parametrize("role", ["key", "include"])
def test_a_kept_column_that_is_not_utf8_is_a_fault(role: str) -> None:
    where = layout("id", "x", key="id" if role == "key" else None, include=("id",) if role == "include" else ())

    rows = read(b"\xff,1\nb,2\n", where, Feature(name="x", type="number"))

    assert [(f.position, f.code, f.column, f.key) for f in rows.faults] == [(0, "not_utf8", "id", None)]
    assert rows.kept["id"].to_pylist() == [None, "b"]


def test_a_ragged_row_beside_bytes_that_are_not_utf8_is_told_by_its_position() -> None:
    rows = read(b"a,1\nb,\xff,3\n\xff\nc,\xff\nd,5\n", layout("id", "x", key="id"), Feature(name="x", type="number"))

    assert [(f.position, f.code, f.key) for f in rows.faults] == [
        (1, "wrong_number_of_fields", "b"),
        (2, "wrong_number_of_fields", None),
        (3, "not_utf8", "c"),
    ]
    assert rows.features["x"].to_pylist() == [1.0, 5.0]


def test_a_column_that_is_feature_key_and_included_is_kept_once_and_unchanged() -> None:
    rows = read(b"01.50,2\n", layout("x", "y", key="x", include=("y", "x")), Feature(name="x", type="number"))

    assert rows.kept.to_pylist() == [{"x": "01.50", "y": "2"}]
    assert rows.features.to_pylist() == [{"x": 1.5}]


def test_features_are_in_signature_order_and_of_their_types() -> None:
    features = [Feature(name="b", type="boolean"), Feature(name="i", type="integer"), Feature(name="s", type="string")]

    rows = read(b"7,a,true\n", layout("i", "s", "b"), *features)

    assert rows.features.schema.types == [pa.bool_(), pa.int64(), pa.string()]


def test_a_file_without_header_says_so_in_a_fault() -> None:
    rows = read(b"1\n", layout("x", "y", dialect=Dialect(header=False)), Feature(name="x", type="number"))

    assert rows.faults[0].message == "The row has 1 field, but the file has 2 columns."


def test_a_field_may_be_longer_than_the_csv_module_takes_by_default() -> None:
    text = b"a" * 200_000

    rows = read(text + b",1\nb\n\xff,2\n", layout("id", "x", key="id"), Feature(name="x", type="number"))

    assert rows.kept["id"].to_pylist() == [text.decode(), None, None]


def test_hundreds_of_columns_of_which_many_have_no_name_are_read_by_their_position() -> None:
    names = [""] * 300 + ["x"]

    rows = read(b"," * 300 + b"5\n", layout(*names), Feature(name="x", type="number"))

    assert rows.features.to_pydict() == {"x": [5.0]}


@pytest.mark.parametrize("data", [b"", b"\n\r\n\r"], ids=["no-bytes", "blank-lines"])
def test_a_slice_may_have_no_rows(data: bytes) -> None:
    rows = read(data, layout("id", "x", key="id"), Feature(name="x", type="number"))

    assert (rows.count, rows.good, rows.faults) == (0, None, ())
    assert rows.features.schema == pa.schema({"x": pa.float64()})
    assert rows.kept.schema == pa.schema({"id": pa.string()})


def test_a_byte_order_mark_within_a_file_belongs_to_the_text() -> None:
    rows = read(memoryview(b"\xef\xbb\xbfa,1\n"), layout("id", "x", key="id"), Feature(name="x", type="number"))

    assert rows.kept["id"].to_pylist() == ["\ufeffa"]


def test_every_row_may_be_bad() -> None:
    rows = read(b"a,b\nc\nd,e\n", layout("id", "x"), Feature(name="x", type="integer"))

    assert [fault.code for fault in rows.faults] == ["not_an_integer", "wrong_number_of_fields", "not_an_integer"]
    assert rows.good is not None
    assert rows.good.tolist() == []
    assert rows.features.num_rows == 0
