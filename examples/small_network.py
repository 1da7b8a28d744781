"""A small two-layer network as an ONNX file, written operator by operator: no framework is needed to make or serve it.

    python -m examples.small_network network.onnx

Its weights are drawn at random: it shows how a network is served, not how one is trained. A file that PyTorch,
TensorFlow, XGBoost or LightGBM exports is registered in the same way.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 4
HIDDEN = 8
OPSET = 21

Weights = dict[str, npt.NDArray[np.float32]]


def weights(seed: int = 0) -> Weights:
    """(4, 8) and (8, 1) weights with their biases, float32."""
    random = np.random.default_rng(seed)
    shapes = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 1), "b2": (1,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def network(seed: int = 0) -> bytes:
    """The ONNX file: (n_rows, 4) float32 `x` -> (n_rows, 1) float32 `y` = relu(x w1 + b1) w2 + b2."""
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["y"]),
        ],
        "small_network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(values, name) for name, values in weights(seed).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def predicted(rows: npt.NDArray[np.float64], seed: int = 0) -> npt.NDArray[np.float64]:
    """(n_rows, 4) float64 -> (n_rows,) float64: what the network gives, computed by NumPy."""
    layer = weights(seed)
    hidden = np.maximum(rows.astype(np.float32) @ layer["w1"] + layer["b1"], 0)
    answer: npt.NDArray[np.float64] = (hidden @ layer["w2"] + layer["b2"]).astype(np.float64)
    return answer.reshape(-1)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(network())
