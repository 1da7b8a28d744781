"""A model's signature: the declared features and outputs of a version, and the check of rows against it."""

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from shared.errors import InvalidRequest, TooManyInstances, UnknownMethod
from shared.schema import known

FeatureType = Literal["number", "integer", "string", "boolean"]
# What the estimator is given: a float64 matrix, a table with named columns, or a list of strings.
Container = Literal["matrix", "table", "dataframe", "text"]

MOST_ERRORS: Final = 20
MOST_HINTS: Final = 50
# (index of the row, column or position or None for the row) -> JSON pointer (RFC 6901)
Locate = Callable[[int, str | int | None], str]
_INFINITE: Final = (float("inf"), float("-inf"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One input column."""

    name: str
    type: FeatureType
    nullable: bool = False  # null means missing, and the model takes missing values


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What a version takes and gives."""

    container: Container
    features: tuple[Feature, ...]
    methods: tuple[str, ...]
    outputs: tuple[dict[str, Any], ...] = ()
    classes: tuple[Any, ...] | None = None
    example: tuple[Any, ...] = ()  # a row that the model is known to take

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "container": self.container,
            "features": [{"name": f.name, "type": f.type, "nullable": f.nullable} for f in self.features],
            "methods": list(self.methods),
            "outputs": list(self.outputs),
            "classes": None if self.classes is None else list(self.classes),
            "example": list(self.example),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Signature":
        """From JSON, as `to_dict` wrote it."""
        return cls(
            container=raw["container"],
            features=tuple(Feature(**known(Feature, feature)) for feature in raw["features"]),
            methods=tuple(raw["methods"]),
            outputs=tuple(raw["outputs"]),
            classes=None if raw["classes"] is None else tuple(raw["classes"]),
            example=tuple(raw.get("example", ())),
        )

    def check_method(self, method: str, top_k: int | None) -> None:
        """See that the model has the method.

        Raises:
            UnknownMethod: with the methods that it has.
            InvalidRequest: top_k for a model that has no probabilities, or with another method.
        """
        if method not in self.methods:
            message = f"This model has no method {method!r}; it has {', '.join(self.methods)}."
            raise UnknownMethod(message, errors=[{"pointer": "/method", "code": "unknown_method", "message": message}])
        if top_k is None:
            return
        if "predict_proba" not in self.methods:
            message = "top_k needs a classifier with predict_proba, which this model is not; leave top_k out."
        elif method not in ("predict", "predict_proba"):
            message = f"top_k goes with the method predict or predict_proba, not with {method}."
        elif self.classes is None:
            message = "top_k needs a classifier with one output; this one has several."
        else:
            return
        raise InvalidRequest(
            message, errors=[{"pointer": "/top_k", "code": "top_k_not_applicable", "message": message}]
        )


class _Missing:
    """The value of a column that a record does not have."""


_MISSING: Final = _Missing()


def _number(value: Any) -> tuple[Any, str | None]:
    if type(value) is float or type(value) is int:
        return (value, None) if value not in _INFINITE else (value, "not_finite")
    return value, "not_a_number"


def _integer(value: Any) -> tuple[Any, str | None]:
    if type(value) is int:
        return value, None if -(2**63) <= value < 2**63 else "out_of_range"
    if type(value) is float and value.is_integer() and abs(value) < 2**63:
        return int(value), None
    return value, "not_an_integer"


def _boolean(value: Any) -> tuple[Any, str | None]:
    return value, None if type(value) is bool else "not_a_boolean"


def _string(value: Any) -> tuple[Any, str | None]:
    return value, None if type(value) is str else "not_a_string"


_CHECKS: Final[Mapping[FeatureType, Callable[[Any], tuple[Any, str | None]]]] = {
    "number": _number,
    "integer": _integer,
    "string": _string,
    "boolean": _boolean,
}
_EXPECTED: Final[Mapping[str, str]] = {
    "not_a_number": "a number",
    "not_finite": "a finite number",
    "not_an_integer": "a whole number",
    "out_of_range": "a whole number of at most 64 bits",
    "not_a_boolean": "true or false",
    "not_a_string": "a string",
}


@dataclass(slots=True)
class RowChecker:
    """Checks rows against a signature, made once for each version.

    Raises from `check`:
        InvalidRequest: up to 20 faults, each with its row (from 1), column, pointer, and what was found and expected.
    """

    signature: Signature
    max_rows: int
    max_text_length: int
    max_columns: int = 10_000
    _names: list[str] = field(init=False)
    _plain_numbers: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look up once what every row needs."""
        features = self.signature.features
        self._names = [feature.name for feature in features]
        self._plain_numbers = all(feature.type == "number" for feature in features)

    def check(
        self, instances: Sequence[Any], pointer: str = "/instances", locate: Locate | None = None
    ) -> list[list[Any]]:
        """The rows in feature order, as n_rows lists of n_features values.

        `pointer` says where the rows are in the body, and `locate` where a value of them is, if that is not
        `<pointer>/<index of the row>/<column or position>`.
        """
        locate = locate or (lambda index, key: f"{pointer}/{index}" + ("" if key is None else f"/{escaped(key)}"))
        if not instances:
            message = "There are no rows; send at least one."
            raise InvalidRequest(message, errors=[{"pointer": pointer, "code": "no_rows", "message": message}])
        if len(instances) > self.max_rows:
            message = (
                f"{len(instances)} rows are more than the {self.max_rows} that one prediction job may have; "
                "split them over several jobs."
            )
            raise TooManyInstances(
                message, errors=[{"pointer": pointer, "code": "too_many_instances", "message": message}]
            )
        rows: list[list[Any]] = []
        errors: list[dict[str, Any]] = []
        width = len(self._names)
        for index, instance in enumerate(instances):
            if (
                self._plain_numbers
                and type(instance) is list
                and len(instance) == width
                and all((type(v) is float or type(v) is int) and v not in _INFINITE for v in instance)
            ):
                rows.append(instance)
                continue
            row = self._row(instance, index, locate, errors)
            if row is not None:
                rows.append(row)
            if len(errors) >= MOST_ERRORS:
                break
        if errors:
            bad = len({error["row"] for error in errors})
            more = f", and {bad - 1} more {'row' if bad == 2 else 'rows'}" if bad > 1 else ""
            raise InvalidRequest(f"{errors[0]['message']} (row {errors[0]['row']}{more})", errors=errors[:MOST_ERRORS])
        return rows

    def _row(self, instance: Any, index: int, locate: Locate, errors: list[dict[str, Any]]) -> list[Any] | None:
        """One row in feature order, or None with its faults added to `errors`."""
        features = self.signature.features
        named = type(instance) is dict
        place = locate(index, None)
        if named and len(instance) > self.max_columns:
            message = f"The row has {len(instance)} columns, and {self.max_columns} are the most; send the model's."
            errors.append({"row": index + 1, "pointer": place, "code": "too_many_columns", "message": message})
            return None
        if named:
            values = [instance.get(name, _MISSING) for name in self._names]
        elif type(instance) is list:
            values = instance
        elif len(features) == 1:
            values = [instance]
        else:
            message = (
                f"A row must be an array of {len(features)} values or an object with the columns {self._columns()}; "
                f"found {_shown(instance)}."
            )
            errors.append({"row": index + 1, "pointer": place, "code": "not_a_row", "message": message})
            return None
        if len(values) != len(features):
            message = f"The row has {len(values)} values, but the model takes {len(features)}: {self._columns()}."
            errors.append({"row": index + 1, "pointer": place, "code": "wrong_number_of_values", "message": message})
            return None
        row: list[Any] = []
        faults = len(errors)
        for position, (feature, value) in enumerate(zip(features, values, strict=True)):
            checked, code, message = self._value(feature, value, instance)
            if code is not None:
                where = locate(index, feature.name if named else position)
                errors.append(
                    {"row": index + 1, "column": feature.name, "pointer": where, "code": code, "message": message}
                )
            row.append(checked)
        return row if len(errors) == faults else None

    def _value(self, feature: Feature, value: Any, instance: Any) -> tuple[Any, str | None, str]:
        if value is _MISSING:
            # Bounded: a record may have a hundred thousand columns of other things.
            others = [name for name in itertools.islice(instance, MOST_HINTS) if name not in self._names]
            close = difflib.get_close_matches(feature.name, others, n=1)
            hint = f" Did you mean it by {close[0]!r}?" if close else ""
            return None, "missing_column", f"Column {feature.name} is missing.{hint}"
        if value is None:
            if feature.nullable:
                return None, None, ""
            return None, "missing_value", must_be_there(feature)
        checked, code = _CHECKS[feature.type](value)
        if code is not None:
            return None, code, must_be(feature.name, code, value)
        if type(value) is str and len(value) > self.max_text_length:
            return None, "text_too_long", too_long(feature.name, len(value), self.max_text_length)
        return checked, None, ""

    def _columns(self) -> str:
        shown = ", ".join(self._names[:20])
        return shown if len(self._names) <= 20 else f"{shown}, ... ({len(self._names)} in all)"


def escaped(key: str | int) -> str:
    """A key as a part of a JSON pointer (RFC 6901, section 3)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def must_be(column: str, code: str, value: Any) -> str:
    """The message about a value of another type."""
    return f"Column {column} must be {_EXPECTED[code]}; found {_shown(value)}."


def must_be_there(feature: Feature, found: str = "null") -> str:
    """The message about a missing value of a feature that is not nullable."""
    return f"Column {feature.name} is {found}, and the model takes no missing values; send {_article(feature.type)}."


def too_long(column: str, length: int, most: int) -> str:
    """The message about a string of too many characters."""
    return f"Column {column} has {length} characters; at most {most} are allowed."


def _article(kind: FeatureType) -> str:
    return {"number": "a number", "integer": "a whole number", "string": "a string", "boolean": "true or false"}[kind]


def _shown(value: Any) -> str:
    """A value as its sender knows it, shortened."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the string {value[:40]!r}" if len(value) <= 40 else f"the string {value[:40]!r}..."
        case list():
            return f"an array of {len(value)} values"
        case dict():
            return "an object"
        case float() if value in _INFINITE:
            return "a number that is too large"
        case _:
            return str(value)
