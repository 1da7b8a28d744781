"""Everybody side by side: small jobs (online.py) and files (batch.py), in one run on one machine.

    python -m benchmarks --json result.json                    everything: about four hours
    python -m benchmarks --quick                               the important ones, in some minutes
    python -m benchmarks --only jobs foretell litserve 16      of the small jobs only these
    python -m benchmarks --only files linear csv --rows 1000000

What runs, how it is asked and what is checked is said by `python -m benchmarks.online --help` and `python -m
benchmarks.batch --help`; `python -m benchmarks.page result.json` makes a page of the result. The file is written after
each part, also if a wrong answer or an interrupt ended the run: then it says so, and no page is made of it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import batch, batch_report, online, page, report
from benchmarks.batch_files import FORMATS, MODELS
from benchmarks.batch_systems import SYSTEMS as FILE_SYSTEMS
from benchmarks.ending import ended_by_signals, finding_void
from benchmarks.report import circumstances

PARTS = ("jobs", "files")
SHORTER = 5
QUICK_FILES: dict[str, list[str]] = {"system": ["floor", "foretell"], "model": ["linear", "forest"], "format": ["csv"]}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One half of a run: what is planned, how it is measured, and how that is told, in JSON and in text."""

    name: str
    title: str
    plan: Sequence[Any]
    measure: Callable[[], None]
    as_json: Callable[[], dict[str, Any]]
    text: Callable[[], str]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    document: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)]),
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
    }
    texts = []
    with ended_by_signals():
        for part in _parts(options):
            if part.plan and not document.get("void"):
                document["void"] = finding_void(part.measure)
                document[part.name] = part.as_json()
                document |= circumstances(document["command"], batch.PACKAGES)
                texts.append(f"\n{part.title}\n\n{part.text()}")
                if options.json:
                    options.json.write_text(json.dumps(rounded(document), indent=1) + "\n")
    print(*texts, sep="\n")
    if document["void"]:
        return 1
    if options.page:
        page.write(options.json, page.DOCS)
    return 0


def rounded(value: Any) -> Any:
    """A document with five digits of every number, which is more than any of them is worth."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _parts(options: argparse.Namespace) -> list[Part]:
    jobs, files = report.Measured(), batch_report.Measured()
    return [
        Part(
            name="jobs",
            title=f"Small jobs: medians of {options.rounds} rounds of {options.seconds:g} s",
            plan=options.jobs_plan,
            measure=lambda: online.measure(options.jobs_plan, options, jobs),
            as_json=lambda: report.as_json(jobs, options),
            text=lambda: report.text(jobs),
        ),
        Part(
            name="files",
            title=f"Files: medians of {options.rounds} rounds",
            plan=options.files_plan,
            measure=lambda: batch.measure(options.files_plan, files, folder=None, rounds=options.rounds),
            as_json=lambda: {"rounds": options.rounds} | batch_report.as_json(files),
            text=lambda: batch_report.text(files),
        ),
    ]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    online.add_options(parser)
    parser.add_argument("--rows", type=int, help="of each file (default 5000000, quick 1000000)")
    parser.add_argument("--rows-naive", type=int, help="of a file for those that are slow (default 500000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, the medians and the ratios")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md and its pictures from it")
    options = parser.parse_args(arguments)
    if options.page and not options.json:
        parser.error("--page needs --json, which it is made of")
    words = file_words()
    online.complete_options(parser, options, also=[*PARTS, *chain.from_iterable(words.values())])
    options.rows = options.rows or (1_000_000 if options.quick else 5_000_000)
    options.rows_naive = options.rows_naive or 500_000
    if min(options.rows, options.rows_naive) < 1:
        parser.error("--rows and --rows-naive must be at least 1")
    parts = chosen_parts(options.only)
    usual = QUICK_FILES if options.quick else words
    named = {kind: [word for word in known if word in options.only] for kind, known in words.items()}
    files = argparse.Namespace(
        only=named["system"] or usual["system"],
        models=named["model"] or usual["model"],
        formats=named["format"] or usual["format"],
        rows=[options.rows],
        rows_naive=options.rows_naive,
        workers=[2],
        accelerate=[],
    )
    options.jobs_plan = online.plan_of(options) if "jobs" in parts else []
    options.files_plan = with_shorter(batch.plan_of(files)) if "files" in parts else []
    if not options.jobs_plan and not options.files_plan:
        parser.error("nothing is left to measure")
    return options


def with_shorter(plan: Sequence[batch_report.Cell]) -> list[batch_report.Cell]:
    """A plan in which Foretell scores a fifth of one file too, so that time and memory can be seen not to grow."""
    own = [cell for cell in plan if cell.system == "foretell"][:1]
    return [*(replace(cell, rows=max(1, cell.rows // SHORTER)) for cell in own), *plan]


def file_words() -> dict[str, list[str]]:
    """What `--only` knows of files, by kind."""
    return {"system": [system.name for system in FILE_SYSTEMS], "model": list(MODELS), "format": list(FORMATS)}


def chosen_parts(only: Sequence[str]) -> list[str]:
    """The parts that are named; else those that words of theirs alone are of, or both."""
    if named := [part for part in PARTS if part in only]:
        return named
    of_jobs, of_files = (
        {word for kind in words.values() for word in kind} for words in (online.job_words(), file_words())
    )
    alone = {"jobs": of_jobs - of_files, "files": of_files - of_jobs}
    return [part for part in PARTS if alone[part] & set(only)] or list(PARTS)


if __name__ == "__main__":
    sys.exit(main())
