"""A table in memory as a file that the service reads: a sample, or rows to train with."""

import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from foretell.errors import InvalidRows
from foretell.rows import Rows, rows_of

PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file in memory."""

    content: bytes
    file_name: str
    media_type: str


def table_of(rows: Any, names: Sequence[str] | None = None) -> Table:
    """Rows of any kind as a file; `names` are those of their columns if they have none: else x1, x2, ...

    Raises:
        InvalidRows
    """
    made = rows_of(rows)
    if made.kind == "polars" and hasattr(rows, "write_parquet"):
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        return _parquet(buffer)
    if made.kind == "pandas" and hasattr(rows, "columns") and find_spec("pyarrow") is not None:
        buffer = io.BytesIO()
        rows.rename(columns=str).to_parquet(buffer, index=False)
        return _parquet(buffer)
    if made.kind == "arrow" and hasattr(rows, "schema"):
        return _arrow(rows)
    return _ndjson(made, names)


def _arrow(rows: Any) -> Table:
    import pyarrow.parquet

    batches = sys.modules["pyarrow"].RecordBatch
    table = sys.modules["pyarrow"].Table.from_batches([rows]) if isinstance(rows, batches) else rows
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return _parquet(buffer)


def _parquet(buffer: io.BytesIO) -> Table:
    return Table(content=buffer.getvalue(), file_name="rows.parquet", media_type=PARQUET)


def _ndjson(rows: Rows, names: Sequence[str] | None) -> Table:
    payload = json.loads(rows.payload({}, 0, rows.count))
    lines = [json.dumps(record) for record in _records(payload, names)]
    return Table(content=("\n".join(lines) + "\n").encode(), file_name="rows.ndjson", media_type=NDJSON)


def _records(payload: Mapping[str, Any], names: Sequence[str] | None) -> list[dict[str, Any]]:
    if "inputs" in payload:
        columns = payload["inputs"]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    records = []
    for row in payload["instances"]:
        if isinstance(row, dict):
            records.append(row)
            continue
        values = row if isinstance(row, list) else [row]
        named = names or [f"x{number + 1}" for number in range(len(values))]
        if len(named) != len(values):
            raise InvalidRows(f"A row has {len(values)} values, but there are {len(named)} names of columns.")
        records.append(dict(zip(named, values, strict=True)))
    return records
