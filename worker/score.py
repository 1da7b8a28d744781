"""Prediction of a slice's rows: one call for all, and where it raises, halving until the offending rows are alone.

Gives columns where `worker.predict` gives values: rows of a file never become Python objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.signature import Signature
from worker.container import pack
from worker.predict import RowFailure, Stopped, WrongShape, as_array, blamed, row_failure
from worker.warned import quiet

# Failed rows of a slice for which the column to blame is looked for: it takes a predict call a column.
MOST_BLAMED_ROWS: Final = 5
# Rows of one predict call: enough that a call costs nothing beside its rows, few enough to stop soon.
CALL_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Scores:
    """The predictions of a slice."""

    table: pa.Table  # a row for each that was predicted, in order; the result's prediction columns
    failures: dict[int, RowFailure]  # position -> why it was not
    infinite: bool  # some prediction was NaN or infinite and became null


@dataclass(frozen=True, slots=True)
class Scorer:
    """One model with one method."""

    estimator: Any
    signature: Signature
    method: str
    top_k: int | None

    def schema(self) -> pa.Schema:
        """The prediction columns, found by predicting the row that the model is known to take."""
        example = pack(self.signature, [self.signature.example])
        with quiet():
            return self._call(example, 1).schema

    def score(self, features: pa.Table, schema: pa.Schema, stopped: Callable[[], bool]) -> Scores:
        """Predict the rows of a slice.

        Args:
            features: (n_rows) with the signature's columns.
            schema: what `schema` gave, the same for every slice.
            stopped: asked between two calls.

        Raises:
            Stopped: `stopped` said so.
        """
        found = _Found(schema)
        packed = pack_table(self.signature, features)
        with quiet():
            # scikit-learn warns at every call that a matrix has no feature names; the columns were matched by name.
            for start in range(0, features.num_rows, CALL_ROWS):
                self._isolate(packed, start, min(start + CALL_ROWS, features.num_rows), stopped, found)
            self._blame(features, found.failures)
        table = pa.concat_tables(found.tables) if found.tables else schema.empty_table()
        return Scores(table, found.failures, found.infinite)

    def _isolate(self, packed: Any, start: int, stop: int, stopped: Callable[[], bool], found: "_Found") -> None:
        if stopped():
            raise Stopped
        if start == stop:
            return
        try:
            found.add(self._call(_part(packed, start, stop), stop - start))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a model raises is a row's failure
            if stop - start == 1:
                found.failures[start] = row_failure(error)
                return
            middle = (start + stop) // 2
            self._isolate(packed, start, middle, stopped, found)
            self._isolate(packed, middle, stop, stopped, found)

    def _blame(self, features: pa.Table, failures: dict[int, RowFailure]) -> None:
        for position in sorted(failures)[:MOST_BLAMED_ROWS]:
            row = list(features.slice(position, 1).to_pylist()[0].values())
            failures[position] = blamed(
                failures[position], self.estimator, self.signature, row, method=self.method, top_k=self.top_k
            )

    def _call(self, packed: Any, n_rows: int) -> pa.Table:
        if self.top_k is not None:
            return _top(self.estimator.predict_proba(packed), self.estimator.classes_, self.top_k, n_rows)
        answer = getattr(self.estimator, self.method)(packed)
        if self.method == "predict_proba":
            return _probabilities(answer, self.estimator.classes_, n_rows)
        return _columns(answer, "prediction", None, n_rows)


@dataclass(slots=True)
class _Found:
    """What is known of a slice so far."""

    schema: pa.Schema
    tables: list[pa.Table] = field(default_factory=list)  # in order
    failures: dict[int, RowFailure] = field(default_factory=dict)
    infinite: bool = False

    def add(self, table: pa.Table) -> None:
        """Take the predictions of the rows that follow.

        Raises:
            WrongShape: they are not of the types that the example's has.
        """
        table, infinite = _finite(table)
        self.tables.append(_cast(table, self.schema))
        self.infinite = self.infinite or infinite


def pack_table(signature: Signature, features: pa.Table) -> Any:
    """The rows in the container of the signature.

    Args:
        signature: the version's.
        features: (n_rows) with the signature's columns and types; null is missing.

    Returns:
        (n_rows, n_features) float64, C-ordered, where missing is NaN; or a pyarrow Table or pandas DataFrame; or a list
        of n_rows strings.
    """
    match signature.container:
        case "matrix":
            matrix = np.empty((features.num_rows, features.num_columns))
            for number, column in enumerate(features.columns):
                matrix[:, number] = (
                    column.to_numpy() if column.null_count == 0 else pc.fill_null(_float(column), np.nan)
                )
            return matrix
        case "text":
            return features.column(0).to_pylist()
        case "table":
            return features.combine_chunks()
        case "dataframe":
            return features.to_pandas()


def _float(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.float64())


def _part(packed: Any, start: int, stop: int) -> Any:
    if isinstance(packed, pa.Table):
        return packed.slice(start, stop - start)
    return packed.iloc[start:stop] if hasattr(packed, "iloc") else packed[start:stop]


def _columns(answer: Any, name: str, labels: Sequence[Any] | None, n_rows: int) -> pa.Table:
    """An estimator's answer as columns: `name`, or `name`_<label or number> for several.

    Raises:
        WrongShape: it has another length, or more than two dimensions.
    """
    array = as_array(answer, n_rows)
    if array.ndim > 2:
        raise WrongShape(f"the model gave {array.shape} predictions for {n_rows} rows")
    if array.ndim == 1:
        return pa.table({name: _arrow(array)})
    names = [f"{name}_{label}" for label in (range(array.shape[1]) if labels is None else labels)]
    return pa.Table.from_arrays(
        [_arrow(np.ascontiguousarray(array[:, number])) for number in range(array.shape[1])], names
    )


def _arrow(array: Any) -> pa.Array:
    if array.dtype.kind in "fiub":
        return pa.array(array)
    if array.dtype.kind == "O":
        try:
            return pa.array(array.tolist())
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([None if value is None else str(value) for value in array.tolist()], pa.string())
    return pa.array(array.astype(str).tolist(), pa.string())


def _probabilities(answer: Any, classes: Any, n_rows: int) -> pa.Table:
    if not isinstance(answer, list):
        return _columns(answer, "probability", np.asarray(classes).tolist(), n_rows)
    # Several outputs: n_outputs arrays of (n_rows, n_classes)
    tables = [
        _columns(part, f"probability_{number}", np.asarray(labels).tolist(), n_rows)
        for number, (part, labels) in enumerate(zip(answer, classes, strict=True))
    ]
    return pa.Table.from_arrays(
        [column for table in tables for column in table.columns],
        [name for table in tables for name in table.column_names],
    )


def _top(probabilities: Any, classes: Any, k: int, n_rows: int) -> pa.Table:
    """item_1, score_1, item_2, ...: the k most probable classes, or all if there are fewer."""
    table = np.asarray(probabilities)
    if table.shape[:1] != (n_rows,):
        raise WrongShape(f"the model gave {table.shape} probabilities for {n_rows} rows")
    best = np.argsort(-table, axis=1, kind="stable")[:, :k]
    items, scores = np.asarray(classes)[best], np.take_along_axis(table, best, axis=1)
    columns: dict[str, pa.Array] = {}
    for number in range(best.shape[1]):
        columns[f"item_{number + 1}"] = _arrow(np.ascontiguousarray(items[:, number]))
        columns[f"score_{number + 1}"] = pa.array(np.ascontiguousarray(scores[:, number]))
    return pa.table(columns)


def _finite(table: pa.Table) -> tuple[pa.Table, bool]:
    """NaN and infinities as null, and whether there were any."""
    infinite = False
    for number, name in enumerate(table.column_names):
        column = table.column(number)
        if not pa.types.is_floating(column.type):
            continue
        good = pc.is_finite(column)
        if not pc.all(good, skip_nulls=True, min_count=0).as_py():
            infinite = True
            table = table.set_column(number, name, pc.if_else(good, column, pa.scalar(None, column.type)))
    return table, infinite


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns in the types of the example's prediction, so that a column's type never depends on the slice.

    Raises:
        WrongShape: there are other columns, or values that do not fit.
    """
    if table.schema.equals(schema):
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        given, wanted = (", ".join(map(str, columns.types)) for columns in (table.schema, schema))
        raise WrongShape(f"the model gave {given} where it gave {wanted} for its example") from error
