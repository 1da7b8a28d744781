"""A faster form of a model beside its own: one that was found equal when the version was registered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shared.errors import ArtifactCorrupt
from shared.manifest import Manifest
from worker.formats import digest
from worker.formats.libraries import differences
from worker.forms import Form, Refused
from worker.forms.graph import GraphForm
from worker.forms.trees import TreesForm

# Two probabilities may each be off by the tolerance, and by less than that in all rows that were compared.
MARGIN: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceleration:
    """What came of the wish to accelerate a model."""

    described: dict[str, Any]  # for the manifest
    files: Mapping[str, bytes] = field(default_factory=dict)  # for the version's folder: the graph, if it is used


NOT_WANTED: Final = Acceleration(described={})


class Accelerated:
    """Predicts by the faster form where that covers the method and the rows, and by the estimator itself in all else.

    The form gets no more than `up_to_rows` rows, of those that it takes, and decides no label between two classes that
    are nearly as probable as each other: there the last digits would.
    """

    def __init__(
        self, original: Any, form: Form, methods: Sequence[str], *, margin: float, up_to_rows: int | None
    ) -> None:
        """Put both together.

        Args:
            original: the estimator.
            form: made of it.
            methods: of the form that are used.
            margin: between two probabilities that are nearly alike; 0 for a form that gives the very same ones.
            up_to_rows: of a call; None for any number.
        """
        self.original = original
        self._form = form
        self._methods = frozenset(methods)
        self._margin = margin
        self._up_to_rows = up_to_rows

    def __getattr__(self, name: str) -> Any:
        if name in ("original", "_methods"):  # not before __init__, as when it is copied
            raise AttributeError(name)
        own = getattr(self.original, name)
        return partial(self._answer, name) if name in self._methods else own

    def _answer(self, method: str, rows: Any) -> Any:
        few = len(rows) > 0 and (self._up_to_rows is None or len(rows) <= self._up_to_rows)
        taken = self._form.takes(rows) if few else None
        if taken is None:
            return getattr(self.original, method)(rows)
        if method == "predict" and "predict_proba" in self._form.methods:
            return self._labels(rows, taken)
        return self._form.answer(method, taken)

    def _labels(self, rows: Any, taken: Any) -> Any:
        answer, classes = self._form.answer("predict_proba", taken), self.original.classes_
        if not isinstance(answer, list):
            labels, close = classes[np.argmax(answer, axis=1)], self._close(answer)
        else:  # a table for each output
            labels = np.empty((len(rows), len(answer)), dtype=classes[0].dtype)  # as scikit-learn makes it
            for output, table in enumerate(answer):
                labels[:, output] = classes[output][np.argmax(table, axis=1)]
            close = np.any([self._close(table) for table in answer], axis=0)
        if close.any():
            labels[close] = self.original.predict(_chosen(rows, close))
        return labels

    def _close(self, table: Any) -> Any:
        """Of which rows the two most probable classes are nearly alike."""
        if table.shape[1] < 2 or not self._margin:
            return np.zeros(len(table), dtype=bool)
        best = np.partition(table, -2, axis=1)[:, -2:]
        return best[:, 1] - best[:, 0] <= self._margin


def _chosen(rows: Any, which: Any) -> Any:
    if isinstance(rows, pa.Table):
        return rows.filter(pa.array(which))
    return [rows[place] for place in np.flatnonzero(which)] if isinstance(rows, list) else rows[which]


def margin_of(form: Form, *, tolerance: float, max_difference: float) -> float:
    """Within which a label is the estimator's own to decide.

    None is, if the form adds up as the estimator does and gave the very same numbers for all rows that were compared.
    """
    return 0.0 if form.adds_alike and max_difference == 0 else MARGIN * tolerance


def with_form(manifest: Manifest, estimator: Any, file: Callable[[str], bytes]) -> tuple[Any, tuple[str, ...]]:
    """The estimator with its faster form, or alone if that was compared under other releases; and what to know of it.

    Args:
        manifest: of a version that uses one.
        estimator: the version's own.
        file: reads a file of the version.

    Raises:
        ArtifactCorrupt: the graph's bytes are not those that were compared.
        ModelUnusable: onnxruntime does not take it.
        StorageFailed, MemoryError
    """
    described = manifest.accelerated
    by_trees = described.get("form") == TreesForm.name  # it was always a graph before there were others
    others = differences(manifest.libraries, TreesForm.libraries if by_trees else GraphForm.libraries)
    if others:
        told = f"Its accelerated form is not used: it was compared under {', '.join(others)}; register the model again."
        return estimator, (told,)
    try:
        form: Form = TreesForm(estimator) if by_trees else _graph_of(manifest, file)
    except Refused as refused:
        return estimator, (f"Its accelerated form is not used: {refused}",)
    margin = margin_of(form, tolerance=described["tolerance"], max_difference=described["max_difference"])
    quick = Accelerated(estimator, form, described["methods"], margin=margin, up_to_rows=described["up_to_rows"])
    return quick, ()


def _graph_of(manifest: Manifest, file: Callable[[str], bytes]) -> Form:
    graph = file(manifest.accelerated["artifact"])
    found = digest(graph)
    if found != manifest.accelerated["sha256"]:
        raise ArtifactCorrupt(
            f"The accelerated form of {manifest.model}@{manifest.version} has sha256 {found}, "
            f"but {manifest.accelerated['sha256']} was registered."
        )
    return GraphForm(graph)
