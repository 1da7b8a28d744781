"""What every command has: a client, and a way to answer people and programs."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import click

from foretell.cli.endings import Ending, document_of, ending_of, sentence_of
from foretell.client import Client
from foretell.errors import ForetellError
from foretell.job import Job
from foretell.progress import Wanted

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """A command that runs."""

    def __init__(self, url: str | None, *, retries: int, as_json: bool) -> None:
        """Whom to ask, and whom to answer."""
        self.url = url
        self._retries = retries
        self.as_json = as_json
        self.progress: Wanted = None
        self.under_way: str | None = None  # the job that goes on if the command is interrupted

    @functools.cached_property
    def client(self) -> Client:
        """Whom to ask; made when somebody is asked, so that a wrong configuration can be put right.

        Raises:
            BadConfiguration
        """
        return Client(self.url, retries=self._retries)

    def close(self) -> None:
        """Close the connections, if there are any."""
        if "client" in self.__dict__:
            self.client.close()

    def answer(self, document: Any, show: Callable[[], None]) -> None:
        """Print a document for programs, or show it to people."""
        if self.as_json:
            click.echo(json.dumps(document, ensure_ascii=False, default=str))
        else:
            show()

    def note(self, text: str) -> None:
        """Tell people something beside the answer."""
        if not self.as_json:
            click.echo(printable(text), err=True)


def printable(value: object) -> str:
    """A text without what could steer a terminal: others may have written it."""
    return "".join(one if one.isprintable() else " " for one in str(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Show a table in a terminal; elsewhere lines with tabs between the values, which are never cut."""
    shown = [["" if value is None else printable(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (list(columns), *shown):
            click.echo("\t".join(line))
        return
    from rich.console import Console

    Console().print(rich_table(columns, shown))


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """A table without lines around it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(value)) for value in row))
    return made


def fields(document: Mapping[str, object]) -> None:
    """Show what is known of one thing, a line each."""
    known = {name: value for name, value in document.items() if value not in (None, "", {}, [])}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        click.echo(f"{name:<{width}}  {printable(value)}")


def fail(ending: Ending, text: str) -> NoReturn:
    """End with a sentence."""
    click.echo(printable(f"foretell: {text}"), err=True)
    raise SystemExit(ending)


def command(function: F) -> F:
    """A command with a session as its first argument, and with the options that all have."""

    @click.option("--url", help="The service; by default FORETELL_URL, or the configuration.")
    @click.option("--retries", type=click.IntRange(0), default=5, help="How often to ask a service that is away; 5.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
    @functools.wraps(function)
    def run(*given: Any, url: str | None, retries: int, as_json: bool, **more: Any) -> Any:
        session: Session | None = None
        say_what_is_tried_again()
        try:
            session = Session(url, retries=retries, as_json=as_json)
            return function(session, *given, **more)
        except BrokenPipeError:
            # Whoever read our output wants no more of it; nothing may be written when Python ends either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(Ending.FINE) from None
        except KeyboardInterrupt:
            going = session.under_way if session else None
            if going is None:
                fail(Ending.INTERRUPTED, "stopped")
            fail(Ending.INTERRUPTED, f"Job {going} goes on: foretell job wait {going}, or foretell job cancel {going}")
        except (ForetellError, OSError) as error:
            if as_json:
                click.echo(json.dumps(document_of(error), ensure_ascii=False, default=str))
            fail(ending_of(error), sentence_of(error))
        finally:
            if session is not None:
                session.close()

    return run  # type: ignore[return-value]


class _Aloud(logging.Handler):
    """Says on standard error what is tried again, so that people know why it takes longer."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        click.echo(printable(f"foretell: {record.getMessage()}"), err=True)


def say_what_is_tried_again() -> None:
    """Have it said."""
    log = logging.getLogger("foretell")
    if not any(isinstance(handler, _Aloud) for handler in log.handlers):
        log.addHandler(_Aloud())
        log.setLevel(logging.INFO)


def ended(job: Job) -> None:
    """End with the exit code that a job's end has.

    Raises:
        SystemExit
    """
    ending = {"partially_succeeded": Ending.ROWS_FAILED, "failed": Ending.JOB_FAILED, "cancelled": Ending.JOB_FAILED}
    if str(job.status) in ending:
        raise SystemExit(ending[str(job.status)])


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of models, if the service answers soon."""
    try:
        with Client(context.params.get("url"), timeout=2, retries=0) as client:
            return [name for model in client.models() if (name := str(model["name"])).startswith(incomplete)]
    except ForetellError:
        return []
