"""An ONNX graph as an estimator: rows in, predictions out, by what the graph's inputs and outputs are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import InvalidRequest, ModelUnusable
from shared.signature import Container, FeatureType
from worker.container import ARROW
from worker.formats.memory import lacks_memory

Array = npt.NDArray[Any]
# onnxruntime's names of types -> those of NumPy and of features
NUMBERS: Final[dict[str, tuple[Any, FeatureType]]] = {
    "tensor(float)": (np.float32, "number"),
    "tensor(double)": (np.float64, "number"),
    "tensor(float16)": (np.float16, "number"),
    "tensor(int64)": (np.int64, "integer"),
    "tensor(int32)": (np.int32, "integer"),
    "tensor(bool)": (np.bool_, "boolean"),
    "tensor(string)": (np.object_, "string"),
}
FLOATING: Final = ("tensor(float)", "tensor(double)", "tensor(float16)")
LABELS: Final = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")
Kind = Literal["labels", "numbers", "maps"]


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the graph: a tensor of one or several columns."""

    name: str
    dtype: Any
    type: FeatureType
    width: int | None  # columns; None if the graph leaves it open
    flat: bool  # (n_rows,) instead of (n_rows, width)


class OnnxEstimator:
    """Offers `predict`, and `predict_proba` with `classes_` where the graph gives probabilities.

    - one output of numbers, (n_rows,) or (n_rows, 1): a number for each row
    - one of (n_rows, k): k numbers for each row; probabilities without labels are such, too. `transform` instead of
      `predict` if the output's name begins with "transform".
    - several of one number for each row: as many numbers
    - labels and (n_rows, k) numbers, or labels and maps from label to probability (ZipMap): a classifier
    - such maps alone: a classifier that predicts the most probable label
    """

    def __init__(self, session: Any, labels: Sequence[Any] | None) -> None:
        """Understand the graph.

        Args:
            session: an onnxruntime.InferenceSession.
            labels: those of a classifier in the order of its probabilities, where the graph names them.

        Raises:
            ModelUnusable: an input or output is nothing that a row has.
        """
        self._session = session
        self._inputs = tuple(_input_of(node) for node in session.get_inputs())
        if not self._inputs:
            raise ModelUnusable("The graph takes no input.")
        self._label: str | None = None
        self._probabilities: str | None = None
        self._maps = False
        self._numbers: tuple[str, ...] = ()
        self._transforms = False
        self._understand(session.get_outputs())
        if self._probabilities is not None:
            self.classes_: Array = np.asarray(self._find_classes(session, labels))
        if len(self._inputs) > 1 and all(taken.width == 1 for taken in self._inputs):
            self.feature_names_in_ = np.array([taken.name for taken in self._inputs], dtype=object)

    def _understand(self, outputs: Sequence[Any]) -> None:
        kinds = {output.name: _kind_of(output) for output in outputs}
        names = {kind: [name for name in kinds if kinds[name] == kind] for kind in ("labels", "numbers", "maps")}
        match len(names["labels"]), len(names["numbers"]), len(names["maps"]):
            case (0 | 1, 0, 1):
                self._label, self._probabilities = next(iter(names["labels"]), None), names["maps"][0]
                self._maps = True
            case (1, 1, 0):
                self._label, self._probabilities = names["labels"][0], names["numbers"][0]
            case (1, 0, 0):
                self._label = names["labels"][0]
            case (0, count, 0) if count >= 1:
                self._numbers = tuple(names["numbers"])
                self._transforms = count == 1 and names["numbers"][0].lower().startswith("transform")
            case _:
                shown = ", ".join(f"{output.name}: {output.type}" for output in outputs)
                raise ModelUnusable(
                    f"The outputs of the graph are neither numbers, nor labels, nor labels with probabilities: "
                    f"{shown}. Export it with the outputs that are wanted only."
                )

    def _find_classes(self, session: Any, labels: Sequence[Any] | None) -> Sequence[Any]:
        """The labels; numbers from 0 where the graph names none."""
        shape = next(node.shape for node in session.get_outputs() if node.name == self._probabilities)
        width = shape[1] if not self._maps and len(shape) == 2 and isinstance(shape[1], int) else None
        if labels is not None and width in (None, len(labels)):
            return labels
        if width is None:
            raise ModelUnusable(
                "The graph gives probabilities and does not say of which labels; export it with the number of classes "
                "as the second dimension of that output, or with a ZipMap."
            )
        return range(width)

    def __getattr__(self, name: str) -> Any:
        # What the graph does not give is no method, as with a scikit-learn estimator: the trial goes by that.
        if name == "predict" and not self._transforms:
            return self._predict
        if name == "transform" and self._transforms:
            return self._predict
        if name == "predict_proba" and self._probabilities is not None:
            return self._predict_proba
        raise AttributeError(f"An ONNX graph with these outputs has no {name}.")

    @property
    def container_(self) -> Container:
        """What it is best given: float64 numbers as a matrix, strings by themselves, all else as a table."""
        if len(self._inputs) == 1 and self._inputs[0].type == "string" and self._inputs[0].width in (1, None):
            return "text"
        if all(taken.dtype in (np.float32, np.float64, np.float16) for taken in self._inputs):
            return "matrix"
        return "matrix" if len(self._inputs) == 1 and self._inputs[0].type == "integer" else "table"

    def typed(self, sample: pa.Table | None) -> pa.Table:
        """The sample with the graph's columns and their types; without one a row of zeros and empty strings.

        Raises:
            InvalidRequest: the columns are others, or there is no sample and the graph leaves their number open.
        """
        if sample is None:
            return self._zeros()
        if hasattr(self, "feature_names_in_"):
            missing = [name for name in self.feature_names_in_ if name not in sample.column_names]
            if missing:
                raise InvalidRequest(f"The graph takes the input {missing[0]}, which the sample does not have.")
            sample = sample.select(list(self.feature_names_in_))
        columns = self._columns(sample.num_columns)
        typed = []
        for name, taken, column in zip(sample.column_names, columns, sample.columns, strict=True):
            try:
                typed.append(column.cast(ARROW[taken.type]))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InvalidRequest(
                    f"Column {name} of the sample is {column.type}, and the graph's input {taken.name} takes the type "
                    f"{taken.type}."
                ) from error
        return pa.Table.from_arrays(typed, names=sample.column_names)

    def _zeros(self) -> pa.Table:
        if any(taken.width is None for taken in self._inputs):
            raise InvalidRequest("The graph does not say how many columns it takes; give a few sample rows.")
        zeros: dict[FeatureType, Any] = {"number": 0.0, "integer": 0, "string": "", "boolean": False}
        names, arrays = [], []
        for taken in self._inputs:
            width = taken.width or 1
            alone = width == 1 and len(self._inputs) > 1
            prefix = "x" if len(self._inputs) == 1 else f"{taken.name}_"
            names += [taken.name] if alone else [f"{prefix}{number + 1}" for number in range(width)]
            arrays += [pa.array([zeros[taken.type]], ARROW[taken.type])] * width
        return pa.Table.from_arrays(arrays, names=names)

    def _columns(self, given: int) -> list[Input]:
        """The input that each of some columns belongs to.

        Raises:
            InvalidRequest: there are more or fewer columns than the graph takes.
        """
        widths = [taken.width for taken in self._inputs]
        if len(widths) == 1 and widths[0] is None:
            widths = [given]
        if sum(width or 0 for width in widths) != given:
            raise InvalidRequest(f"The graph takes {sum(width or 0 for width in widths)} columns, not {given}.")
        return [taken for taken, width in zip(self._inputs, widths, strict=True) for _ in range(width or 0)]

    def _run(self, rows: Any, outputs: list[str]) -> list[Any]:
        feeds = self._feeds(rows)
        try:
            answers: list[Any] = self._session.run(outputs, feeds)
        except Exception as error:
            if lacks_memory(error):
                raise MemoryError("The graph needs more memory than there is.") from error
            raise
        return answers

    def _feeds(self, rows: Any) -> dict[str, Array]:
        if isinstance(rows, np.ndarray) and len(self._inputs) == 1 and self._inputs[0].type == "number":
            taken = self._inputs[0]
            return {taken.name: _shaped(np.ascontiguousarray(rows, taken.dtype), taken)}
        columns, names = _columns_of(rows)
        feeds: dict[str, Array] = {}
        belong = self._columns(len(columns))
        for taken in self._inputs:
            own = [
                _cast(columns[place], taken, names[place]) for place in range(len(columns)) if belong[place] is taken
            ]
            feeds[taken.name] = _shaped(np.column_stack(own) if len(own) > 1 else own[0].reshape(-1, 1), taken)
        return feeds

    def _predict(self, rows: Any) -> Array:
        if self._label is not None:
            return np.asarray(self._run(rows, [self._label])[0]).reshape(-1)
        if self._maps:
            best: Array = self.classes_[np.argmax(self._predict_proba(rows), axis=1)]
            return best
        answers = [np.asarray(answer, np.float64) for answer in self._run(rows, list(self._numbers))]
        if len(answers) > 1:
            return np.column_stack([answer.reshape(-1) for answer in answers])
        return answers[0].reshape(-1) if answers[0].shape[1:] == (1,) else answers[0]

    def _predict_proba(self, rows: Any) -> Array:
        (answer,) = self._run(rows, [str(self._probabilities)])
        if not self._maps:
            return np.asarray(answer, np.float64)
        labels = self.classes_.tolist()
        return np.array([[row[label] for label in labels] for row in answer], np.float64).reshape(-1, len(labels))


