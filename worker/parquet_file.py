"""A Parquet file: its footer, which is not believed without a look, and the slices that its rows are read in."""

import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from shared.batch import Layout, Slice
from shared.errors import StorageFailed
from shared.settings import Settings
from shared.signature import Signature
from worker.rows import kept_names
from worker.source import BLOCK_BYTES, Source, unreadable
from worker.unpacking import check_parquet_rows, within_memory

# The last bytes of a file: the length of the footer, and "PAR1".
END: Final = struct.Struct("<I4x")
# A footer takes some ten times as much memory as it is long.
FOOTER_SHARE: Final = 16
# What a value takes in memory at the least, and how often it is there at a time while it is converted.
VALUE_BYTES: Final = 8
COPIES: Final = 4


def open_parquet(source: Source) -> pq.ParquetFile:
    """A Parquet file, its footer read.

    Raises:
        InvalidRequest: it is cut off or damaged, or has too many columns.
        TooManyRows, UnpacksToTooMuch
        StorageFailed
    """
    _check_footer(source)
    try:
        # Not read ahead: a row group may be larger than memory.
        with within_memory(source.limits):
            file = pq.ParquetFile(
                pa.PythonFile(source.storage.reader(source.key), mode="r"), pre_buffer=False, buffer_size=BLOCK_BYTES
            )
    except StorageFailed:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of column names that are no text
        raise unreadable("bad_input", f"The Parquet file cannot be read: {error}") from error
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows:
        raise unreadable("bad_input", "The Parquet file's footer contradicts itself about the number of rows.")
    check_parquet_rows(file.metadata.num_rows, source.size_bytes, source.limits)
    return file


def _check_footer(source: Source) -> None:
    if source.size_bytes < END.size:
        raise unreadable("bad_input", "The Parquet file is cut off.")
    (length,) = END.unpack(source.storage.get_range(source.key, source.size_bytes - END.size, source.size_bytes))
    most = source.limits.parquet_bytes // FOOTER_SHARE
    if length > most:
        raise unreadable(
            "bad_input", f"The Parquet file has a footer of {length} bytes, more than {most}; write larger row groups."
        )


def columns_of(layout: Layout, signature: Signature) -> list[str]:
    """The columns that are read: those of the features and the ones that are kept."""
    needed = {feature.name for feature in signature.features} | set(kept_names(layout))
    return [name for name in layout.names if name in needed]


def slice_rows(settings: Settings, columns: int) -> int:
    """How many rows of so many columns are read in one go."""
    fit = settings.max_parquet_memory_mb * 2**20 // (COPIES * VALUE_BYTES * max(1, columns))
    return max(1, min(settings.slice_rows, fit))


def parquet_slices(file: pq.ParquetFile, rows_at_once: int, group: int, start: int) -> Iterator[Slice]:
    """The slices of a Parquet file from a row of a row group on; none spans two groups."""
    for number in range(group, file.metadata.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        for begin in range(start if number == group else 0, rows, rows_at_once):
            stop = min(begin + rows_at_once, rows)
            yield Slice(start=begin, stop=stop, rows=stop - begin, group=number)
