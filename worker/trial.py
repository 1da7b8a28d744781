"""A model tried on sample rows: what it takes and gives is found out, and nobody has to declare it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shared.errors import InvalidRequest, ModelUnusable
from shared.signature import Container, Feature, FeatureType, Signature
from worker.container import pack
from worker.formats.onnx_estimator import OnnxEstimator
from worker.predict import plain
from worker.warned import quiet

METHODS: Final = ("predict", "predict_proba", "decision_function", "transform")
SAMPLE_ROWS: Final = 20
LONGEST_REASON: Final = 300


def find_signature(estimator: Any, sample: pa.Table) -> Signature:
    """The signature of an estimator, tried on sample rows.

    Raises:
        InvalidRequest: the sample has no rows, lacks a column that the estimator was fitted on, has one twice, or one
            of a type that no feature can have.
        ModelUnusable: the estimator cannot predict the sample in any container.
        MemoryError
    """
    if sample.num_rows == 0 or sample.num_columns == 0:
        raise InvalidRequest("The sample has no rows or no columns; give a few representative rows.")
    twice = sorted({name for name in sample.column_names if sample.column_names.count(name) > 1})
    if twice:
        raise InvalidRequest(f"The sample has the column {twice[0]} more than once.")
    sample = _in_fitted_order(estimator, sample).slice(0, SAMPLE_ROWS)
    features = tuple(Feature(name=field.name, type=_feature_type(field)) for field in sample.schema)
    rows = [
        [float(value) if isinstance(value, Decimal) else value for value in row.values()] for row in sample.to_pylist()
    ]
    draft = Signature(container="matrix", features=features, methods=())
    reasons: dict[str, list[str]] = {}
    with quiet():
        for container in _containers(estimator, features):
            draft = replace(draft, container=container, features=_as_taken(features, container))
            methods, reason = _methods(estimator, draft, rows)
            if methods:
                break
            reasons.setdefault(reason, []).append(container)
        else:
            told = (f"as {' or '.join(containers)}: {reason}" for reason, containers in reasons.items())
            raise ModelUnusable(f"The model fails on the sample: {'; '.join(told)}")
        nullable = tuple(
            replace(feature, nullable=_takes_null(estimator, draft, methods[0], rows, index))
            for index, feature in enumerate(draft.features)
        )
        signature = replace(draft, features=nullable, methods=methods, example=tuple(rows[0]))
        return replace(signature, outputs=_outputs(estimator, signature, rows), classes=_classes(estimator))


def _feature_type(field: pa.Field) -> FeatureType:
    kind = field.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    raise InvalidRequest(
        f"Column {field.name} of the sample is {kind}; features are numbers, integers, booleans or strings."
    )


def _containers(estimator: Any, features: Sequence[Feature]) -> tuple[Container, ...]:
    """What to try, the fastest first; an ONNX graph says what it takes."""
    if isinstance(estimator, OnnxEstimator):
        return (estimator.container_,)
    if len(features) == 1 and features[0].type == "string":
        return ("text", "table", "dataframe")
    if any(feature.type == "string" for feature in features):
        return ("table", "dataframe")
    return ("matrix", "table", "dataframe")


def _in_fitted_order(estimator: Any, sample: pa.Table) -> pa.Table:
    """The columns that the estimator was fitted on, in its order: a matrix has no names to compare later."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return sample
    missing = [str(name) for name in names if name not in sample.column_names]
    if missing:
        raise InvalidRequest(f"The model was fitted on the column {missing[0]}, which the sample does not have.")
    return sample.select([str(name) for name in names])


def _as_taken(features: tuple[Feature, ...], container: Container) -> tuple[Feature, ...]:
    """A matrix holds float64 only: that the sample's numbers happen to be whole says nothing about others."""
    if container != "matrix":
        return features
    return tuple(replace(feature, type="number") if feature.type == "integer" else feature for feature in features)


def _methods(estimator: Any, signature: Signature, rows: list[list[Any]]) -> tuple[tuple[str, ...], str]:
    """The methods that work on the sample, or why the first does not."""
    working, raised, reason = [], False, "it has none of the methods " + ", ".join(METHODS)
    for method in METHODS:
        try:
            if not hasattr(estimator, method):
                continue
            plain(getattr(estimator, method)(pack(signature, rows)), len(rows))
            working.append(method)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a model raises is a reason
            if not working and not raised:
                raised = True
                reason = f"{method} raised {type(error).__name__}: {' '.join(str(error).split())[:LONGEST_REASON]}"
    return tuple(working), reason


def _takes_null(estimator: Any, signature: Signature, method: str, rows: list[list[Any]], index: int) -> bool:
    """Whether a missing value in one column still gives a finite answer for every kind of row in the sample."""
    holed = [[None if position == index else value for position, value in enumerate(row)] for row in rows]
    mixed = [*rows, *holed]
    try:
        answers = [
            plain(getattr(estimator, method)(pack(signature, tried)), len(tried)) for tried in (mixed, holed[:1])
        ]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # a model that raises does not take missing values
        return False
    return all(_finite(answer) for answer in answers)


def _finite(value: Any) -> bool:
    return all(map(_finite, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


def _outputs(estimator: Any, signature: Signature, rows: list[list[Any]]) -> tuple[dict[str, Any], ...]:
    """What one prediction consists of."""
    answer = getattr(estimator, signature.methods[0])(pack(signature, rows))
    array = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    kind = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}.get(array.dtype.kind, "string")
    if array.dtype.kind == "O" and all(isinstance(value, (int, float)) for value in array.ravel()[:20]):
        kind = "number"
    if array.ndim == 1:
        return ({"name": "prediction", "type": kind},)
    return tuple({"name": f"prediction_{number}", "type": kind} for number in range(array.shape[1]))


def _classes(estimator: Any) -> tuple[Any, ...] | None:
    """The class labels of a classifier with one output."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or isinstance(classes, list):
        return None
    return tuple(np.asarray(classes).tolist())
