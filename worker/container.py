"""Rows as the estimator wants them: a float64 matrix, a table with named columns, a data frame, or strings."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shared.signature import FeatureType, Signature

ARROW: Final[dict[FeatureType, pa.DataType]] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
}


def pack(signature: Signature, rows: Sequence[Sequence[Any]]) -> Any:
    """The rows in the container of the signature.

    Args:
        signature: the version's.
        rows: n_rows lists of n_features checked values, in feature order; None is missing.

    Returns:
        (n_rows, n_features) float64, where missing is NaN; or a pyarrow Table or pandas DataFrame of n_rows with the
        features' names and types; or n_rows strings.
    """
    match signature.container:
        case "matrix":
            return np.array(rows, dtype=np.float64)
        case "text":
            return [row[0] for row in rows]
        case "table":
            return _table(signature, rows)
        case "dataframe":
            return _table(signature, rows).to_pandas()


def _table(signature: Signature, rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        {
            feature.name: _column(feature.type, column)
            for feature, column in zip(signature.features, columns, strict=True)
        }
    )


def _column(kind: FeatureType, values: Sequence[Any]) -> pa.Array:
    if kind == "number":  # pyarrow takes no integer past 2^53 for a float64
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, type=ARROW[kind])
