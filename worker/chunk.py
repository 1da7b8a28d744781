"""A chunk of a batch job: read its slices, predict them, write its part of the output."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.batch import BatchOptions, Format, Layout, Slice
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.registry import Manifest
from shared.settings import Settings
from shared.storage import Storage, part_key
from shared.tracing import TRACING
from worker.drift import FeatureCounter
from worker.model_cache import LoadedModel
from worker.output import arrow_rows, compress, csv_rows, ndjson_rows
from worker.parquet_rows import speakable
from worker.predict import RowFailure
from worker.retry import selected
from worker.rows import RowFault, SliceRows, kept_names
from worker.score import Scorer, Scores
from worker.slices import SliceReader

WORKER_LOST: Final = RowFailure(
    "worker_lost",
    "The worker process ended at every attempt to predict the slice of the file that this row is in; a row of it may "
    "take too much memory, or crash the model.",
)
# The column that tells failed rows, where they are kept.
STATUS: Final = "_status"
MOST_ERRORS_SHOWN: Final = 20


@dataclass(slots=True)
class Part:
    """What became of a chunk's rows."""

    columns: list[str]  # of the predictions
    succeeded: int = 0
    failed: int = 0
    result: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    infinite: bool = False
    drift: dict[str, list[int]] = field(default_factory=dict)  # rows in the bins of the profile, by feature
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by step


class ChunkRunner:
    """Scores the chunks of one worker process."""

    def __init__(self, storage: Storage, inputs: Inputs, settings: Settings) -> None:
        self._storage = storage
        self._reader = SliceReader(storage, inputs, settings)
        self._max_attempts = settings.max_attempts
        self._scorer: tuple[tuple[Any, ...], Scorer, pa.Schema] | None = None
        self._counter: tuple[Manifest, FeatureCounter] | None = None

    def run(self, unit: BatchUnit, model: LoadedModel, stopped: Callable[[], bool]) -> Part:
        """Score a chunk and put its part into storage.

        Raises:
            worker.predict.Stopped: `stopped` said so; nothing was put.
            worker.slices.WrongCount, StorageFailed
        """
        scorer, schema = self.scorer(unit, model)
        counter = self._counter_of(unit, model.manifest)
        part = Part(columns=schema.names)
        samples: list[pa.Table] = []
        for piece, rows in self._reader.read(unit, model.manifest.signature, part.seconds):
            began = time.perf_counter()
            scores = self._scores(unit, rows, scorer, schema, stopped)
            predicted = time.perf_counter()
            if TRACING.on:
                about = {"foretell.method": unit.spec.method, "foretell.rows": rows.features.num_rows}
                TRACING.note("foretell.predict", about, began, predicted)
            chosen = None
            if unit.spec.batch is not None and unit.spec.batch.retry_only is not None:
                chosen = selected(self._storage, unit.job_id, piece)
            add(part, unit, piece, rows, scores, chosen)
            part.seconds["predict"] += predicted - began
            part.seconds["encode"] += time.perf_counter() - predicted
            if counter is not None:
                began = time.perf_counter()
                samples.append(counter.sample(rows.features))
                part.seconds["drift"] += time.perf_counter() - began
        began = time.perf_counter()
        if counter is not None and samples:
            part.drift = counter.counts(pa.concat_tables(samples))  # at once, which is cheaper
            part.seconds["drift"] += time.perf_counter() - began
            began = time.perf_counter()
        for kind, pieces in (("result", part.result), ("errors", part.errors)):
            if any(pieces):
                self._storage.put(part_key(unit.job_id, unit.first, unit.fence, kind), b"".join(pieces))
        part.seconds["write"] += time.perf_counter() - began
        return part

    def scorer(self, unit: BatchUnit, model: LoadedModel) -> tuple[Scorer, pa.Schema]:
        """The model with the job's method, and the columns that it gives."""
        wanted = (model.manifest, unit.spec.method, unit.spec.top_k)
        if self._scorer is None or self._scorer[0] != wanted:
            scorer = Scorer(model.estimator, model.manifest.signature, unit.spec.method, unit.spec.top_k)
            self._scorer = (wanted, scorer, scorer.schema())
        return self._scorer[1], self._scorer[2]

    def _counter_of(self, unit: BatchUnit, manifest: Manifest) -> FeatureCounter | None:
        """What compares the rows with the training data; None: there is no profile, or only some rows are meant."""
        batch = unit.spec.batch
        if not manifest.profile or (batch is not None and batch.retry_only is not None):
            return None
        if self._counter is None or self._counter[0] is not manifest:
            self._counter = (manifest, FeatureCounter(manifest.profile))
        return self._counter[1]

    def _scores(
        self, unit: BatchUnit, rows: SliceRows, scorer: Scorer, schema: pa.Schema, stopped: Callable[[], bool]
    ) -> Scores:
        if unit.attempt > self._max_attempts:
            return Scores(schema.empty_table(), dict.fromkeys(range(rows.features.num_rows), WORKER_LOST), False)
        return scorer.score(rows.features, schema, stopped)


