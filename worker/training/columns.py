"""Columns of labelled rows as arrays, whichever way they come."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def plain(values: npt.NDArray[Any] | pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, where NaN is null."""
    if isinstance(values, np.ndarray):
        return pa.array(values, from_pandas=True)
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def floats(column: pa.Array) -> npt.NDArray[np.float64]:
    """(n_rows,) float64, NaN where nothing is."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether values of the type have a float64; booleans are 0 and 1."""
    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(check(kind) for check in checks)


def class_counts(target: pa.Array) -> dict[Any, int]:
    """Rows of each class, in the order of the classes."""
    found = pc.value_counts(target)
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs))
