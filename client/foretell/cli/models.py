"""`foretell models`, `push`, `promote`, `rollback`, `retrain`, `schedule`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from foretell.cli.files import options_of_input, options_of_waiting, readable, said
from foretell.cli.jobs import moment, tell
from foretell.cli.session import Session, command, complete_model, ended, fields, table
from foretell.progress import shown
from foretell.source import Reference

MODEL = click.argument("name", shell_complete=complete_model)
WHY = click.option("--why", default="", metavar="TEXT", help="For the history of the alias.")


@click.command("models", short_help="List models, or the versions of one.")
@click.argument("name", required=False, shell_complete=complete_model)
@command
def models(session: Session, name: str | None) -> None:
    """List models, or the versions of one."""
    if name is None:
        listed = session.client.models()
        session.answer(
            listed, lambda: table(("model", "versions", "aliases", "estimator", "owner"), map(_model, listed))
        )
        return
    model = session.client.model(name)
    columns = ("version", "aliases", "format", "estimator", "metrics", "created", "description")
    session.answer(model, lambda: table(columns, [_version(model, version) for version in model["versions"]]))


def _model(model: Mapping[str, Any]) -> list[object]:
    aliases = ", ".join(f"{alias}: {version}" for alias, version in model["aliases"].items())
    newest = model["versions"][0]["estimator"] if model["versions"] else ""
    return [model["name"], len(model["versions"]), aliases, newest, model["owner"]]


def _version(model: Mapping[str, Any], version: Mapping[str, Any]) -> list[object]:
    aliases = ", ".join(alias for alias, number in model["aliases"].items() if number == version["version"])
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in version["metrics"].items())
    return [
        version["version"], aliases, version["format"], version["estimator"], metrics, moment(version["created_at"]),
        version["description"],
    ]  # fmt: skip


@click.command("push", short_help="Make a skops or ONNX file a version of a model.")
@MODEL
@click.argument("artifact", type=click.Path(exists=True, dir_okay=False))
@click.option("--sample", type=click.Path(exists=True, dir_okay=False), help="A few rows; needed but for ONNX.")
@click.option("--alias", help="What shall point to it; by default production if it is the first version.")
@click.option(
    "--accelerate",
    type=click.Choice(["auto", "onnx", "off"]),
    help="What to predict by if it is equal and faster: auto (the default) takes an exact form of tree ensembles.",
)
@click.option("--description", help="One line for people.")
@click.option("--no-progress", is_flag=True, help="No bars.")
@command
def push(session: Session, name: str, artifact: str, sample: str | None, no_progress: bool, **options: Any) -> None:
    """Make ARTIFACT, a skops or ONNX file, a version of model NAME, once the service has tried it."""
    given = said(options)
    with shown(False if no_progress else session.progress) as told:
        version = session.client.push(name, Path(artifact), sample, progress=told, **given)
    model = f"{version['name']}@{version['version']}"
    session.answer(version, lambda: click.echo(f"{model} {version['format']} {version['estimator']}"))


@click.command("promote", short_help="Point an alias at a version.")
@MODEL
@click.argument("version", type=int)
@click.option("--alias", default="production", show_default=True)
@WHY
@command
def promote(session: Session, name: str, version: int, alias: str, why: str) -> None:
    """Point an alias of model NAME at VERSION."""
    state = session.client.promote(name, version, alias=alias, why=why)
    session.answer(state, lambda: click.echo(f"{name}@{alias} is version {state['version']} now."))


@click.command("rollback", short_help="Point production where it pointed before.")
@MODEL
@WHY
@command
def rollback(session: Session, name: str, why: str) -> None:
    """Point production of model NAME where it pointed before."""
    state = session.client.rollback(name, why=why)
    session.answer(state, lambda: click.echo(f"{name}@production is version {state['version']} now."))


class JsonText(click.ParamType[Any]):
    """JSON, or @ and the name of a file that has it."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        try:
            return json.loads(Path(value[1:]).read_text() if value.startswith("@") else value)
        except (OSError, ValueError) as error:
            self.fail(f"{value} is neither JSON nor @ and a file that has it: {error}", param, ctx)


