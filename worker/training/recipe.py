"""Which parameters a training tries: the champion's own, one other set, or the candidates of a search."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

from shared.errors import InvalidRequest

Params = dict[str, Any]

MOST_CANDIDATES: Final = 1000  # each costs as many fits as there are folds
DEFAULT_BUDGET: Final = 20  # candidates of distributions, which have no end of their own
_MOST_HINTS: Final = 5
_TOO_LARGE: Final = 1e300  # so that no difference of two ends overflows
_MOST_DRAWS: Final = 50  # for each candidate, when most have been drawn before
# They would let a request choose what the worker reads or writes on its disk.
_PLACES: Final = ("memory", "input")
# They say how the worker runs a fit, and nothing about the model.
_RUNNING: Final = ("n_jobs", "verbose", "pre_dispatch")
_WAYS: Final = ("params", "param_grid", "distributions")
_KINDS: Final = ("uniform", "log_uniform", "integers", "choices")


def candidates(estimator: Any, recipe: Mapping[str, Any]) -> list[Params]:
    """The parameter sets that a training tries, in a fixed order; {} stands for the champion's own.

    Args:
        estimator: the champion.
        recipe: one of `params` (a set), `param_grid` (lists by name, or several such grids; in the order of
            scikit-learn's ParameterGrid) and `distributions` (by name {"uniform": [low, high]}, {"log_uniform": [low,
            high]}, {"integers": [low, high]} with both ends, or {"choices": [...]}); with `budget`, the most candidates
            (a larger grid is sampled without replacement), and `seed`. None is as good as left out, and what else it
            holds is not looked at.

    Returns:
        At least one set of values that JSON can say. Different from each other, if they come from distributions; these
        may then be fewer than the budget.

    Raises:
        InvalidRequest: with a pointer to the parameter: it is unknown (with names that are like it), its value is
            refused, or it may not be set; or there are too many candidates. What a parameter refuses only beside
            others is found by the first fit.
    """
    given = [way for way in _WAYS if recipe.get(way) is not None]
    if len(given) > 1:
        message = f"A recipe has one of {', '.join(_WAYS)}, not {' and '.join(given)}."
        raise _fault("/recipe", "ambiguous_recipe", message)
    budget, seed = recipe.get("budget"), recipe.get("seed") or 0
    if budget is not None and not (type(budget) is int and 1 <= budget <= MOST_CANDIDATES):
        message = f"budget must be a whole number from 1 to {MOST_CANDIDATES}, not {_shown(budget)}."
        raise _fault("/recipe/budget", "too_many_candidates" if _is_number(budget) else "bad_value", message)
    match given:
        case ["params"]:
            _check_all(estimator, recipe["params"].items(), "/recipe/params")
            return [dict(recipe["params"])]
        case ["param_grid"]:
            return _from_grid(estimator, recipe["param_grid"], budget, seed)
        case ["distributions"]:
            return _from_distributions(estimator, recipe["distributions"], budget or DEFAULT_BUDGET, seed)
        case _:
            return [{}]


def untrained(estimator: Any, params: Mapping[str, Any]) -> Any:
    """A copy of an estimator that is not fitted, with other parameters; its random_state stays unless it is among them.

    Args:
        estimator: the champion.
        params: a candidate.
    """
    known = estimator.get_params(deep=True)
    taken = {name: _taken(*_found(estimator, known, name), value) for name, value in params.items()}
    return clone(estimator).set_params(**taken)


def _from_grid(estimator: Any, grid: Any, budget: int | None, seed: int) -> list[Params]:
    several = isinstance(grid, list)
    for number, part in enumerate(grid if several else [grid]):
        pointer = f"/recipe/param_grid/{number}" if several else "/recipe/param_grid"
        if not isinstance(part, Mapping):
            raise _fault(pointer, "bad_value", "A grid is an object of lists by parameter name.")
        for name, values in part.items():
            where = f"{pointer}/{_escaped(name)}"
            if not isinstance(values, list) or not values:
                raise _fault(where, "bad_value", f"{name} in a grid must be a list of at least one value.")
            _check_all(estimator, ((name, value) for value in values), pointer)
    if not grid:
        raise _fault("/recipe/param_grid", "bad_value", "The grid is empty; name at least one parameter.")
    size = sum(math.prod(map(len, part.values())) for part in (grid if several else [grid]))
    if budget is None and size > MOST_CANDIDATES:
        message = f"The grid has {size} candidates, more than {MOST_CANDIDATES}; give a budget to try some of them."
        raise _fault("/recipe/param_grid", "too_many_candidates", message)
    if size >= 2**63:
        message = "The grid has more candidates than can be numbered; make it smaller, or give distributions."
        raise _fault("/recipe/param_grid", "too_many_candidates", message)
    sets = ParameterGrid(grid)
    if budget is None or size <= budget:
        return [dict(one) for one in sets]
    chosen = np.random.default_rng(seed).choice(size, budget, replace=False)
    return [dict(sets[int(number)]) for number in np.sort(chosen)]


def _from_distributions(estimator: Any, distributions: Mapping[str, Any], budget: int, seed: int) -> list[Params]:
    if not distributions:
        raise _fault("/recipe/distributions", "bad_value", "Name at least one parameter with its distribution.")
    parsed = {name: _parsed(name, spec) for name, spec in distributions.items()}
    for name, (kind, values) in parsed.items():
        ends = [float(value) for value in values] if kind in ("uniform", "log_uniform") else values
        _check_all(estimator, ((name, value) for value in ends), "/recipe/distributions")
    generator = np.random.default_rng(seed)
    found: dict[str, Params] = {}
    for _ in range(budget * _MOST_DRAWS):
        drawn = {name: _drawn(generator, *parsed[name]) for name in sorted(parsed)}
        found.setdefault(json.dumps(drawn, sort_keys=True), drawn)
        if len(found) == budget:
            break
    return list(found.values())


def _parsed(name: str, spec: Any) -> tuple[str, Sequence[Any]]:
    pointer = f"/recipe/distributions/{_escaped(name)}"
    if not isinstance(spec, Mapping) or len(spec) != 1 or next(iter(spec)) not in _KINDS:
        message = f'{name} must have one distribution of {", ".join(_KINDS)}, such as {{"uniform": [0.1, 0.9]}}.'
        raise _fault(pointer, "bad_value", message)
    kind, values = next(iter(spec.items()))
    if not isinstance(values, list) or not values:
        raise _fault(pointer, "bad_value", f"{kind} of {name} must be a list of values.")
    if kind == "choices":
        return kind, values
    whole = kind != "integers" or all(type(value) is int and abs(value) < 2**63 for value in values)
    if len(values) != 2 or not all(map(_is_number, values)) or not whole or not values[0] <= values[1]:
        of = "whole numbers" if kind == "integers" else "numbers"
        raise _fault(pointer, "bad_value", f"{kind} of {name} must be two {of} [low, high], low not above high.")
    if kind == "log_uniform" and values[0] <= 0:
        raise _fault(pointer, "bad_value", f"log_uniform of {name} must be above 0, not {_shown(values[0])}.")
    return kind, values


def _drawn(generator: np.random.Generator, kind: str, values: Sequence[Any]) -> Any:
    match kind:
        case "uniform":
            return float(generator.uniform(values[0], values[1]))
        case "log_uniform":
            exponent = generator.uniform(math.log(values[0]), math.log(values[1]))
            return min(max(math.exp(exponent), float(values[0])), float(values[1]))
        case "integers":
            return int(generator.integers(values[0], values[1], endpoint=True))
        case _:
            return values[int(generator.integers(len(values)))]


def _check_all(estimator: Any, given: Iterable[tuple[str, Any]], pointer: str) -> None:
    """See that parameters exist and take the values.

    Raises:
        InvalidRequest
    """
    known = estimator.get_params(deep=True)
    for name, value in given:
        where = f"{pointer}/{_escaped(name)}"
        if name not in known:
            like = difflib.get_close_matches(name, known, _MOST_HINTS) or _of_steps(name, known)
            hint = f"did you mean {', '.join(like)}?" if like else "see get_params() of the pipeline."
            raise _fault(where, "unknown_parameter", f"The model has no parameter {name!r}; {hint}")
        owner, own, current = _found(estimator, known, name)
        if own in _RUNNING:
            message = f"{name} says how a fit is run and cannot be set by a recipe; the service chooses it."
            raise _fault(where, "parameter_not_allowed", message)
        if own in _PLACES or (_holds_estimators(current) and not _may_be_left_out(owner, own, value)):
            what = "names a place on the server" if own in _PLACES else "is made of estimators"
            message = f"{name} {what} and cannot be set by a recipe; register a version that has it instead."
            raise _fault(where, "parameter_not_allowed", message)
        try:
            _taken(owner, own, current, value)
        except InvalidParameterError as error:
            raise _fault(where, "bad_value", f"{name}: {error}") from error


def _of_steps(name: str, known: Params) -> list[str]:
    """Parameters of that name, of whatever step: ridge__alpha for alpha."""
    own = name.rpartition("__")[2]
    return [one for one in known if one.rpartition("__")[2] == own][:_MOST_HINTS]


def _found(estimator: Any, known: Params, name: str) -> tuple[Any, str, Any]:
    """The estimator that has the parameter, its own name there, and its value."""
    path, _, own = name.rpartition("__")
    return known[path] if path else estimator, own, known[name]


def _holds_estimators(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return any(_holds_estimators(part) if isinstance(part, tuple) else hasattr(part, "get_params") for part in parts)


def _may_be_left_out(owner: Any, own: str, value: Any) -> bool:
    """Whether the value leaves out a step that is not the one that predicts."""
    steps = [step[0] for step in getattr(owner, "steps", [])[:-1]]
    parts = [part[0] for name in ("transformers", "transformer_list") for part in getattr(owner, name, [])]
    return value in ("passthrough", "drop") and own in steps + parts


def _taken(owner: Any, own: str, current: Any, value: Any) -> Any:
    """The value as the estimator takes it: JSON has lists only, where some parameters must be tuples.

    Raises:
        InvalidParameterError: it does not take it.
    """
    constraints = getattr(owner, "_parameter_constraints", {})
    name = type(owner).__name__
    if isinstance(value, list) and isinstance(current, tuple):
        value = tuple(value)
    try:
        validate_parameter_constraints(constraints, {own: value}, name)
    except InvalidParameterError:
        if not isinstance(value, list):
            raise
        value = tuple(value)
        validate_parameter_constraints(constraints, {own: value}, name)
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _TOO_LARGE


def _shown(value: Any) -> str:
    return json.dumps(value, default=repr)[:100]


def _escaped(name: str) -> str:
    """As a part of a JSON pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _fault(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])
