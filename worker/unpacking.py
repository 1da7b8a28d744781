"""What a file may become when it is read: refused where it is more, before it fills memory, disk or days."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from shared.errors import TooManyRows, UnpacksToTooMuch
from shared.file_limits import FREE_BYTES, FileLimits
from worker.formats.memory import at_most, lacks_memory


def bounded(blocks: Iterable[bytes], size_bytes: int, limits: FileLimits) -> Iterator[bytes]:
    """The same blocks, which a file of this size was unpacked to.

    Raises:
        UnpacksToTooMuch
    """
    most, came = limits.most_unpacked(size_bytes), 0
    for block in blocks:
        came += len(block)
        if came > most:
            raise UnpacksToTooMuch(
                f"The file of {size_bytes} bytes unpacks to more than {most}, which is the most for its size; send it "
                "as it is or in parts, or have FORETELL_MAX_COMPRESSION_RATIO or FORETELL_MAX_UNPACKED_BYTES raised."
            )
        yield block


def check_rows(rows: int, limits: FileLimits) -> None:
    """See that a file, of which so many rows were found, has not too many.

    Raises:
        TooManyRows
    """
    if limits.rows and rows > limits.rows:
        raise TooManyRows(
            f"The file has more than {limits.rows} rows, which is the most (FORETELL_MAX_FILE_ROWS); send it in parts."
        )


def check_parquet_rows(rows: int, size_bytes: int, limits: FileLimits) -> None:
    """See that a Parquet file of this size can have as many rows as its footer says.

    A column of equal values takes some bytes whatever its length, so a footer is believed for a while.

    Raises:
        TooManyRows, UnpacksToTooMuch
    """
    check_rows(rows, limits)
    most = max(FREE_BYTES, limits.ratio * size_bytes)
    if rows > most:
        raise UnpacksToTooMuch(
            f"The Parquet file of {size_bytes} bytes has {rows} rows, and {most} are the most for its size; leave "
            "constant columns out and send it in parts, or have FORETELL_MAX_COMPRESSION_RATIO raised."
        )


@contextmanager
def within_memory(limits: FileLimits) -> Iterator[None]:
    """Read a part of a Parquet file, whose sizes only reading it tells.

    Raises:
        UnpacksToTooMuch: it takes more memory than it may.
    """
    # At its first use in a process Arrow's allocator reserves a GiB of addresses, which would count as memory.
    pa.allocate_buffer(1)
    try:
        with at_most(limits.parquet_bytes):
            yield
    except Exception as error:
        if isinstance(error, MemoryError) or lacks_memory(error):
            raise UnpacksToTooMuch(
                f"A part of the Parquet file takes more than the {limits.parquet_bytes // 2**20} MiB of memory that "
                "reading one may (FORETELL_MAX_PARQUET_MEMORY_MB); write it with shorter values, or have "
                "FORETELL_SLICE_ROWS lowered."
            ) from error
        raise
