"""Prediction of stacked rows: one call for all, and where it raises, halving until the offending rows are alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from shared.logs import frames
from shared.signature import Signature
from worker.container import pack
from worker.warned import quiet

log = structlog.get_logger()

LONGEST_MESSAGE: Final = 300
MOST_BLAMED_COLUMNS: Final = 100


class Stopped(Exception):  # not an error: nobody wants the rows any more
    """The rows need not be predicted."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why a row has no prediction."""

    code: str
    message: str
    column: str | None = None  # whose value is to blame, where that can be told


NOT_JSON: Final = RowFailure("bad_model_output", "The model's prediction for this row cannot be written as JSON.")
Prediction = Any  # what JSON can say, or a RowFailure


def predict_rows(
    estimator: Any,
    signature: Signature,
    rows: Sequence[Sequence[Any]],
    *,
    method: str,
    top_k: int | None,
    most_rows: int,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Prediction]:
    """One prediction or RowFailure for each row, in order.

    Args:
        estimator: a fitted scikit-learn estimator.
        signature: its signature.
        rows: n_rows lists of n_features checked values.
        method: predict, predict_proba, decision_function or transform.
        top_k: the k most probable classes instead, as [{"item", "score"}, ...].
        most_rows: rows of one call.
        stopped: asked between two calls.

    Raises:
        Stopped: `stopped` said so.
    """
    predictions: list[Prediction] = []
    for start in range(0, len(rows), most_rows):
        predictions += _isolate(estimator, signature, rows[start : start + most_rows], method, top_k, stopped)
    return predictions


def _isolate(
    estimator: Any,
    signature: Signature,
    rows: Sequence[Sequence[Any]],
    method: str,
    top_k: int | None,
    stopped: Callable[[], bool],
) -> list[Prediction]:
    if stopped():
        raise Stopped
    try:
        return _call(estimator, signature, rows, method, top_k)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a model raises is a row's failure
        if len(rows) == 1:
            return [row_failure(error)]
        middle = len(rows) // 2
        first = _isolate(estimator, signature, rows[:middle], method, top_k, stopped)
        return first + _isolate(estimator, signature, rows[middle:], method, top_k, stopped)


def blamed(
    failure: RowFailure, estimator: Any, signature: Signature, row: Sequence[Any], *, method: str, top_k: int | None
) -> RowFailure:
    """The failure with its column: the only one without whose value the model takes the row.

    The value of the signature's example stands in for each value in turn, so the answer does not depend on what other
    rows were predicted with this one.
    """
    if failure.code != "prediction_failed" or len(signature.example) != len(row) or len(row) > MOST_BLAMED_COLUMNS:
        return failure
    to_blame = []
    for position, feature in enumerate(signature.features):
        mended = [*row[:position], signature.example[position], *row[position + 1 :]]
        if _takes(estimator, signature, mended, method, top_k):
            to_blame.append(feature.name)
    return replace(failure, column=to_blame[0]) if len(to_blame) == 1 else failure


def _takes(estimator: Any, signature: Signature, row: Sequence[Any], method: str, top_k: int | None) -> bool:
    """Whether the model predicts this row."""
    try:
        _call(estimator, signature, [row], method, top_k)
    except (Exception, SystemExit):  # noqa: BLE001  # whatever a model raises
        return False
    return True


class WrongShape(Exception):
    """The model gave another number of predictions than it was given rows."""


def _call(
    estimator: Any, signature: Signature, rows: Sequence[Sequence[Any]], method: str, top_k: int | None
) -> list[Prediction]:
    # scikit-learn warns at every call that a matrix has no feature names; the order was checked against the signature.
    with quiet():
        packed = pack(signature, rows)
        if top_k is not None:
            return _top(estimator.predict_proba(packed), estimator.classes_, top_k, len(rows))
        return plain(getattr(estimator, method)(packed), len(rows))


