"""A tree ensemble of scikit-learn as Treelite's own: the same thresholds, leaves and sums in 64 bits, by one call."""

import copy
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.forms import FormName, Refused

FOREST: Final = "sklearn.ensemble._forest."
BOOSTED: Final = "sklearn.ensemble._gb."
BINNED: Final = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting."
# By name, so that a model of another kind imports nothing for the question.
CLASSES: Final = frozenset(
    {f"{FOREST}{kind}{task}" for kind in ("RandomForest", "ExtraTrees") for task in ("Classifier", "Regressor")}
    | {f"{BOOSTED}GradientBoosting{task}" for task in ("Classifier", "Regressor")}
    | {f"{BINNED}HistGradientBoosting{task}" for task in ("Classifier", "Regressor")}
)
PIPELINE: Final = "sklearn.pipeline.Pipeline"
# Numbers of a call, 32 MiB: what a step before gives as a sparse matrix, such as the words of texts, is unpacked.
MOST_NUMBERS: Final = 2**22
# Of what Treelite writes to a file, in memory: its arrays grow by doubling. Measured: `python -m benchmarks.predict`.
GROWTH: Final = 2
Matrix = npt.NDArray[np.float64]


class TreesForm:
    """The last step of a pipeline by Treelite; the steps before it are the estimator's own.

    scikit-learn compares 32 bits of each value with thresholds of 64, but for HistGradientBoosting, which compares all
    64; so does this. Missing values and those that 32 bits do not hold are left to the estimator.
    """

    name: Final[FormName] = "treelite"
    libraries: Final = ("scikit-learn", "numpy", "treelite")

    def __init__(self, estimator: Any) -> None:
        """Make it of a fitted estimator.

        Raises:
            Refused: the estimator, or the last step of the pipeline that it is, is no ensemble that Treelite takes.
        """
        steps = [step for _, step in estimator.steps] if class_of(estimator) == PIPELINE else [estimator]
        self._before = [step for step in steps[:-1] if step not in (None, "passthrough")]
        self._last = last = steps[-1]
        kind = class_of(last)
        if kind not in CLASSES:
            raise Refused(
                f"{type(last).__name__} is none of the tree ensembles that have a faster form: random forests, extra "
                "trees and gradient boosting."
            )
        self.adds_alike = kind.startswith(FOREST)
        self._own_precision = np.float64 if kind.startswith(BINNED) else np.float32
        probable = ("predict_proba", *(() if self.adds_alike else ("decision_function",)))
        self.methods: tuple[str, ...] = ("predict", *(probable if kind.endswith("Classifier") else ()))
        self._trees = _imported(last, kind)
        from treelite import gtil

        self._gtil = gtil

    def memory_bytes(self) -> int:
        """What it takes beside the estimator."""
        return GROWTH * len(self._trees.serialize_bytes())

    def takes(self, rows: Any) -> Matrix | None:
        """The rows after the steps before, (n_rows, n_features), rounded as scikit-learn does before it compares."""
        for step in self._before:
            rows = step.transform(rows)
        if hasattr(rows, "toarray"):
            if rows.shape[0] * rows.shape[1] > MOST_NUMBERS:
                return None
            rows = rows.toarray()
        try:
            with np.errstate(over="ignore"):
                matrix = np.asarray(rows, dtype=self._own_precision)
        except (ValueError, TypeError):  # scikit-learn says better what is wrong
            return None
        if matrix.ndim != 2 or matrix.shape[1] != self._last.n_features_in_ or not np.isfinite(matrix).all():
            return None
        return np.ascontiguousarray(matrix, dtype=np.float64)

    def answer(self, method: str, taken: Any) -> Any:
        """By the sums of Treelite, and what scikit-learn itself makes of them."""
        # (n_rows, n_outputs, most classes of an output)
        sums = self._gtil.predict(self._trees, taken, nthread=1, pred_margin=True)
        if not self.adds_alike:
            return self._linked(method, sums[:, 0, :])
        if method == "predict":
            return sums[:, 0, 0] if self._last.n_outputs_ == 1 else sums[:, :, 0]
        if self._last.n_outputs_ == 1:
            return sums[:, 0, :]
        return [sums[:, output, :count] for output, count in enumerate(self._last.n_classes_)]

    def _linked(self, method: str, sums: Matrix) -> Any:
        flat = sums[:, 0] if sums.shape[1] == 1 else sums
        if method == "decision_function":
            return flat
        # Its own link: Treelite's has numbers of 32 bits in it.
        loss = self._last._loss
        if method == "predict":
            return flat if class_of(self._last).startswith(BOOSTED) else loss.link.inverse(flat)
        return loss.predict_proba(flat if class_of(self._last).startswith(BOOSTED) else sums)


def class_of(estimator: Any) -> str:
    """The dotted name of the very class: a subclass may predict otherwise."""
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}"


def _imported(ensemble: Any, kind: str) -> Any:
    """A treelite.Model.

    Raises:
        Refused: Treelite does not take it.
    """
    try:
        checked = _checked_bins(ensemble) if kind.startswith(BINNED) else _checked_trees(ensemble, kind)
        # Here, since a process that has no such model does without.
        import treelite.sklearn

        return treelite.sklearn.import_model(checked)
    except (MemoryError, Refused):
        raise
    except Exception as error:  # whatever it raises is a reason
        raise Refused(f"Treelite does not take it: {type(error).__name__}: {' '.join(str(error).split())}") from error


# Treelite believes what an ensemble says of itself and reads memory by it: what a fit leaves out of step by intention
# (`n_estimators` of one that stopped early) or a forged artifact by malice must not come to that.
def _checked_trees(ensemble: Any, kind: str) -> Any:
    stages = np.asarray(ensemble.estimators_, dtype=object)
    if kind.startswith(BOOSTED):
        _require(stages.ndim == 2 and stages.shape[1] == _columns(ensemble), "stages")
    else:
        _require(stages.ndim == 1, "trees")
    counts = np.atleast_1d(getattr(ensemble, "n_classes_", np.ones(getattr(ensemble, "n_outputs_", 1))))
    _require(len(counts) == (1 if kind.startswith(BOOSTED) else ensemble.n_outputs_), "classes")
    _require(all(one.tree_.n_features == ensemble.n_features_in_ for one in stages.ravel()), "features")
    alike = copy.copy(ensemble)
    alike.n_estimators = len(stages)
    return alike


def _checked_bins(ensemble: Any) -> Any:
    if ensemble.is_categorical_ is not None and np.any(ensemble.is_categorical_):
        raise Refused("It splits by categories, which are not compared.")
    _require(np.size(ensemble._baseline_prediction) == _columns(ensemble), "classes")
    for stage in ensemble._predictors:
        _require(len(stage) == _columns(ensemble), "stages")
        for one in stage:
            inner = one.nodes[one.nodes["is_leaf"] == 0]
            _require(not inner["is_categorical"].any(), "categories")
            _require(bool((inner["feature_idx"] < ensemble.n_features_in_).all()), "features")
    return ensemble


def _columns(ensemble: Any) -> int:
    """Trees of a stage."""
    classes = len(getattr(ensemble, "classes_", ()))
    return classes if classes > 2 else 1


def _require(true: bool, what: str) -> None:
    if not true:
        raise Refused(f"Treelite does not take it: it does not have the {what} that it says.")
