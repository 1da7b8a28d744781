"""Estimators whose faster form is tried as at a registration, without a registry."""

from typing import Any

import pyarrow as pa

from shared.manifest import Manifest
from shared.signature import Signature
from tests.unit.estimators import ONE_NUMBER
from worker.accelerate import Wanted, accelerate
from worker.accelerated import Acceleration
from worker.formats.libraries import installed
from worker.trial import find_signature


def table(matrix: Any) -> pa.Table:
    """A matrix, (n_rows, n_features), as rows of a sample."""
    return pa.table({f"x{number}": column for number, column in enumerate(matrix.T)})


def tried(estimator: Any, sample: pa.Table, wanted: Wanted) -> tuple[Signature, Acceleration]:
    """The signature of a fitted estimator, and what comes of the wish to accelerate it."""
    signature = find_signature(estimator, sample)
    return signature, accelerate(estimator, signature, sample, wanted=wanted, format="skops")


def manifest(outcome: Acceleration) -> Manifest:
    """Of a version with this outcome, registered under the libraries that are installed."""
    return Manifest(
        model="m", version=1, format="skops", sha256="", size_bytes=1, signature=ONE_NUMBER, estimator="",
        libraries=installed(), created_at="2026-01-31T12:00:00.000Z", accelerated=outcome.described,
    )  # fmt: skip
