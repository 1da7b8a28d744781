"""Rows of a Parquet slice: Arrow's types as the signature's."""

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Layout
from shared.dialect import Dialect
from shared.errors import InvalidRequest
from shared.signature import Feature, FeatureType, Signature
from worker.parquet_rows import check_parquet_schema, read_parquet
from worker.rows import SliceRows

MOST_CHARACTERS = 5
X = Feature(name="x", type="number")


def signature(*features: Feature) -> Signature:
    return Signature(container="table", features=features, methods=("predict",))


def read(table: pa.Table, *features: Feature, key: str | None = None, include: tuple[str, ...] = ()) -> SliceRows:
    where = Layout(format="parquet", names=tuple(table.column_names), key=key, include=include, dialect=Dialect())
    return read_parquet(table, where, signature(*features), max_text_length=MOST_CHARACTERS)


def one(values: pa.Array, kind: FeatureType, *, nullable: bool = False) -> list[Any]:
    """Each value, or the code of its fault."""
    rows = read(pa.table({"x": values}), Feature(name="x", type=kind, nullable=nullable))
    found: list[Any] = [None] * rows.count
    good = range(rows.count) if rows.good is None else rows.good.tolist()
    for position, value in zip(good, rows.features["x"].to_pylist(), strict=True):
        found[position] = value
    for fault in rows.faults:
        found[fault.position] = fault.code
    return found


TYPES = [
    pa.int8(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.decimal128(38, 2),
    pa.decimal256(60, 0),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.bool_(),
    pa.null(),
    pa.timestamp("us"),
    pa.date32(),
    pa.binary(),
    pa.list_(pa.float64()),
]
FITTING: dict[FeatureType, list[pa.DataType]] = {
    "number": [*TYPES[:6], pa.null()],
    "integer": [*TYPES[:6], pa.null()],
    "string": [*TYPES[6:10], pa.null()],
    "boolean": [pa.bool_(), pa.null()],
}


@pytest.mark.parametrize("found", TYPES, ids=str)
@pytest.mark.parametrize("kind", ["number", "integer", "string", "boolean"])
def test_a_column_of_a_type_that_never_fits_is_refused_by_name(kind: FeatureType, found: pa.DataType) -> None:
    schema = pa.schema({"other": pa.binary(), "x": found})
    wanted = signature(Feature(name="x", type=kind))

    if found in FITTING[kind]:
        check_parquet_schema(schema, wanted)
        return
    with pytest.raises(InvalidRequest) as raised:
        check_parquet_schema(schema, wanted)

    assert [(e["column"], e["code"]) for e in raised.value.errors] == [("x", "wrong_type")]
    assert str(found) in raised.value.message


@pytest.mark.parametrize(("kind", "found"), [(kind, found) for kind in FITTING for found in FITTING[kind]], ids=str)
def test_a_column_of_a_type_that_was_accepted_can_be_read(kind: FeatureType, found: pa.DataType) -> None:
    assert one(pa.nulls(2, found), kind, nullable=True) == [None, None]
    assert one(pa.nulls(1, found), kind) == ["missing_value"]


def test_a_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than once"):
        check_parquet_schema(pa.schema([("x", pa.int8()), ("x", pa.int8())]), signature(X))


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        pytest.param(pa.array([1, 2**53 + 1]), "number", [1.0, float(2**53 + 1)], id="integers-for-numbers"),
        pytest.param(pa.array([0.1], pa.float32()), "number", [0.10000000149011612], id="float32-is-not-rounded-anew"),
        pytest.param(pa.array([Decimal("1.10")]), "number", [1.1], id="decimals-for-numbers"),
        pytest.param(
            pa.array([1.5, float("inf"), float("-inf")]), "number", [1.5, "not_finite", "not_finite"], id="infinities"
        ),
        pytest.param(pa.array([float("nan"), None]), "number", ["missing_value"] * 2, id="nan-is-missing"),
        pytest.param(
            pa.array([3.0, 3.5, 1e30, float("inf")]),
            "integer",
            [3, "not_an_integer", "out_of_range", "not_an_integer"],
            id="floats-for-integers",
        ),
        pytest.param(pa.array([2.0**63, -(2.0**63)]), "integer", ["out_of_range", -(2**63)], id="the-edges-of-64-bits"),
        pytest.param(pa.array([2**63 - 1, 2**63], pa.uint64()), "integer", [2**63 - 1, "out_of_range"], id="uint64"),
        pytest.param(
            pa.array([Decimal("2.00"), Decimal("2.50"), Decimal(10**30)], pa.decimal128(38, 2)),
            "integer",
            [2, "not_an_integer", "out_of_range"],
            id="decimals-for-integers",
        ),
        pytest.param(pa.array([True, None]), "boolean", [True, "missing_value"], id="booleans"),
        pytest.param(pa.array(["a", "", None]), "string", ["a", "", "missing_value"], id="strings"),
        pytest.param(pa.array(["é" * 5, "a" * 6]), "string", ["é" * 5, "text_too_long"], id="long-strings"),
        pytest.param(pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"], id="dictionary"),
        pytest.param(pa.array(["a"], pa.string_view()), "string", ["a"], id="string-view"),
        pytest.param(pa.array(["a"], pa.large_string()), "string", ["a"], id="large-string"),
    ],
)
def test_a_value_is_taken_or_is_a_fault(values: pa.Array, kind: FeatureType, found: list[Any]) -> None:
    assert one(values, kind) == found


