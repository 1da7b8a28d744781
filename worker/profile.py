"""The training profile of a version: how the values of each feature were distributed, in bins, bounded in size."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import InvalidRequest
from shared.signature import Feature, FeatureType, Signature
from worker.bins import Bins, numbers
from worker.container import ARROW

MOST_FEATURES: Final = 200
QUANTILES: Final = 10
# Single numbers and categories; more are told by quantiles, or are "any other value".
MOST_VALUES: Final = 20
# A number that takes each of its values so often is one of few; in a small sample any number takes few.
ROWS_PER_VALUE: Final = 10
LONGEST_CATEGORY: Final = 100  # characters; a feature with a longer one is a text
SHARE_DIGITS: Final = 6


def profile_of(table: pa.Table, signature: Signature) -> dict[str, Any]:
    """How the features are distributed in training data.

    Args:
        table: n_rows; has a column for each feature, and may have others.
        signature: the version's.

    Returns:
        JSON: `rows`; `left_out`, the number of features past the first 200; and `features` by name, each with its
        `type`, `bins` and `missing`, a share of all rows as all shares are. By `bins`:
        quantiles: numbers; inner `edges` of ranges that include the upper one, `shares` (one more than edges);
        lengths: the same of long or mostly distinct strings, in characters;
        values: numbers with few different `values`, their `shares`, and that of `other` values;
        categories: the same of the most frequent strings, or of booleans.
        Numbers and lengths also have `mean`, `deviation` (of the population), `min` and `max`, null without values;
        what is not finite is missing. The same table gives the same profile. Empty if there are no rows.

    Raises:
        InvalidRequest: a column is missing, or has values that are not of the feature's type.
    """
    if table.num_rows == 0:
        return {}
    return {
        "rows": table.num_rows,
        "left_out": max(0, len(signature.features) - MOST_FEATURES),
        "features": {
            feature.name: _entry(_column(table, feature), feature.type, text=signature.container == "text")
            for feature in signature.features[:MOST_FEATURES]
        },
    }


def _column(table: pa.Table, feature: Feature) -> pa.ChunkedArray:
    """The values of a feature, in its type."""
    if feature.name not in table.column_names:
        raise InvalidRequest(
            f"The data has no column {feature.name}, which the model takes; add it.",
            errors=[{"column": feature.name, "code": "missing_column", "message": "The column is missing."}],
        )
    column = table.column(feature.name)
    kind = ARROW[feature.type]
    if column.type == kind:
        return column
    if pa.types.is_floating(column.type):  # NaN is a missing value, of integers too
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(kind, safe=feature.type != "number")  # any integer is a number, if not an exact one
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"Column {feature.name} has values of type {column.type}; the model takes {feature.type} values."
        raise InvalidRequest(
            message, errors=[{"column": feature.name, "code": "wrong_type", "message": message}]
        ) from error


def _entry(column: pa.ChunkedArray, kind: FeatureType, *, text: bool) -> dict[str, Any]:
    """What the profile says of a feature."""
    if kind == "boolean":
        return _single(Bins("categories", pa.array([False, True])), column, kind)
    if kind == "string":
        categories = None if text else _categories(column)
        if categories is not None:
            return _single(Bins("categories", categories), column, kind)
        lengths = numbers(column)
        return _ranges(Bins("lengths", pa.array(_edges(lengths), pa.int64())), column, kind) | _moments(lengths)
    values = numbers(column)
    different = np.unique(values)
    if 0 < different.size <= min(MOST_VALUES, max(1, values.size // ROWS_PER_VALUE)):
        return _single(Bins("values", pa.array(different, ARROW[kind])), column, kind) | _moments(values)
    return _ranges(Bins("quantiles", pa.array(_edges(values), ARROW[kind])), column, kind) | _moments(values)


def _single(bins: Bins, column: pa.ChunkedArray, kind: FeatureType) -> dict[str, Any]:
    *shares, other, missing = _shares(bins, column)
    values = bins.marks.to_pylist()
    return {"type": kind, "bins": bins.kind, "values": values, "shares": shares, "other": other, "missing": missing}


def _ranges(bins: Bins, column: pa.ChunkedArray, kind: FeatureType) -> dict[str, Any]:
    *shares, missing = _shares(bins, column)
    return {"type": kind, "bins": bins.kind, "edges": bins.marks.to_pylist(), "shares": shares, "missing": missing}


def _shares(bins: Bins, column: pa.ChunkedArray) -> list[float]:
    return [round(count / len(column), SHARE_DIGITS) for count in bins.counts(column).tolist()]


def _categories(column: pa.ChunkedArray) -> pa.Array | None:
    """The most frequent strings; None of long texts, and of strings that mostly occur once."""
    found = pc.value_counts(column.drop_null())
    different = len(found)
    if different > MOST_VALUES and different > (len(column) - column.null_count) / 2:
        return None
    table = pa.table({"value": found.field("values"), "count": found.field("counts")})
    # Equally frequent ones by name, so that the order of the rows does not matter.
    first = table.sort_by([("count", "descending"), ("value", "ascending")]).slice(0, MOST_VALUES)
    values = first.column("value").combine_chunks()
    longest = pc.max(pc.utf8_length(values)).as_py()
    return None if longest is not None and longest > LONGEST_CATEGORY else values


def _edges(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Inner edges of ranges with about the same number of values each, which are values that occur."""
    if not values.size:
        return values
    steps = np.arange(1, QUANTILES) / QUANTILES
    edges = np.unique(np.quantile(values, steps, method="inverted_cdf"))
    inner: npt.NDArray[Any] = edges[edges < values.max()]  # there is nothing above the largest
    return inner


def _moments(values: npt.NDArray[Any]) -> dict[str, Any]:
    if not values.size:
        return dict.fromkeys(("mean", "deviation", "min", "max"))
    with np.errstate(over="ignore", invalid="ignore"):
        moments = {"mean": float(values.mean()), "deviation": float(values.std())}
    finite = {name: value if np.isfinite(value) else None for name, value in moments.items()}
    return finite | {"min": values.min().item(), "max": values.max().item()}
