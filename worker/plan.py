"""The plan of a batch job: what its file is, whether the model takes it, and the slices that it is cut into."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.batch import Layout, Slice
from shared.batch_store import BatchStore
from shared.errors import InputChanged
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.registry import Registry
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import Storage, unpacked_key
from worker.custom_ids import check_unique
from worker.cutter import Cut, cut_csv, cut_ndjson
from worker.drain import until_written, worker_name
from worker.layout import find_layout, parquet_layout
from worker.output import compress
from worker.parquet_file import columns_of, open_parquet, parquet_slices, slice_rows
from worker.predict import Stopped
from worker.retry import Selection, input_of
from worker.source import Source, look
from worker.unpacking import check_rows

# How long slices are gathered before they are made known to the other workers: at first they wait for them.
FIRST_FLUSH_SECONDS: Final = 0.01
FLUSH_SECONDS: Final = 0.25
FLUSH_SLICES: Final = 256
# How long a plan goes on before other jobs have their turn.
TURN_SECONDS: Final = 2.0
# What is unpacked ahead of those who score it, slices; and how long it waits for the worker that has the stream open.
MOST_AHEAD: Final = 32
KEEP_SECONDS: Final = 30.0


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

    def run(self, unit: BatchUnit, stopped: Callable[[], bool], call: Callable[[str], None]) -> None:
        """Go on with a plan until it is done, its turn is over, or enough is unpacked.

        Raises:
            InvalidRequest: the file cannot be scored; with each fault.
            TooManyRows, UnpacksToTooMuch: nor can it be then.
            Stopped
            StorageFailed, StoreUnavailable, ModelNotFound
        """
        if self._reached is not None and (self._reached.job_id, self._reached.fence) == (unit.job_id, unit.fence):
            unit = self._reached
        plan = self._kept(unit) or self._begin(unit, stopped)
        began = flushed = time.monotonic()
        waiting, pause = 0, FIRST_FLUSH_SECONDS
        for piece, cut in plan.cuts:
            self._add(unit, plan, piece, cut)
            now = time.monotonic()
            if now - flushed > pause or len(plan.slices) >= FLUSH_SLICES:
                over = now - began > TURN_SECONDS or (plan.source.packed and waiting > MOST_AHEAD)
                waiting = self._flush(unit, plan, "pause" if over else "more", call)
                if stopped():
                    raise Stopped
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

    def _begin(self, unit: BatchUnit, stopped: Callable[[], bool]) -> Plan:
        source = look(self._inputs, input_of(unit, self._storage, stopped))
        if unit.layout is not None and unit.layout.tag != source.tag:
            raise InputChanged
        signature = self._registry.manifest(unit.spec.model, unit.spec.version).signature
        selection = Selection.of(unit, self._storage)
        if source.format == "parquet":
            return self._begin_parquet(unit, source, signature, selection)
        before = unit.position
        limits = {"slice_bytes": self._settings.slice_bytes, "max_row_bytes": self._settings.max_row_bytes}
        layout, stop = unit.layout, before.get("stop", source.begin)
        if layout is None:
            assert unit.spec.batch is not None  # noqa: S101  # the unit is of a batch job
            layout, stop = find_layout(unit.spec.batch, source, signature, self._settings.max_row_bytes)
            if unit.spec.batch.requests is not None and selection is None:  # rows of a retry were compared before
                begin = stop
                check_unique(lambda: cut_ndjson(source.blocks(begin, stopped), start=begin, **limits), stopped)
        first_row = before.get("rows", 0)
        blocks = source.blocks(stop, stopped)
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
        file = open_parquet(source)
        batch = unit.spec.batch
        assert batch is not None  # noqa: S101  # the unit is of a batch job
        layout = unit.layout or parquet_layout(batch, source, signature, file.schema_arrow)
        rows_at_once = slice_rows(self._settings, len(columns_of(layout, signature)))
        before = unit.position
        group, stop = before.get("group", 0), before.get("stop", 0)
        return Plan(
            source=source,
            layout=layout,
            cuts=((piece, None) for piece in parquet_slices(file, rows_at_once, group, stop)),
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
        check_rows(plan.rows, plan.source.limits)
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
