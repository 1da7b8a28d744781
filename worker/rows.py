"""The rows of a slice: the good ones as typed columns, and the fault of each bad one; every row is one or the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shared.batch import Layout
from shared.signature import Signature
from worker.container import ARROW
from worker.values import Flaw


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why a row cannot be predicted."""

    position: int  # in the slice, from 0
    code: str
    message: str
    column: str | None = None
    key: Any = None  # what JSON can say of the key column's value, if it could be read


@dataclass(frozen=True, slots=True)
class SliceRows:
    """A slice that was read."""

    count: int  # good and bad rows
    good: np.ndarray | None  # (n_good,) int64, the positions of the good rows, ascending; None: all are good
    # n_good rows: one column for each feature, in signature order, of the types in worker.container.ARROW; null is
    # missing, and only in nullable features.
    features: pa.Table
    # `count` rows: the key column, if there is one, then the included ones; null where a row has no such value. A table
    # without columns if nothing is kept.
    kept: pa.Table
    faults: tuple[RowFault, ...]  # ascending, one for each bad row: the first in signature order


def kept_names(layout: Layout) -> list[str]:
    """The key column and the included ones, each once."""
    return list(dict.fromkeys([*([] if layout.key is None else [layout.key]), *layout.include]))


def assemble(
    count: int,
    signature: Signature,
    values: Sequence[pa.Array],
    kept: Mapping[str, pa.Array | pa.ChunkedArray],
    *,
    flaws: Iterable[tuple[str, Iterable[Flaw]]] = (),
    key_at: Callable[[int], Any] = lambda _: None,
    at: np.ndarray | None = None,
    others: Iterable[RowFault] = (),
) -> SliceRows:
    """A slice of its parts.

    Args:
        count: rows of the slice.
        signature: the version's.
        values: for each feature the values of n_split rows.
        kept: columns of `count` rows.
        flaws: what is wrong in each column, in order of precedence; positions are those in `values`.
        key_at: the key of a row, by its position in the slice.
        at: (n_split,) int64, where the rows of `values` are in the slice; None: they are all rows.
        others: the faults of the rows that are not in `values`.
    """
    faults = {fault.position: fault for fault in others}
    usable = np.ones(count if at is None else len(at), dtype=bool)
    for name, found in flaws:
        for flaw in found:
            usable[flaw.position] = False
            position = flaw.position if at is None else int(at[flaw.position])
            if position not in faults:
                faults[position] = RowFault(position, flaw.code, flaw.message, name, key_at(position))
    schema = pa.schema([(feature.name, ARROW[feature.type]) for feature in signature.features])
    features = pa.Table.from_arrays(list(values), schema=schema)
    return SliceRows(
        count=count,
        good=np.delete(np.arange(count), list(faults)) if faults else None,
        features=features if usable.all() else features.filter(pa.array(usable)),
        kept=pa.table(dict(kept)),
        faults=tuple(faults[position] for position in sorted(faults)),
    )