def add(
    part: Part, unit: BatchUnit, piece: Slice, rows: SliceRows, scores: Scores, chosen: npt.NDArray[np.int64] | None
) -> None:
    """Add a slice's rows to a part: the predictions in their output format, the failed ones as lines of errors."""
    batch, layout = unit.spec.batch, unit.layout
    assert batch is not None  # noqa: S101  # the unit is a chunk
    assert layout is not None  # noqa: S101
    good = np.arange(rows.count) if rows.good is None else rows.good
    failed = np.zeros(good.size, dtype=bool)
    failed[list(scores.failures)] = True
    at = good[~failed]  # the positions in the slice of the rows that were predicted
    faults = {fault.position: fault for fault in rows.faults}
    for position, failure in scores.failures.items():
        where = int(good[position])
        faults[where] = RowFault(where, failure.code, failure.message, failure.column, key_of(rows, layout, where))
    predictions = scores.table
    if chosen is not None:
        keep = np.isin(at, chosen, assume_unique=True)
        at, predictions = at[keep], predictions.filter(pa.array(keep))
        meant = set(chosen.tolist())
        faults = {position: fault for position, fault in faults.items() if position in meant}
    part.succeeded += at.size
    part.failed += len(faults)
    part.infinite = part.infinite or scores.infinite
    shown = sorted(set(faults) | set(at.tolist())) if batch.keep_failed_rows and faults else None
    kept = rows.kept if shown is None or layout.key is None else with_keys(rows.kept, faults)
    part.result.append(encoded(result_table(kept, predictions, at, shown, batch), batch, layout))
    part.errors.append(b"".join(error_line(piece, faults[position]) for position in sorted(faults)))
    part.reasons.update(orjson.dumps([fault.code, fault.column]).decode() for fault in faults.values())


def with_keys(kept: pa.Table, faults: dict[int, RowFault]) -> pa.Table:
    """The kept columns, the key's with what could be read of it in rows with a wrong number of fields."""
    keys = kept.column(0).combine_chunks()
    told = [position for position in sorted(faults) if faults[position].key is not None and not keys[position].is_valid]
    if not told:
        return kept
    mask = np.zeros(len(keys), dtype=bool)
    mask[told] = True
    keys = pc.replace_with_mask(keys, mask, pa.array([faults[position].key for position in told], keys.type))
    return kept.set_column(0, kept.column_names[0], keys)


def result_table(
    kept: pa.Table, predictions: pa.Table, at: npt.NDArray[np.int64], shown: list[int] | None, batch: BatchOptions
) -> pa.Table:
    """The rows of the result: kept columns, then predictions.

    Args:
        kept: (n_rows) of the slice.
        predictions: (n_predicted).
        at: (n_predicted), the positions of the predicted rows in the slice.
        shown: the positions of all rows to be shown, with the failed ones; None: those that were predicted.
        batch: whether failed rows are kept.
    """
    if shown is None:
        if at.size != kept.num_rows:
            kept = kept.take(pa.array(at))
        statuses = pa.array(["succeeded"]).take(pa.array(np.zeros(at.size, dtype=np.int64)))
    else:
        index = np.searchsorted(at, shown)
        there = np.isin(shown, at)
        kept = kept.take(pa.array(shown, pa.int64()))
        predictions = predictions.take(pa.array(index, mask=~there))
        statuses = pa.array(["failed", "succeeded"]).take(pa.array(there.astype(np.int64)))
    names = output_names(kept.column_names, predictions.column_names)
    columns = [*kept.columns, *predictions.columns]
    if batch.keep_failed_rows:
        columns.append(statuses)
        names.append(STATUS)
    return pa.Table.from_arrays(columns, names)


def output_names(kept: list[str], predictions: list[str]) -> list[str]:
    """The columns of the result: an included one that is called like a prediction becomes input_<name>."""
    taken = {*predictions, STATUS}
    names = []
    for name in kept:
        shown = name
        while shown in taken or (shown != name and shown in kept):
            shown = f"input_{shown}"
        names.append(shown)
    return names + predictions


def output_format(batch: BatchOptions, layout: Layout) -> Format:
    """The format of the result: that of the input unless another is wanted."""
    return batch.output_format or layout.format


def encoded(table: pa.Table, batch: BatchOptions, layout: Layout) -> bytes:
    """Rows of the result as bytes of a part; every slice by itself, so that a part does not depend on the chunk."""
    if table.num_rows == 0:
        return b""
    match output_format(batch, layout):
        case "parquet":
            return arrow_rows(plain_text(table, layout))
        case "ndjson":
            names = (
                frozenset(table.column_names[: len(kept_names(layout))]) if layout.format == "ndjson" else frozenset()
            )
            return compress(ndjson_rows(table, names), batch.output_compression)
        case "csv":
            return compress(csv_rows(plain_text(table, layout)), batch.output_compression)


def plain_text(table: pa.Table, layout: Layout) -> pa.Table:
    """A table whose kept columns, if they hold JSON, hold its strings as they are and everything else as JSON."""
    if layout.format != "ndjson":
        return table
    for number in range(len(kept_names(layout))):
        texts = [
            value if value is None or not value.startswith('"') else orjson.loads(value)
            for value in table.column(number).to_pylist()
        ]
        shown = [None if text == "null" else text for text in texts]
        table = table.set_column(number, table.column_names[number], pa.array(shown, pa.string()))
    return table


def key_of(rows: SliceRows, layout: Layout, position: int) -> Any:
    """The key of a row, as JSON can say it."""
    if layout.key is None:
        return None
    value = rows.kept.column(0)[position].as_py()
    return orjson.loads(value) if layout.format == "ndjson" and value is not None else speakable(value)


def error_line(piece: Slice, fault: RowFault) -> bytes:
    """A line of the errors file; rows of the file are numbered from 1."""
    about = {"row": piece.first_row + fault.position + 1, "key": fault.key, "column": fault.column}
    return orjson.dumps(about | {"code": fault.code, "message": fault.message}) + b"\n"
