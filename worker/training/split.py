"""Which rows are held out, and the folds of a search; where a row goes depends on its values and on nothing else."""

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from shared.errors import InvalidRequest
from worker.training.columns import plain
from worker.training.task import Task

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

# The finaliser of SplitMix64: G. L. Steele, D. Lea, C. H. Flood, Fast Splittable Pseudorandom Number Generators,
# OOPSLA 2014, figure 17 (variant 13 of D. Stafford's).
_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_STEPS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT: Final = np.uint64(31)
# So that true is not 1, and a text not the number with the same bits.
_BOOLEAN: Final = np.uint64(0xB001)
_TEXT: Final = np.uint64(0x7E87)
_MISSING: Final = np.uint64(0x3155)
_DIGEST_BYTES: Final = 8


def held_out(
    table: pa.Table, columns: Sequence[str], *, fraction: float, group: str | None = None, time: str | None = None
) -> Mask:
    """Which rows are held out to compare champion and challenger on.

    Without group and time by a hash of the row's values, so that the same row is on the same side in every retraining,
    whatever stands beside it, and a larger fraction holds out the same rows and more. With a group by a hash of its
    value. With a time the newest rows, and all that are as old as the oldest of these.

    Args:
        table: n_rows rows. Whole numbers and fractions are the same if their values are; NaN is null, and null a value.
        columns: what makes a row: the features and the target, always in the same order.
        fraction: of the rows, between 0 and 1; about that, except with a time.
        group: a column; its rows of one value, and those of none, are all on one side.
        time: a column of times, numbers, or texts as ISO 8601 writes times; not together with a group.

    Returns:
        (n_rows,) bool

    Raises:
        InvalidRequest: a row has no time (`missing_time`), or a text is no time (`not_a_time`).
    """
    if time is not None:
        ranks = time_ranks(table.column(time), time)
        kept = len(ranks) - int(np.ceil(fraction * len(ranks)))
        newest: Mask = ranks >= np.partition(ranks, kept)[kept] if kept < len(ranks) else np.zeros(len(ranks), bool)
        return newest
    hashes = np.zeros(table.num_rows, np.uint64)
    for name in columns if group is None else [group]:
        hashes = _mixed((hashes + _GAMMA) ^ _hashes(table.column(name)))
    # The upper 53 bits are all that a float64 can hold.
    return (hashes >> np.uint64(11)) * 2.0**-53 < fraction


def folds(
    target: npt.NDArray[Any],
    k: int,
    *,
    task: Task,
    group_values: npt.NDArray[Any] | pa.Array | None = None,
    time_values: npt.NDArray[Any] | pa.Array | None = None,
    seed: int = 0,
) -> list[Fold]:
    """The folds of a search over rows that passed `checks.check`.

    Stratified by class for a classifier, shuffled for a regressor; by groups, none of which is ever on both sides; by
    time with a growing window: each fold is tested on rows that are newer than all that it is trained on.

    Args:
        target: (n_rows,), classes or numbers.
        k: at least 2.
        task: of the champion.
        group_values: (n_rows,), at least k different ones.
        time_values: (n_rows,), more than k different ones; not together with groups.
        seed: of the shuffling; the same seed gives the same folds.

    Returns:
        k pairs of row numbers from 0, ascending: to train on and to test on.
    """
    rows = np.zeros(len(target))
    if time_values is not None:
        return _windows(time_ranks(time_values, "time"), k)
    if group_values is not None:
        codes = group_codes(group_values)
        return [(train, test) for train, test in GroupKFold(k).split(rows, groups=codes)]
    splitter = KFold if task == "regression" else StratifiedKFold
    return [(train, test) for train, test in splitter(k, shuffle=True, random_state=seed).split(rows, target)]


