"""Where the rows of a job are: in memory, in a file here, or in a file that the service has or can reach."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretell.errors import InvalidRows
from foretell.form import format_of
from foretell.table import Table, table_of


class Reference:
    """A file that the service has, by the id of an upload, or can reach, by an address that the operator allows."""

    def __init__(self, *, file_id: str | None = None, uri: str | None = None) -> None:
        if (file_id is None) == (uri is None):
            raise InvalidRows("A file is named by file_id or by uri, and not by both.")
        self.file_id = file_id
        self.uri = uri

    def written(self) -> dict[str, str]:
        """As the service reads it."""
        return {"uri": self.uri} if self.uri is not None else {"file_id": str(self.file_id)}


Source = Path | Table | Reference


def source_of(data: Any) -> Source:
    """A path, a reference, or rows of any kind."""
    if isinstance(data, Reference | Table):
        return data
    if isinstance(data, str | os.PathLike):
        return Path(data)
    return table_of(data)


def with_formats(path: str | os.PathLike[str], out: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a job over a file, with the formats that the names of both files say.

    Raises:
        InvalidRows: nobody can tell in which format the result is wanted.
    """
    said = dict(options)
    if "format" not in said and (format := format_of(path)[0]):
        said["format"] = format
    if out is None or "output_format" in said:
        return said
    wanted, compression = format_of(out)
    if wanted is None:
        raise InvalidRows(
            f"The name {Path(out).name!r} says no format: end it with .csv, .ndjson or .parquet, or say output_format."
        )
    return said | {"output_format": wanted} | ({"output_compression": compression} if compression else {})
