"""Estimators that misbehave on purpose, told by the first feature of a row, and how a test registers them."""

import ctypes
import io
import os
import signal
import time
from typing import Any, Final

import joblib
import numpy as np
import pyarrow as pa

from shared.connection import Connections
from shared.keys import Keys
from shared.registry import Manifest, Registry
from shared.settings import Settings
from shared.storage import Storage
from worker.registration import register

FINE: Final = 1.0
SEGFAULT: Final = 666.0
KILL: Final = 999.0
RAISE: Final = 13.0
MEMORY: Final = 640.0
SHORT: Final = 7.0
INFINITE: Final = 8.0
EXIT: Final = 9.0
SLOW: Final = 100.0  # 100.5 sleeps half a second


class Moody:
    """Doubles the first feature, unless the row asks for trouble."""

    def predict(self, rows: Any) -> Any:
        """(n, 1) float64 -> (n,) float64."""
        values = np.asarray(rows, dtype=float)[:, 0]
        if (values == SEGFAULT).any():
            ctypes.string_at(0)
        if (values == KILL).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (values == RAISE).any():
            raise ValueError("thirteen is unlucky")
        if (values == MEMORY).any():
            raise MemoryError
        if (values == EXIT).any():
            raise SystemExit(3)
        if (values == SHORT).any():
            return values[:-1]
        slow = values[(values >= SLOW) & (values < SLOW + 60)]
        if slow.size:
            time.sleep(float(slow.max() - SLOW))
        return np.where(values == INFINITE, np.inf, values * 2)


def registry_of(settings: Settings) -> Registry:
    """The registry of a service."""
    return Registry(
        Connections(settings.redis_address, timeout_seconds=5),
        Keys(settings.redis_prefix),
        Storage.of(settings),
    )


def register_moody(settings: Settings, name: str = "moody") -> Manifest:
    """Register the model above, as an operator does with a joblib file."""
    return _register(settings, name, Moody(), {"x": [FINE, 2.0]})


class Echo:
    """Says what values it was given, with their types; a table's rows one by one."""

    def predict(self, table: Any) -> Any:
        """(n_rows) of a pyarrow Table -> (n_rows,) strings."""
        return np.array(["|".join(map(repr, row.values())) for row in table.to_pylist()])


class Changeable:
    """Doubles numbers of at most 100, and gives a word for larger ones, nothing for negative ones."""

    def predict(self, rows: Any) -> Any:
        """(n, 1) float64 -> (n,) object."""
        values = np.asarray(rows, dtype=float)[:, 0].tolist()
        return np.array([None if value < 0 else "many" if value > 100 else value * 2 for value in values], dtype=object)


def register_echo(settings: Settings) -> None:
    """A model `echo` of a string, an integer, a number and a boolean, all of which may be missing."""
    sample = {"text": ["a", "b"], "whole": [1, 2], "number": [0.5, 1.5], "flag": [True, False]}
    _register(settings, "echo", Echo(), sample)


def register_changeable(settings: Settings) -> None:
    """A model `changeable` whose answers differ in type."""
    _register(settings, "changeable", Changeable(), {"x": [1.0, 2.0]})


def register_fitted(settings: Settings) -> None:
    """Models of scikit-learn.

    `colours` is a classifier that refuses unknown categories, `words` one of texts, `pair` a regressor with two
    outputs, `patient` one that takes missing values, `scaler` a transformer.
    """
    # Here, since most users of this module do without scikit-learn.
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    colours = pa.table({"colour": ["red", "green", "blue"] * 4, "size": [float(number) for number in range(12)]})
    encoder = ColumnTransformer([("colour", OneHotEncoder(), ["colour"]), ("size", StandardScaler(), ["size"])])
    classifier = make_pipeline(encoder, LogisticRegression()).fit(colours, ["stop", "go", "wait"] * 4)
    _register(settings, "colours", classifier, colours.slice(0, 6).to_pydict())
    texts = ["good fine", "bad awful", "fine", "awful"]
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    _register(settings, "words", words, {"text": texts})
    numbers = np.column_stack([np.arange(10.0), np.arange(10.0) ** 2])
    pair = LinearRegression().fit(numbers, np.column_stack([numbers[:, 0] * 2, numbers[:, 1] + 1]))
    _register(settings, "pair", pair, {"a": [1.0, 2.0], "b": [3.0, 4.0]})
    patient = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=1).fit(numbers, numbers[:, 0])
    _register(settings, "patient", patient, {"a": [1.0, 2.0], "b": [3.0, 4.0]})
    _register(settings, "scaler", StandardScaler().fit(numbers), {"a": [1.0, 2.0], "b": [3.0, 4.0]})


def _register(settings: Settings, name: str, estimator: Any, sample: dict[str, Any]) -> Manifest:
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return register(registry_of(settings), name, buffer.getvalue(), format="joblib", sample=pa.table(sample))
