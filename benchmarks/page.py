"""The page docs/benchmarks.md and its pictures, from the result of a run.

    python -m benchmarks.page benchmarks/results/bench.json

A profile (profile.py) that lies beside the result as `profile.json` becomes a section of the page. Every number on the
page is in one of them, or is rounded from one that is.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks import profile_report
from benchmarks.ahead import ahead
from benchmarks.environment import UnavailableError, interpreter
from benchmarks.goals import goals, polled
from benchmarks.processes import CHECKOUT
from benchmarks.tables import Document, files_table, jobs_table, place_name, places, table

DOCS = CHECKOUT / "docs"
PROFILE = "profile.json"
DRAW_SECONDS = 120.0
# What else ran took less than this part of the machine on a quiet one.
QUIET_PERCENT = 5.0
PICTURES = {
    "jobs": "Bars: jobs a second of every system",
    "latency": "Bars: p50 and p99 of every system",
    "clients": "Bars: jobs a second by the number of clients",
    "files": "Bars: rows a second of every system",
}


class NoResultError(Exception):
    """A run that was void, interrupted or measured nothing makes no page."""


def write(result: Path, docs: Path) -> None:
    """Write `benchmarks.md` into a folder of documents, and its pictures beneath.

    Raises:
        NoResultError: there is nothing that may be shown.
    """
    document, beside = json.loads(result.read_text()), result.with_name(PROFILE)
    profile = json.loads(beside.read_text()) if beside.exists() else None
    written = text(document, [], "")  # refuses before anything is drawn
    for old in (docs / "images").glob("benchmarks-*.png"):
        old.unlink()
    try:
        pictures = _draw(result, docs / "images")
    except UnavailableError as error:
        print(f"without pictures: {error}", file=sys.stderr)
        pictures = []
    written = text(document, pictures, _link(result), profile, _link(beside))
    (docs / "benchmarks.md").write_text(written, encoding="utf-8")


def _link(result: Path) -> str:
    """From the page to a result; empty if it does not lie in the repository."""
    path = result.resolve()
    return f"../{path.relative_to(CHECKOUT)}" if path.is_relative_to(CHECKOUT) else ""


def _draw(result: Path, folder: Path) -> list[str]:
    command = [str(interpreter("plots")), "-m", "benchmarks.plots", str(result.resolve()), str(folder.resolve())]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DRAW_SECONDS)
    if done.returncode:
        raise UnavailableError(f"cannot draw: {done.stderr}")
    return list(json.loads(done.stdout))


def text(
    document: Document,
    pictures: Sequence[str],
    source: str,
    profile: Document | None = None,
    profile_source: str = "",
) -> str:
    """The page in Markdown; the sources are the links to the results, where they lie in the repository.

    Raises:
        NoResultError: there is nothing that may be shown. A profile that was void, or of another machine, is left out.
    """
    if document.get("void"):
        raise NoResultError(f"the run was void: {document['void']}")
    cells = document.get("jobs", {}).get("cells", [])
    files = document.get("files", {}).get("cells", [])
    if not cells and not files:
        raise NoResultError("the run measured nothing")
    parts = [
        "# Benchmarks",
        "Foretell beside its neighbours and beside what one would write without it: small jobs and files, on one "
        "machine, with the same models, rows and client, one system at a time and in turn. Every answer was compared "
        "with the model's own predictions: one that was wrong, lost or doubled would have voided the run.",
        _circumstances(document, source),
        goals(document),
        polled(document),
        ahead(cells, files),
    ]
    if cells:
        parts += [*_jobs(cells, pictures)]
    if files:
        parts += [*_files(files, pictures)]
    if profile and not profile["void"] and profile["machine"] == document["machine"]:
        parts.append(profile_report.section(profile, profile_source))
    parts += [*_systems(document), *_missing(document), *_again()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _circumstances(document: Document, source: str) -> str:
    machine = document["machine"]
    minutes = (_moment(document["ended_at"]) - _moment(document["began_at"])).total_seconds() / 60
    lines = [
        f"Written by `python -m benchmarks.page` from {f'[a result]({source})' if source else 'the result'} of "
        f"`{document['command']}`, which took {minutes:.0f} minutes and ended at {document['ended_at']}, on "
        f"{machine['cores']} cores ({machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}), Python "
        f"{document['versions']['python']}. The client ran on the same cores. "
    ]
    if "jobs" in document:
        jobs = document["jobs"]
        lines.append(
            f"Small jobs: {jobs['rounds']} round{'s' * (jobs['rounds'] != 1)} of {jobs['seconds']:g} s after "
            f"{jobs['warm_up_seconds']:g} s of warm-up. "
        )
    if "files" in document:
        rounds = document["files"]["rounds"]
        lines.append(f"Files: {rounds} round{'s' * (rounds != 1)}. ")
    others = statistics.median(
        cell["median"]["others_cpu_percent"]
        for part in ("jobs", "files")
        for cell in document.get(part, {}).get("cells", [])
    )
    lines.append(f"Something else took {others:.0f} % of the machine, by the median of all lines below.")
    if others > QUIET_PERCENT:
        lines.append(
            "\n\n**The machine was not quiet**: others used it during the run, more of it in one minute than in the "
            "next. So the figures say that everything runs and is right; whom they make fast or slow may be chance."
        )
    return "".join(lines)


def _moment(words: str) -> datetime:
    return datetime.fromisoformat(words)


def _jobs(cells: Sequence[Document], pictures: Sequence[str]) -> Iterator[str]:
    yield "## Small jobs"
    yield (
        "`linear-bench` is a LinearRegression of 3 features, `forest-bench` a RandomForestRegressor of 100 trees and "
        "10 features, `text-bench` a TfidfVectorizer with a LogisticRegression, from a string to one of nine classes. "
        "Each client has one job at a time: `poll` submits it and asks until it is done, 5 ms after each answer, "
        "`wait` submits it with `Prefer: wait`, `sync` is a request and its answer, `call` is an empty Celery task "
        "without HTTP. Foretell answers a look at a job that was accepted a moment ago only when the job is done or "
        "`FORETELL_POLL_PATIENCE_SECONDS` have passed. Latency is from submitting to holding the predictions; jobs "
        "that were out when the window closed count in it, not in jobs/s; p99.9 of fewer than a thousand jobs is their "
        "longest. CPU is that of all server processes, Redis included, for 1,000 "
        "jobs; memory is their proportional set size after the measurement; `refused` are the answers for 1,000 jobs "
        "that asked to come again later, as the client did. Lowest and highest are of the rounds."
    )
    yield from _shown(pictures, ("jobs", "latency", "clients"))
    for place, there in places(cells):
        yield f"### {place_name(place)}"
        yield jobs_table(there)


def _files(files: Sequence[Document], pictures: Sequence[str]) -> Iterator[str]:
    yield "## Files"
    yield (
        "A string id and ten floats a row. `linear` is a LinearRegression, `boosting` a HistGradientBoostingRegressor "
        "of 100 iterations, `forest` a RandomForestRegressor of 100 trees of depth 10. Seconds are from start to end "
        "for scripts, imports included (`start`), and from the accepted upload to the result being ready for Foretell, "
        "which has its upload beside it. Slow ones score a shorter file, so compare rows/s with their start in mind. "
        "Every result was checked: each id once and in order, and predictions all over the file."
    )
    if any(cell["model"] in ("text", "mixed") for cell in files):
        yield (
            "`text` is a TfidfVectorizer with Ridge over twelve words a row; `mixed` one-hot categories beside "
            "numbers, some missing, with the same boosting. Theirs are files of their own. A model `by` something "
            "predicts by a faster form of itself that the service has found equal."
        )
    yield from _shown(pictures, ("files",))
    yield files_table(files)


def _shown(pictures: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    for kind in kinds:
        for picture in sorted(name for name in pictures if name.startswith(f"benchmarks-{kind}")):
            yield f"![{PICTURES[kind]}](images/{picture})"


def _systems(document: Document) -> Iterator[str]:
    rows = [["system", "measured with", "set up as", "versions"]]
    for part in ("jobs", "files"):
        for name, system in document.get(part, {}).get("systems", {}).items():
            versions = ", ".join(f"{package} {version}" for package, version in system.get("versions", {}).items())
            rows.append([name, "small jobs" if part == "jobs" else "files", system["setup"], versions])
    versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
    yield "## How the systems are set up"
    yield (
        "As their documents advise for throughput on two cores; the link is the page. Each has its own module in "
        "`benchmarks/peers/` or is configured in `benchmarks/peer_systems.py`; those with a lock in "
        "`benchmarks/environments/` have an environment of their own, the others are in Foretell's."
    )
    yield table(rows)
    yield f"Where no versions stand: {versions}."


def _missing(document: Document) -> Iterator[str]:
    lines = [
        f"- {name}: `{_one_line(reason)}`"
        for part in ("jobs", "files")
        for name, reason in document.get(part, {}).get("unavailable", {}).items()
    ]
    cells: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in document.get("jobs", {}).get("missing", []):
        place = place_name((cell["model"], cell["rows"], cell["clients"]))
        cells[f"{cell['system']} {cell['mode']}", _one_line(cell["reason"])].append(place)
    lines += [f"- {system} at {'; '.join(names)}: `{reason}`" for (system, reason), names in cells.items()]
    if lines:
        yield "## Not measured"
        yield "\n".join(lines)


def _one_line(reason: str) -> str:
    return " ".join(reason.replace("`", "'").split())[:300]


def _again() -> Iterator[str]:
    yield "## Again, on your machine"
    yield (
        "`make bench` takes hours, `make bench-quick` some minutes; both write this page anew. `make bench ARGS="
        "'--only jobs foretell litserve 16'` measures only those, and `python -m benchmarks --help` lists what else "
        "there is. Absolute figures move with the machine by a third and more: compare the ratios of one run."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="what `python -m benchmarks --json` has written")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="default: docs of this repository")
    options = parser.parse_args(arguments)
    try:
        write(options.result, options.docs)
    except NoResultError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
