"""The libraries that models are made of: which are installed, and which a version was registered with."""

import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Final

LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pyarrow", "joblib", "skops", "onnxruntime", "treelite")


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    return (*((name, importlib.metadata.version(name)) for name in LIBRARIES), ("python", platform.python_version()))


def installed() -> dict[str, str]:
    """Name -> version, with Python's own."""
    return dict(_versions())


def differences(made_with: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """The libraries among `names` of which another release series is installed: `scikit-learn 1.7.2 (here 1.9.1)`.

    A series is the first two parts of a version; what differs in later ones only is a repair.
    """
    here = installed()
    return [
        f"{name} {made_with[name]} (here {here[name]})"
        for name in names
        if name in made_with and made_with[name].split(".")[:2] != here[name].split(".")[:2]
    ]
