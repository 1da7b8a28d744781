"""The custom_ids of a file of requests: each may be there once, and names a line that was never reached."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from shared.errors import InvalidRequest
from worker.cutter import Cut
from worker.ndjson_rows import lines_of
from worker.predict import Stopped

# Rows that are compared with each other, which bounds the memory that it takes: some 40 bytes each.
MOST_COMPARED: Final = 2_000_000
MOST_TOLD: Final = 20
SHOWN: Final = 60


def check_unique(cuts: Callable[[], Iterable[Cut]], stopped: Callable[[], bool]) -> None:
    """See that no custom_id is twice among the first MOST_COMPARED rows of a file.

    Args:
        cuts: gives the slices of the file from its beginning; called once more if there are doubles, to name them.
        stopped: asked between two slices.

    Raises:
        InvalidRequest: `duplicate_custom_id`, of the first of the rows whose custom_id an earlier one has.
        Stopped, and what `cuts` raises
    """
    rows, digests = array("q"), array("q")
    for row, custom_id in _told(cuts(), stopped, lambda first, last: True):
        if len(rows) == MOST_COMPARED:
            break
        if custom_id is not None:
            rows.append(row)
            digests.append(hash(custom_id))
    pairs = _pairs(np.frombuffer(rows, dtype=np.int64), np.frombuffer(digests, dtype=np.int64))
    if not pairs:
        return
    wanted = {row for pair in pairs for row in pair}
    some = _told(cuts(), stopped, lambda first, last: any(first <= row <= last for row in wanted))
    names = {row: custom_id for row, custom_id in some if row in wanted}
    errors = [_double(row, before, names[row]) for before, row in pairs if names[row] == names[before]]
    if errors:  # otherwise two have the same digest
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise InvalidRequest(f"{errors[0]['message']} (row {errors[0]['row']}{more})", errors=errors)


def within(
    cuts: Iterable[Cut], runs: Sequence[tuple[int, int]], stopped: Callable[[], bool]
) -> Iterator[list[str | None]]:
    """The custom_id of each row within the runs, first and last, which are ascending; None where a row has none.

    Raises:
        Stopped, and what `cuts` raises
    """
    at = 0
    for cut in cuts:
        if stopped():
            raise Stopped
        first, last = _rows(cut)
        while at < len(runs) and runs[at][1] < first:
            at += 1
        if at == len(runs):
            return
        if runs[at][0] > last:
            continue
        ids, found = ids_of(cut), []
        for begin, end in runs[at:]:
            if begin > last:
                break
            found += ids[max(begin, first) - first : min(end, last) - first + 1]
        yield found


def ids_of(cut: Cut) -> list[str | None]:
    """The custom_id of each row of a slice; None where it has none, or is no JSON."""
    if cut.slice.fault is not None:
        return [None]
    return [_id(line) for line in lines_of(bytes(cut.data))]


def _id(line: bytes) -> str | None:
    try:
        request: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    custom_id = request.get("custom_id") if isinstance(request, dict) else None
    return custom_id if isinstance(custom_id, str) and custom_id else None


def _rows(cut: Cut) -> tuple[int, int]:
    """The numbers of the first and the last row of a slice."""
    return cut.slice.first_row + 1, cut.slice.first_row + cut.slice.rows


def _told(
    cuts: Iterable[Cut], stopped: Callable[[], bool], wants: Callable[[int, int], bool]
) -> Iterator[tuple[int, str | None]]:
    """Number and custom_id of each row of the slices that are wanted, by the numbers of their rows."""
    for cut in cuts:
        if stopped():
            raise Stopped
        first, last = _rows(cut)
        if wants(first, last):
            yield from enumerate(ids_of(cut), first)


def _pairs(rows: npt.NDArray[np.int64], digests: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The first rows whose digest an earlier one has, each with the one before it of this digest."""
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    again = np.sort(rows[order[same + 1]])[:MOST_TOLD]
    before = {int(rows[order[at + 1]]): int(rows[order[at]]) for at in same[np.isin(rows[order[same + 1]], again)]}
    return [(before[int(row)], int(row)) for row in again]


def _double(row: int, before: int, custom_id: str | None) -> dict[str, Any]:
    shown = f"{custom_id}"[:SHOWN]
    message = f"The custom_id {shown!r} is that of row {before} too; each line of a batch needs one of its own."
    return {"row": row, "column": "custom_id", "code": "duplicate_custom_id", "message": message}
