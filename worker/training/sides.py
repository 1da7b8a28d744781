"""The rows of a training as arrays and tables, on either side of the split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.signature import Feature, Signature
from shared.training import TrainOptions
from worker.container import ARROW
from worker.score import pack_table
from worker.training.rows import GROUP, TIME
from worker.training.split import row_codes


@dataclass(frozen=True, slots=True)
class Side:
    """Rows of one side: those that are trained on, or those that are held out."""

    features: pa.Table  # n_rows, the signature's columns
    target: npt.NDArray[Any]  # (n_rows,)
    weights: npt.NDArray[np.float64] | None  # (n_rows,)
    groups: npt.NDArray[Any] | None  # (n_rows,)
    times: npt.NDArray[np.float64] | None  # (n_rows,)

    def packed(self, signature: Signature) -> Any:
        """The features as a model of this signature takes them."""
        return pack_table(signature, typed(self.features, signature))

    def units(self) -> npt.NDArray[Any] | None:
        """(n_rows,) equal for rows that are no evidence of their own: of one group, or copies; None if each row is."""
        if self.groups is not None:
            return self.groups
        codes = row_codes(self.features.append_column("target", pa.array(self.target)))
        return codes if codes.max(initial=-1) < len(codes) - 1 else None

    def take(self, positions: npt.NDArray[np.int64]) -> "Side":
        """Some of the rows."""
        return Side(
            self.features.take(pa.array(positions)),
            self.target[positions],
            None if self.weights is None else self.weights[positions],
            None if self.groups is None else self.groups[positions],
            None if self.times is None else self.times[positions],
        )


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All good rows, each on its side."""

    train: Side
    held_out: Side

    @classmethod
    def of(
        cls, table: pa.Table, held_out: npt.NDArray[np.bool_], options: TrainOptions, features: Sequence[Feature]
    ) -> "TrainingSet":
        """From rows as worker/training/rows.py reads them, and (n_rows,) bool."""
        return cls(*(side_of(table.filter(pa.array(mask)), options, features) for mask in (~held_out, held_out)))


def side_of(table: pa.Table, options: TrainOptions, features: Sequence[Feature]) -> Side:
    """Rows as worker/training/rows.py reads them."""
    table = table.combine_chunks()
    weights = None
    if options.sample_weight is not None:
        weights = np.asarray(table.column(options.sample_weight).to_numpy(), dtype=np.float64)
    return Side(
        features=table.select([feature.name for feature in features]),
        target=labels(table.column(options.target)),
        weights=weights,
        groups=None if options.group is None else np.asarray(table.column(GROUP).to_pylist()),
        times=None if options.time is None else np.asarray(table.column(TIME).to_numpy(), dtype=np.float64),
    )


def labels(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A target column as (n_rows,) float64, int64, bool or str."""
    if pa.types.is_string(column.type):
        return np.asarray(column.to_pylist(), dtype=np.str_)
    values: npt.NDArray[Any] = column.to_numpy()
    return values.astype(bool) if pa.types.is_boolean(column.type) else values


def typed(features: pa.Table, signature: Signature) -> pa.Table:
    """The columns that a signature has, in its order and types."""
    wanted = features.select([feature.name for feature in signature.features])
    return wanted.cast(pa.schema([(feature.name, ARROW[feature.type]) for feature in signature.features]))
