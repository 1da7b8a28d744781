"""Rows of an NDJSON slice: exactly what a prediction job with these rows would be told."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Layout
from shared.dialect import Dialect
from shared.errors import InvalidRequest
from shared.json_depth import MOST_DEPTH
from shared.signature import Feature, FeatureType, RowChecker, Signature
from worker.cutter import cut_ndjson
from worker.ndjson_rows import read_ndjson
from worker.rows import SliceRows

MOST_CHARACTERS = 5
X = Feature(name="x", type="number")
FEATURES = tuple(
    Feature(name=f"{kind}{'_or_null' * nullable}", type=kind, nullable=nullable)
    for kind in ("number", "integer", "boolean", "string")
    for nullable in (False, True)
)


def signature(*features: Feature) -> Signature:
    return Signature(container="table", features=features, methods=("predict",))


def read(data: bytes, *features: Feature, key: str | None = None, include: tuple[str, ...] = ()) -> SliceRows:
    where = Layout(format="ndjson", names=(), key=key, include=include, dialect=Dialect())
    return read_ndjson(data, where, signature(*features), max_text_length=MOST_CHARACTERS)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=MOST_CHARACTERS + 1),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
)
FITTING = {
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "string": st.text(max_size=MOST_CHARACTERS),
}


@st.composite
def rows_for(draw: st.DrawFn, features: tuple[Feature, ...]) -> Any:
    """Mostly a good record, at times one with any values, an array or anything else."""
    fitting = [FITTING[f.type] | st.none() if f.nullable else FITTING[f.type] for f in features]
    values = [draw(one) for one in fitting]
    match draw(st.integers(0, 7)):
        case 0:
            return draw(VALUES)
        case 1:
            return values
        case 2:
            return draw(st.lists(VALUES, min_size=len(features) - 1, max_size=len(features) + 1))
        case 3:
            return {f.name: draw(VALUES) for f in features if draw(st.booleans())}
        case _:
            return {"id": draw(VALUES), **{f.name: value for f, value in zip(features, values, strict=True)}}


@given(st.data(), st.sampled_from([FEATURES, *((feature,) for feature in FEATURES)]))
def test_each_row_is_judged_as_the_checker_of_rows_does(data: st.DataObject, features: tuple[Feature, ...]) -> None:
    instances = data.draw(st.lists(rows_for(features), max_size=5))
    lines = b"".join(orjson.dumps(row) + b"\n" for row in instances)

    rows = read(lines, *features, key="id")

    checker = RowChecker(signature(*features), max_rows=1, max_text_length=MOST_CHARACTERS)
    good: list[list[Any]] = []
    faults = []
    for position, row in enumerate(orjson.loads(line) for line in lines.splitlines()):
        try:
            (checked,) = checker.check([row])
            # A number is a float64 for the model, also a whole one past 2^53.
            whole = [f.type == "number" and type(value) is int for f, value in zip(features, checked, strict=True)]
            good.append([float(value) if is_whole else value for value, is_whole in zip(checked, whole, strict=True)])
        except InvalidRequest as error:
            first = error.errors[0]
            key = row.get("id") if type(row) is dict else None
            faults.append((position, first["code"], first["message"], first.get("column"), key))
    assert rows.count == len(instances)
    assert [(f.position, f.code, f.message, f.column, f.key) for f in rows.faults] == faults
    assert [list(row.values()) for row in rows.features.to_pylist()] == good


# Each line with the code that it has, None if it is a good row; of blank lines there is none.
LINES: list[tuple[bytes, str | None]] = [
    (b'{"x": 1}', None),
    (b' {"x": 2, "x": 3}\t', None),
    (b'{"y": "\xe2\x80\xa8", "x": 7}', None),
    (b"5", None),
    (b"[6]", None),
    (b" ", "malformed_json"),
    (b"\r", "malformed_json"),
    (b'{"x": 1,}', "malformed_json"),
    (b"{}{}", "malformed_json"),
    (b'{"x": NaN}', "malformed_json"),
    (b'{"x": 1e999}', "malformed_json"),
    (b'{"x": 1, "y": "\\ud800"}', "malformed_json"),
    (b"[" * 2000 + b"]" * 2000, "malformed_json"),
    (b'{"x": 1, "y": "\xff"}', "not_utf8"),
    (b'{"y": 1}', "missing_column"),
    (b'{"x": "1"}', "not_a_number"),
    (b"[1, 2]", "wrong_number_of_values"),
]
BLANK = (b"", None)


@given(
    st.lists(st.tuples(st.sampled_from([BLANK, *LINES]), st.sampled_from([b"\n", b"\r\n"])), max_size=8), st.booleans()
)
def test_lines_are_rows_unless_they_are_empty(lines: list[tuple[tuple[bytes, str | None], bytes]], ended: bool) -> None:
    data = b"".join(line + end for (line, _), end in lines)
    data = data if ended else data.removesuffix(b"\n")

    rows = read(data, X)

    # A line of nothing but CR LF is empty, so a lone CR is a row only before a CR LF.
    expected = [code for (line, code), end in lines if line and (line, end) != (b"\r", b"\n")]
    assert rows.count == len(expected)
    assert [(f.position, f.code) for f in rows.faults] == [(n, code) for n, code in enumerate(expected) if code]
    assert rows.count == sum(cut.slice.rows for cut in cut_ndjson([data], slice_bytes=9000, max_row_bytes=9000))


@given(st.lists(st.dictionaries(st.sampled_from("abx"), VALUES)))
def test_kept_columns_are_the_json_texts_of_the_values(records: list[dict[str, Any]]) -> None:
    data = b"".join(orjson.dumps(record) + b"\n" for record in records)

    rows = read(data, X, key="a", include=("b", "x", "a"))

    assert rows.kept.column_names == ["a", "b", "x"]
    for record, kept in zip(records, rows.kept.to_pylist(), strict=True):
        for name, text in kept.items():
            if name in record:
                assert json.loads(text) == json.loads(orjson.dumps(record[name]))
                assert "\n" not in text
            else:
                assert text is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            b'{"x": 1,}', "The line is not JSON: trailing comma is not allowed at character 8.", id="stray-comma"
        ),
        pytest.param(b"\xff", "The line has bytes that are not UTF-8; JSON must be UTF-8.", id="not-utf8"),
        pytest.param(b'{"x": "a"}', "Column x must be a number; found the string 'a'.", id="string"),
        pytest.param(b'{"x": true}', "Column x must be a number; found true.", id="boolean"),
        pytest.param(b'{"x1": 1}', "Column x is missing. Did you mean it by 'x1'?", id="other-name"),
        pytest.param(
            b'{"x": null}', "Column x is null, and the model takes no missing values; send a number.", id="null"
        ),
    ],
)
def test_a_fault_says_what_is_wrong_where(line: bytes, message: str) -> None:
    rows = read(b'{"x": 0}\n\n' + line + b'\n{"x": 2}', X)

    assert [(fault.position, fault.message) for fault in rows.faults] == [(1, message)]
    assert rows.good is not None
    assert rows.good.tolist() == [0, 2]
    assert rows.features.to_pydict() == {"x": [0.0, 2.0]}


def test_the_key_of_a_bad_row_is_a_value_and_not_its_text() -> None:
    rows = read(b'{"id": {"a": "b"}, "x": "c"}\n', X, key="id")

    assert rows.faults[0].key == {"a": "b"}


def test_a_key_that_is_a_feature_is_found_in_an_array() -> None:
    rows = read(b"[1, 2]\n", X, Feature(name="y", type="number"), key="y", include=("id",))

    assert rows.kept.to_pylist() == [{"y": "2", "id": None}]


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "1e5",
        "12345678901234567890123",
        "-0.0",
        pytest.param('[1.50,{"a b":2.00,"c":"x"},null]', id="nested"),
    ],
)
def test_numbers_of_kept_columns_stay_as_they_are_written(text: str) -> None:
    rows = read(b'{"id": ' + text.encode() + b', "x": 1}\n', X, key="id")

    assert rows.kept.to_pylist() == [{"id": text}]


@pytest.mark.parametrize(
    ("depth", "codes"),
    [
        pytest.param(MOST_DEPTH - 1, [], id="as-deep-as-may-be"),
        pytest.param(MOST_DEPTH, ["json_too_deep"], id="a-level-more"),
        pytest.param(1000, ["json_too_deep"], id="much-deeper"),
    ],
)
def test_a_row_that_is_nested_too_deeply_fails_alone(depth: int, codes: list[str]) -> None:
    nested = b"[" * depth + b"]" * depth

    rows = read(b'{"id": "a", "x": 1}\n{"id": ' + nested + b', "x": 1}\n{"id": "b", "x": 1}\n', X, key="id")

    assert [(fault.position, fault.code) for fault in rows.faults] == [(1, code) for code in codes]
    assert rows.features.num_rows == 3 - len(codes)
    assert rows.kept.column("id").to_pylist() == ['"a"', None if codes else nested.decode(), '"b"']


def test_an_open_quote_in_the_line_before_does_not_hide_how_deep_a_row_is() -> None:
    deep = b'{"x": ' + b"[" * MOST_DEPTH + b"]" * MOST_DEPTH + b"}"

    rows = read(b'{"x": "\n' + deep + b"\n", X)

    assert [fault.code for fault in rows.faults] == ["malformed_json", "json_too_deep"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("number", 2**63 + 1, id="whole-number-past-the-precision-of-a-float"),
        pytest.param("integer", 2**63 - 1, id="largest-integer"),
        pytest.param("string", "007", id="digits"),
        pytest.param("boolean", False, id="false"),
    ],
)
def test_a_value_is_taken_exactly(kind: FeatureType, value: Any) -> None:
    rows = read(orjson.dumps({"x": value}), Feature(name="x", type=kind))

    (found,) = rows.features["x"].to_pylist()
    assert found == (float(value) if kind == "number" else value)


def test_a_slice_may_have_no_rows() -> None:
    rows = read(b"\r\n\n", X, key="id")

    assert (rows.count, rows.good, rows.faults, rows.features.num_rows, rows.kept.num_rows) == (0, None, (), 0, 0)
