"""Rows of a slice of newline-delimited JSON, by exactly the rules that the rows of a prediction job are checked by."""

import json
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from shared.batch import Layout, Requests
from shared.errors import InvalidRequest
from shared.json_depth import MOST_DEPTH, deeper_than, may_be_deeper
from shared.signature import Feature, FeatureType, RowChecker, Signature
from worker.container import ARROW
from worker.request_lines import rows_of_requests
from worker.rows import RowFault, SliceRows, assemble, kept_names


class _Nothing:
    """What a row does not have; its class is that of no JSON value."""


_NOTHING: Final = _Nothing()
_TYPES: Final[dict[FeatureType, set[type]]] = {
    "number": {float, int},
    "integer": {int},
    "string": {str},
    "boolean": {bool},
}


def read_ndjson(
    data: bytes | memoryview, layout: Layout, signature: Signature, *, max_text_length: int,
    max_json_depth: int = MOST_DEPTH, requests: Requests | None = None,
) -> SliceRows:  # fmt: skip
    """The rows of a slice: lines that end with LF or CR LF, of which empty ones are no rows.

    A row is an object; or an array of n_features values; or the value itself, if there is one feature. Kept columns are
    JSON texts of the values, null where a row has no such value.

    `requests`: the lines are requests, with the rows within them; kept columns are then of the lines.
    """
    lines = lines_of(data := bytes(data))
    deep = may_be_deeper(data, max_json_depth)
    held, faults = _loaded(lines, max_json_depth if deep else None)
    names = kept_by = [feature.name for feature in signature.features]
    rows = held
    if requests is not None:
        rows, wrong = rows_of_requests(held, requests, _NOTHING, faults)
        faults, kept_by = faults | wrong, []
    columns = _columns(rows, names)
    checker = RowChecker(signature, max_rows=1, max_text_length=max_text_length)
    doubtful: set[int] = set()
    for feature, column in zip(signature.features, columns, strict=True):
        doubtful |= _doubtful(column, feature, max_text_length)
    for position in doubtful - faults.keys():
        try:
            ((*values,),) = checker.check([rows[position]])
        except InvalidRequest as error:
            first = error.errors[0]
            faults[position] = RowFault(position, first["code"], first["message"], first.get("column"))
        else:
            for column, value in zip(columns, values, strict=True):
                column[position] = value
    kept = {name: _texts(lines, held, name, kept_by) for name in kept_names(layout)}
    usable = [position not in faults for position in range(len(rows))] if faults else None
    return assemble(
        len(rows),
        signature,
        [
            _array(column if usable is None else list(compress(column, usable)), feature.type)
            for column, feature in zip(columns, signature.features, strict=True)
        ],
        kept,
        at=None if usable is None else np.flatnonzero(usable),
        others=[_with_key(fault, kept, layout) for fault in faults.values()],
    )


def lines_of(data: bytes) -> list[bytes]:
    """The rows of a slice, without their line breaks; empty lines are none."""
    lines = data.split(b"\n")
    if b"\r" in data:
        lines = [line.removesuffix(b"\r") for line in lines]
    return [line for line in lines if line]


def _loaded(lines: Sequence[bytes], most: int | None) -> tuple[list[Any], dict[int, RowFault]]:
    """The rows, with _NOTHING for each that is no JSON, and the faults of those by position.

    `most`: how deep they may be nested, if one of them may be nested more deeply.
    """
    if most is None:
        try:
            return list(map(orjson.loads, lines)), {}
        except orjson.JSONDecodeError:
            pass
    rows: list[Any] = []
    faults: dict[int, RowFault] = {}
    for position, line in enumerate(lines):
        row: Any = _NOTHING
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            faults[position] = _malformed(position, line, error)
        else:
            if most is not None and deeper_than(line, most):
                row = _NOTHING
                message = f"The line has arrays and objects within each other more than {most} deep."
                faults[position] = RowFault(position, "json_too_deep", message)
        rows.append(row)
    return rows, faults


