"""Rows as people have them, as the service takes them, and predictions in the kind that the rows were.

numpy, pandas, polars and pyarrow are never imported here for who does not use them.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from foretell.errors import InvalidRows

Kind = Literal["list", "numpy", "pandas", "polars", "arrow"]
NAME: Final = "prediction"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of any kind; `instances` gives some of them as the service takes them."""

    kind: Kind
    count: int
    part: Callable[[int, int], dict[str, Any]]
    index: Any = None  # of pandas

    def payload(self, options: Mapping[str, Any], start: int, stop: int) -> bytes:
        """The body of a job over the rows from `start` to before `stop`, as JSON.

        Raises:
            InvalidRows
        """
        body = self.part(start, stop)
        try:
            return _dumps({**options, **body})
        except ValueError:  # NaN or infinity
            return _dumps({**options, **{name: _finite(value, name) for name, value in body.items()}})

    def in_kind(self, predictions: Sequence[Any], names: Sequence[str] | None = None) -> Any:
        """Predictions in the kind that the rows were; `names` are those of their columns if they have several.

        Lists stay lists. An array or a column if each is a single value; a table if each has several. An empty
        prediction is None, or NaN among numbers.
        """
        if self.kind == "list":
            return list(predictions)
        if self.kind == "numpy":
            return _numpy(predictions)
        columns = columns_of(predictions)
        if columns is None:
            return _column(self.kind, predictions, self.index)
        given = names if names is not None and len(names) == len(columns) else list(columns)
        return _table(self.kind, dict(zip(given, columns.values(), strict=True)), self.index)


def rows_of(rows: Any) -> Rows:
    """Rows: lists of values, of lists or of dicts; arrays and tables of numpy, pandas, polars and Arrow.

    Raises:
        InvalidRows
    """
    for maker in (_of_numpy, _of_pandas, _of_polars, _of_arrow):
        if (made := maker(rows)) is not None:
            return made
    if isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__iter__"):
        raise InvalidRows(
            "Rows are a list with a list, a dict or a single value for each row, or an array or table of numpy, "
            f"pandas, polars or Arrow; this is {_article(type(rows).__name__)}."
        )
    listed = list(rows)
    return Rows(kind="list", count=len(listed), part=lambda start, stop: {"instances": listed[start:stop]})


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def _is(value: Any, module: str, *names: str) -> bool:
    # Who has such a value has imported its library.
    library = sys.modules.get(module)
    kinds = tuple(kind for name in names if isinstance(kind := getattr(library, name, None), type))
    return isinstance(value, kinds)


def _of_numpy(rows: Any) -> Rows | None:
    if not _is(rows, "numpy", "ndarray"):
        return None
    if rows.ndim not in (1, 2) or rows.dtype.names:
        raise InvalidRows(f"An array of rows has one or two dimensions and no fields; this has {rows.ndim}.")
    return Rows(kind="numpy", count=len(rows), part=lambda start, stop: {"instances": rows[start:stop].tolist()})


def _of_pandas(rows: Any) -> Rows | None:
    if _is(rows, "pandas", "Series"):

        def values(start: int, stop: int) -> dict[str, Any]:
            return {"instances": _pandas_values(rows.iloc[start:stop])}

        return Rows(kind="pandas", count=len(rows), part=values, index=rows.index)
    if not _is(rows, "pandas", "DataFrame"):
        return None
    if not rows.columns.is_unique:
        twice = rows.columns[rows.columns.duplicated()][0]
        raise InvalidRows(f"The table has the column {twice!r} twice; rename one of them.")
    # Columns that nobody has named are taken by their place.
    by_place = _is(rows.columns, "pandas", "RangeIndex")

    def part(start: int, stop: int) -> dict[str, Any]:
        some = rows.iloc[start:stop]
        columns = {str(name): _pandas_values(some[name]) for name in some.columns}
        return {"instances": list(map(list, zip(*columns.values(), strict=True)))} if by_place else {"inputs": columns}

    return Rows(kind="pandas", count=len(rows), part=part, index=rows.index)


def _pandas_values(column: Any) -> list[Any]:
    listed: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return listed


