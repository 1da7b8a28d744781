"""The slices of a chunk, read from storage: bytes of a text file, or rows of a Parquet row group."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.batch import UNCLOSED_QUOTE, Layout, Slice
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import Storage, unpacked_key
from worker.container import ARROW
from worker.csv_rows import read_csv
from worker.ndjson_rows import read_ndjson
from worker.parquet_rows import read_parquet
from worker.retry import input_of
from worker.rows import RowFault, SliceRows, kept_names
from worker.source import open_parquet

_READERS: Final = {"csv": read_csv, "ndjson": read_ndjson, "parquet": read_parquet}

# A Parquet row group of up to so many times slice_bytes is kept while its slices are scored.
KEPT_GROUP_SLICES: Final = 8


class WrongCount(Exception):
    """A slice has other rows than were counted when the file was cut: the file changed, or this is a fault of ours."""


class SliceReader:
    """Reads the slices of one worker process."""

    def __init__(self, storage: Storage, inputs: Inputs, settings: Settings) -> None:
        self._storage = storage
        self._inputs = inputs
        self._settings = settings
        self._parquet: tuple[str, pq.ParquetFile] | None = None
        self._kept: tuple[pq.ParquetFile, int, pa.Table] | None = None

    def read(
        self, unit: BatchUnit, signature: Signature, seconds: defaultdict[str, float]
    ) -> Iterator[tuple[Slice, SliceRows]]:
        """The slices of a chunk one after the other; `seconds` takes the time that they take.

        Raises:
            WrongCount, StorageFailed
        """
        layout = unit.layout
        assert layout is not None  # noqa: S101  # slices are made known with it
        pieces = self._tables(unit, layout, signature) if layout.format == "parquet" else self._texts(unit, layout)
        while True:
            began = time.perf_counter()
            found = next(pieces, None)
            read = time.perf_counter()
            seconds["read"] += read - began
            if found is None:
                return
            piece, data = found
            rows = self._rows(piece, data, layout, signature)
            seconds["parse"] += time.perf_counter() - read
            yield piece, rows

    def _rows(self, piece: Slice, data: Any, layout: Layout, signature: Signature) -> SliceRows:
        if piece.fault is not None:
            return unreadable(piece.fault, layout, signature, self._settings.max_row_bytes)
        rows = _READERS[layout.format](data, layout, signature, max_text_length=self._settings.max_text_length)
        if rows.count != piece.rows:
            raise WrongCount(f"the slice at {piece.start} has {rows.count} rows, but {piece.rows} were counted")
        return rows

    def _texts(self, unit: BatchUnit, layout: Layout) -> Iterator[tuple[Slice, Any]]:
        storage, key = self._inputs.open(input_of(unit, self._storage))
        for piece in unit.slices:
            if piece.fault is not None:
                yield piece, b""
            elif layout.unpacked:
                packed = self._storage.get(unpacked_key(unit.job_id, piece.start))
                with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
                    yield piece, stream.read()
            else:
                yield piece, storage.get_range(key, piece.start, piece.stop)

    def _tables(self, unit: BatchUnit, layout: Layout, signature: Signature) -> Iterator[tuple[Slice, pa.Table]]:
        file = self._open(unit)
        needed = {feature.name for feature in signature.features} | set(kept_names(layout))
        columns = [name for name in layout.names if name in needed]
        for group in dict.fromkeys(piece.group for piece in unit.slices):
            pieces = [piece for piece in unit.slices if piece.group == group]
            yield from self._group(file, group, pieces, columns)

    def _group(
        self, file: pq.ParquetFile, group: int, pieces: Sequence[Slice], columns: list[str]
    ) -> Iterator[tuple[Slice, pa.Table]]:
        """Slices of one row group, in order.

        A small group is kept, as its other slices may be in the next chunk; a large one has to be read from its
        beginning to the last of them.
        """
        if file.metadata.row_group(group).total_byte_size <= KEPT_GROUP_SLICES * self._settings.slice_bytes:
            if self._kept is None or self._kept[:2] != (file, group):
                self._kept = (file, group, file.read_row_group(group, columns=columns, use_threads=False))
            table = self._kept[2]
            yield from ((piece, table.slice(piece.start, piece.rows)) for piece in pieces)
            return
        wanted, begin = iter(pieces), 0
        piece = next(wanted, None)
        for batch in file.iter_batches(
            self._settings.slice_rows, row_groups=[group], columns=columns, use_threads=False
        ):
            if piece is None:
                return
            if begin == piece.start:
                yield piece, pa.Table.from_batches([batch])
                piece = next(wanted, None)
            begin += batch.num_rows

    def _open(self, unit: BatchUnit) -> pq.ParquetFile:
        kept = self._parquet
        if kept is None or kept[0] != unit.job_id:
            storage, key = self._inputs.open(input_of(unit, self._storage))
            kept = self._parquet = (unit.job_id, open_parquet(storage, key))
        return kept[1]


def unreadable(fault: str, layout: Layout, signature: Signature, max_row_bytes: int) -> SliceRows:
    """The slice of a single row that cannot be told apart from what follows it."""
    message = (
        "A quote is opened in this row and never closed; close it, or double a quote that belongs to the value."
        if fault == UNCLOSED_QUOTE
        else f"The row is longer than the {max_row_bytes} bytes that are allowed."
    )
    return SliceRows(
        count=1,
        good=np.empty(0, np.int64),
        features=pa.schema([(feature.name, ARROW[feature.type]) for feature in signature.features]).empty_table(),
        kept=pa.table({name: pa.nulls(1, pa.string()) for name in kept_names(layout)}),
        faults=(RowFault(0, fault, message),),
    )
