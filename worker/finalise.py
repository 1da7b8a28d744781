"""The end of a batch job: its parts are joined in order into one result, one errors file and a manifest."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pyarrow as pa

from shared.batch import (
    ERRORS_NAME,
    MANIFEST_NAME,
    MEDIA_TYPES,
    UNREACHED_NAME,
    BatchOptions,
    Compression,
    Slice,
    result_name,
)
from shared.inputs import Inputs
from shared.job import Counts, Status
from shared.records import BatchUnit
from shared.registry import Manifest
from shared.settings import Settings
from shared.storage import Storage, Writer, output_key, part_key
from worker.chunk import MOST_ERRORS_SHOWN, STATUS, output_format, output_names
from worker.custom_ids import within
from worker.cutter import cut_ndjson
from worker.drift import drift_table, total, window_of
from worker.manifest import described, reasons_text
from worker.micro_batch import NOT_FINITE
from worker.output import ParquetJoiner, compress, csv_header
from worker.predict import Stopped
from worker.retry import input_of, merged, not_reached, selected
from worker.rows import kept_names
from worker.source import look

BLOCK_BYTES: Final = 4 * 2**20
# Of the first errors, which are kept in Redis: keys may be long.
MOST_BYTES_SHOWN: Final = 2**16


class Unaccounted(Exception):
    """Rows are missing in the output, which is a fault of ours."""


@dataclass(slots=True)
class Sink:
    """An output being written: its size and sha256 are known when it is complete."""

    writer: Writer
    threads: ThreadPoolExecutor  # hashing takes as long as writing, so both are done at once
    digest: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0

    def write(self, data: bytes | memoryview) -> int:
        """Take more bytes."""
        hashed = self.threads.submit(self.digest.update, data)
        self.writer.write(data)
        hashed.result()
        self.size_bytes += len(data)
        return len(data)


class Finaliser:
    """Writes the outputs of jobs."""

    def __init__(self, storage: Storage, inputs: Inputs, settings: Settings) -> None:
        self._storage = storage
        self._inputs = inputs
        self._drift_threshold = settings.drift_threshold
        self._limits = {"slice_bytes": settings.slice_bytes, "max_row_bytes": settings.max_row_bytes}
        self._threads = ThreadPoolExecutor(2, "joiner")  # one reads ahead, one hashes

    def run(
        self, unit: BatchUnit, manifest: Manifest, schema: pa.Schema | None, stopped: Callable[[], bool],
        slices: Callable[[], list[Slice]],
    ) -> tuple[Status, dict[str, Any], dict[str, Any] | None]:  # fmt: skip
        """Join the parts of a job.

        Args:
            unit: the final one.
            manifest: of the model.
            schema: the prediction columns; None if the model cannot be loaded any more.
            stopped: whether somebody else does it by now.
            slices: reads all slices of the job, to tell the rows that were never reached.

        Returns:
            The status that the job ends with, its outcome, and how far its rows are from the training data, if that
            is to be remembered.

        Raises:
            Stopped, StorageFailed, Unaccounted
        """
        batch = unit.spec.batch
        assert batch is not None  # noqa: S101  # the unit is of a batch job
        status, failure = verdict(unit)
        outputs: dict[str, dict[str, Any]] = {}
        first_errors: list[dict[str, Any]] = []
        if unit.layout is not None:
            outputs["result"] = self._result(unit, batch, schema, stopped)
            outputs["errors"], first_errors = self._errors(unit, stopped)
        counts, skipped = self._skipped(unit, slices)
        if counts.skipped and not unit.stop:
            raise Unaccounted(f"{counts.skipped} rows were neither predicted nor found to be bad")
        if skipped and batch.requests is not None and unit.layout is not None and _in_vain(status, failure):
            outputs["unreached"] = self._unreached(unit, skipped, stopped)
        drift = self._drift(unit, batch, manifest)
        about = {**described(unit, batch, manifest, status, counts, skipped, outputs), "drift": drift}
        raw = orjson.dumps(about, option=orjson.OPT_INDENT_2) + b"\n"
        key = output_key(unit.job_id, MANIFEST_NAME)
        self._storage.put(key, raw)
        outputs["manifest"] = output(MANIFEST_NAME, key, "application/json", len(raw), hashlib.sha256(raw), None)
        outcome: dict[str, Any] = {"outputs": outputs, "errors": first_errors}
        if failure is not None:
            outcome["failure"] = failure
            outcome["errors"] = unit.outcome.get("errors") or first_errors
        if any(part.get("infinite") for _, part in unit.parts):
            outcome["warnings"] = [NOT_FINITE]
        whole = status in (Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED)
        return status, outcome, window_of(unit.job_id, manifest.version, drift) if drift and whole else None

    def _drift(self, unit: BatchUnit, batch: BatchOptions, manifest: Manifest) -> dict[str, Any] | None:
        """The drift table; None without a profile, and of a retry, whose rows are no sample of anything."""
        if not manifest.profile or batch.retry_only is not None:
            return None
        counts = total(part.get("drift", {}) for _, part in unit.parts)
        return drift_table(manifest.profile, counts, self._drift_threshold)

    def _result(
        self, unit: BatchUnit, batch: BatchOptions, schema: pa.Schema | None, stopped: Callable[[], bool]
    ) -> dict[str, Any]:
        assert unit.layout is not None  # noqa: S101  # there is no result without one
        kind = output_format(batch, unit.layout)
        # Parquet is compressed within.
        compression: Compression = "none" if kind == "parquet" else batch.output_compression
        name = result_name(kind, compression)
        key = output_key(unit.job_id, name)
        kept = kept_names(unit.layout)
        predicted = schema.names if schema is not None else next((part["columns"] for _, part in unit.parts), [])
        columns = output_names(kept, predicted) + [STATUS] * batch.keep_failed_rows
        with self._storage.writer(key) as writer:
            sink = Sink(writer, self._threads)
            if kind == "parquet":
                types = [pa.string()] * len(kept) + ([] if schema is None else schema.types) + [pa.string()]
                some = any(part["result_bytes"] for _, part in unit.parts)
                # Kept columns are of the types that they have in the input.
                joiner = ParquetJoiner(sink, None if some else pa.schema(list(zip(columns, types, strict=False))))
                for first, part in unit.parts:
                    if stopped():
                        raise Stopped
                    if part["result_bytes"]:
                        joiner.add(self._storage.get(part_key(unit.job_id, first, part["fence"], "result")))
                joiner.close()
            else:
                if kind == "csv":
                    sink.write(compress(csv_header(columns), compression))
                for block in self._blocks(unit, "result", stopped):
                    sink.write(block)
        rows = sum(part["succeeded"] + part["failed"] * batch.keep_failed_rows for _, part in unit.parts)
        encoding = None if compression == "none" else compression
        return output(name, key, MEDIA_TYPES[kind], sink.size_bytes, sink.digest, rows, encoding)

    def _errors(self, unit: BatchUnit, stopped: Callable[[], bool]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        key = output_key(unit.job_id, ERRORS_NAME)
        head = b""
        with self._storage.writer(key) as writer:
            sink = Sink(writer, self._threads)
            for block in self._blocks(unit, "errors", stopped):
                sink.write(block)
                head += bytes(block[: MOST_BYTES_SHOWN - len(head)])
        shown = [orjson.loads(line) for line in head.split(b"\n")[:-1][:MOST_ERRORS_SHOWN]]
        rows = sum(part["failed"] for _, part in unit.parts)
        return output(ERRORS_NAME, key, MEDIA_TYPES["ndjson"], sink.size_bytes, sink.digest, rows), shown

    def _unreached(self, unit: BatchUnit, runs: list[tuple[int, int]], stopped: Callable[[], bool]) -> dict[str, Any]:
        """The custom_ids of a file's requests within the runs: what its client is told of them is made of these."""
        source = look(self._inputs, input_of(unit, self._storage))
        cuts = cut_ndjson(source.blocks(source.begin, stopped), start=source.begin, **self._limits)
        key, rows = output_key(unit.job_id, UNREACHED_NAME), 0
        with self._storage.writer(key) as writer:
            sink = Sink(writer, self._threads)
            for ids in within(cuts, runs, stopped):
                sink.write(b"".join(b'{"key":%b}\n' % orjson.dumps(custom_id) for custom_id in ids))
                rows += len(ids)
        return output(UNREACHED_NAME, key, MEDIA_TYPES["ndjson"], sink.size_bytes, sink.digest, rows)

    def _blocks(self, unit: BatchUnit, kind: str, stopped: Callable[[], bool]) -> Iterator[memoryview]:
        """All parts in order; each block is read while the one before it is written."""
        ranges = (
            (part_key(unit.job_id, first, part["fence"], kind), start, min(start + BLOCK_BYTES, part[f"{kind}_bytes"]))
            for first, part in unit.parts
            for start in range(0, part[f"{kind}_bytes"], BLOCK_BYTES)
        )

        def ahead() -> Future[memoryview] | None:
            one = next(ranges, None)
            return None if one is None else self._threads.submit(self._storage.get_range, *one)

        reading = ahead()
        while reading is not None:
            if stopped():
                raise Stopped
            block, reading = reading.result(), ahead()
            yield block

    def _skipped(self, unit: BatchUnit, slices: Callable[[], list[Slice]]) -> tuple[Counts, list[tuple[int, int]]]:
        """The rows of a job, and first and last of each run of those that were never reached."""
        succeeded, failed = unit.counts.succeeded, unit.counts.failed
        counts = Counts(total=unit.rows, succeeded=succeeded, failed=failed, skipped=unit.rows - succeeded - failed)
        if not unit.stop:
            return counts, []
        done = {number for first, part in unit.parts for number in range(first, first + part["slices"])}
        runs: list[tuple[int, int]] = []
        retry = unit.spec.batch is not None and unit.spec.batch.retry_only is not None
        for number, piece in enumerate(slices()):
            if number in done:
                continue
            if retry:
                found = [int(piece.first_row + 1 + at) for at in selected(self._storage, unit.job_id, piece)]
                runs += [(row, row) for row in found]
            else:
                runs.append((piece.first_row + 1, piece.first_row + piece.rows))
        if not unit.counted:
            runs += not_reached(unit, self._storage)
        return counts, merged(runs)


