"""Rows of a slice of a CSV file, told apart exactly as Python's csv module does.

A slice without a bad row is parsed once, straight to the signature's types. Otherwise its fields are read as bytes, and
each column is converted by itself, to the same values.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from shared.batch import Layout
from shared.dialect import Dialect
from shared.signature import Signature
from worker.container import ARROW
from worker.rows import RowFault, SliceRows, assemble, kept_names
from worker.values import MISSING, Column, decoded, from_texts

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Ragged:
    """A row with too few or too many fields."""

    position: int
    fields: int
    key: str | None


def read_csv(data: bytes | memoryview, layout: Layout, signature: Signature, *, max_text_length: int) -> SliceRows:
    """The rows of a slice, which has no header and leaves no quote open.

    Kept columns are the exact texts of the fields, null in rows with a wrong number of fields and where they are not
    UTF-8.
    """
    if data[:3] == BYTE_ORDER_MARK:
        # Within a file it is text, but Arrow drops it at the beginning of what it reads.
        data = b"\n" + bytes(data)
    buffer = pa.py_buffer(data)
    rows = _all_good(buffer, layout, signature, max_text_length)
    return rows or _each_column(buffer, layout, signature, max_text_length)


def _all_good(buffer: pa.Buffer, layout: Layout, signature: Signature, max_text_length: int) -> SliceRows | None:
    """The rows, or None if Arrow cannot convert each value, or takes one that is none of ours."""
    kept = kept_names(layout)
    hexadecimal = any(feature.type == "integer" for feature in signature.features) and _may_have_hexadecimal(buffer)
    types = {
        feature.name: pa.string() if feature.type == "integer" and hexadecimal else ARROW[feature.type]
        for feature in signature.features
    }
    types |= dict.fromkeys(kept, pa.string())
    try:
        read = _parsed(buffer, layout, types)
    except pa.ArrowInvalid:
        return None
    columns = []
    for feature in signature.features:
        values = read[feature.name]
        if values.type == pa.string():
            columns.append(from_texts(values, feature, max_text_length))
        elif (values.null_count and not feature.nullable) or not _is_finite(values):
            return None
        else:
            columns.append(Column(values))
    return assemble(
        len(columns[0].values),
        signature,
        [column.values for column in columns],
        {name: read[name] for name in kept},
        flaws=[(feature.name, column.flaws) for feature, column in zip(signature.features, columns, strict=True)],
        key_at=_key_of(read, layout),
    )


def _each_column(buffer: pa.Buffer, layout: Layout, signature: Signature, max_text_length: int) -> SliceRows:
    kept = kept_names(layout)
    names = list(dict.fromkeys([*(feature.name for feature in signature.features), *kept]))
    raw, ragged = _split(buffer, layout, names)
    texts, flaws = {}, {}
    for name, column in raw.items():
        texts[name], flaws[name] = decoded(name, column)
    values = []
    for feature in signature.features:
        converted = from_texts(texts[feature.name], feature, max_text_length)
        values.append(converted.values)
        flaws[feature.name] += converted.flaws
    count = len(raw[names[0]]) + len(ragged)
    at = None
    if ragged:
        at = np.delete(np.arange(count), [row.position for row in ragged])
        texts = {name: _spread(texts[name], at, count) for name in kept}
    return assemble(
        count,
        signature,
        values,
        {name: texts[name] for name in kept},
        flaws=flaws.items(),
        key_at=_key_of(texts, layout),
        at=at,
        others=(RowFault(row.position, *_told(row.fields, layout), key=row.key) for row in ragged),
    )


def _split(buffer: pa.Buffer, layout: Layout, names: Iterable[str]) -> tuple[dict[str, pa.Array], list[_Ragged]]:
    """The fields of the rows as bytes, and the rows with another number of fields."""
    ragged: list[_Ragged] = []

    def keep(row: pv.InvalidRow) -> str:
        fields = [] if layout.key is None else next(csv_fields(row.text, layout.dialect))
        # Arrow counts rows from 1, without blank lines, as long as it uses one thread.
        ragged.append(_Ragged(row.number - 1, row.actual_columns, _key_among(fields, layout, "utf-8")))
        return "skip"

    types = dict.fromkeys(names, pa.binary())
    try:
        # Arrow cannot hand over a row that is not UTF-8.
        return _parsed(buffer, layout, types, keep if _is_utf8(buffer) else None), ragged
    except pa.ArrowInvalid:
        return _split_by_csv_module(buffer, layout, types)


def _split_by_csv_module(
    buffer: pa.Buffer, layout: Layout, types: Mapping[str, pa.DataType]
) -> tuple[dict[str, pa.Array], list[_Ragged]]:
    # Latin-1 maps each byte to a character, and back.
    text = buffer.to_pybytes().decode("latin-1")
    rows, ragged = [], []
    for position, row in enumerate(filter(None, csv_fields(text, layout.dialect))):
        if len(row) == len(layout.names):
            rows.append(row)
        else:
            ragged.append(_Ragged(position, len(row), _key_among(row, layout, "latin-1")))
    where = _positions(layout)
    columns = {name: [row[where[name]].encode("latin-1") for row in rows] for name in types}
    return {name: pa.array(values, pa.binary()) for name, values in columns.items()}, ragged


def _key_among(fields: Sequence[str], layout: Layout, encoding: str) -> str | None:
    """The key of a row whose number of fields is wrong, if there is one."""
    if layout.key is None or _positions(layout)[layout.key] >= len(fields):
        return None
    try:
        return fields[_positions(layout)[layout.key]].encode(encoding).decode()
    except UnicodeDecodeError:
        return None


def _told(fields: int, layout: Layout) -> tuple[str, str]:
    columns = len(layout.names)
    message = (
        f"The row has {fields} {'field' if fields == 1 else 'fields'}, but the "
        f"{'header' if layout.dialect.header else 'file'} has {columns} {'column' if columns == 1 else 'columns'}."
    )
    return "wrong_number_of_fields", message


def _parsed(
    buffer: pa.Buffer,
    layout: Layout,
    types: Mapping[str, pa.DataType],
    invalid_row_handler: Callable[[pv.InvalidRow], str] | None = None,
) -> dict[str, pa.Array]:
    """The columns in `types`.

    Raises:
        pa.ArrowInvalid: a value is not of its type, or a row has another number of fields and there is no handler.
    """
    if not buffer.size:  # Arrow takes it for an error
        return {name: pa.array([], type_) for name, type_ in types.items()}
    where = _positions(layout)
    # Columns go by their position, since names may be empty, and several of them.
    numbers = {name: str(where[name]) for name in types}
    table = pv.read_csv(
        pa.BufferReader(buffer),
        pv.ReadOptions(
            use_threads=False,
            block_size=buffer.size + 1,
            column_names=[str(number) for number in range(len(layout.names))],
        ),
        pv.ParseOptions(
            delimiter=layout.dialect.delimiter,
            quote_char=layout.dialect.quote or False,
            newlines_in_values=True,
            invalid_row_handler=invalid_row_handler,
        ),
        pv.ConvertOptions(
            column_types={numbers[name]: type_ for name, type_ in types.items()},
            include_columns=list(numbers.values()),
            null_values=MISSING,
            strings_can_be_null=False,
            true_values=["1", *_any_case("true")],
            false_values=["0", *_any_case("false")],
        ),
    )
    return {name: table.column(number).combine_chunks() for name, number in numbers.items()}


def _positions(layout: Layout) -> dict[str, int]:
    return {name: position for position, name in enumerate(layout.names)}


def csv_fields(text: str, dialect: Dialect) -> Iterator[list[str]]:
    """The fields of each row, none for a blank line."""
    csv.field_size_limit(2**31 - 1)  # rows have a limit of their own, and 131,072 is below it
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )


def _any_case(word: str) -> list[str]:
    return ["".join(letters) for letters in product(*zip(word.lower(), word.upper(), strict=True))]


def _may_have_hexadecimal(buffer: pa.Buffer) -> bool:
    """Whether there may be a text such as 0x1F, which is no number of ours, but one of Arrow's."""
    characters = np.frombuffer(buffer, np.uint8)
    return bool((characters == ord("x")).any() or (characters == ord("X")).any())


def _is_finite(values: pa.Array) -> bool:
    return values.type != pa.float64() or pc.all(pc.is_finite(values)).as_py() is not False


def _is_utf8(buffer: pa.Buffer) -> bool:
    offsets = pa.py_buffer(np.array([0, buffer.size], np.int32))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, offsets, buffer]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _spread(values: pa.Array, at: np.ndarray, count: int) -> pa.Array:
    """The values at their places among `count` rows, with null elsewhere."""
    indices = np.full(count, -1)
    indices[at] = np.arange(len(at))
    return values.take(pa.array(indices, mask=indices < 0))


def _key_of(texts: Mapping[str, pa.Array], layout: Layout) -> Callable[[int], Any]:
    keys = None if layout.key is None else texts[layout.key]
    return lambda position: None if keys is None else keys[position].as_py()