def plain(answer: Any, n_rows: int) -> list[Prediction]:
    """An estimator's answer as n_rows plain Python values: numbers, strings or (nested) lists.

    Raises:
        WrongShape: it has another length.
    """
    if isinstance(answer, list) and answer and all(np.ndim(part) == 2 for part in answer):
        # predict_proba of several outputs: n_outputs arrays of (n_rows, n_classes)
        if any(np.shape(part)[0] != n_rows for part in answer):
            raise WrongShape(f"the model gave outputs of {[np.shape(part) for part in answer]} for {n_rows} rows")
        return [list(parts) for parts in zip(*(np.asarray(part).tolist() for part in answer), strict=True)]
    array = as_array(answer, n_rows)
    if array.dtype.kind in "Mm":
        array = array.astype(str)
    values: list[Prediction] = array.tolist()
    return [_python(value) for value in values] if array.dtype.kind == "O" else values


def as_array(answer: Any, n_rows: int) -> npt.NDArray[Any]:
    """An estimator's answer, dense, as an array whose first axis is the rows.

    Raises:
        WrongShape: it has another length.
    """
    if hasattr(answer, "toarray"):  # a sparse matrix
        answer = answer.toarray()
    if hasattr(answer, "to_numpy"):
        answer = answer.to_numpy()
    try:
        array = np.asarray(answer)
    except ValueError as error:  # parts of different lengths
        raise WrongShape("the model gave outputs of different lengths") from error
    if array.shape[:1] != (n_rows,):
        raise WrongShape(f"the model gave {array.shape} predictions for {n_rows} rows")
    return array


def _python(value: Any) -> Any:
    """A value of an object array without NumPy's own scalars."""
    if isinstance(value, np.generic):
        return value.item()
    return [_python(part) for part in value] if isinstance(value, (list, tuple, np.ndarray)) else value


def _top(probabilities: Any, classes: Any, k: int, n_rows: int) -> list[Prediction]:
    table = np.asarray(probabilities)
    if table.shape[:1] != (n_rows,):
        raise WrongShape(f"the model gave {table.shape} probabilities for {n_rows} rows")
    best = np.argsort(-table, axis=1, kind="stable")[:, :k]
    items, scores = np.asarray(classes)[best].tolist(), np.take_along_axis(table, best, axis=1).tolist()
    return [
        [{"item": item, "score": score} for item, score in zip(*pair, strict=True)]
        for pair in zip(items, scores, strict=True)
    ]


def row_failure(error: BaseException) -> RowFailure:
    """What the user may know: what a model says of the data, not where it broke."""
    match error:
        case MemoryError():
            return RowFailure("out_of_memory", "The row needs more memory than the worker has.")
        case WrongShape():
            return RowFailure("bad_model_output", f"The model is broken: {error}.")
        case ValueError() | TypeError() if str(error):
            text = str(error).strip().partition("\n")[0]
            return RowFailure("prediction_failed", f"The model refused the row: {text[:LONGEST_MESSAGE]}")
        case _:
            # Without its message, which may quote the row.
            log.warning("model.raised", error=type(error).__name__, frames=frames(error))
            return RowFailure("prediction_failed", f"The model raised {type(error).__name__} for this row.")


def encode(predictions: Sequence[Prediction]) -> tuple[bytes, bool]:
    """Predictions as a JSON array, failed rows as null, and whether a number was not finite and became null.

    Raises:
        TypeError: a prediction is nothing that JSON can say; see `checked`.
    """
    shown = [None if isinstance(prediction, RowFailure) else prediction for prediction in predictions]
    return orjson.dumps(shown), _has_infinite(shown)


def checked(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions, where what JSON cannot say (such as integers past 64 bits) is a RowFailure."""
    return [prediction if _speakable(prediction) else NOT_JSON for prediction in predictions]


def _speakable(prediction: Prediction) -> bool:
    try:
        encode([prediction])
    except TypeError:
        return False
    return True


def _has_infinite(value: Any) -> bool:
    if type(value) is float:
        return value - value != 0.0  # NaN and both infinities
    if type(value) is list:
        return any(_has_infinite(part) for part in value)
    if type(value) is dict:
        return any(_has_infinite(part) for part in value.values())
    return False
