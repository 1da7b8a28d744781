"""What is odd about labelled rows, though they can be trained on: sentences for a person."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from worker.training.columns import class_counts, floats, is_numeric, plain
from worker.training.labelled import Labelled
from worker.training.words import counted, listed, named

FEW_CLASS_ROWS: Final = 10  # fewer are warned about
FEW_HELD_OUT: Final = 50  # rows or groups; fewer are warned about


def warnings_of(rows: Labelled, known: Sequence[Any] | None) -> list[str]:
    """What is odd about rows that passed the checks.

    Args:
        rows: to train on and held out.
        known: the classes that the champion knows, if it is a classifier that is known.
    """
    return [*_amount_warnings(rows), *_class_warnings(rows, known), *_feature_warnings(rows)]


def _amount_warnings(rows: Labelled) -> Iterator[str]:
    units, noun = rows.compared(), "group"
    if rows.groups is None:
        noun = "row" if units == rows.held_out.sum() else "different row"
    if units < FEW_HELD_OUT:
        yield (
            f"Only {counted(units, noun)} are held out, so the interval of the comparison is wide; "
            f"{FEW_HELD_OUT} and more are better."
        )


def _class_warnings(rows: Labelled, known: Sequence[Any] | None) -> Iterator[str]:
    if rows.task == "regression":
        return
    counts = class_counts(rows.target)
    few = [f"{label!r} ({count})" for label, count in counts.items() if count < FEW_CLASS_ROWS]
    if few:
        yield f"Classes of {rows.names.target} with few rows: {listed(few)}."
    held_out = class_counts(rows.target.filter(pa.array(rows.held_out)))
    absent = [label for label in counts if label not in held_out]
    if absent:
        yield f"No held-out row is of the classes {named(absent)} of {rows.names.target}, so how they do is unknown."
    if known is None:
        return
    new, gone = [label for label in counts if label not in known], [label for label in known if label not in counts]
    if new:
        yield f"The champion does not know the classes {named(new)} of {rows.names.target}."
    if gone:
        yield f"No row is of the classes {named(gone)}, which the champion knows; a challenger would lose them."


def _feature_warnings(rows: Labelled) -> Iterator[str]:
    training = rows.features.filter(pa.array(~rows.held_out))
    constant = [
        name
        for name, column in zip(training.column_names, training.columns, strict=True)
        if len(pc.unique(column)) == 1
    ]
    if constant:
        yield f"Features with one value in all rows to train on: {listed(constant)}."
    leaks = [
        name
        for name, column in zip(rows.features.column_names, rows.features.columns, strict=True)
        if name not in constant and _equals(plain(column), rows.target)
    ]
    if leaks:
        yield f"Features that equal the target {rows.names.target}, which may have leaked in: {listed(leaks)}."


def _equals(feature: pa.Array, target: pa.Array) -> bool:
    """Whether a feature is the target wherever it has a value."""
    if is_numeric(feature.type) != is_numeric(target.type):
        return False
    if is_numeric(target.type):
        given, truth = floats(feature), floats(target)
        present = ~np.isnan(given)
        return bool(present.any() and (given[present] == truth[present]).all())
    same = pc.equal(feature.cast(pa.string()), target.cast(pa.string()))
    return bool(same.null_count < len(same) and pc.all(same).as_py())
