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
    buffer = io.BytesIO()
    joblib.dump(Moody(), buffer)
    return register(
        registry_of(settings), name, buffer.getvalue(), format="joblib", sample=pa.table({"x": [FINE, 2.0]})
    )
