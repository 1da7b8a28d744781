"""Rows of a slice of a Parquet file: Arrow columns as a signature's types."""

import datetime
import decimal
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from shared.batch import Layout
from shared.errors import InvalidRequest
from shared.signature import Feature, FeatureType, Signature, must_be
from worker.container import ARROW
from worker.rows import SliceRows, assemble, kept_names
from worker.values import Column, Flaw, absent, decoded, strings

_EXPECTED: Final[dict[FeatureType, str]] = {
    "number": "numbers",
    "integer": "whole numbers",
    "string": "strings",
    "boolean": "booleans",
}


def check_parquet_schema(schema: pa.Schema, signature: Signature) -> None:
    """See that each feature's column may hold what the feature takes.

    Numbers may be integers, floats or decimals, and so may integers, if they are whole; strings and booleans must be
    such. Columns that are missing are not looked for (shared.dialect.check_columns does that).

    Raises:
        InvalidRequest: with each column whose type never fits, or whose name is there twice.
    """
    errors = []
    for name in dict.fromkeys(schema.names):
        if len(schema.get_all_field_indices(name)) > 1:
            message = f"The file has the column {name!r} more than once; give each column a name of its own."
            errors.append({"column": name, "code": "duplicate_column", "message": message})
    for feature in signature.features:
        index = schema.get_field_index(feature.name)
        if index >= 0 and not _fits(schema.field(index).type, feature.type):
            message = (
                f"Column {feature.name} must hold {_EXPECTED[feature.type]}; in the file its type is "
                f"{schema.field(index).type}."
            )
            errors.append({"column": feature.name, "code": "wrong_type", "message": message})
    if errors:
        raise InvalidRequest(str(errors[0]["message"]), errors=errors)


def _fits(found: pa.DataType, wanted: FeatureType) -> bool:
    if pt.is_dictionary(found):
        found = found.value_type
    if pt.is_null(found):
        return True
    match wanted:
        case "number" | "integer":
            return bool(pt.is_integer(found) or pt.is_floating(found) or pt.is_decimal(found))
        case "string":
            return _is_text(found)
        case "boolean":
            return bool(pt.is_boolean(found))


def _is_text(found: pa.DataType) -> bool:
    return bool(pt.is_string(found) or pt.is_large_string(found) or pt.is_string_view(found))


def read_parquet(table: pa.Table, layout: Layout, signature: Signature, *, max_text_length: int) -> SliceRows:
    """The rows of a slice, whose schema was checked.

    NaN is a missing number. Kept columns are unchanged, but for strings that are not UTF-8, which are null.
    """
    columns = [_converted(table.column(feature.name), feature, max_text_length) for feature in signature.features]
    flaws = [(feature.name, column.flaws) for feature, column in zip(signature.features, columns, strict=True)]
    kept = {}
    for name in kept_names(layout):
        kept[name] = table.column(name)
        plain = _plain(kept[name])
        if _is_text(plain.type):
            texts, undecodable = _texts(name, plain)
            if undecodable:
                kept[name] = texts.cast(kept[name].type)
                flaws.append((name, undecodable))
    return assemble(
        table.num_rows,
        signature,
        [column.values for column in columns],
        kept,
        flaws=flaws,
        key_at=lambda position: None if layout.key is None else speakable(kept[layout.key][position].as_py()),
    )


def speakable(value: Any) -> Any:
    """A value as JSON can say it: numbers, strings and booleans as they are, times in ISO 8601, others as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            return value.decode(errors="replace")
        case _:
            return str(value)


def _converted(column: pa.ChunkedArray, feature: Feature, max_text_length: int) -> Column:
    values = _plain(column)
    if pt.is_null(values.type):
        values = values.cast(ARROW[feature.type])
    match feature.type:
        case "string":
            texts, undecodable = _texts(feature.name, values)
            converted = strings(texts, feature, max_text_length, empty_is_missing=False)
            converted = Column(converted.values, undecodable + converted.flaws)
        case "boolean":
            converted = Column(values)
        case "number":
            values = _without_nan(values)
            converted = _numbers(values, feature)
        case "integer":
            values = _without_nan(values)
            converted = _integers(values, feature)
    return Column(converted.values, absent(values, feature) + converted.flaws)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary_decode() if pt.is_dictionary(array.type) else array


def _texts(name: str, values: pa.Array) -> tuple[pa.Array, tuple[Flaw, ...]]:
    # By way of bytes, since Parquet's strings were not looked at yet.
    return decoded(name, values.cast(pa.large_binary()).cast(pa.binary()))


def _without_nan(values: pa.Array) -> pa.Array:
    if not pt.is_floating(values.type):
        return values
    values = values.cast(pa.float64())
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)


def _numbers(values: pa.Array, feature: Feature) -> Column:
    floats = values if pt.is_floating(values.type) else values.cast(pa.float64(), safe=False)
    finite = pc.is_finite(floats)
    if pc.all(finite).as_py() is not False:
        return Column(floats)
    nothing = pa.scalar(None, pa.float64())
    return Column(pc.if_else(finite, floats, nothing), _flaws(values, finite, feature, lambda _: "not_finite"))


def _integers(values: pa.Array, feature: Feature) -> Column:
    try:
        return Column(values.cast(pa.int64()))
    except pa.ArrowInvalid:
        pass
    whole = [_whole(value) for value in values.to_pylist()]
    known = pa.array([number is not None for number in whole])
    return Column(pa.array(whole, pa.int64()), _flaws(values, known, feature, _why_not_whole))


def _whole(value: Any) -> int | None:
    """A value as an integer of 64 bits, if it is one."""
    return int(value) if value is not None and _is_whole(value) and -(2**63) <= value < 2**63 else None


def _is_whole(value: Any) -> bool:
    return math.isfinite(value) and int(value) == value


def _why_not_whole(value: Any) -> str:
    return "out_of_range" if _is_whole(value) else "not_an_integer"


def _flaws(values: pa.Array, good: pa.Array, feature: Feature, why: Callable[[Any], str]) -> tuple[Flaw, ...]:
    """What is told of each value that is neither good nor missing."""
    bad = np.flatnonzero(np.asarray(pc.and_(values.is_valid(), pc.invert(pc.fill_null(good, False)))))
    flaws = []
    for position in bad.tolist():
        value = values[position].as_py()
        code = why(value)
        shown = float(value) if isinstance(value, decimal.Decimal) else value
        flaws.append(Flaw(position, code, must_be(feature.name, code, shown)))
    return tuple(flaws)
