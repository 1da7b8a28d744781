"""Whether a model may predict by an ONNX graph: converted, compared, measured; used only if equal and faster."""

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import skl2onnx
import threadpoolctl
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from shared.errors import ModelUnusable
from shared.signature import Signature
from worker.accelerated import Accelerated, Acceleration
from worker.container import pack
from worker.formats import Onnx, digest
from worker.formats.onnx_estimator import OnnxEstimator
from worker.predict import as_array
from worker.probes import strange_rows, usual_rows
from worker.warned import quiet

METHODS: Final = ("predict", "predict_proba")
# Differences that are allowed, as a share of the largest prediction. A number of 32 bits has 7 digits and one of 64 has
# 16; sums over hundreds of terms in another order cost two of the first and, to be safe, seven of the second.
TOLERANCES: Final = {"float64": 1e-9, "float32": 1e-5}
# Rows of one call: a single request, a busy micro-batch, a larger request, a slice of a file.
SIZES: Final = (1, 100, 1000, 10_000)
SLOWEST: Final = 0.9  # of the estimator's own speed, for the larger sizes
REPEATS: Final = 7
SINGLE_ROWS: Final = 50  # that are compared one by one too: a graph adds up otherwise for several
LONGEST_REASON: Final = 300
# A forest of that size takes minutes and gigabytes to convert.
MOST_ARTIFACT_BYTES: Final = 64 * 2**20


class Refused(Exception):
    """A graph is not used; its message says why, and `numbers` what was measured."""

    def __init__(self, reason: str, **numbers: float) -> None:
        super().__init__(reason)
        self.numbers = numbers


def accelerate(
    estimator: Any, signature: Signature, sample: pa.Table | None, *, format: str, size_bytes: int = 0
) -> Acceleration:
    """Convert an estimator and decide; whatever stands in the way is a reason, not an error.

    Args:
        estimator: a fitted scikit-learn estimator.
        signature: the one that was found for it.
        sample: representative rows, n_rows by n_features; the more, the more is compared.
        format: of the version.
        size_bytes: of its artifact.
    """
    described: dict[str, Any] = {"wanted": "onnx", "used": False}
    try:
        _check_wanted(signature, sample, format, size_bytes)
    except Refused as refused:
        return Acceleration(described=described | {"reason": str(refused)})
    assert sample is not None  # noqa: S101  # it was checked
    last = Refused("")
    for kind in TOLERANCES:
        try:
            graph = _converted(estimator, signature, kind)
            with quiet(), threadpoolctl.threadpool_limits(1):
                return _decided(described, estimator, signature, sample, graph, kind)
        except Refused as refused:
            # 64 bits first: a reason that is about numbers says more than one about what cannot be converted.
            last = refused if refused.numbers or not last.numbers else last
    return Acceleration(described=described | {"reason": str(last)} | last.numbers)


def _check_wanted(signature: Signature, sample: pa.Table | None, format: str, size_bytes: int) -> None:
    if format == "onnx":
        raise Refused("It is an ONNX graph already.")
    if sample is None or sample.num_rows == 0:
        raise Refused("There is no sample to compare it on.")
    if size_bytes > MOST_ARTIFACT_BYTES:
        raise Refused(f"The artifact has more than {MOST_ARTIFACT_BYTES // 2**20} MiB.")
    if signature.container == "text":
        raise Refused("It takes texts, which ONNX cuts into words otherwise.")
    if not set(METHODS) & set(signature.methods):
        raise Refused("It has neither predict nor predict_proba.")


def _converted(estimator: Any, signature: Signature, kind: str) -> bytes:
    """The graph with numbers of 64 or 32 bits.

    Raises:
        Refused: it cannot be converted so.
    """
    number = DoubleTensorType if kind == "float64" else FloatTensorType
    if signature.container == "matrix":
        inputs = [("X", number([None, len(signature.features)]))]
    else:
        types = {"number": number, "integer": Int64TensorType, "string": StringTensorType, "boolean": BooleanTensorType}
        inputs = [(feature.name, types[feature.type]([None, 1])) for feature in signature.features]
    options = {id(estimator): {"zipmap": False}} if signature.classes is not None else None
    try:
        with quiet():
            model = skl2onnx.to_onnx(estimator, initial_types=inputs, options=options)
            graph = bytes(model.SerializeToString())
            Onnx().load(graph)
    except Exception as error:  # whatever the converter raises is a reason
        reason = " ".join((error.message if isinstance(error, ModelUnusable) else str(error)).split())
        raise Refused(f"It cannot be converted: {type(error).__name__}: {reason[:LONGEST_REASON]}") from error
    return graph


