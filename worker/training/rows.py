"""The rows that a train job learns from: read from its file, each bad one named, and kept in storage for the fits."""

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.batch import BatchOptions, Input, Layout, Slice
from shared.errors import InvalidRequest
from shared.inputs import Inputs
from shared.settings import Settings
from shared.signature import Feature, FeatureType, Signature
from shared.training import TrainOptions
from worker.chunk import error_line
from worker.csv_rows import read_csv
from worker.cutter import cut_csv, cut_ndjson
from worker.layout import find_layout, parquet_layout
from worker.ndjson_rows import read_ndjson
from worker.parquet_file import open_parquet, slice_rows
from worker.parquet_rows import read_parquet
from worker.predict import Stopped
from worker.rows import RowFault, SliceRows
from worker.slices import faulty_row
from worker.source import Source, look, unreadable
from worker.unpacking import check_rows, within_memory

# Columns of the rows beside features, target and weight: group as text, time as double, and which side a row is on.
# Named as no column of a file is likely to be.
GROUP: Final = "foretell:group"
TIME: Final = "foretell:time"
HELD_OUT: Final = "foretell:held_out"
MISSING_TARGET: Final = "missing_target"
# So that a group is the same in every format: 1.0 is what becomes of 1 where a column has gaps.
WHOLE: Final = r"^(-?\d+)\.0+$"


@dataclass(slots=True)
class TrainingRows:
    """The good rows of a file, and what became of the others."""

    table: pa.Table  # features, target and weight as the signature types them, GROUP and TIME
    numbers: npt.NDArray[np.int64]  # (n_good,), where they are in the file, from 1
    total: int = 0  # with the bad ones; of a file that was not read to its end, those that were seen
    failed: int = 0
    errors: list[bytes] = field(default_factory=list)  # lines of the errors file
    reasons: Counter[str] = field(default_factory=Counter)


def training_signature(options: TrainOptions, signature: Signature, target: FeatureType) -> Signature:
    """The columns that are read with types: the features, the target, and the weight.

    Raises:
        InvalidRequest: one of them has several roles.
    """
    roles = {"target": options.target, "sample_weight": options.sample_weight}
    taken = {feature.name: "feature" for feature in signature.features}
    for role, name in roles.items():
        if name is not None and name in taken:
            message = f"{role} is the column {name}, which is a {taken[name]} of the model too; name another column."
            raise InvalidRequest(
                message, errors=[{"pointer": f"/{role}", "column": name, "code": "column_taken", "message": message}]
            )
        if name is not None:
            taken[name] = role
    more = [Feature(name=options.target, type=target)]
    if options.sample_weight is not None:
        more.append(Feature(name=options.sample_weight, type="number"))
    return replace(signature, features=(*signature.features, *more))