def _in_vain(status: Status, failure: dict[str, str] | None) -> bool:
    """Whether a job ended for want of time, or was cancelled, so that nothing is wrong with what was not reached."""
    return status is Status.CANCELLED or (failure or {}).get("code") == "deadline_exceeded"


def verdict(unit: BatchUnit) -> tuple[Status, dict[str, str] | None]:
    """How a job ends, and the failure of one that failed."""
    failed, succeeded = unit.counts.failed, unit.counts.succeeded
    match unit.stop:
        case "cancelled":
            return Status.CANCELLED, None
        case "failed_rows":
            message = f"More rows failed than the job allows: {failed}; most frequent: {reasons_text(unit.reasons)}."
            return Status.FAILED, {"code": "too_many_failed_rows", "message": message}
        case "failed":
            return Status.FAILED, unit.outcome.get("failure")
        case _ if failed and not succeeded:
            message = f"No row could be predicted: {reasons_text(unit.reasons)}."
            return Status.FAILED, {"code": "all_rows_failed", "message": message}
    return (Status.PARTIALLY_SUCCEEDED if failed else Status.SUCCEEDED), None


def output(
    name: str, key: str, media_type: str, size_bytes: int, digest: Any, rows: int | None, encoding: str | None = None
) -> dict[str, Any]:
    """What is kept of an output."""
    return {
        "name": name,
        "key": key,
        "media_type": media_type,
        "encoding": encoding,
        "rows": rows,
        "bytes": size_bytes,
        "sha256": digest.hexdigest(),
    }
