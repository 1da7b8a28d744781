"""The rows that a retried batch job is about: those which have no prediction in the job before."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from shared.batch import ERRORS_NAME, MANIFEST_NAME, Input, Slice
from shared.errors import FileMissing, InputGone
from shared.records import BatchUnit
from shared.storage import Storage, input_key, output_key, selected_key
from worker.predict import Stopped

# Row numbers of a file whose end was not seen go on to here.
LAST_ROW: Final = 2**62


def input_of(unit: BatchUnit, storage: Storage, stopped: Callable[[], bool] = lambda: False) -> Input:
    """The input of a job; that of a retry is a copy if it came with the job before, which may be deleted meanwhile.

    Raises:
        InputGone: it is already.
        StorageFailed
    """
    given = unit.spec.input
    assert given is not None  # noqa: S101  # the unit is of a job over a file
    if unit.spec.retry_of is None or given.key is None or given.file_id is not None:
        return given
    own = input_key(unit.job_id)
    if unit.kind == "plan" and not storage.exists(own):
        # The job before may be a retry itself, with a copy of its own, of a job that is deleted by now.
        before = input_key(unit.spec.retry_of)
        try:
            _copy(storage, before if storage.exists(before) else given.key, own, stopped)
        except FileMissing as error:
            raise InputGone from error
    return replace(given, key=own)


def _copy(storage: Storage, source: str, target: str, stopped: Callable[[], bool]) -> None:
    with storage.writer(target) as writer:
        for block in storage.blocks(source):
            if stopped():
                raise Stopped
            writer.write(block)


@dataclass(slots=True)
class Selection:
    """Walks over the rows to be tried again, side by side with the slices."""

    storage: Storage
    job_id: str
    rows: Iterator[tuple[int, int]]  # first and last of a run of row numbers, ascending
    run: tuple[int, int] | None = None

    @classmethod
    def of(cls, unit: BatchUnit, storage: Storage) -> "Selection | None":
        """The rows of a retry; None if every row of the file is meant.

        Raises:
            InputGone: the job before was deleted.
            StorageFailed
        """
        batch, before = unit.spec.batch, unit.spec.retry_of
        if batch is None or before is None or batch.retry_only is None:
            return None
        try:
            manifest = orjson.loads(storage.get(output_key(before, MANIFEST_NAME)))
        except FileMissing as error:
            raise InputGone from error
        skipped = iter([(int(first), int(last)) for first, last in manifest["skipped_rows"]])
        if batch.retry_only == "skipped" or "errors" not in manifest["outputs"]:
            return cls(storage, unit.job_id, skipped)
        return cls(storage, unit.job_id, heapq.merge(skipped, _failed(storage, output_key(before, ERRORS_NAME))))

    def take(self, piece: Slice) -> int:
        """How many rows of a slice are meant; which ones is written down for who scores it."""
        positions: list[npt.NDArray[np.int64]] = []
        first, last = piece.first_row + 1, piece.first_row + piece.rows
        while True:
            self.run = self.run or next(self.rows, None)
            if self.run is None or self.run[0] > last:
                break
            begin, end = max(self.run[0], first), min(self.run[1], last)
            if begin <= end:
                positions.append(np.arange(begin - first, end - first + 1, dtype=np.int64))
            if self.run[1] > last:
                break
            self.run = None
        if not positions:
            return 0
        chosen = np.concatenate(positions)
        self.storage.put(selected_key(self.job_id, piece.first_row), chosen.tobytes())
        return int(chosen.size)


def selected(storage: Storage, job_id: str, piece: Slice) -> npt.NDArray[np.int64]:
    """The positions in a slice, from 0, of the rows that a retry is about.

    Raises:
        StorageFailed
    """
    return np.frombuffer(storage.get(selected_key(job_id, piece.first_row)), dtype=np.int64)


def merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending runs, those that follow each other as one."""
    together: list[tuple[int, int]] = []
    for first, last in runs:
        if together and together[-1][1] + 1 == first:
            together[-1] = (together[-1][0], last)
        else:
            together.append((first, last))
    return together


def not_reached(unit: BatchUnit, storage: Storage) -> list[tuple[int, int]]:
    """First and last of each run of rows that a plan which did not come to its end has not seen.

    Raises:
        StorageFailed
    """
    first_row = unit.position.get("rows", 0) + 1
    try:
        selection = Selection.of(unit, storage)
        if selection is not None:
            return [(max(first, first_row), last) for first, last in selection.rows if last >= first_row]
    except (InputGone, FileMissing):  # the job before was deleted: all that it did not predict is among these
        pass
    return [(first_row, LAST_ROW)]


def _failed(storage: Storage, key: str) -> Iterator[tuple[int, int]]:
    rest = b""
    for block in storage.blocks(key):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            row = orjson.loads(line)["row"]
            yield row, row
