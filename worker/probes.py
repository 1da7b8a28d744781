"""Rows on which two forms of a model are compared: a sample, and what lies where they are most likely to differ."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shared.signature import Feature, Signature

Row = list[Any]
MOST_ROWS: Final = 500  # of the sample
MOST_MIDDLES: Final = 100  # of a feature
UNSEEN: Final = "\N{REPLACEMENT CHARACTER} no category of any training data"
# Relative steps: below and above what 32 bits can tell apart, and one that leads out of the sample's range.
STEPS: Final = (1e-9, 1e-7, 1e-6, 1e-3, 10.0)


def usual_rows(signature: Signature, sample: pa.Table) -> list[Row]:
    """The sample's rows and, made of them, others that a model must take too.

    - each value a little smaller and larger
    - values of one row with those of another
    - halfway between neighbouring values of a feature, which is where trees split

    Rows with missing values are left out, since no graph is asked for those. The same sample gives the same rows.
    """
    rows = _of(signature, sample.slice(0, MOST_ROWS))
    random = np.random.default_rng(0)
    features = signature.features
    made = [*rows]
    for step in STEPS if any(feature.type == "number" for feature in features) else ():
        made += [_moved(features, row, step * sign) for sign in (-1, 1) for row in rows]
    for _ in range(2):
        columns = list(zip(*rows, strict=True))
        shuffled = [[column[place] for place in random.permutation(len(rows))] for column in columns]
        made += [list(row) for row in zip(*shuffled, strict=True)]
    for place, feature in enumerate(features):
        if feature.type == "number":
            middles = _middles([row[place] for row in rows])
            made += [_with(rows[number % len(rows)], place, middle) for number, middle in enumerate(middles)]
    return made


def strange_rows(signature: Signature, sample: pa.Table) -> list[Row]:
    """Rows that a model may refuse: a category that it has never seen, in each column in turn."""
    first = next(iter(_of(signature, sample)), None)
    if first is None:
        return []
    strange: dict[str, Any] = {"string": UNSEEN, "integer": 2**31 - 1}
    return [
        _with(first, place, strange[feature.type])
        for place, feature in enumerate(signature.features)
        if feature.type in strange
    ]


def _of(signature: Signature, sample: pa.Table) -> list[Row]:
    names = [feature.name for feature in signature.features]
    columns = sample.select(names).to_pydict()
    numbers = {feature.name for feature in signature.features if feature.type == "number"}
    return [
        [
            float(value) if name in numbers and value is not None else value
            for name, value in zip(names, row, strict=True)
        ]
        for row in zip(*(columns[name] for name in names), strict=True)
        if None not in row
    ]


def _moved(features: Sequence[Feature], row: Row, step: float) -> Row:
    return [
        value * (1 + step) if feature.type == "number" else value for feature, value in zip(features, row, strict=True)
    ]


def _middles(values: list[float]) -> list[float]:
    distinct = np.unique(np.asarray(values, np.float64))
    middles = (distinct[:-1] + distinct[1:]) / 2
    chosen = np.linspace(0, len(middles) - 1, min(len(middles), MOST_MIDDLES)).astype(int)
    halfway: list[float] = middles[chosen].tolist()
    return halfway


def _with(row: Row, place: int, value: Any) -> Row:
    return [*row[:place], value, *row[place + 1 :]]
