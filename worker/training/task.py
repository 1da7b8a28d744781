"""What kind of prediction a champion makes, which decides how a challenger is split off, measured and judged."""

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from sklearn.base import is_classifier, is_regressor

from shared.errors import InvalidRequest

Task = Literal["regression", "binary", "multiclass"]

# Where a meta estimator keeps the fitted one that answers for it.
_INNER: Final = ("best_estimator_", "estimator_", "regressor_")


def task_of(estimator: Any) -> Task:
    """The task of a fitted estimator: of a pipeline or meta estimator that of the one that answers.

    A classifier with one or two classes is binary.

    Raises:
        InvalidRequest: `not_trainable`: it cannot be fitted again (such as ONNX), it is no classifier and no regressor,
            it was never fitted, or it has several outputs.
    """
    if not (hasattr(estimator, "get_params") and hasattr(estimator, "fit")):
        raise _not_trainable(
            f"{_name(estimator)} only predicts and cannot be fitted again (ONNX graphs are such models); "
            "name a scikit-learn version as the base of the recipe, or train outside and register a new version."
        )
    last = _last_step(estimator)
    if not (hasattr(last, "get_params") and (is_classifier(estimator) or is_regressor(estimator))):
        raise _not_trainable(
            f"{_name(last)} is neither a classifier nor a regressor, so there is no target to compare on; "
            "retraining needs an estimator or a pipeline that ends in one."
        )
    if not hasattr(last, "predict") or not any(name.endswith("_") for name in vars(last)):
        raise _not_trainable(f"{_name(last)} is not fitted; register a fitted estimator.")
    if any(_has_several_outputs(part) for part in _answering(estimator)):
        raise _not_trainable(
            f"{_name(last)} has several outputs; retraining is for one target. Make one model for each output."
        )
    if is_regressor(estimator):
        return "regression"
    return "binary" if len(estimator.classes_) <= 2 else "multiclass"


def _answering(estimator: Any) -> Iterator[Any]:
    """The estimator and, from outside in, those within it that answer for it."""
    while estimator is not None:
        yield estimator
        last = _last_step(estimator)
        members = getattr(estimator, "estimators_", None)
        # Of bagging, voting and the like each member has as many outputs as the whole.
        member = members[0] if isinstance(members, list) and hasattr(members[0], "predict") else None
        inner = [last if last is not estimator else None, member, *(getattr(estimator, name, None) for name in _INNER)]
        estimator = next((one for one in inner if one is not None), None)


def _has_several_outputs(estimator: Any) -> bool:
    if type(estimator).__name__ in ("MultiOutputRegressor", "MultiOutputClassifier", "RegressorChain"):
        return True
    if is_classifier(estimator):
        binarizer = getattr(estimator, "_label_binarizer", None)
        return (
            isinstance(getattr(estimator, "classes_", None), list)
            or getattr(estimator, "multilabel_", False)
            or str(getattr(binarizer, "y_type_", "")).startswith("multi" + "label")
        )
    if getattr(estimator, "n_outputs_", 1) > 1:
        return True
    coefficients = np.shape(getattr(estimator, "coef_", ()))
    duals = () if hasattr(estimator, "intercept_") else np.shape(getattr(estimator, "dual_coef_", ()))
    targets = [np.shape(getattr(estimator, name, ())) for name in ("_y", "y_train_")]
    return (len(coefficients) == 2 and coefficients[0] > 1) or any(
        len(shape) == 2 and shape[1] > 1 for shape in [duals, *targets]
    )


def _last_step(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return _last_step(steps[-1][1]) if isinstance(steps, list) and steps else estimator


def _name(estimator: Any) -> str:
    return estimator if isinstance(estimator, str) else type(estimator).__name__


def _not_trainable(message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": "/model", "code": "not_trainable", "message": message}])
