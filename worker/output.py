"""Result rows as CSV, NDJSON or Parquet: bytes that depend on the rows alone, and that join by being concatenated."""

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.batch import Compression

# Rows of a Parquet file wait for a row group of this size; it bounds the joiner's memory.
ROW_GROUP_BYTES: Final = 32 * 2**20
ROW_GROUP_ROWS: Final = 2**20

SPECIAL_IN_CSV: Final = re.compile('[",\r\n]')
SPECIAL_IN_JSON: Final = r'[\x00-\x1f"\\]'


class Sink(Protocol):
    """Where bytes go, in order."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""


def csv_header(names: Sequence[str]) -> bytes:
    """The header line, with its LF."""
    alone = len(names) == 1
    quoted = (
        '"{}"'.format(name.replace('"', '""')) if SPECIAL_IN_CSV.search(name) or (alone and not name) else name
        for name in names
    )
    return (",".join(quoted) + "\n").encode()


def csv_rows(table: pa.Table) -> bytes:
    """The rows of a table without header, in the dialect of RFC 4180 but with LF.

    A value is quoted only where it must be: if it has a comma, a quote or a line break, or if a missing or empty one
    would make the row a blank line. Missing is empty. Floats have the fewest digits that read back as the same number,
    and a point or an exponent. Nested values are JSON.
    """
    return _joined(table, lambda name, values: _csv_values(values, alone=table.num_columns == 1), b"", b",", b"\n")


def ndjson_rows(table: pa.Table, json_columns: frozenset[str]) -> bytes:
    """The rows of a table, a JSON object and LF each.

    Args:
        table: missing values and numbers that are not finite become null; what JSON has no type for becomes a string.
        json_columns: columns of JSON text, which is written as it is; it must have no line break.
    """
    return _joined(table, lambda name, values: _json_values(name, values, json_columns), b"{", b",", b"}\n")


def arrow_rows(table: pa.Table) -> bytes:
    """The rows of a table as a part for the ParquetJoiner: an Arrow IPC stream. Several in a row are a part too."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue().to_pybytes())


def compress(data: bytes, compression: Compression) -> bytes:
    """A gzip member (RFC 1952) or zstd frame (RFC 8878) of its own, so that several in a row are a file.

    Both at level 1: on rows of numbers higher levels take two to seven times as long for less than a tenth.
    """
    match compression:
        case "none":
            return data
        case "gzip":
            return zlib.compress(data, 1, wbits=31)  # a gzip header, whose time zlib leaves 0
        case "zstd":
            return bytes(pa.Codec("zstd", compression_level=1).compress(data, asbytes=True))


class ParquetJoiner:
    """Makes one Parquet file of parts, in order.

    Row groups are made of whole tables as `arrow_rows` took them, so that the file's bytes do not depend on how these
    were put together to parts. Memory is bounded by a row group and a part.
    """

    def __init__(self, sink: Sink, schema: pa.Schema | None = None) -> None:
        """Without a schema, that of the first part is the file's."""
        self._sink = sink
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def add(self, part: bytes | memoryview) -> None:
        """Append the rows of a part.

        Raises:
            pyarrow.ArrowInvalid: the bytes are no part, or its columns do not fit those of the first.
        """
        source = pa.BufferReader(part)
        while source.tell() < source.size():
            table = pa.ipc.open_stream(source).read_all()
            if self._schema is None:
                self._schema = table.schema
            self._waiting.append(table.cast(self._schema))
            if (
                sum(waiting.nbytes for waiting in self._waiting) >= ROW_GROUP_BYTES
                or sum(waiting.num_rows for waiting in self._waiting) >= ROW_GROUP_ROWS
            ):
                self._write()

    def close(self) -> None:
        """Write what is left and the footer; the sink stays open.

        Raises:
            ValueError: there was neither a part nor a schema.
        """
        self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        if self._schema is None:
            raise ValueError("a Parquet file needs columns: a schema, or one part at least")
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(_Open(self._sink), mode="w"), self._schema, compression="zstd"
            )
        # In one piece: pages would otherwise end where tables do.
        group = pa.concat_tables(self._waiting).combine_chunks() if self._waiting else None
        self._waiting = []
        if group is not None and group.num_rows:
            self._writer.write_table(group, row_group_size=group.num_rows)


class _Open:
    """A sink as pyarrow wants it: it asks whether a file is closed, and closes it."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Not ours to close."""


def _joined(
    table: pa.Table, encode: Callable[[str, pa.Array], pa.Array], first: bytes, between: bytes, last: bytes
) -> bytes:
    """Every row's encoded values with what stands around them; the values are large_binary without nulls."""
    pieces = []
    for batch in table.to_batches():
        if not batch.num_rows:
            continue
        parts: list[Any] = []
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            parts += [between if parts else first, encode(name, values)]
        joined = _concatenated(*parts, last)
        _, offsets, data = joined.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[[joined.offset, joined.offset + len(joined)]]
        pieces.append(memoryview(data)[ends[0] : ends[1]])
    return b"".join(pieces)


