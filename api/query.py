"""Query parameters that several routes read."""

from flask import request

from api.errors import RequestFault


def only_known_parameters(*known: str) -> None:
    """Refuse a query parameter that would do nothing.

    Raises:
        RequestFault
    """
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        there = ", ".join(known)
        raise RequestFault(400, "unknown_parameter", f"{unknown[0][:100]} is not a parameter; there are {there}.")


def flag(name: str) -> bool:
    """A query parameter that is true or false; false without it.

    Raises:
        RequestFault: it is something else.
    """
    given = request.args.get(name, "false").lower()
    if given not in ("true", "1", "false", "0"):
        raise RequestFault(400, "bad_parameter", f"{name} must be true or false, not {given[:20]}.")
    return given in ("true", "1")
