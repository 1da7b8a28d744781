"""Which argument of fit takes the weights of the rows."""

from typing import Any, Final

from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.feature_selection import RFE
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from shared.errors import InvalidRequest

# Their fit hands what it is given to the one estimator within; that of others, such as OneVsRestClassifier, refuses it.
_HANDS_ON: Final = (GridSearchCV, RandomizedSearchCV, TransformedTargetRegressor, RFE)
# Their fit hands sample_weight, under this name, to each estimator within.
_HANDS_TO_ALL: Final = (StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor)
_WEIGHT: Final = "sample_weight"


def weight_parameter(estimator: Any) -> str:
    """What the weights of the rows are called in a call of fit: of a pipeline they are for its last step.

    Raises:
        InvalidRequest: `takes_no_weights`
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{weight_parameter(last)}"
    if has_fit_parameter(estimator, _WEIGHT):
        return _WEIGHT
    if isinstance(estimator, _HANDS_ON):
        inner = estimator.regressor if isinstance(estimator, TransformedTargetRegressor) else estimator.estimator
        # Without a regressor it is a linear regression, which takes weights.
        return _WEIGHT if inner is None else weight_parameter(inner)
    if isinstance(estimator, _HANDS_TO_ALL):
        members = [member for _, member in estimator.estimators if not isinstance(member, str)]
        members += [final] if (final := getattr(estimator, "final_estimator", None)) is not None else []
        refusing = next((member for member in members if not has_fit_parameter(member, _WEIGHT)), None)
        if refusing is None:
            return _WEIGHT
        estimator = refusing
    message = f"{type(estimator).__name__} takes no weights of rows; leave sample_weight out."
    raise InvalidRequest(
        message, errors=[{"pointer": "/sample_weight", "code": "takes_no_weights", "message": message}]
    )