def group_codes(values: npt.NDArray[Any] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """(n_rows,) int64: equal for equal groups, from 0 in the order of their first rows; no value is a group too."""
    codes = pc.dictionary_encode(plain(values), null_encoding="encode").indices
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


def row_codes(table: pa.Table) -> npt.NDArray[np.int64]:
    """(n_rows,) int64: equal for rows with equal values in all columns, from 0 in the order of the first such rows."""
    codes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        # Both are below n_rows, so that each pair has a number of its own.
        codes = group_codes(codes * table.num_rows + group_codes(column))
    return codes


def time_ranks(values: npt.NDArray[Any] | pa.Array | pa.ChunkedArray, name: str) -> npt.NDArray[np.int64]:
    """(n_rows,) int64: 0 for the oldest time, equal for equal times, without gaps.

    Raises:
        InvalidRequest: a row has no time (`missing_time`), or a text is no time (`not_a_time`).
    """
    times = _moments(plain(values), name)
    if times.null_count:
        row = int(np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False))[0]) + 1
        raise _bad_time(
            name,
            "missing_time",
            f"Row {row} has no value in the time column {name}, so its place in time is unknown; "
            "fill it in, or leave such rows out.",
        )
    return np.asarray(pc.rank(times, tiebreaker="dense").to_numpy(), np.int64) - 1


def _moments(times: pa.Array, name: str) -> pa.Array:
    """Times as numbers or timestamps."""
    if pa.types.is_integer(times.type) or pa.types.is_floating(times.type) or pa.types.is_temporal(times.type):
        return times
    if pa.types.is_null(times.type):
        return times.cast(pa.int64())
    if pa.types.is_string(times.type) or pa.types.is_large_string(times.type):
        for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            with contextlib.suppress(pa.ArrowInvalid):
                return times.cast(kind)
    raise _bad_time(
        name,
        "not_a_time",
        f"Column {name} does not hold times alone; write them all as ISO 8601 does, such as 2026-01-31 or "
        "2026-01-31T12:00:00, all with a zone or all without, or give numbers.",
    )


def _bad_time(name: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"column": name, "code": code, "message": message}])


def _windows(ranks: npt.NDArray[np.int64], k: int) -> list[Fold]:
    """As scikit-learn's TimeSeriesSplit, except that rows of one time are never divided."""
    counts = np.bincount(ranks)
    before = np.concatenate([[0], np.cumsum(counts)])  # rows older than each time
    n_times, size = len(counts), len(ranks) // (k + 1)
    starts: list[int] = []
    for fold in range(k):
        start = int(np.searchsorted(before, len(ranks) - (k - fold) * size))
        # Each fold has a time of its own, and leaves one to each later fold.
        starts.append(min(max(start, starts[-1] + 1 if starts else 1), n_times - k + fold))
    return [
        (np.flatnonzero(ranks < start), np.flatnonzero((ranks >= start) & (ranks < stop)))
        for start, stop in zip(starts, [*starts[1:], n_times], strict=True)
    ]


def _hashes(values: pa.ChunkedArray) -> Hashes:
    """(n_rows,) uint64, a hash of each value."""
    column = plain(values)
    kind = column.type
    if pa.types.is_boolean(kind):
        bits = column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint64) ^ _BOOLEAN
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        # Whole numbers past 2^53 that become one float64 only fall on the same side.
        floats = column.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        bits = floats.view(np.uint64)
    else:
        bits = _text_hashes(column.cast(pa.string()))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    return _mixed(np.where(present, _mixed(bits), _MISSING))


def _text_hashes(texts: pa.Array) -> Hashes:
    encoded = pc.dictionary_encode(texts.fill_null(""))
    digests = b"".join(
        hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest() for text in encoded.dictionary.to_pylist()
    )
    # Little-endian by name, so that every machine splits alike.
    hashes: Hashes = np.frombuffer(digests, "<u8").astype(np.uint64)[encoded.indices.to_numpy()] ^ _TEXT
    return hashes


def _mixed(bits: Hashes) -> Hashes:
    for shift, factor in _STEPS:
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> _LAST_SHIFT)
