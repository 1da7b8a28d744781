"""Rows of NDJSON lines that are requests of a batch API: each has a row in its body, and asks what all of them ask."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from shared.batch import ROWS_OF_REQUESTS, Requests
from worker.rows import RowFault

SHOWN: Final = 60


def rows_of_requests(
    lines: Sequence[Any], requests: Requests, nothing: Any, passed: Collection[int] = ()
) -> tuple[list[Any], dict[int, RowFault]]:
    """The row of each line, and the faults of those that have none, by position.

    Args:
        lines: what each line holds.
        requests: what each must say.
        nothing: stands for a row that is not there.
        passed: positions of lines that have a fault already.
    """
    rows: list[Any] = []
    faults: dict[int, RowFault] = {}
    for position, line in enumerate(lines):
        row = nothing
        if position not in passed:
            fault = _fault(line, requests)
            if fault is None:
                body = line["body"]
                row = body["input"] if "input" in body else body["instances"][0]
            else:
                faults[position] = RowFault(position, *fault)
        rows.append(row)
    return rows, faults


def _fault(line: Any, requests: Requests) -> tuple[str, str] | None:
    """Code and message of what is wrong with a line beside its row."""
    if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
        return "not_a_request", 'The line must be {"custom_id": "...", "method": "POST", "url": "...", "body": {...}}.'
    key, body = line.get("custom_id"), line["body"]
    if not isinstance(key, str) or not key:
        return "bad_custom_id", "custom_id must be a string that is not empty."
    for name, wanted in (("method", "POST"), ("url", requests.url)):
        if line.get(name) != wanted:
            return "other_request", f"{name} must be {wanted}; found {_shown(line, name)}."
    # Null is as if it was not there.
    said = {name: value for name, value in body.items() if name not in ROWS_OF_REQUESTS and value is not None}
    asked = {name: value for name, value in requests.body.items() if value is not None}
    if said != asked:
        names = (*asked, *said)
        name = next(name for name in names if said.get(name, ...) != asked.get(name, ...))
        return "other_request", (
            f"body.{name[:SHOWN]} is {_shown(said, name)}, but {_shown(asked, name)} in the first line; all "
            "lines of a batch ask the same of one model."
        )
    forms = [name for name in ROWS_OF_REQUESTS if name in body]
    rows = body.get("instances", [0])
    if len(forms) != 1 or not isinstance(rows, list) or len(rows) != 1:
        return "not_one_row", "body must have one row: as input, or as the only one of instances."
    return None


def _shown(said: dict[str, Any], name: str) -> str:
    return str(said[name])[:SHOWN] if name in said else "nothing"
