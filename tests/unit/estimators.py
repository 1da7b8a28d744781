"""Small estimators that misbehave in one way each."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.signature import Feature, Signature

Matrix = NDArray[np.float64]

ONE_NUMBER = Signature(container="matrix", features=(Feature(name="x", type="number"),), methods=("predict",))


@dataclass
class Doubling:
    """Predicts 2 x, and raises when one of the refused values is among the rows; counts the rows of its calls."""

    refused: Collection[float] = ()
    error: BaseException = field(default_factory=lambda: ValueError("x is out of range"))
    calls: list[int] = field(default_factory=list)

    def predict(self, matrix: Matrix) -> Matrix:
        self.calls.append(len(matrix))
        if not set(matrix[:, 0].tolist()).isdisjoint(self.refused):
            raise self.error
        return matrix[:, 0] * 2


@dataclass
class Answering:
    """Predicts whatever a function makes of the number of rows."""

    answer: Callable[[int], Any]

    def predict(self, matrix: Matrix) -> Any:
        return self.answer(len(matrix))


class Ranking:
    """A classifier whose probabilities are its input."""

    def __init__(self) -> None:
        self.classes_ = np.array(["ash", "beech", "cedar"])

    def predict_proba(self, matrix: Matrix) -> Matrix:
        return matrix
