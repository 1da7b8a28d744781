"""Labelled rows as they are checked before a training."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from worker.training.split import row_codes
from worker.training.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The names of the columns beside the features, for messages."""

    target: str = "target"
    sample_weight: str = "sample_weight"
    group: str = "group"
    time: str = "time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """n_rows rows with their target, which side each is on, and what tells which rows belong together."""

    target: pa.Array
    features: pa.Table
    task: Task
    held_out: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64] | None
    groups: npt.NDArray[np.int64] | None
    times: npt.NDArray[np.int64] | None
    folds: int | None
    names: Columns
    numbers: npt.NDArray[np.int64]  # (n_rows,), what messages call the rows

    def compared(self) -> int:
        """How many groups are held out, or without groups rows that differ: copies say nothing new about a model."""
        if self.groups is not None:
            return len(np.unique(self.groups[self.held_out]))
        rows = self.features.append_column("target", self.target).filter(pa.array(self.held_out))
        return int(row_codes(rows).max(initial=-1)) + 1