def read_training(
    inputs: Inputs,
    options: TrainOptions,
    given: Input,
    signature: Signature,
    settings: Settings,
    stopped: Callable[[], bool],
) -> TrainingRows:
    """All rows of a train job's file, or up to where more are bad than the job allows.

    Args:
        inputs: the files that jobs may read.
        options: of the job.
        given: its file; of a job that repeats another one it is a copy.
        signature: what `training_signature` gave.
        settings: limits of slices, rows, texts, and of all rows together.
        stopped: asked between two slices.

    Raises:
        InvalidRequest: the file cannot be read, has not the columns, or is more than fits into memory.
        TooManyRows, UnpacksToTooMuch
        Stopped, StorageFailed
    """
    kept = tuple(dict.fromkeys(name for name in (options.group, options.time) if name is not None))
    batch = BatchOptions(input=given, include=kept)
    source = look(inputs, given)
    tables: list[pa.Table] = []
    numbers: list[npt.NDArray[np.int64]] = []
    rows = TrainingRows(table=pa.table({}), numbers=np.zeros(0, np.int64))
    size_bytes = 0
    for piece, found in _slices(source, batch, signature, settings):
        if stopped():
            raise Stopped
        found = _labelled(found, options.target)
        piece = replace(piece, first_row=rows.total)
        numbers.append(rows.total + 1 + (np.arange(found.count) if found.good is None else found.good))
        rows.total += found.count
        check_rows(rows.total, source.limits)
        rows.failed += len(found.faults)
        lines = [error_line(piece, fault) for fault in found.faults]
        rows.errors += lines
        rows.reasons.update(orjson.dumps([fault.code, fault.column]).decode() for fault in found.faults)
        tables.append(_with_kept(found, options, source.format))
        size_bytes += tables[-1].nbytes + sum(map(len, lines))
        if size_bytes > settings.max_training_bytes:
            raise InvalidRequest(
                f"The rows take more than the {settings.max_training_bytes} bytes of memory that a training may use "
                "(FORETELL_MAX_TRAINING_BYTES); send fewer rows or columns, or have the limit raised.",
                errors=[{"pointer": "/input", "code": "too_much_data", "message": "more rows than fit into memory"}],
            )
        if options.max_failed_rows is not None and rows.failed > options.max_failed_rows:
            break
    if not tables:
        raise unreadable("no_rows", "The file has no rows to train on.")
    rows.table, rows.numbers = pa.concat_tables(tables), np.concatenate(numbers)
    if options.time is not None:
        position = rows.table.column_names.index(TIME)
        times = _times(rows.table.column(position), options.time)
        rows.table = rows.table.set_column(position, TIME, times)
    for name, column in ((options.group, GROUP), (options.time, TIME)):
        if name is not None and (missing := rows.table.column(column).null_count):
            rows_ = "1 row" if missing == 1 else f"{missing} rows"
            first = rows.numbers[np.flatnonzero(rows.table.column(column).is_null())[0]]
            message = f"Column {name} is empty in {rows_}, the first is row {first}; give every row a value."
            raise InvalidRequest(message, errors=[{"column": name, "code": "missing_value", "message": message}])
    return rows


def _slices(
    source: Source, batch: BatchOptions, signature: Signature, settings: Settings
) -> Iterator[tuple[Slice, SliceRows]]:
    if source.format == "parquet":
        yield from _parquet(source, batch, signature, settings)
        return
    layout, stop = find_layout(batch, source, signature, settings.max_row_bytes)
    limits: dict[str, Any] = {"slice_bytes": settings.slice_bytes, "max_row_bytes": settings.max_row_bytes}
    blocks = source.blocks(stop)
    if layout.format == "csv":
        cuts, read = cut_csv(blocks, layout.dialect, start=stop, **limits), read_csv
    else:
        cuts = cut_ndjson(blocks, start=stop, **limits)
        read = partial(read_ndjson, max_json_depth=settings.max_json_depth)
    for cut in cuts:
        if cut.slice.fault is not None:
            yield cut.slice, faulty_row(cut.slice.fault, layout, signature, settings.max_row_bytes)
        elif cut.slice.rows:
            # Arrow keeps the buffer, which the cutter uses again.
            yield cut.slice, read(bytes(cut.data), layout, signature, max_text_length=settings.max_text_length)


def _parquet(
    source: Source, batch: BatchOptions, signature: Signature, settings: Settings
) -> Iterator[tuple[Slice, SliceRows]]:
    file = open_parquet(source)
    layout: Layout = parquet_layout(batch, source, signature, file.schema_arrow)
    names = list(dict.fromkeys([*(feature.name for feature in signature.features), *layout.include]))
    rows = slice_rows(settings, len(names))
    try:
        for group in range(file.num_row_groups):
            parts = file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)
            while True:
                with within_memory(source.limits):
                    part = next(parts, None)
                    if part is None:
                        break
                    piece = Slice(start=0, stop=part.num_rows, rows=part.num_rows, group=group)
                    table = pa.Table.from_batches([part])
                    found = read_parquet(table, layout, signature, max_text_length=settings.max_text_length)
                yield piece, found
    except (pa.ArrowException, OSError) as error:
        raise unreadable("bad_input", f"The Parquet file is damaged: {error}") from error