def _decided(
    described: dict[str, Any], estimator: Any, signature: Signature, sample: pa.Table, graph: bytes, kind: str
) -> Acceleration:
    loaded, tolerance = Onnx().load(graph), TOLERANCES[kind]
    methods = [method for method in METHODS if method in signature.methods and hasattr(loaded, method)]
    rows = usual_rows(signature, sample)
    if not methods or not rows:
        raise Refused("The graph has none of the model's methods." if rows else "Every row of the sample has gaps.")
    quick = Accelerated(estimator, loaded, methods, tolerance=tolerance, up_to_rows=None)
    numbers: dict[str, Any] = {"precision": kind, "tolerance": tolerance, "rows": len(rows)}
    compare = partial(_compare, estimator, quick, signature, methods=methods, tolerance=tolerance)
    numbers["max_difference"] = max([compare(rows), *(compare([row]) for row in rows[:SINGLE_ROWS])])
    _compare_refusals(estimator, loaded, signature, strange_rows(signature, sample), methods[0])
    speedups = _speedups(estimator, quick, signature, rows, methods)
    numbers |= {f"speedup_{size}": round(speedup, 2) for size, speedup in speedups.items()}
    if speedups[1] <= 1:
        raise Refused(f"It is equal, but not faster: {speedups[1]:.2f} times as fast for one row.", **numbers)
    fast = list(itertools.takewhile(lambda size: size == 1 or speedups[size] >= SLOWEST, SIZES))
    up_to_rows = None if len(fast) == len(SIZES) else fast[-1]
    sha256 = digest(graph)
    name = f"onnx-{sha256[:16]}"
    reason = f"Equal on {len(rows)} rows, and {speedups[1]:.1f} times as fast for one" + (
        "."
        if up_to_rows is None
        else f"; not for {SIZES[len(fast)]}, so calls of more than {up_to_rows} do without it."
    )
    about = {"used": True, "reason": reason, "methods": methods, "up_to_rows": up_to_rows}
    about |= numbers | {"sha256": sha256, "artifact": name, "size_bytes": len(graph)}
    return Acceleration(described=described | about, files={name: graph})


def _compare(
    estimator: Any,
    quick: Accelerated,
    signature: Signature,
    rows: list[Any],
    *,
    methods: Sequence[str],
    tolerance: float,
) -> float:
    """The largest difference between two numbers.

    Raises:
        Refused: a label differs, or a number by more than the tolerance.
    """
    packed = pack(signature, rows)
    largest = 0.0
    for method in methods:
        own, other = _answer(estimator, method, packed, len(rows)), _answer(quick, method, packed, len(rows))
        if own.shape != other.shape:
            raise Refused(f"{method} gives {other.shape} instead of {own.shape}.")
        if own.dtype.kind != "f":
            differing = int(np.count_nonzero(np.any(np.atleast_2d(own != other), axis=0)))
            if differing:
                raise Refused(
                    f"{method} differs for {differing} of {len(rows)} rows.",
                    differing_rows=differing, rows=len(rows), tolerance=tolerance,
                )  # fmt: skip
            continue
        if (np.isnan(own) != np.isnan(other)).any():
            raise Refused(f"{method} gives NaN for other rows.", rows=len(rows), tolerance=tolerance)
        gaps, scale = np.abs(own - other.astype(np.float64)), float(np.nanmax(np.abs(own), initial=0.0))
        largest = max(largest, float(np.nanmax(gaps, initial=0.0)))
        beyond = int(np.count_nonzero(np.any(gaps.reshape(len(rows), -1) > tolerance * scale, axis=1)))
        if beyond:
            raise Refused(
                f"{method} differs by more than the tolerance for {beyond} of {len(rows)} rows, "
                f"by up to {largest:.6g} where predictions reach {scale:.6g}.",
                max_difference=largest, differing_rows=beyond, rows=len(rows), tolerance=tolerance,
            )  # fmt: skip
    return largest


def _answer(estimator: Any, method: str, packed: Any, n_rows: int) -> Any:
    try:
        return as_array(getattr(estimator, method)(packed), n_rows)
    except Exception as error:  # whatever a model raises is a reason
        whose = "The graph" if isinstance(estimator, Accelerated) else "The model"
        text = " ".join(str(error).split())[:LONGEST_REASON]
        raise Refused(f"{whose} fails on rows like those of the sample: {type(error).__name__}: {text}") from error


def _compare_refusals(estimator: Any, graph: OnnxEstimator, signature: Signature, rows: list[Any], method: str) -> None:
    """See that the graph refuses a row that the model refuses.

    Raises:
        Refused: it does not.
    """
    for row in rows:
        packed = pack(signature, [row])
        if not _takes(estimator, method, packed) and _takes(graph, method, packed):
            raise Refused("The model refuses a category that it does not know, and the graph predicts it.")


def _takes(estimator: Any, method: str, packed: Any) -> bool:
    try:
        getattr(estimator, method)(packed)
    except Exception:  # noqa: BLE001  # whatever a model raises is a refusal
        return False
    return True


def _speedups(
    estimator: Any, quick: Accelerated, signature: Signature, rows: list[Any], methods: Sequence[str]
) -> dict[int, float]:
    """For each size how many times as fast the graph is, for the method that gains least."""
    speedups = {}
    for size in SIZES:
        packed = pack(signature, [rows[number % len(rows)] for number in range(size)])
        speedups[size] = min(
            _seconds(getattr(estimator, method), packed) / _seconds(getattr(quick, method), packed)
            for method in methods
        )
    return speedups


def _seconds(predict: Callable[[Any], Any], packed: Any) -> float:
    """The fastest of several calls: what else runs on the machine only ever slows them."""

    def once() -> float:
        began = time.perf_counter()
        predict(packed)
        return time.perf_counter() - began

    return min(once() for _ in range(REPEATS))