def options_of_training(function: Any) -> Any:
    """Options that say how a model is trained."""
    for option in (
        click.option("--target", required=True, metavar="COLUMN", help="What the model learns to predict."),
        click.option("--promote", type=click.Choice(["auto", "manual", "never"]), help="What a better one gets."),
        click.option("--combine", type=click.Choice(["replace", "append"]), help="append: with the rows from before."),
        click.option("--held-out", type=float, help="The part of the rows to compare on; 0.2."),
        click.option("--group", metavar="COLUMN", help="Rows of one group are never on both sides."),
        click.option("--time", metavar="COLUMN", help="The newest rows are held out."),
        click.option("--sample-weight", metavar="COLUMN"),
        click.option("--recipe", type=JsonText(), help="Parameters to try, as JSON, or @file."),
        click.option("--gate", type=JsonText(), help="What must be reached, as JSON, or @file."),
    ):
        function = option(function)
    return function


@click.command("retrain", short_help="Train a model again on labelled rows.")
@MODEL
@click.argument("file")
@options_of_training
@options_of_input
@options_of_waiting
@command
def retrain(
    session: Session, name: str, file: str, target: str, detach: bool, timeout: float | None, no_progress: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Train model NAME again on the labelled rows of FILE (- is standard input); it is promoted if it is better."""
    given = said(options)
    with readable(file) as path, shown(False if no_progress else session.progress) as told:
        job = session.client.retrain(name, path, target, progress=told, **given)
        session.under_way = job.id
        if not detach:
            job.wait(timeout, progress=told)
    if detach:
        session.answer(job.document, lambda: click.echo(job.id))
        return
    result = job.document["result"]
    if result is None:
        tell(session, job)
    else:
        became = "is in production" if result["promoted"] else f"is {result['alias'] or 'kept, and changes nothing'}"
        text = f"{name}@{result['version']} {became}: {result['gate'].get('reason', '')}"
        session.answer(job.document, lambda: click.echo(text))
    ended(job)


@click.group("schedule", short_help="Train a model by the clock, or when its data drifts.")
def schedule() -> None:
    """Train a model by the clock, or when its data drifts."""


@schedule.command("show")
@MODEL
@command
def show(session: Session, name: str) -> None:
    """Show when a model is trained, and what came of the last time."""
    found = session.client.schedule(name)
    session.answer(found, lambda: _show(found))


def _show(found: Mapping[str, Any]) -> None:
    last = found["last_run"] or {}
    drift = found["when_drifted"]
    about = {
        "model": found["model"], "cron": found["cron"], "time zone": found["time_zone"],
        "when drifted": drift and f"{drift['drifted']} of {drift['windows']} windows", "enabled": found["enabled"],
        "target": found["target"], "promote": found["promote"], "next run": moment(found["next_run_at"]),
        "last run": moment(last.get("due_at")), "came of it": last.get("job_id") or last.get("message"),
    }  # fmt: skip
    fields(about)


@schedule.command("set")
@MODEL
@click.option("--cron", help="Minute, hour, day of month, month, day of week, such as '0 3 * * *'.")
@click.option("--time-zone", help="That is meant, such as Europe/Berlin; by default UTC.")
@click.option("--when-drifted", nargs=2, type=int, metavar="M N", help="When M of the last N windows drifted.")
@click.option("--file", help="Labelled rows here; they are sent once, and kept for a while.")
@click.option("--file-id", help="Of a file that was sent before.")
@click.option("--uri", help="Where the rows will be, such as s3://bucket/home.parquet, if the operator allows it.")
@click.option("--disabled", is_flag=True, help="Keep it, and start nothing.")
@options_of_training
@command
def put(
    session: Session, name: str, target: str, file: str | None, file_id: str | None, uri: str | None, disabled: bool,
    when_drifted: tuple[int, int] | None, **options: Any,
) -> None:  # fmt: skip
    """Say when a model is trained, and on what."""
    if sum(one is not None for one in (file, file_id, uri)) != 1:
        raise click.UsageError("Say where the rows are, in one way: --file, --file-id or --uri.")
    data = session.client.upload(file) if file is not None else Reference(file_id=file_id, uri=uri)
    given = said(options) | ({"enabled": False} if disabled else {})
    if when_drifted:
        given["when_drifted"] = {"drifted": when_drifted[0], "windows": when_drifted[1]}
    kept = session.client.set_schedule(name, data, target, **given)
    session.answer(kept, lambda: _show(kept))


@schedule.command("remove")
@MODEL
@command
def remove(session: Session, name: str) -> None:
    """Train a model no more by itself."""
    session.client.remove_schedule(name)
    session.answer({"removed": name}, lambda: None)
