"""The slices of a chunk, read from storage: bytes of a text file, or rows of a Parquet row group."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.batch import UNCLOSED_QUOTE, BatchOptions, Layout, Slice
from shared.errors import InputChanged, InvalidRequest
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import Storage, unpacked_key
from worker.container import ARROW
from worker.csv_rows import read_csv
from worker.ndjson_rows import read_ndjson
from worker.parquet_file import columns_of, open_parquet, slice_rows
from worker.parquet_rows import read_parquet
from worker.retry import input_of
from worker.rows import RowFault, SliceRows, kept_names
from worker.source import look, unreadable
from worker.unpacking import within_memory

_READERS: Final = {"csv": read_csv, "ndjson": read_ndjson, "parquet": read_parquet}

# A Parquet row group of the size of up to so many slices is kept while they are scored.
KEPT_SLICES: Final = 8


class WrongCount(Exception):
    """A slice has other rows than were counted when the file was cut, which is a fault of ours."""


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
            WrongCount, InputChanged, UnpacksToTooMuch, StorageFailed
        """
        layout = unit.layout
        assert layout is not None  # noqa: S101  # slices are made known with it
        self._check_unchanged(unit, layout)
        pieces = self._tables(unit, layout, signature) if layout.format == "parquet" else self._texts(unit, layout)
        while True:
            began = time.perf_counter()
            with self._bounded(layout):
                found = next(pieces, None)
            read = time.perf_counter()
            seconds["read"] += read - began
            if found is None:
                self._check_unchanged(unit, layout)
                return
            piece, data = found
            with self._bounded(layout):
                rows = self._rows(piece, data, layout, signature, unit.spec.batch)
            seconds["parse"] += time.perf_counter() - read
            yield piece, rows

    def _bounded(self, layout: Layout) -> AbstractContextManager[None]:
        """Slices of text are bounded by their bytes; those of Parquet may hold anything."""
        return within_memory(self._inputs.limits) if layout.format == "parquet" else nullcontext()

    def _check_unchanged(self, unit: BatchUnit, layout: Layout) -> None:
        """See, before and after a chunk, that a file that lies elsewhere is the one that was planned."""
        if layout.tag is not None:
            storage, key = self._inputs.open(input_of(unit, self._storage))
            if storage.tag(key) != layout.tag:
                raise InputChanged

    def _rows(
        self, piece: Slice, data: Any, layout: Layout, signature: Signature, batch: BatchOptions | None
    ) -> SliceRows:
        if piece.fault is not None:
            return faulty_row(piece.fault, layout, signature, self._settings.max_row_bytes)
        more: dict[str, Any] = {}
        if layout.format == "ndjson":
            requests = None if batch is None else batch.requests
            more = {"max_json_depth": self._settings.max_json_depth, "requests": requests}
        most = self._settings.max_text_length
        rows = _READERS[layout.format](data, layout, signature, max_text_length=most, **more)
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
        columns = columns_of(layout, signature)
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
        about = file.metadata.row_group(group)
        most_bytes, most_rows = (KEPT_SLICES * size for size in (self._settings.slice_bytes, self._settings.slice_rows))
        try:
            small = about.total_byte_size <= most_bytes and about.num_rows <= most_rows
            table = self._whole(file, group, columns) if small else None
            if table is None:
                rows = slice_rows(self._settings, len(columns))
                batches = file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
                yield from _pieces(batches, pieces)
            elif table.num_rows != about.num_rows:
                raise _fewer_rows(table.num_rows)
            else:
                yield from ((piece, table.slice(piece.start, piece.rows)) for piece in pieces)
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise unreadable("bad_input", f"Row group {group + 1} of the Parquet file is damaged: {error}") from error

    def _whole(self, file: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table | None:
        """A row group, kept; None if it takes more memory than may be taken, whatever its footer says of it."""
        if self._kept is None or self._kept[:2] != (file, group):
            try:
                self._kept = (file, group, file.read_row_group(group, columns=columns, use_threads=False))
            except pa.ArrowMemoryError:
                return None
        return self._kept[2]

    def _open(self, unit: BatchUnit) -> pq.ParquetFile:
        kept = self._parquet
        if kept is None or kept[0] != unit.job_id:
            source = look(self._inputs, input_of(unit, self._storage))
            kept = self._parquet = (unit.job_id, open_parquet(source))
        return kept[1]


def _pieces(batches: Iterator[pa.RecordBatch], pieces: Sequence[Slice]) -> Iterator[tuple[Slice, pa.Table]]:
    """Slices, in order, out of the rows of a group from its beginning on, in whatever batches they come."""
    at, rest = 0, iter(pieces)
    piece, gathered = next(rest), []
    for batch in batches:
        begin, at = at, at + batch.num_rows
        while at > piece.start:
            start, stop = max(piece.start - begin, 0), min(piece.stop - begin, batch.num_rows)
            gathered.append(batch.slice(start, stop - start))
            if at < piece.stop:
                break
            yield piece, pa.Table.from_batches(gathered)
            following = next(rest, None)
            if following is None:
                return
            piece, gathered = following, []
    raise _fewer_rows(at)


def _fewer_rows(count: int) -> InvalidRequest:
    return unreadable("bad_input", f"A row group of the Parquet file has {count} rows, other than its footer says.")


def faulty_row(fault: str, layout: Layout, signature: Signature, max_row_bytes: int) -> SliceRows:
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
