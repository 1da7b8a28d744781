"""ONNX graphs written by hand, of the kinds that frameworks export."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, STRING, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
)
Value = tuple[str, int, list[Any]]  # name, type, shape


def model(nodes: Sequence[Any], inputs: Sequence[Value], outputs: Sequence[Value], **arrays: Any) -> onnx.ModelProto:
    """A model of these nodes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def written(*arguments: Any, **arrays: Any) -> bytes:
    """The file of such a model."""
    return bytes(model(*arguments, **arrays).SerializeToString())


def identity(kind: int, shape: list[Any], name: str = "x") -> bytes:
    """Gives what it is given."""
    return written([helper.make_node("Identity", [name], ["y"])], [(name, kind, shape)], [("y", kind, shape)])


def linear_classifier(*, zipmap: bool, labels: Sequence[Any] = ("no", "yes")) -> bytes:
    """(n_rows, 2) float32 -> a label and the probabilities of two classes, by the sum of both columns.

    As converters of scikit-learn, XGBoost and LightGBM write it: with a ZipMap, or with the array before it.
    """
    named: dict[str, Any] = {"classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints": list(labels)}
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml",
            coefficients=[-1.0, -1.0, 1.0, 1.0], intercepts=[0.0, 0.0], post_transform="SOFTMAX", **named,
        )
    ]  # fmt: skip
    kind = STRING if isinstance(labels[0], str) else INT64
    outputs: list[Value] = [("label", kind, ["n"]), ("scores", FLOAT, ["n", 2])]
    built = model(nodes, [("x", FLOAT, ["n", 2])], outputs)
    if zipmap:
        attribute = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
        chosen: dict[str, Any] = {attribute: list(labels)}
        built.graph.node.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **chosen))
        key = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
        probability = helper.make_tensor_type_proto(FLOAT, [])
        row = helper.make_map_type_proto(key, probability)
        del built.graph.output[1]
        built.graph.output.append(helper.make_value_info("maps", helper.make_sequence_type_proto(row)))
    return bytes(built.SerializeToString())


def by_columns() -> bytes:
    """Rooms: `size` float, `floor` int64, `mode` string, `sunny` boolean, each (n_rows, 1), to a number for each row.

    size + 10 * floor + 100 if the mode is eco + 1000 if it is sunny.
    """
    nodes = [
        helper.make_node("Cast", ["floor"], ["floor_number"], to=FLOAT),
        helper.make_node("Cast", ["sunny"], ["sunny_number"], to=FLOAT),
        helper.make_node(
            "LabelEncoder", ["mode"], ["mode_number"], domain="ai.onnx.ml",
            keys_strings=["eco"], values_floats=[1.0], default_float=0.0,
        ),
        helper.make_node("Concat", ["size", "floor_number", "mode_number", "sunny_number"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "weights"], ["y"]),
    ]  # fmt: skip
    inputs: list[Value] = [
        ("size", FLOAT, ["n", 1]),
        ("floor", INT64, ["n", 1]),
        ("mode", STRING, ["n", 1]),
        ("sunny", BOOL, ["n", 1]),
    ]
    weights = np.array([[1], [10], [100], [1000]], np.float32)
    return written(nodes, inputs, [("y", FLOAT, ["n", 1])], weights=weights)


def lengths_of_texts() -> bytes:
    """(n_rows, 1) strings -> 1 for those that are "long", else 0."""
    encoder = helper.make_node(
        "LabelEncoder", ["text"], ["y"], domain="ai.onnx.ml",
        keys_strings=["long"], values_floats=[1.0], default_float=0.0,
    )  # fmt: skip
    return written([encoder], [("text", STRING, ["n", 1])], [("y", FLOAT, ["n", 1])])


def boosted_stumps() -> bytes:
    """Two trees of one split each, as XGBoost and LightGBM export them: (n_rows, 2) float32 -> (n_rows, 1).

    5, plus 1 if the first column is at most 0.5 or missing, else 2; plus 10 if the second is at most 3, else 20.
    """
    ensemble = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, base_values=[5.0],
        nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 1, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2, nodes_values=[0.5, 0.0, 0.0, 3.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0, 1, 0, 0], nodes_falsenodeids=[2, 0, 0, 2, 0, 0],
        nodes_missing_value_tracks_true=[1, 0, 0, 1, 0, 0],
        target_treeids=[0, 0, 1, 1], target_nodeids=[1, 2, 1, 2], target_ids=[0] * 4,
        target_weights=[1.0, 2.0, 10.0, 20.0],
    )  # fmt: skip
    return written([ensemble], [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 1])])


def endless() -> bytes:
    """(n_rows, 1) float32 -> the sine of the sine of ..., so often that nobody will see the end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["still"]), helper.make_node("Sin", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("number", INT64, []),
            helper.make_tensor_value_info("more", BOOL, []),
            helper.make_tensor_value_info("value", FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("still", BOOL, []), helper.make_tensor_value_info("next", FLOAT, [None, 1])],
    )
    loop = helper.make_node("Loop", ["times", "always", "x"], ["y"], body=body)
    shape = ["n", 1]
    return written([loop], [("x", FLOAT, shape)], [("y", FLOAT, shape)], times=np.array(2**62), always=np.array(True))
