"""Estimators over one column of text that behave as a test wants; workers load them from here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.wait import until

LONGEST_HOLD_SECONDS = 100.0
KNOWN_TEXT = "known"


class Gate:
    """Predicts 1.0 for the path of a file, as soon as there is such a file."""

    def predict(self, paths: Sequence[str]) -> NDArray[np.float64]:
        """n_rows paths -> (n_rows,) float64."""
        for path in paths:
            until(Path(path).exists, LONGEST_HOLD_SECONDS, f"{path} exists")
        return np.ones(len(paths))


class Lookup:
    """Looks texts up in a table, and raises a KeyError that quotes the text when it is not there."""

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """n_rows texts -> (n_rows,) float64."""
        table = {KNOWN_TEXT: 1.0}
        return np.array([table[text] for text in texts])
