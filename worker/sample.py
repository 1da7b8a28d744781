"""The rows that came with an artifact: as many as its trial and its profile need, within a bound of memory."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from shared.batch import Format
from shared.errors import InvalidRequest

MOST_ROWS: Final = 10_000
MOST_BYTES: Final = 64 * 2**20
MOST_COLUMNS: Final = 10_000
# What a value takes, at the least: a double, or where a string begins.
VALUE_BYTES: Final = 8
MOST_AT_ONCE: Final = 1000
LONGEST_REASON: Final = 200


def read_sample(data: bytes, format: Format) -> pa.Table:
    """The first rows of a sample, n_rows by n_columns; n_rows is `MOST_ROWS` at most.

    Raises:
        InvalidRequest: `bad_sample`; it cannot be read, or takes more than `MOST_BYTES` unpacked.
    """
    if not data.strip():
        raise _bad_sample("The sample is empty; send a few rows of what the model predicts.")
    try:
        table: pa.Table = _READERS[format](data)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of column names that are no text
        # Arrow quotes what it could not read.
        reason = "".join(character if character.isprintable() else " " for character in str(error))
        raise _bad_sample(f"The sample cannot be read as {format}: {reason[:LONGEST_REASON]}") from error
    _check_size(table.nbytes)
    return table.slice(0, MOST_ROWS)


def _csv(data: bytes) -> pa.Table:
    head = _first_rows(data)
    _check_shape(head.count(b"\n") + 1, head.partition(b"\n")[0].count(b",") + 1)
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(pa.BufferReader(head), parse_options=options)


def _first_rows(data: bytes) -> bytes:
    """A CSV file up to the end of its last row that is wanted; a line break in quotes ends none."""
    end = quotes = 0
    for _ in range(1 + MOST_ROWS):  # the names come first
        following = -1
        while following < 0 or quotes % 2:
            following = data.find(b"\n", end) + 1
            if not following:
                return data
            quotes += data.count(b'"', end, following)
            end = following
    return data[:end]


def _ndjson(data: bytes) -> pa.Table:
    lines, names = data.split(b"\n", MOST_ROWS)[:MOST_ROWS], dict[str, None]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _bad_sample(f"The sample cannot be read as ndjson: line {number}: {error}") from error
        if not isinstance(row, dict):
            raise _bad_sample(f"Line {number} of the sample is no JSON object; send one row a line, as an object.")
        for name, value in row.items():
            if isinstance(value, dict | list):
                kind = "an object" if isinstance(value, dict) else "a list"
                raise _bad_sample(f"Column {name} of line {number} of the sample is {kind}; send single values.")
        names |= dict.fromkeys(row)
        # Arrow gives every row every column, so that a few rows with names of their own would fill the memory.
        _check_shape(number, len(names))
    head = b"\n".join(lines) + b"\n"
    options = pyarrow.json.ReadOptions(block_size=len(head))
    return pyarrow.json.read_json(pa.BufferReader(head), read_options=options)


def _parquet(data: bytes) -> pa.Table:
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    batches, rows, size_bytes = [], 0, 0
    _check_shape(1, file.metadata.num_columns)
    for group in range(file.metadata.num_row_groups):
        stored_bytes = file.metadata.row_group(group).total_byte_size
        _check_size(stored_bytes)
        # One value of a dictionary may stand in every row, so no row takes more than the whole group is long.
        at_once = max(1, min(MOST_AT_ONCE, MOST_BYTES // max(1, stored_bytes)))
        for batch in file.iter_batches(at_once, row_groups=[group]):
            rows, size_bytes = rows + batch.num_rows, size_bytes + batch.nbytes
            _check_size(size_bytes)
            batches.append(batch)
            if rows >= MOST_ROWS:
                return pa.Table.from_batches(batches)
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


_READERS: Final[Mapping[Format, Callable[[bytes], pa.Table]]] = {"csv": _csv, "ndjson": _ndjson, "parquet": _parquet}


def _check_shape(rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise _bad_sample(f"The sample has more than {MOST_COLUMNS} columns; send one with those that the model takes.")
    _check_size(rows * columns * VALUE_BYTES)


def _check_size(size_bytes: int) -> None:
    if size_bytes > MOST_BYTES:
        raise _bad_sample(
            f"The sample takes more than {MOST_BYTES // 2**20} MiB unpacked; send fewer rows, a few hundred are enough."
        )


def _bad_sample(message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": "/sample", "code": "bad_sample", "message": message}])