def _labelled(found: SliceRows, target: str) -> SliceRows:
    """The same rows, where one without target is told as such; an empty text is no label, in whatever format."""
    faults = {fault.position: _unlabelled(fault) if fault.column == target else fault for fault in found.faults}
    column = found.features.column(target)
    good = np.arange(found.count) if found.good is None else found.good
    if pa.types.is_string(column.type) and pc.any(empty := pc.equal(column, "")).as_py():
        mask = empty.to_numpy()
        nothing = {
            position: RowFault(position, MISSING_TARGET, _no_value(target), target) for position in good[mask].tolist()
        }
        faults, good = dict(sorted((faults | nothing).items())), good[~mask]
        found = replace(found, features=found.features.filter(pa.array(~mask)), good=good)
    return replace(found, faults=tuple(faults.values()))


def _unlabelled(fault: RowFault) -> RowFault:
    assert fault.column is not None  # noqa: S101  # it is the target
    match fault.code:
        case "missing_value":
            return replace(fault, code=MISSING_TARGET, message=_no_value(fault.column))
        case "missing_column":  # of a record, with a name that is like it
            return replace(fault, code=MISSING_TARGET)
    return fault


def _no_value(target: str) -> str:
    return f"Column {target} has no value; a row to train on needs one."


def _with_kept(found: SliceRows, options: TrainOptions, format: str) -> pa.Table:
    """The good rows with their group and time."""
    table = found.features
    for name, kept, read in ((options.group, GROUP, _texts), (options.time, TIME, _time_texts)):
        if name is not None:
            column = found.kept.column(name)
            if found.good is not None:
                column = column.take(pa.array(found.good))
            table = table.append_column(kept, read(column, format))
    return table


def _texts(column: pa.ChunkedArray, format: str) -> pa.ChunkedArray:
    """Values as text, so that a group is the same in every format."""
    if format == "ndjson":
        values = [_plain_text(text) for text in column.to_pylist()]
        column = pa.chunked_array([values], pa.string())
    texts = column.cast(pa.string())
    # CSV has no other way to say that there is nothing.
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    return pc.replace_substring_regex(texts, WHOLE, r"\1")


def _plain_text(text: str | None) -> str | None:
    """A string of its JSON; of anything else the JSON itself, as true is written in the other formats too."""
    if text is None or text == "null":
        return None
    return orjson.loads(text) if text.startswith('"') else text


def _time_texts(column: pa.ChunkedArray, format: str) -> pa.ChunkedArray:
    """Texts, or numbers of a column that has a type: seconds since 1970 of times."""
    kind = column.type
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(column)).as_py():
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.divide(column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    return _texts(column, format)


def _times(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Texts of numbers, or of dates and times in ISO 8601, as numbers in the order of time.

    Raises:
        InvalidRequest: a text is neither.
    """
    if not pa.types.is_string(column.type):
        return column
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    try:
        moments = column.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        try:
            moments = column.cast(pa.timestamp("us"))
        except pa.ArrowInvalid as error:
            message = f"Column {name} must be numbers, or times in ISO 8601 such as 2026-01-31T12:00:00: {error}"
            raise InvalidRequest(
                message, errors=[{"pointer": "/time", "column": name, "code": "bad_time", "message": message}]
            ) from error
    return pc.divide(moments.cast(pa.int64()).cast(pa.float64()), 1e6)


def dumped(table: pa.Table, held_out: np.ndarray) -> bytes:
    """Rows and their sides, (n_rows,) bool, as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table.append_column(HELD_OUT, pa.array(held_out)), sink, compression="zstd")
    return sink.getvalue()


def loaded(data: bytes) -> tuple[pa.Table, np.ndarray]:
    """What `dumped` wrote."""
    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    held_out = np.asarray(table.column(HELD_OUT).to_numpy(), dtype=bool)
    return table.drop_columns([HELD_OUT]), held_out