def _of_polars(rows: Any) -> Rows | None:
    if _is(rows, "polars", "LazyFrame"):
        raise InvalidRows("A LazyFrame has no rows yet; send what collect() makes of it.")
    if _is(rows, "polars", "Series"):
        return Rows(kind="polars", count=len(rows), part=lambda start, stop: {"instances": rows[start:stop].to_list()})
    if not _is(rows, "polars", "DataFrame"):
        return None

    def part(start: int, stop: int) -> dict[str, Any]:
        return {"inputs": rows[start:stop].to_dict(as_series=False)}

    return Rows(kind="polars", count=rows.height, part=part)


def _of_arrow(rows: Any) -> Rows | None:
    if _is(rows, "pyarrow", "Array", "ChunkedArray"):

        def values(start: int, stop: int) -> dict[str, Any]:
            return {"instances": rows.slice(start, stop - start).to_pylist()}

        return Rows(kind="arrow", count=len(rows), part=values)
    if not _is(rows, "pyarrow", "Table", "RecordBatch"):
        return None

    def part(start: int, stop: int) -> dict[str, Any]:
        return {"inputs": rows.slice(start, stop - start).to_pydict()}

    return Rows(kind="arrow", count=rows.num_rows, part=part)


def _dumps(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """What JSON has no word for: numpy's single values, times, exact decimals, missing values of pandas."""
    if _is(value, "pandas", "Timestamp", "Timedelta") or hasattr(value, "isoformat"):
        return str(value.isoformat())
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        single = value.item()
        # Of a number that has no plain form, such as a long double, `item` gives the same again.
        return float(single) if type(single) is type(value) else single
    if hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "as_tuple"):
        return float(value)
    raise InvalidRows(f"{value!r} cannot be sent; a value is a number, a string, true, false, a time, or missing.")


def _finite(value: Any, place: str) -> Any:
    """The same with None for NaN.

    Raises:
        InvalidRows: there is an infinite number.
    """
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        if math.isinf(value):
            raise InvalidRows(f"There is an infinite number at {place}; only finite ones can be sent.")
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {name: _finite(one, f"{place}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one, f"{place}[{number}]") for number, one in enumerate(value)]
    return value


def columns_of(predictions: Sequence[Any]) -> dict[str, list[Any]] | None:
    """Predictions of several values each as columns; None if they are single values."""
    first = next((one for one in predictions if one is not None), None)
    if not isinstance(first, list) or any(isinstance(value, list) for value in first):
        return None
    if first and isinstance(first[0], dict):
        return _ranked(predictions, most=max(len(one) for one in predictions if one is not None))
    width = range(len(first))
    return {f"{NAME}_{place}": [None if one is None else one[place] for one in predictions] for place in width}


def _ranked(predictions: Sequence[Any], most: int) -> dict[str, list[Any]]:
    """Of `top_k`, the columns item_1, score_1, item_2, ..."""
    columns = {}
    for place in range(most):
        for name in ("item", "score"):
            columns[f"{name}_{place + 1}"] = [
                one[place][name] if one is not None and place < len(one) else None for one in predictions
            ]
    return columns


def _numpy(predictions: Sequence[Any]) -> Any:
    import numpy as np

    first = next((one for one in predictions if one is not None), None)
    if isinstance(first, list) and first and not isinstance(first[0], dict | list):
        empty = [None] * len(first)
        return _narrow([empty if one is None else one for one in predictions])
    if isinstance(first, list):
        made = np.empty(len(predictions), dtype=object)
        made[:] = predictions
        return made
    return _narrow(list(predictions))


def _narrow(values: list[Any]) -> Any:
    """An array of numbers if all are or are missing, of what numpy makes of them otherwise."""
    import numpy as np

    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    kinds = {type(one) for one in flat}
    if type(None) not in kinds:
        return np.array(values)
    if kinds <= {int, float, type(None)}:
        return np.array(values, dtype=float)
    return np.array(values, dtype=object)


def _column(kind: Kind, values: Sequence[Any], index: Any) -> Any:
    if kind == "pandas":
        import pandas as pd

        return pd.Series(list(values), index=index, name=NAME)
    if kind == "polars":
        import polars as pl

        return pl.Series(NAME, list(values), strict=False)
    import pyarrow as pa

    return pa.array(list(values))


def _table(kind: Kind, columns: Mapping[str, list[Any]], index: Any) -> Any:
    if kind == "pandas":
        import pandas as pd

        return pd.DataFrame(dict(columns), index=index)
    if kind == "polars":
        import polars as pl

        return pl.DataFrame(dict(columns), strict=False)
    import pyarrow as pa

    return pa.table(dict(columns))