def test_an_empty_string_is_no_missing_one() -> None:
    assert one(pa.array(["", None]), "string", nullable=True) == ["", None]


def test_nan_is_missing_in_a_nullable_feature() -> None:
    assert one(pa.array([float("nan"), 1.0]), "number", nullable=True) == [None, 1.0]
    assert one(pa.array([float("nan"), 1.0]), "integer", nullable=True) == [None, 1]


@given(st.lists(st.floats() | st.integers(-(2**70), 2**70).map(float) | st.none()))
def test_floats_for_integers_are_whole_or_faults(values: list[float | None]) -> None:
    def expected(value: float | None) -> Any:
        if value is None or value != value:
            return None
        if not value.is_integer():
            return "not_an_integer"
        return int(value) if -(2**63) <= value < 2**63 else "out_of_range"

    assert one(pa.array(values, pa.float64()), "integer", nullable=True) == list(map(expected, values))


def test_a_fault_says_what_is_wrong_where() -> None:
    table = pa.table({"id": ["a", "b", "c"], "x": [1.0, float("inf"), None], "y": [1, 2, 3]})

    rows = read(table, Feature(name="y", type="number"), X, key="id")

    assert [(fault.position, fault.column, fault.key, fault.message) for fault in rows.faults] == [
        (1, "x", "b", "Column x must be a finite number; found a number that is too large."),
        (2, "x", "c", "Column x is null, and the model takes no missing values; send a number."),
    ]
    assert rows.features.to_pylist() == [{"y": 1.0, "x": 1.0}]


def test_kept_columns_are_unchanged_whatever_their_type() -> None:
    table = pa.table(
        {
            "day": pa.array([datetime.date(2026, 11, 22)], pa.date32()),
            "x": pa.array([1], pa.int8()),
            "list": [[1, 2]],
            "group": pa.array(["a"]).dictionary_encode(),
        }
    )

    rows = read(table, X, key="day", include=("group", "x", "day", "list"))

    assert rows.kept.equals(table.select(["day", "group", "x", "list"]))


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        pytest.param(
            datetime.datetime(2026, 11, 22, 1, 2, tzinfo=datetime.UTC), "2026-11-22T01:02:00+00:00", id="time"
        ),
        pytest.param(Decimal("1.10"), "1.10", id="decimal"),
        pytest.param(b"\xff", "\ufffd", id="bytes"),
        pytest.param(float("nan"), None, id="nan"),
        pytest.param(True, True, id="boolean"),
        pytest.param(7, 7, id="integer"),
    ],
)
def test_the_key_of_a_bad_row_is_what_json_can_say(key: Any, shown: Any) -> None:
    rows = read(pa.table({"id": [key], "x": pa.nulls(1)}), X, key="id")

    assert rows.faults[0].key == shown


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_strings_that_are_not_utf8_are_faults_of_their_rows(kind: pa.DataType) -> None:
    raw = pa.array([b"a", b"\xff", b"c"])
    texts = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)

    as_feature = read(pa.table({"x": texts}), Feature(name="x", type="string"))
    as_key = read(pa.table({"id": texts, "x": [1, 2, 3]}), X, key="id")

    assert [(fault.position, fault.code, fault.column) for fault in as_feature.faults] == [(1, "not_utf8", "x")]
    assert [(fault.position, fault.code, fault.key) for fault in as_key.faults] == [(1, "not_utf8", None)]
    assert as_key.kept["id"].to_pylist() == ["a", None, "c"]
    assert as_key.kept["id"].type == kind


def test_a_slice_may_begin_within_chunks() -> None:
    table = pa.table(
        {"id": pa.chunked_array([["a", "b"], ["c", "d"]]), "x": pa.chunked_array([[1.0], [2.0, 3.0, 4.0]])}
    )

    rows = read(table.slice(1, 2), X, Feature(name="id", type="string"), key="id")

    assert rows.features.to_pydict() == {"x": [2.0, 3.0], "id": ["b", "c"]}
    assert rows.kept["id"].to_pylist() == ["b", "c"]


def test_a_slice_may_have_no_rows() -> None:
    rows = read(pa.table({"x": pa.array([], pa.int8())}), X)

    assert (rows.count, rows.good, rows.faults) == (0, None, ())
    assert rows.features.schema == pa.schema({"x": pa.float64()})
