"""Whether a faster form says what its estimator says: labels are the same, and numbers within a tolerance."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.signature import Signature
from worker.accelerated import Accelerated
from worker.container import pack
from worker.forms import Refused, said
from worker.predict import as_array
from worker.probes import Row

Array = npt.NDArray[Any]
SINGLE_ROWS: Final = 20  # that are compared one by one too: a graph adds up otherwise for several


def largest_difference(
    estimator: Any, quick: Accelerated, signature: Signature, rows: list[Row], *, methods: Sequence[str],
    tolerance: float,
) -> float:  # fmt: skip
    """Compare the answers to the rows together, and to some of them one by one.

    Args:
        estimator: the model itself.
        quick: the same with its faster form, whatever the margin.
        signature: the model's.
        rows: that both must take.
        methods: to be compared.
        tolerance: as a share of the largest prediction.

    Returns:
        The largest difference between two numbers.

    Raises:
        Refused: a label differs, or a number by more than the tolerance.
    """
    groups = [rows, *([row] for row in rows[:SINGLE_ROWS])]
    return max(_compare(estimator, quick, signature, group, methods, tolerance) for group in groups)


def check_refusals(estimator: Any, quick: Accelerated, signature: Signature, rows: list[Row], method: str) -> None:
    """See that a row that the model refuses is refused.

    Raises:
        Refused: it is not.
    """
    for row in rows:
        packed = pack(signature, [row])
        if not _takes(estimator, method, packed) and _takes(quick, method, packed):
            raise Refused("The model refuses a category that it does not know, and the faster form predicts it.")


def _compare(
    estimator: Any, quick: Accelerated, signature: Signature, rows: list[Row], methods: Sequence[str], tolerance: float
) -> float:
    packed = pack(signature, rows)
    largest = 0.0
    for method in methods:
        own, other = _answer(estimator, method, packed, len(rows)), _answer(quick, method, packed, len(rows))
        if [part.shape for part in own] != [part.shape for part in other]:
            raise Refused(f"{method} gives {_shapes(other)} instead of {_shapes(own)}.")
        for parts in zip(own, other, strict=True):
            largest = max(largest, _difference(method, *parts, tolerance=tolerance))
    return largest


def _shapes(parts: list[Array]) -> str:
    return ", ".join(str(part.shape) for part in parts)


def _difference(method: str, own: Array, other: Array, *, tolerance: float) -> float:
    """The largest one between two arrays of the same shape."""
    n_rows = len(own)
    if own.dtype.kind != "f":
        differing = int(np.count_nonzero(np.any((own != other).reshape(n_rows, -1), axis=1)))
        if differing:
            raise Refused(
                f"{method} differs for {differing} of {n_rows} rows.",
                differing_rows=differing, rows=n_rows, tolerance=tolerance,
            )  # fmt: skip
        return 0.0
    if (np.isnan(own) != np.isnan(other)).any():
        raise Refused(f"{method} gives NaN for other rows.", rows=n_rows, tolerance=tolerance)
    gaps, scale = np.abs(own - other.astype(np.float64)), float(np.nanmax(np.abs(own), initial=0.0))
    largest = float(np.nanmax(gaps, initial=0.0))
    beyond = int(np.count_nonzero(np.any(gaps.reshape(n_rows, -1) > tolerance * scale, axis=1)))
    if beyond:
        raise Refused(
            f"{method} differs by more than the tolerance for {beyond} of {n_rows} rows, "
            f"by up to {largest:.6g} where predictions reach {scale:.6g}.",
            max_difference=largest, differing_rows=beyond, rows=n_rows, tolerance=tolerance,
        )  # fmt: skip
    return largest


def _answer(estimator: Any, method: str, packed: Any, n_rows: int) -> list[Array]:
    """The answer as arrays whose first axis is the rows: one, or one for each output."""
    try:
        answer = getattr(estimator, method)(packed)
        return [as_array(part, n_rows) for part in (answer if isinstance(answer, list) else [answer])]
    except Exception as error:  # whatever a model raises is a reason
        whose = "The faster form" if isinstance(estimator, Accelerated) else "The model"
        raise Refused(f"{whose} fails on rows like those of the sample: {said(error)}") from error


def _takes(estimator: Any, method: str, packed: Any) -> bool:
    try:
        getattr(estimator, method)(packed)
    except Exception:  # noqa: BLE001  # whatever a model raises is a refusal
        return False
    return True
