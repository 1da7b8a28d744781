"""`foretell predict`: a file, or standard input, into a file, or standard output."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from foretell.cli.endings import Ending
from foretell.cli.session import Session, command, complete_model, ended, fail
from foretell.form import format_of
from foretell.job import Job
from foretell.progress import Told, shown
from foretell.source import with_formats

FORMATS = click.Choice(["csv", "ndjson", "parquet"])


def options_of_input(function: Any) -> Any:
    """Options that say how a file is read."""
    for option in (
        click.option("--format", type=FORMATS, help="What the file is, if neither name nor content say it."),
        click.option("--delimiter", help="Of CSV; `tab` for a tab."),
        click.option("--no-header", is_flag=True, help="Of CSV: the first line is a row."),
        click.option("--encoding", help="Of CSV, such as latin-1."),
        click.option("--max-failed-rows", type=int, help="Fail early past so many bad rows."),
        click.option("--priority", type=click.Choice(["high", "normal", "low"])),
        click.option("--webhook", metavar="URL", help="Tell this address when the job has ended."),
        click.option("--idempotency-key", metavar="KEY", help="The same key and file again are the same job."),
    ):
        function = option(function)
    return function


def options_of_waiting(function: Any) -> Any:
    """Options of commands that make a job and wait for it."""
    for option in (
        click.option("--detach", is_flag=True, help="Do not wait; print the job."),
        click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer; the job goes on."),
        click.option("--no-progress", is_flag=True, help="No bars."),
    ):
        function = option(function)
    return function


def said(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, as the client takes them."""
    if options.pop("no_header", False):
        options["header"] = False
    # 0 is said too, and equals False.
    absent = {name for name, value in options.items() if value is None or value is False or value == ()} - {"header"}
    return {name: value for name, value in options.items() if name not in absent}


@click.command("predict", short_help="Predict the rows of a file.")
@click.argument("file")
@click.option("-m", "--model", required=True, help="name, name@version or name@alias.", shell_complete=complete_model)
@click.option("-o", "--out", default="-", metavar="FILE", help="Where the result goes; by default standard output.")
@click.option("-k", "--key", metavar="COLUMN", help="A column that the result repeats, to tell rows by.")
@click.option("--include", multiple=True, metavar="COLUMN", help="Further columns that the result repeats; `all`.")
@click.option("--method", help="predict, predict_proba, decision_function or transform.")
@click.option("--top-k", type=int, help="The k most probable classes with their scores.")
@click.option("--output-format", type=FORMATS, help="By default what the name of --out says, or that of the file.")
@click.option("--keep-failed-rows", is_flag=True, help="Leave failed rows in the result, with an empty prediction.")
@click.option("--errors", metavar="FILE", help="Where the failed rows are named, a line of JSON each.")
@options_of_input
@options_of_waiting
@command
def predict(
    session: Session, file: str, model: str, out: str, errors: str | None, detach: bool, timeout: float | None,
    no_progress: bool, **options: Any,
) -> None:  # fmt: skip
    """Predict the rows of FILE (CSV, NDJSON or Parquet; - is standard input), of any size.

    \b
    foretell predict rows.csv -m home -k id -o out.parquet
    zcat rows.csv.gz | foretell predict - -m home > predictions.csv
    """
    include = options.pop("include")
    given = said(options) | ({"include": "all" if include == ("all",) else list(include)} if include else {})
    to_stdout = out == "-" and not detach
    if to_stdout and session.as_json:
        fail(Ending.USAGE, "--json and the result would both go to standard output; name a file for it: -o FILE.")
    if errors == "-" and session.as_json:
        fail(Ending.USAGE, "--json and the failed rows would both go to standard output; name a file: --errors FILE.")
    wanted = given.get("output_format") or given.get("format") or format_of(file)[0]
    if to_stdout and wanted == "parquet" and sys.stdout.isatty():
        fail(
            Ending.USAGE,
            "Parquet is nothing for a terminal; name a file: -o, or say --output-format csv.",
        )
    with readable(file) as path, shown(False if no_progress else session.progress) as told:
        given = with_formats(file, None if out == "-" else out, given)
        job = session.client.submit_file(path, model, progress=told, **given)
        session.under_way = job.id
        if not detach:
            job.wait(timeout, progress=told)
            _collect(job, out, errors, told)
    session.answer(job.document, lambda: _told(session, job, out, errors, detach=detach))
    ended(job)


def _collect(job: Job, out: str, errors: str | None, told: Told) -> None:
    if str(job.status) in ("succeeded", "partially_succeeded"):
        job.download(stdout() if out == "-" else out, progress=told)
    if errors is not None:
        job.download(stdout() if errors == "-" else errors, "errors")


def _told(session: Session, job: Job, out: str, errors: str | None, *, detach: bool) -> None:
    if detach:
        click.echo(job.id)
        return
    counts = job.counts
    if str(job.status) in ("failed", "cancelled"):
        failure = job.failure or {"message": "somebody cancelled it"}
        session.note(f"foretell: Job {job.id} {job.status}: {failure['message']}")
    elif counts["failed"]:
        where = f"{errors} names them" if errors else f"foretell job errors {job.id} names them"
        session.note(
            f"{counts['succeeded']:,} rows are predicted by {job.model}, {counts['failed']:,} failed; {where}."
        )
    elif out != "-":
        session.note(f"{counts['succeeded']:,} rows are predicted by {job.model}.")


def stdout() -> BinaryIO:
    """Standard output for bytes."""
    return sys.stdout.buffer


@contextlib.contextmanager
def readable(file: str) -> Iterator[Path]:
    """A file that can be read again: standard input is put into one first, since it can be read only once."""
    if file != "-":
        yield Path(file)
        return
    with tempfile.TemporaryDirectory(prefix="foretell-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield path
