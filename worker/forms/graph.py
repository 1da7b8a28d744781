"""An ONNX graph as a faster form: one that skl2onnx has made of the estimator."""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from worker.formats import Onnx
from worker.forms import FormName

METHODS: Final = ("predict", "predict_proba")
LARGEST: Final = float(np.finfo(np.float32).max)


class GraphForm:
    """Takes no rows with missing or huge values."""

    name: Final[FormName] = "onnx"
    libraries: Final = ("scikit-learn", "numpy", "onnxruntime")
    adds_alike: Final = False

    def __init__(self, graph: bytes) -> None:
        """Load a graph.

        Raises:
            ModelUnusable: onnxruntime does not take it.
        """
        self._graph = Onnx().load(graph)
        self.methods = tuple(method for method in METHODS if hasattr(self._graph, method))

    def takes(self, rows: Any) -> Any | None:
        """The rows themselves."""
        if isinstance(rows, np.ndarray):
            # NaN is not; and 32 bits take what they cannot hold for infinity, which scikit-learn refuses.
            return rows if np.abs(rows).max() <= LARGEST else None
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
        taken = all(
            column.null_count == 0
            and (not pa.types.is_floating(column.type) or np.abs(column.to_numpy()).max() <= LARGEST)
            for column in table.columns
        )
        return rows if taken else None

    def answer(self, method: str, taken: Any) -> Any:
        """The graph's."""
        return getattr(self._graph, method)(taken)
