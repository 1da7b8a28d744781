"""Whether labelled rows can be trained on, said before any fit: faults by column, and warnings for what is only odd."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import InvalidRequest
from worker.training.columns import class_counts, floats, is_numeric, plain
from worker.training.labelled import Columns, Labelled
from worker.training.oddities import warnings_of
from worker.training.split import Mask, folds, group_codes, time_ranks
from worker.training.task import Task
from worker.training.words import counted, listed, named

LEAST_TRAINING_ROWS: Final = 10  # fewer say nothing about any model
# Held-out rows, or groups if rows come in groups: of two equal models one wins on all of 4 in more than one case out of
# 20 by chance, on all of 5 in fewer.
LEAST_HELD_OUT: Final = 5
LEAST_CLASS_ROWS: Final = 2  # of each class on the training side


@dataclass(frozen=True, slots=True)
class Fault:
    """Why rows cannot be trained on."""

    column: str
    code: str
    message: str


def check(
    target: npt.NDArray[Any] | pa.Array | pa.ChunkedArray,
    features: pa.Table,
    *,
    task: Task,
    held_out: Mask,
    weights: npt.NDArray[Any] | pa.Array | None = None,
    groups: npt.NDArray[Any] | pa.Array | None = None,
    times: npt.NDArray[Any] | pa.Array | None = None,
    folds: int | None = None,
    classes: Sequence[Any] | npt.NDArray[Any] | None = None,
    names: Columns | None = None,
    numbers: npt.NDArray[np.int64] | None = None,
) -> list[str]:
    """See that the rows can be trained on.

    Args:
        target: (n_rows,), the truth.
        features: n_rows rows.
        task: of the champion.
        held_out: (n_rows,), the rows to compare on.
        weights: (n_rows,), None: all 1.
        groups: (n_rows,), None: each row is one.
        times: (n_rows,), if the split is by time.
        folds: of a search, None without one.
        classes: those that the champion knows.
        names: of the columns; None: as the arguments are called.
        numbers: (n_rows,), what messages call the rows; None: from 1.

    Returns:
        Warnings, sentences for a person.

    Raises:
        InvalidRequest: with one entry {column, code, message} for each fault.
    """
    names = names or Columns()
    rows = Labelled(
        target=plain(target),
        features=features,
        task=task,
        held_out=held_out,
        weights=None if weights is None else floats(plain(weights)),
        groups=None if groups is None else group_codes(groups),
        times=None if times is None else time_ranks(times, names.time),
        folds=folds,
        names=names,
        numbers=np.arange(1, len(held_out) + 1) if numbers is None else numbers,
    )
    # In steps, since what comes later would stumble over what was wrong before.
    _refuse(_target_faults(rows))
    _refuse([*_amount_faults(rows), *_weight_faults(rows), *_group_faults(rows), *_time_faults(rows)])
    known = None if classes is None else np.asarray(classes).tolist()
    if task == "regression":
        _refuse(_constant_faults(rows))
    else:
        _refuse(_class_faults(rows, known))
        _refuse(_fold_faults(rows))
    return warnings_of(rows, known)


def _refuse(faults: Iterator[Fault] | Sequence[Fault]) -> None:
    found = list(faults)
    if not found:
        return
    more = f" ({len(found) - 1} more in errors)" if len(found) > 1 else ""
    raise InvalidRequest(
        found[0].message + more,
        errors=[{"column": fault.column, "code": fault.code, "message": fault.message} for fault in found],
    )


def _target_faults(rows: Labelled) -> Iterator[Fault]:
    name, target = rows.names.target, rows.target
    if target.null_count:
        first = rows.numbers[np.flatnonzero(target.is_null().to_numpy(zero_copy_only=False))[0]]
        message = (
            f"The target {name} is missing in {target.null_count} of {len(target)} rows, first in row {first}; "
            "give labelled rows only."
        )
        yield Fault(name, "missing_target", message)
    elif rows.task == "regression" and not is_numeric(target.type):
        message = f"The target {name} must be a number for this regressor, but the column has the type {target.type}."
        yield Fault(name, "not_a_number", message)
    elif rows.task == "regression" and not np.isfinite(floats(target)).all():
        first = rows.numbers[np.flatnonzero(~np.isfinite(floats(target)))[0]]
        yield Fault(name, "not_finite", f"The target {name} is not finite in row {first}; leave such rows out.")


def _amount_faults(rows: Labelled) -> Iterator[Fault]:
    held_out = int(rows.held_out.sum())
    different = held_out if rows.groups is not None else rows.compared()
    for n_rows, least, noun, purpose in (
        (len(rows.held_out) - held_out, max(LEAST_TRAINING_ROWS, rows.folds or 0), "row", "to train on"),
        (different, LEAST_HELD_OUT, "row" if different == held_out else "different row", "held out to compare on"),
    ):
        if n_rows < least:
            message = (
                f"{counted(n_rows, noun)} of {len(rows.held_out)} would be {purpose}, at least {least} are needed; "
                "give more rows, or hold out another part."
            )
            yield Fault(rows.names.target, "too_few_rows", message)


def _weight_faults(rows: Labelled) -> Iterator[Fault]:
    name, weights = rows.names.sample_weight, rows.weights
    if weights is None:
        return
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        value = f"{weights[bad[0]]:g}" if np.isfinite(weights[bad[0]]) else "missing or not finite"
        message = (
            f"{counted(len(bad), 'weight')} in {name} cannot be used, the first in row {rows.numbers[bad[0]]} "
            f"({value}); a weight is a finite number of at least 0."
        )
        yield Fault(name, "bad_weight", message)
        return
    for side, purpose in ((~rows.held_out, "to train on"), (rows.held_out, "held out to compare on")):
        if side.any() and not weights[side].any():
            message = f"All weights in {name} of the rows {purpose} are 0, so none would count."
            yield Fault(name, "bad_weight", message)


def _group_faults(rows: Labelled) -> Iterator[Fault]:
    if rows.groups is None:
        return
    for side, least, purpose in (
        (~rows.held_out, max(rows.folds or 0, 2), "to train on"),
        (rows.held_out, LEAST_HELD_OUT, "held out to compare on"),
    ):
        found = len(np.unique(rows.groups[side]))
        if found < least:
            message = (
                f"The rows {purpose} are of {counted(found, 'group')} in {rows.names.group}, at least {least} are "
                "needed; give more groups, fewer folds, or hold out another part."
            )
            yield Fault(rows.names.group, "too_few_groups", message)


def _time_faults(rows: Labelled) -> Iterator[Fault]:
    if rows.times is None or rows.folds is None:
        return
    found = len(np.unique(rows.times[~rows.held_out]))
    if found <= rows.folds:
        message = (
            f"The rows to train on have {counted(found, 'different time')} in {rows.names.time}, "
            f"but {rows.folds} folds need at least {rows.folds + 1}; give fewer folds or finer times."
        )
        yield Fault(rows.names.time, "too_few_times", message)


def _constant_faults(rows: Labelled) -> Iterator[Fault]:
    values = floats(rows.target)[~rows.held_out]
    if values.min() == values.max():
        message = (
            f"The target {rows.names.target} is {values[0]:g} in all rows to train on, so there is nothing to learn."
        )
        yield Fault(rows.names.target, "constant_target", message)


def _class_faults(rows: Labelled, known: Sequence[Any] | None) -> Iterator[Fault]:
    name = rows.names.target
    training, everywhere = class_counts(rows.target.filter(pa.array(~rows.held_out))), class_counts(rows.target)
    if len(everywhere) == 1 or len(training) == 1:
        message = (
            f"All rows to train on are of one class in {name}, {named(training)}; a classifier needs at least two."
        )
        yield Fault(name, "one_class", message)
        return
    if known is not None and not set(known) & set(everywhere):
        message = (
            f"No class in {name} ({named(everywhere)}) is one that the champion knows ({named(known)}); "
            "give the classes as the champion was trained on them."
        )
        yield Fault(name, "unknown_classes", message)
    stratified = rows.folds is not None and rows.groups is None and rows.times is None
    least = max(LEAST_CLASS_ROWS, rows.folds or 0) if stratified else LEAST_CLASS_ROWS
    short = {label: training.get(label, 0) for label in everywhere if training.get(label, 0) < least}
    unseen = [label for label, count in short.items() if not count]
    if unseen:
        message = (
            f"Only held-out rows have the classes {named(unseen)} of {name}, so that no challenger could learn them; "
            "give more rows of them, or leave them out."
        )
        yield Fault(name, "class_not_in_training", message)
    few = {f"{label!r} ({count})": count for label, count in short.items() if count}
    if few:
        message = (
            f"Classes of {name} have too few rows to train on, at least {least} are needed of each: "
            f"{listed(list(few))}; give more of them, or leave them out."
        )
        yield Fault(name, "too_few_rows", message)


def _fold_faults(rows: Labelled) -> Iterator[Fault]:
    """Folds by group or time may leave one class only to train on; stratified ones cannot."""
    if rows.folds is None or (rows.groups is None and rows.times is None):
        return
    kept = np.flatnonzero(~rows.held_out)
    codes = group_codes(rows.target.take(pa.array(kept)))
    groups, times = (None if values is None else values[kept] for values in (rows.groups, rows.times))
    cut = folds(codes, rows.folds, task=rows.task, group_values=groups, time_values=times)
    for number, (train, _) in enumerate(cut, 1):
        if len(np.unique(codes[train])) < 2:
            by = rows.names.time if rows.groups is None else rows.names.group
            message = (
                f"In fold {number} of {rows.folds} by {by} all rows to train on are of one class in "
                f"{rows.names.target}; give fewer folds, or more rows."
            )
            yield Fault(rows.names.target, "one_class", message)
            return
