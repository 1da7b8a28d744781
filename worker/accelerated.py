"""A faster form of a model beside its own: an ONNX graph that was found equal when the version was registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shared.errors import ArtifactCorrupt
from shared.manifest import Manifest
from worker.formats import Onnx, digest
from worker.formats.libraries import differences
from worker.formats.onnx_estimator import OnnxEstimator

# What was compared are these releases; others may round otherwise.
COMPARED: Final = ("scikit-learn", "numpy", "onnxruntime")
LARGEST: Final = float(np.finfo(np.float32).max)
# Two probabilities may each be off by the tolerance, and by less than that in all rows that were compared.
MARGIN: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceleration:
    """What came of the wish to accelerate a model."""

    described: dict[str, Any]  # for the manifest
    files: Mapping[str, bytes] = field(default_factory=dict)  # for the version's folder: the graph, if it is used


NOT_WANTED: Final = Acceleration(described={})


class Accelerated:
    """Predicts by the graph where that covers the method and the rows, and by the estimator itself in all else.

    The graph takes no rows with missing or huge values and no more than `up_to_rows`, and decides no label between two
    classes that are nearly as probable as each other: there the last digits would.
    """

    def __init__(
        self, original: Any, graph: OnnxEstimator, methods: Sequence[str], *, tolerance: float, up_to_rows: int | None
    ) -> None:
        self.original = original
        self._graph = graph
        self._quick = {method: getattr(graph, method) for method in methods}
        self._margin = MARGIN * tolerance
        self._up_to_rows = up_to_rows
        if "predict" in methods and len(getattr(graph, "classes_", ())) > 1:
            self._quick["predict"] = self._labels

    def __getattr__(self, name: str) -> Any:
        if name in ("original", "_quick"):  # not before __init__, as when it is copied
            raise AttributeError(name)
        own = getattr(self.original, name)
        if name not in self._quick:
            return own
        quick = self._quick[name]
        return lambda rows: quick(rows) if self._covers(rows) else own(rows)

    def _covers(self, rows: Any) -> bool:
        n_rows = len(rows)
        if n_rows == 0 or (self._up_to_rows is not None and n_rows > self._up_to_rows):
            return False
        if isinstance(rows, np.ndarray):
            # NaN is not; and 32 bits take what they cannot hold for infinity, which scikit-learn refuses.
            return bool(np.abs(rows).max() <= LARGEST)
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
        return all(
            column.null_count == 0
            and (not pa.types.is_floating(column.type) or np.abs(column.to_numpy()).max() <= LARGEST)
            for column in table.columns
        )

    def _labels(self, rows: Any) -> Any:
        table = self._graph.predict_proba(rows)
        best = np.partition(table, -2, axis=1)[:, -2:]
        labels = self.original.classes_[np.argmax(table, axis=1)]
        close = best[:, 1] - best[:, 0] <= self._margin
        if close.any():
            chosen = rows.filter(pa.array(close)) if isinstance(rows, pa.Table) else rows[close]
            labels[close] = self.original.predict(chosen)
        return labels


def with_graph(manifest: Manifest, estimator: Any, graph: bytes) -> tuple[Any, tuple[str, ...]]:
    """The estimator with its graph, or alone if the graph was compared under other releases; and what to know of that.

    Raises:
        ArtifactCorrupt: the graph's bytes are not those that were compared.
        ModelUnusable: onnxruntime does not take it.
    """
    described = manifest.accelerated
    found = digest(graph)
    if found != described["sha256"]:
        raise ArtifactCorrupt(
            f"The accelerated form of {manifest.model}@{manifest.version} has sha256 {found}, "
            f"but {described['sha256']} was registered."
        )
    others = differences(manifest.libraries, COMPARED)
    if others:
        told = f"Its accelerated form is not used: it was compared under {', '.join(others)}; register the model again."
        return estimator, (told,)
    quick = Accelerated(
        estimator,
        Onnx().load(graph),
        described["methods"],
        tolerance=described["tolerance"],
        up_to_rows=described["up_to_rows"],
    )
    return quick, ()
