"""The model files that both peers serve, each loaded once per process."""

import functools
import os
from pathlib import Path
from typing import Any


@functools.cache
def load_model(name: str) -> Any:
    """The model of the file `<name>.joblib` in the folder that the environment variable PEER_MODELS names."""
    # Imported here, so that a web process which only submits does not pay for it.
    import joblib

    return joblib.load(Path(os.environ["PEER_MODELS"]) / f"{name}.joblib")
