"""The findings, for people and for machines."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final, TextIO

from deploy.doctor.finding import Finding, Status

# ECMA-48, section 8.3.117 (SGR): green, yellow, red.
COLOURS: Final = {Status.OK: "32", Status.WARNING: "33", Status.PROBLEM: "31"}
STATUS_WIDTH: Final = max(map(len, Status))
LEAST_WIDTH: Final = 60


def worst(findings: Sequence[Finding]) -> Status:
    """The worst status of all."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)


def as_json(findings: Sequence[Finding]) -> str:
    """One object: the worst status, and each finding."""
    listed: list[dict[str, Any]] = [
        {"check": finding.check, "status": finding.status, "found": finding.found, "action": finding.action}
        for finding in findings
    ]
    return json.dumps({"status": worst(findings), "findings": listed}, indent=2)


def as_table(findings: Sequence[Finding], *, width: int | None, coloured: bool) -> Iterator[str]:
    """A line a finding, below it what to do.

    Args:
        findings: in the order of the report.
        width: of the terminal, at which lines are broken; None: they are not.
        coloured: whether the status is.
    """
    check_width = max(len(finding.check) for finding in findings)
    indent = STATUS_WIDTH + check_width + 4
    for finding in findings:
        status = f"{finding.status:<{STATUS_WIDTH}}"
        if coloured:
            status = f"\x1b[{COLOURS[finding.status]}m{status}\x1b[0m"
        lines = _broken(finding.found, indent, width)
        yield f"{status}  {finding.check:<{check_width}}  {lines[0]}"
        rest = lines[1:] + (_broken(f"-> {finding.action}", indent, width) if finding.action else [])
        yield from (f"{'':{indent}}{line}" for line in rest)
    yield ""
    yield summary(findings)


def summary(findings: Sequence[Finding]) -> str:
    """How many of each."""
    numbers = {status: sum(finding.status is status for finding in findings) for status in Status}
    plural = {status: "" if numbers[status] == 1 else "s" for status in Status}
    return (
        f"{numbers[Status.PROBLEM]} problem{plural[Status.PROBLEM]}, "
        f"{numbers[Status.WARNING]} warning{plural[Status.WARNING]}, {numbers[Status.OK]} ok"
    )


def terminal_width(output: TextIO) -> int | None:
    """Columns of the terminal that is written to; None: it is none."""
    return shutil.get_terminal_size().columns if output.isatty() else None


def _broken(text: str, indent: int, width: int | None) -> list[str]:
    if width is None or width - indent < LEAST_WIDTH // 2:
        return [text]
    return textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False) or [""]
