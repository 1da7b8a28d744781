"""`foretell jobs` and `foretell job`: what was submitted, and what can be done with it."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from foretell.cli.endings import Ending
from foretell.cli.files import stdout
from foretell.cli.session import Session, command, complete_model, ended, fail, fields, rich_table, table
from foretell.job import Job, JobView
from foretell.progress import shown
from foretell.status import Status

COLUMNS = ("job", "kind", "model", "status", "rows", "failed", "done", "created")
WATCH_SECONDS = 2.0


def line(job: JobView) -> list[str]:
    """A job as a line of a table."""
    counts = job.counts
    rows = "" if counts["total"] is None else f"{counts['total']:,}"
    failed = f"{counts['failed']:,}" if counts["failed"] else ""
    share = f"{job.fraction:.0%}"
    return [job.id, job.kind, job.model, str(job.status), rows, failed, share, moment(job.document["created_at"])]


def moment(text: str | None) -> str:
    """A time without its fractions."""
    return (text or "").replace("T", " ")[:19]


@click.command("jobs", short_help="List jobs, newest first.")
@click.option("--status", type=click.Choice([*Status]), help="Only with this status.")
@click.option("--kind", type=click.Choice(["predict", "batch", "train", "register"]))
@click.option("-m", "--model", help="Only of this model.", shell_complete=complete_model)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@click.option("--watch", is_flag=True, help="Show them again every two seconds, until Ctrl-C.")
@command
def jobs(session: Session, status: str | None, kind: str | None, model: str | None, limit: int, watch: bool) -> None:
    """List jobs, newest first."""

    def read() -> list[Job]:
        return list(session.client.jobs(status=status, kind=kind, model=model, limit=limit))

    if not watch:
        listed = read()
        session.answer([job.document for job in listed], lambda: table(COLUMNS, map(line, listed)))
        return
    if session.as_json:
        fail(Ending.USAGE, "--watch is for people; leave --json out, or ask again and again without --watch.")
    _watch(read)


def _watch(read: Any) -> None:
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            live.update(rich_table(COLUMNS, list(map(line, read()))), refresh=True)
            time.sleep(WATCH_SECONDS)


@click.group("job", short_help="Look at a job, wait for it, cancel it, fetch what it made.")
def job() -> None:
    """Look at a job, wait for it, cancel it, fetch what it made."""


def tell(session: Session, found: Job) -> None:
    """A job in detail."""
    session.answer(found.document, lambda: fields(_about(found)))


def _about(found: Job) -> Mapping[str, object]:
    document, counts = found.document, found.counts
    rows = ", ".join(f"{value:,} {name}" for name, value in counts.items() if value)
    failure = found.failure
    return {
        "job": found.id, "kind": found.kind, "status": str(found.status), "phase": document["phase"],
        "model": found.model, "rows": rows, "done": f"{found.fraction:.0%}",
        "seconds left": document["progress"]["eta_seconds"] if not found.done else None,
        "place in queue": document["queue_position"], "attempt": document["attempt"],
        "created": moment(document["created_at"]), "started": moment(document["started_at"]),
        "finished": moment(document["finished_at"]), "kept until": moment(document["expires_at"]),
        "failure": f"{failure['code']}: {failure['message']}" if failure else None,
        "warnings": " ".join(document["warnings"]), "retry of": document["retry_of"],
        "metadata": document["metadata"] and json.dumps(document["metadata"]),
    }  # fmt: skip


@job.command("show")
@click.argument("job_id")
@command
def show(session: Session, job_id: str) -> None:
    """Show a job."""
    tell(session, session.client.job(job_id))


@job.command("wait")
@click.argument("job_id")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer; the job goes on.")
@command
def wait(session: Session, job_id: str, timeout: float | None) -> None:
    """Wait until a job is done; the exit code says how it ended."""
    found = session.client.job(job_id)
    with shown(session.progress) as told:
        found.wait(timeout, progress=told)
    tell(session, found)
    ended(found)


@job.command("cancel")
@click.argument("job_ids", nargs=-1, required=True)
@command
def cancel(session: Session, job_ids: Sequence[str]) -> None:
    """Cancel jobs."""
    found = [session.client.job(job_id).cancel() for job_id in job_ids]
    session.answer([one.document for one in found], lambda: table(COLUMNS, map(line, found)))


@job.command("retry")
@click.argument("job_id")
@click.option("--only", type=click.Choice(["failed", "skipped", "all"]), default="failed", show_default=True)
@command
def retry(session: Session, job_id: str, only: Any) -> None:
    """Run rows of a finished job again, as a new job, whose id is printed."""
    again = session.client.job(job_id).retry(only)
    session.answer(again.document, lambda: click.echo(again.id))


@job.command("delete")
@click.argument("job_ids", nargs=-1, required=True)
@command
def delete(session: Session, job_ids: Sequence[str]) -> None:
    """Remove finished jobs with their rows and results."""
    for job_id in job_ids:
        session.client.job(job_id).delete()
    session.answer({"deleted": list(job_ids)}, lambda: None)


def output(name: Any, help: str) -> click.Command:
    """The command that fetches one of the outputs of a job."""

    @job.command(name, help=help)
    @click.argument("job_id")
    @click.option("-o", "--out", default="-", metavar="FILE", help="By default standard output.")
    @command
    def fetch(session: Session, job_id: str, out: str) -> None:
        found = session.client.job(job_id)
        with shown(session.progress if out != "-" else False) as told:
            found.download(stdout() if out == "-" else out, name, progress=told)

    return fetch


result = output("result", "Fetch the result of a job: the file, or the predictions as JSON.")
errors = output("errors", "Fetch the failed rows of a job, a line of JSON each.")
manifest = output("manifest", "Fetch what a job read and wrote, with checksums.")
