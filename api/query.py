"""Query parameters that several routes read."""

import re

from flask import request

from api.errors import RequestFault


def limit_of(default: int, most: int) -> int:
    """The parameter `limit`: how many entries are wanted.

    Raises:
        RequestFault: it is no number from 1 to `most`, which is less than 1,000.
    """
    given = request.args.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= most:
        raise RequestFault(400, "bad_parameter", f"limit must be a whole number from 1 to {most}, not {given[:20]}.")
    return int(given)


def only_known_parameters(*known: str) -> None:
    """Refuse a query parameter that would do nothing.

    Raises:
        RequestFault
    """
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise RequestFault(400, "unknown_parameter", f"{unknown[0][:100]} is not a parameter; {there}.")


def flag(name: str) -> bool:
    """A query parameter that is true or false; false without it.

    Raises:
        RequestFault: it is something else.
    """
    given = request.args.get(name, "false").lower()
    if given not in ("true", "1", "false", "0"):
        raise RequestFault(400, "bad_parameter", f"{name} must be true or false, not {given[:20]}.")
    return given in ("true", "1")
