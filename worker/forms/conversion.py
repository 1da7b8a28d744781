"""An estimator as an ONNX graph, by skl2onnx, which takes a second to import and is used when a model is registered."""

from typing import Any, Literal

import skl2onnx
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from shared.signature import Signature
from worker.forms import Refused, said
from worker.forms.graph import GraphForm
from worker.warned import quiet

Precision = Literal["float64", "float32"]


def converted(estimator: Any, signature: Signature, precision: Precision) -> tuple[bytes, GraphForm]:
    """The graph with numbers of 64 or 32 bits.

    Raises:
        Refused: it cannot be converted so.
    """
    number = DoubleTensorType if precision == "float64" else FloatTensorType
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
            return graph, GraphForm(graph)
    except Exception as error:  # whatever the converter raises is a reason
        raise Refused(f"It cannot be converted: {said(error)}") from error
