"""The features and outputs of a version as tensors: which there are, and tensors as rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from api.tensors import BYTES, CODES, SHOWN, Tensor
from shared.errors import InvalidRequest
from shared.requests import fault
from shared.signature import Feature, FeatureType, Signature

# The one tensor of a model that takes a matrix.
MATRIX: Final = "input"
NUMBERS: Final = tuple(datatype for datatype in CODES if datatype != "BOOL")
TAKEN: Final[Mapping[FeatureType, Sequence[str]]] = {
    "number": NUMBERS,
    "integer": NUMBERS,  # whole ones: the values are looked at with the rows
    "boolean": ("BOOL",),
    "string": (BYTES,),
}
USUAL: Final[Mapping[str, str]] = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": BYTES}
ANY: Final = -1


def inputs_of(signature: Signature) -> list[dict[str, Any]]:
    """The tensors that rows are sent as: one of all features where they are a matrix, else one of each."""
    features = signature.features
    if signature.container == "matrix" and len(features) > 1 and len({USUAL[one.type] for one in features}) == 1:
        return [{"name": MATRIX, "datatype": USUAL[features[0].type], "shape": [ANY, len(features)]}]
    return [{"name": one.name, "datatype": USUAL[one.type], "shape": [ANY, 1]} for one in features]


def outputs_of(signature: Signature) -> list[dict[str, Any]]:
    """A tensor for each method; a request gets that of one."""
    return [{"name": method, **_output(signature, method)} for method in signature.methods]


def _output(signature: Signature, method: str) -> dict[str, Any]:
    """Datatype and shape of what a method gives, as far as the signature tells."""
    classes = len(signature.classes or ())
    if method == signature.methods[0]:
        kinds = [USUAL[str(output["type"])] for output in signature.outputs]
        several = len(kinds) > 1 or signature.outputs[0]["name"] != "prediction"
        return {"datatype": kinds[0], "shape": [ANY, len(kinds)] if several else [ANY]}
    if method == "predict_proba":
        return {"datatype": "FP64", "shape": [ANY, classes or ANY]}
    # Of two classes there is one number, and of an estimator without classes too.
    return {"datatype": "FP64", "shape": [ANY, ANY] if method == "transform" or classes > 2 else [ANY]}


def rows_of(tensors: Sequence[Tensor], signature: Signature) -> list[list[Any]]:
    """The rows in feature order; that each value is one of its feature is checked with them.

    Raises:
        InvalidRequest: with the tensor that is to blame.
    """
    features = signature.features
    names = [feature.name for feature in features]
    first = tensors[0]
    if len(tensors) == 1 and (first.name not in names or _is_matrix(first, len(names))):
        return _matrix(first, features)
    columns: dict[str, Tensor] = {}
    for index, tensor in enumerate(tensors):
        if tensor.name in columns or tensor.name not in names:
            why = (
                "is there twice" if tensor.name in columns else f"is no feature of the model; it takes {_shown(names)}"
            )
            raise fault(f"/inputs/{index}/name", "unknown_tensor", f"{tensor.place} {why}.")
        columns[tensor.name] = tensor
    missing = [name for name in names if name not in columns]
    if missing:
        message = f"There is no tensor {missing[0][:SHOWN]}; send one for each of {_shown(names)}, or one of all."
        raise InvalidRequest(
            message, errors=[{"pointer": "/inputs", "column": missing[0], "code": "missing_tensor", "message": message}]
        )
    for feature in features:
        _check_datatype(columns[feature.name], [feature])
        _check_column(columns[feature.name])
    for name in names:
        if columns[name].shape[0] != first.shape[0]:
            other = f"{first.name[:SHOWN]} has {first.shape[0]}"
            message = f"{columns[name].place} has {columns[name].shape[0]} rows, but {other}."
            raise fault("/inputs", "wrong_shape", message)
    return [list(row) for row in zip(*(columns[name].values for name in names), strict=True)]


def _is_matrix(tensor: Tensor, width: int) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[1] == width > 1


def _matrix(tensor: Tensor, features: Sequence[Feature]) -> list[list[Any]]:
    width = len(features)
    if tensor.shape[1:] != (width,) and not (width == 1 and len(tensor.shape) == 1):
        names = _shown([feature.name for feature in features])
        message = (
            f"{tensor.place} has the shape {list(tensor.shape)}; it must be [rows, {width}], with the columns {names}, "
            "or a tensor for each of them."
        )
        raise fault("/inputs/0/shape", "wrong_shape", message)
    _check_datatype(tensor, features)
    values = tensor.values
    return [list(values[start : start + width]) for start in range(0, len(values), width)]


def _check_datatype(tensor: Tensor, features: Sequence[Feature]) -> None:
    for feature in features:
        if tensor.datatype not in TAKEN[feature.type]:
            message = (
                f"{tensor.place} is {tensor.datatype}, but the column {feature.name[:SHOWN]} is a {feature.type}: send "
                f"{USUAL[feature.type]}{', in a tensor of its own' if len(features) > 1 else ''}."
            )
            raise InvalidRequest(
                message,
                errors=[{"pointer": "/inputs", "column": feature.name, "code": "wrong_datatype", "message": message}],
            )


def _check_column(tensor: Tensor) -> None:
    if tensor.shape[1:] not in ((), (1,)) or not tensor.shape:
        message = f"{tensor.place} has the shape {list(tensor.shape)}; a tensor of one column is [rows, 1] or [rows]."
        raise fault("/inputs", "wrong_shape", message)


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(name[:SHOWN] for name in names[:20])
    return shown if len(names) <= 20 else f"{shown}, ... ({len(names)} in all)"
