"""Labelled rows as they are checked before a training."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
