"""The plan of a batch job: what its file is, whether the model takes it, and the slices that it is cut into."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow.parquet as pq
import structlog

from shared.batch import Layout, Slice
from shared.batch_store import BatchStore
from shared.dialect import check_columns, header_names
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.registry import Registry
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import Storage, unpacked_key
from worker.csv_rows import csv_fields
from worker.cutter import Cut, cut_csv, cut_ndjson
from worker.drain import until_written, worker_name
from worker.output import compress
from worker.parquet_rows import check_parquet_schema
from worker.predict import Stopped
from worker.retry import Selection, input_of
from worker.source import Source, look, open_parquet, unreadable

log = structlog.get_logger()

# How long slices are gathered before they are made known to the other workers: at first they wait for them.
FIRST_FLUSH_SECONDS: Final = 0.01
FLUSH_SECONDS: Final = 0.25
FLUSH_SLICES: Final = 256
# How long a plan goes on before other jobs have their turn.
TURN_SECONDS: Final = 2.0
# What is unpacked ahead of those who score it, slices; and how long it waits for the worker that has the stream open.
MOST_AHEAD: Final = 32
KEEP_SECONDS: Final = 10.0
# Characters of a column's name; what is longer would be repeated in messages, and is no name.
LONGEST_NAME: Final = 1000


@dataclass(slots=True)
class Plan:
    """A plan that is under way."""

    source: Source
    layout: Layout
    cuts: Iterator[tuple[Slice, Cut | None]]
    selection: Selection | None
    rows: int  # of the file that were seen
    wanted: int  # of these, the ones that are to be predicted
    stop: int  # where the next slice begins
    group: int = 0
    known: int = 0  # slices that are made known
    slices: list[Slice] = field(default_factory=list)  # found since then

    @property
    def position(self) -> dict[str, Any]:
        """Where to go on."""
        return {
            "rows": self.rows,
            "wanted": self.wanted,
            "stop": self.stop,
            "group": self.group,
            "known": self.known + len(self.slices),
        }


class Planner:
    """Makes the plans of one worker process."""

    def __init__(
        self, batches: BatchStore, storage: Storage, inputs: Inputs, registry: Registry, settings: Settings
    ) -> None:
        self._batches = batches
        self._storage = storage
        self._inputs = inputs
        self._registry = registry
        self._settings = settings
        # The stream that is being unpacked: to open it again means to unpack all of it again.
        self._open: tuple[str, Plan] | None = None
        # The unit, with what is known of its slices: run again from its beginning it would find other portions of them.
        self._reached: BatchUnit | None = None

    def run(self, unit: BatchUnit, progressed: Callable[[], None], call: Callable[[str], None]) -> None:
        """Go on with a plan until it is done, its turn is over, or enough is unpacked.

        Raises:
            InvalidRequest: the file cannot be scored; with each fault.
            Stopped
            StorageFailed, StoreUnavailable, ModelNotFound
        """
        if self._reached is not None and self._reached.fence == unit.fence:
            unit = self._reached
        plan = self._kept(unit) or self._begin(unit)
        began = flushed = time.monotonic()
        waiting, pause = 0, FIRST_FLUSH_SECONDS
        for piece, cut in plan.cuts:
            self._add(unit, plan, piece, cut)
            now = time.monotonic()
            if now - flushed > pause or len(plan.slices) >= FLUSH_SLICES:
                over = now - began > TURN_SECONDS or (plan.source.packed and waiting > MOST_AHEAD)
                waiting = self._flush(unit, plan, "pause" if over else "more", call)
                progressed()
                flushed, pause = time.monotonic(), min(2 * pause, FLUSH_SECONDS)
                if over:
                    self._open = (unit.job_id, plan) if plan.source.packed else None
                    return
        self._flush(unit, plan, "done", call)

    def _kept(self, unit: BatchUnit) -> Plan | None:
        kept, self._open = self._open, None
        if kept is not None and kept[0] == unit.job_id and kept[1].position == unit.position:
            return kept[1]
        return None

    def _begin(self, unit: BatchUnit) -> Plan:
        source = look(self._inputs, input_of(unit, self._storage))
        signature = self._registry.manifest(unit.spec.model, unit.spec.version).signature
        selection = Selection.of(unit, self._storage)
        if source.format == "parquet":
            return self._begin_parquet(unit, source, signature, selection)
        before = unit.position
        layout, stop = unit.layout, before.get("stop", source.begin)
        if layout is None:
            layout, stop = find_layout(unit, source, signature, self._settings.max_row_bytes)
        first_row = before.get("rows", 0)
        limits = {"slice_bytes": self._settings.slice_bytes, "max_row_bytes": self._settings.max_row_bytes}
        blocks = source.blocks(stop)
        cuts = (
            cut_csv(blocks, layout.dialect, start=stop, first_row=first_row, **limits)
            if layout.format == "csv"
            else cut_ndjson(blocks, start=stop, first_row=first_row, **limits)
        )
        return Plan(
            source=source,
            layout=layout,
            cuts=((cut.slice, cut) for cut in cuts),
            selection=selection,
            rows=first_row,
            wanted=before.get("wanted", 0),
            known=before.get("known", 0),
            stop=stop,
        )

    def _begin_parquet(
        self, unit: BatchUnit, source: Source, signature: Signature, selection: Selection | None
    ) -> Plan:
        file = open_parquet(source.storage, source.key)
        schema = file.schema_arrow
        batch = unit.spec.batch
        assert batch is not None  # noqa: S101  # the unit is of a batch job
        names = tuple(schema.names)
        include = included(names, batch.include, batch.include_all)
        check_columns(names, signature, key=batch.key_column, include=include)
        check_parquet_schema(schema, signature)
        layout = Layout(
            format="parquet", names=names, key=batch.key_column, include=include, dialect=batch.input.dialect
        )
        before = unit.position
        group, stop = before.get("group", 0), before.get("stop", 0)
        return Plan(
            source=source,
            layout=layout,
            cuts=((piece, None) for piece in parquet_slices(file, self._settings.slice_rows, group, stop)),
            selection=selection,
            rows=before.get("rows", 0),
            wanted=before.get("wanted", 0),
            known=before.get("known", 0),
            stop=stop,
            group=group,
        )

    def _add(self, unit: BatchUnit, plan: Plan, piece: Slice, cut: Cut | None) -> None:
        """Note a slice; of a stream its bytes are put where a worker can read them."""
        piece = replace(piece, first_row=plan.rows)
        plan.rows, plan.stop, plan.group = plan.rows + piece.rows, piece.stop, piece.group
        wanted = piece.rows if plan.selection is None else plan.selection.take(piece)
        if wanted == 0:
            return
        plan.wanted += wanted
        plan.slices.append(piece)
        if cut is not None and plan.source.packed and piece.fault is None:
            self._storage.put(unpacked_key(unit.job_id, piece.start), compress(bytes(cut.data), "zstd"))

    def _flush(self, unit: BatchUnit, plan: Plan, mode: str, call: Callable[[str], None]) -> int:
        goes_on, ring, waiting = until_written(
            lambda: self._batches.plan(
                unit, worker_name(), mode, plan.layout, plan.position, plan.slices,
                known=plan.known, rows=plan.wanted, keep_seconds=KEEP_SECONDS if plan.source.packed else 0,
            ),
            self._settings.unit_timeout_seconds,
        )  # fmt: skip
        self._reached = replace(unit, layout=plan.layout, position=plan.position)
        plan.known += len(plan.slices)
        plan.slices = []
        if ring:
            call(unit.queue)
        if mode == "more" and not goes_on:
            raise Stopped
        return waiting


def find_layout(unit: BatchUnit, source: Source, signature: Signature, max_row_bytes: int) -> tuple[Layout, int]:
    """How the rows of a text file are read, and where the first one begins.

    Raises:
        InvalidRequest: columns are missing, or there is no header that could be read.
    """
    batch = unit.spec.batch
    assert batch is not None  # noqa: S101  # the unit is of a batch job
    dialect = replace(source.dialect, encoding="utf-8")
    stop = 0 if source.packed else source.begin
    features = tuple(feature.name for feature in signature.features)
    names: tuple[str, ...]
    if source.format == "ndjson":
        # Every record has columns of its own; what a record lacks is that row's fault.
        include = batch.include
        if batch.include_all:
            raise unreadable(
                "bad_include", "include=all goes with CSV and Parquet; of NDJSON name the columns to repeat."
            )
        names = tuple(dict.fromkeys((*features, *([batch.key_column] if batch.key_column else []), *include)))
    else:
        first = next(
            cut_csv(source.blocks(stop), dialect, slice_bytes=1, max_row_bytes=max_row_bytes, start=stop), None
        )
        if first is None or first.slice.rows == 0:
            raise unreadable("bad_input", "The file has no rows, and no header.")
        if first.slice.fault is not None:
            raise unreadable("bad_input", f"The first row cannot be read ({first.slice.fault}); is this a CSV file?")
        try:
            line = bytes(first.data).decode()
        except UnicodeDecodeError as error:
            raise unreadable(
                "bad_encoding", "The first row is not UTF-8; send encoding=latin-1 or what it is."
            ) from error
        fields = next(filter(None, csv_fields(line, dialect)))
        if not dialect.header:
            names = by_position(features, len(fields))
        elif max(map(len, fields)) > LONGEST_NAME:
            raise unreadable("bad_input", "The first row is no header; is this a CSV file, with a header?")
        else:
            names, stop = tuple(header_names(line.lstrip("\r\n"), dialect)), first.slice.stop
        include = included(names, batch.include, batch.include_all)
        check_columns(names, signature, key=batch.key_column, include=include)
    return (
        Layout(
            format=source.format,
            names=names,
            key=batch.key_column,
            include=include,
            dialect=dialect,
            unpacked=source.packed,
        ),
        stop,
    )


def by_position(features: tuple[str, ...], width: int) -> tuple[str, ...]:
    """Names for the columns of a file without header: the features first, in the order of the signature.

    Raises:
        InvalidRequest: the file has fewer columns than the model has features.
    """
    if width < len(features):
        raise unreadable(
            "bad_input",
            f"The file has {width} columns and no header, but the model takes {len(features)}: "
            f"{', '.join(features[:20])}.",
        )
    return (*features, *(f"column_{number}" for number in range(len(features) + 1, width + 1)))


def included(names: tuple[str, ...], include: tuple[str, ...], include_all: bool) -> tuple[str, ...]:
    """The columns that the result repeats."""
    return names if include_all else include


def parquet_slices(file: pq.ParquetFile, slice_rows: int, group: int, start: int) -> Iterator[Slice]:
    """The slices of a Parquet file from a row of a row group on; none spans two groups."""
    for number in range(group, file.metadata.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        for begin in range(start if number == group else 0, rows, slice_rows):
            stop = min(begin + slice_rows, rows)
            yield Slice(start=begin, stop=stop, rows=stop - begin, group=number)
