"""The bins of a feature: its values are counted into the same ones at training and at scoring."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from worker.container import ARROW

# quantiles and lengths: ranges of numbers, and of the numbers of characters of texts; values and categories: single
# numbers, and single strings or booleans.
Kind = Literal["quantiles", "lengths", "values", "categories"]

LONGEST_SHOWN: Final = 40


@dataclass(slots=True)
class Bins:
    """How the values of a feature are counted: its ranges or single values, then what is none of these, then missing.

    Ranges include their upper edge, and the outer ones have no end; so nothing is outside, and they have no bin for
    what is none of these.
    """

    kind: Kind
    marks: pa.Array  # (n_edges,) inner edges, or (n_values,); ascending numbers, or categories, the most frequent first
    _numbers: npt.NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        """Look up once what every slice needs."""
        self._numbers = np.empty(0) if self.kind == "categories" else self.marks.to_numpy(zero_copy_only=False)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Bins":
        """The bins of a feature in a profile."""
        kind: Kind = entry["bins"]
        if kind == "lengths":
            return cls(kind, pa.array(entry["edges"], pa.int64()))
        return cls(kind, pa.array(entry["edges" if kind == "quantiles" else "values"], ARROW[entry["type"]]))

    @property
    def ranges(self) -> bool:
        """Whether these are ranges."""
        return self.kind in ("quantiles", "lengths")

    def counts(self, column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """How many values are in each bin.

        Args:
            column: (n_rows,) of the feature's type; null, and of numbers what is not finite, is missing.

        Returns:
            (n_bins,) int64 whose sum is n_rows: the ranges or single values, for the latter the others, and missing.
        """
        most = len(self.marks)  # what is beyond the last edge, or a value that is none of these
        if self.kind == "categories":
            found = pc.index_in(column.drop_null(), value_set=self.marks)
            at = found.fill_null(most).to_numpy(zero_copy_only=False)
        else:
            values, marks = numbers(column), self._numbers
            at = np.searchsorted(marks, values, side="left")
            if self.kind == "values" and most:
                at = np.where(marks[np.minimum(at, most - 1)] == values, at, most)
        counts: npt.NDArray[np.int64] = np.bincount(at, minlength=most + 2)
        counts[-1] = len(column) - at.size
        return counts

    def words(self) -> list[str]:
        """Each bin as a person says it, in the order of `counts`."""
        marks = [shown(mark) for mark in self.marks.to_pylist()]
        if not self.ranges:
            return [*marks, "any other value", "missing"]
        unit = " characters" if self.kind == "lengths" else ""
        if not marks:
            return ["any value", "missing"]
        inner = [f"above {low} to {high}{unit}" for low, high in pairwise(marks)]
        return [f"at most {marks[0]}{unit}", *inner, f"above {marks[-1]}{unit}", "missing"]


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The values of a feature that are there, as numbers; of strings their lengths in characters.

    Returns:
        (n_values,) float64 or int64.
    """
    if pa.types.is_string(column.type):
        column = pc.utf8_length(column).cast(pa.int64())
    # Whole numbers stay whole: as float64 those past 2^53 would fall on the wrong side of an edge.
    values: npt.NDArray[Any] = column.drop_null().to_numpy(zero_copy_only=False)
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def shown(value: Any) -> str:
    """A value of a feature in words: numbers to six digits, which is enough to tell bins apart by eye."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}"
        case str():
            return repr(value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}...")
        case _:
            return str(value)
