"""Estimators that behave as a test wants; workers load them from here."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import threadpoolctl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from tests.wait import until

LONGEST_HOLD_SECONDS = 250.0
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


class Waiting(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts the mean of what it was fitted on; a fit ends as soon as there is a file of that path."""

    def __init__(self, path: str = "/") -> None:
        self.path = path

    def fit(self, rows: NDArray[np.float64], target: NDArray[np.float64]) -> "Waiting":
        """(n_rows, n_features) and (n_rows,) float64."""
        until(Path(self.path).exists, LONGEST_HOLD_SECONDS, f"{self.path} exists")
        self.mean_ = float(np.mean(target))
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_rows, n_features) -> (n_rows,) float64."""
        return np.full(len(rows), self.mean_)


class Deadly:
    """Ends its process when it is unpickled, but for the one that made it."""

    def __init__(self) -> None:
        self.maker = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called by pickle."""
        if os.getpid() != state["maker"]:
            os._exit(1)


class Threads:
    """Says how many threads of joblib, and at most of linear algebra and OpenMP, its prediction had."""

    def predict(self, rows: Any) -> Any:
        """(n, m) -> (n, 2) int64."""
        import sklearn.linear_model  # noqa: F401  # with its OpenMP and the BLAS of SciPy

        pools = threadpoolctl.threadpool_info()
        return np.full((len(rows), 2), [joblib.effective_n_jobs(4), max(pool["num_threads"] for pool in pools)])