def _malformed(position: int, line: bytes, error: orjson.JSONDecodeError) -> RowFault:
    try:
        line.decode()
    except UnicodeDecodeError:
        return RowFault(position, "not_utf8", "The line has bytes that are not UTF-8; JSON must be UTF-8.")
    where = f" at character {error.pos + 1}" if error.pos else ""
    return RowFault(position, "malformed_json", f"The line is not JSON: {error.msg}{where}.")


def _columns(rows: Sequence[Any], names: Sequence[str]) -> list[list[Any]]:
    """The features' values, in n_features lists of n_rows, _NOTHING where a row has none."""
    if not rows:
        return [[] for _ in names]
    if type(rows[0]) is dict and len(names) > 1:
        try:
            return [list(column) for column in zip(*map(itemgetter(*names), rows), strict=True)]
        except (KeyError, TypeError):  # not all are such objects
            pass
    if all(type(row) is list and len(row) == len(names) for row in rows):
        return [list(column) for column in zip(*rows, strict=True)]
    return [[_value(row, name, names) for row in rows] for name in names]


def _value(row: Any, name: str, names: Sequence[str]) -> Any:
    """A value of a row, or _NOTHING."""
    if type(row) is dict:
        return row.get(name, _NOTHING)
    if name not in names:
        return _NOTHING
    if type(row) is list:
        return row[names.index(name)] if len(row) == len(names) else _NOTHING
    return row if len(names) == 1 else _NOTHING


def _doubtful(column: Sequence[Any], feature: Feature, max_text_length: int) -> set[int]:
    """Where a closer look is due: none of the other values has a fault."""
    allowed = _TYPES[feature.type] | ({type(None)} if feature.nullable else set())
    found: set[int] = set()
    if not set(map(type, column)) <= allowed:
        found = {position for position, value in enumerate(column) if type(value) not in allowed}
    if feature.type == "string":
        found |= {n for n, value in enumerate(column) if type(value) is str and len(value) > max_text_length}
    if feature.type == "integer":
        found |= {n for n, value in enumerate(column) if type(value) is int and value >= 2**63}
    return found


def _array(column: Sequence[Any], kind: FeatureType) -> pa.Array:
    try:
        return pa.array(column, ARROW[kind])
    except pa.ArrowInvalid:  # it takes no integer past 2^53 for a float64
        return pa.array([None if value is None else float(value) for value in column], ARROW[kind])


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _texts(lines: Sequence[bytes], rows: Sequence[Any], name: str, names: Sequence[str]) -> pa.Array:
    """A column as JSON texts; numbers stay as they are written."""
    values = [_value(row, name, names) for row in rows]
    texts: Sequence[str | bytes | None]
    if values and not {float, list, dict, _Nothing} & set(map(type, values)):
        # One call is twenty times as fast as one for each; a line break within a string would be escaped.
        texts = orjson.dumps(values, option=orjson.OPT_INDENT_2)[len("[\n  ") : -len("\n]")].split(b",\n  ")
    else:
        texts = [
            None
            if value is _NOTHING
            else _written(line, name, names)
            if type(value) in (float, list, dict)
            else orjson.dumps(value)
            for line, value in zip(lines, values, strict=True)
        ]
    return pa.array(texts, pa.binary()).cast(pa.string())


def _written(line: bytes, name: str, names: Sequence[str]) -> str | None:
    """A value of a line with its numbers as they are."""
    return _json(_value(json.loads(line, parse_float=_Number, parse_int=_Number), name, names))


def _json(value: Any) -> str:
    if type(value) is _Number:
        return str(value)
    if type(value) is list:
        return f"[{','.join(_json(part) for part in value)}]"
    if type(value) is dict:
        members = (f"{orjson.dumps(key).decode()}:{_json(part)}" for key, part in value.items())
        return "{" + ",".join(members) + "}"
    return orjson.dumps(value).decode()


def _with_key(fault: RowFault, kept: dict[str, pa.Array], layout: Layout) -> RowFault:
    if layout.key is None:
        return fault
    text = kept[layout.key][fault.position].as_py()
    return RowFault(
        fault.position, fault.code, fault.message, fault.column, None if text is None else orjson.loads(text)
    )