def _input_of(node: Any) -> Input:
    shape = list(node.shape)
    if node.type not in NUMBERS or len(shape) not in (1, 2):
        raise ModelUnusable(
            f"The graph's input {node.name} is {node.type} of {len(shape)} dimensions; a row can give columns of "
            "numbers, integers, booleans or strings: tensors of (n_rows, n_columns) or (n_rows,)."
        )
    if isinstance(shape[0], int):
        raise ModelUnusable(
            f"The graph's input {node.name} is made for {shape[0]} rows at a time; export the model with an open first "
            "dimension (dynamic axes)."
        )
    width = 1 if len(shape) == 1 else shape[1] if isinstance(shape[1], int) else None
    dtype, kind = NUMBERS[node.type]
    return Input(node.name, dtype, kind, width, flat=len(shape) == 1)


def _kind_of(node: Any) -> Kind | None:
    if node.type.startswith("seq(map("):
        return "maps"
    shape: Sequence[Any] = node.shape or ()  # there is none if the graph leaves even the number of dimensions open
    if len(shape) > 2:
        return None
    if node.type in FLOATING:
        return "numbers"
    one = len(shape) < 2 or shape[1] == 1
    return "labels" if node.type in LABELS and one else None


def _columns_of(rows: Any) -> tuple[list[Any], list[str]]:
    """The columns of a matrix, table, data frame or list of strings, and what a person calls them."""
    if isinstance(rows, list):
        return [np.array(rows, dtype=object)], ["of text"]
    if isinstance(rows, np.ndarray):
        return [rows[:, place] for place in range(rows.shape[1])], [f"{place + 1}" for place in range(rows.shape[1])]
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    return list(table.columns), table.column_names


def _cast(column: Any, taken: Input, name: str) -> Array:
    """A column as the graph takes it; raises ValueError for a value that it cannot take."""
    if isinstance(column, (pa.ChunkedArray, pa.Array)):
        if taken.type != "number" and column.null_count:
            raise ValueError(f"column {name} is missing, and the model takes no missing values there")
        column = column.to_numpy()  # null becomes NaN
    if taken.type == "string":
        if any(type(value) is not str for value in column):
            raise ValueError(f"column {name} must be a string")
        return np.asarray(column, dtype=object)
    values = np.asarray(column)
    if taken.type == "integer" and values.dtype.kind == "f" and not (np.isfinite(values) & (values % 1 == 0)).all():
        raise ValueError(f"column {name} must be a whole number")
    if taken.dtype is np.int32 and values.size and np.abs(values).max() >= 2**31:
        raise ValueError(f"column {name} must be a whole number of at most 32 bits")
    return values.astype(taken.dtype)


def _shaped(values: Array, taken: Input) -> Array:
    return values.reshape(-1) if taken.flat else values