def _concatenated(*parts: Any) -> pa.Array:
    """Row by row; the parts are large_binary columns, and bytes that are the same for every row."""
    kind = pa.large_binary()
    return pc.binary_join_element_wise(*(pa.scalar(p, kind) if isinstance(p, bytes) else p for p in (*parts, b"")))


def _csv_values(values: pa.Array, *, alone: bool) -> pa.Array:
    texts, may_need_quotes = _texts(values)
    texts = texts.fill_null(b"")
    if may_need_quotes:
        texts = _quoted(texts)
    return pc.if_else(pc.equal(pc.binary_length(texts), 0), b'""', texts) if alone else texts


def _quoted(texts: pa.Array) -> pa.Array:
    """In quotes where they are needed."""
    content = _content(texts)
    if not any(special in content for special in (b",", b'"', b"\n", b"\r")):
        return texts
    needed = pc.match_substring_regex(texts, SPECIAL_IN_CSV.pattern)
    doubled = pc.replace_substring(texts, b'"', b'""')
    return pc.if_else(needed, _concatenated(b'"', doubled, b'"'), texts)


def _json_values(name: str, values: pa.Array, json_columns: frozenset[str]) -> pa.Array:
    """Each value as JSON after the column's name and a colon."""
    values = _plain(values)
    kind = values.type
    if name in json_columns or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        texts = _texts(values)[0]
    elif pa.types.is_floating(kind):
        texts = pc.if_else(pc.is_finite(values), _texts(values)[0], None)
    elif pa.types.is_nested(kind) or pa.types.is_large_binary(kind):
        texts = _dumped(values)
    else:
        texts = _texts(values)[0]
        texts = _quoted_json(texts)
    return _concatenated(orjson.dumps(name) + b":", texts.fill_null(b"null"))


def _quoted_json(texts: pa.Array) -> pa.Array:
    """JSON strings; only those with a character that must be escaped are written one at a time."""
    content = np.frombuffer(_content(texts), dtype=np.uint8)
    quoted = _concatenated(b'"', texts, b'"')
    if not np.any((content < ord(" ")) | (content == ord('"')) | (content == ord("\\"))):
        return quoted
    special = pc.match_substring_regex(texts, SPECIAL_IN_JSON).fill_null(False)
    return pc.replace_with_mask(quoted, special, _dumped(texts.filter(special)))


def _plain(values: pa.Array) -> pa.Array:
    """The values without an encoding of their own, strings and binary ones in the types with large offsets."""
    if pa.types.is_dictionary(values.type):
        return _plain(values.cast(values.type.value_type))
    if pa.types.is_run_end_encoded(values.type):
        return _plain(pc.run_end_decode(values))
    if pa.types.is_string(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.large_string())
    if (
        pa.types.is_binary(values.type)
        or pa.types.is_binary_view(values.type)
        or pa.types.is_fixed_size_binary(values.type)
    ):
        return values.cast(pa.large_binary())
    return values


def _texts(values: pa.Array) -> tuple[pa.Array, bool]:
    """The values as large_binary, missing ones as null, and whether they can have any characters at all."""
    values = _plain(values)
    kind = values.type
    if pa.types.is_nested(kind):
        return _dumped(values), True
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.large_binary()), True
    if pa.types.is_floating(kind):
        return _float_texts(values), False
    return values.cast(pa.large_string()).cast(pa.large_binary()), False


def _float_texts(values: pa.Array) -> pa.Array:
    """As orjson writes them, which is three times as fast as Arrow's cast; nan, inf and -inf as Arrow does."""
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    array = np.frombuffer(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY), dtype=np.uint8).copy()
    array[-1] = ord(",")
    # Each text with the comma after it, which is then trimmed: texts of one array cannot leave bytes out.
    offsets = np.concatenate(([0], np.flatnonzero(array == ord(",")))) + 1
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(array)]
    texts = pc.ascii_rtrim(pa.Array.from_buffers(pa.large_string(), len(values), buffers), ",")
    finite = pc.is_finite(values)
    if not pc.all(finite, skip_nulls=False).as_py():
        texts = pc.if_else(finite, texts, values.cast(pa.large_string()))
    return texts.cast(pa.large_binary())


def _content(texts: pa.Array) -> bytes:
    """The bytes of all values."""
    data = texts.buffers()[2]
    return b"" if data is None else bytes(data)


def _dumped(values: pa.Array) -> pa.Array:
    """Each value as JSON, one at a time."""

    def dumped(value: object) -> bytes | None:
        return None if value is None else orjson.dumps(value, default=_speakable)

    return pa.array([dumped(_decoded(value)) for value in values.to_pylist()], pa.large_binary())


def _decoded(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _speakable(value: object) -> object:
    return _decoded(value) if isinstance(value, bytes) else str(value)
