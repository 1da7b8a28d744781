"""`foretell config`: where the service is, and the key for it."""

import sys

import click

from foretell.access import (
    NAMES,
    Access,
    checked_key,
    checked_url,
    configuration_file,
    read_configuration,
    write_configuration,
)
from foretell.cli.session import Session, command, fields

NAME = click.argument("name", type=click.Choice(NAMES))


@click.group("config", short_help="Keep address and key in a file.")
def config() -> None:
    """Keep address and key in a file, which only you can read; FORETELL_URL and FORETELL_KEY go before it."""


@config.command("show")
@command
def show(session: Session) -> None:
    """Show what is used: of a key only its id."""
    access = Access.of(session.url)
    about = {"url": access.url, "key": _hidden(access), "file": str(configuration_file())}
    session.answer(about, lambda: fields(about))


def _hidden(access: Access) -> str | None:
    return None if access.key is None else f"{access.key[:15]}..." if access.key.startswith("ft_") else "..."


@config.command("set")
@NAME
@click.argument("value", required=False)
@command
def put(session: Session, name: str, value: str | None) -> None:
    """Keep a value. Without VALUE it is asked for, or read from standard input, which leaves no trace in histories."""
    if value is None:
        value = click.prompt(name, hide_input=name == "key") if sys.stdin.isatty() else sys.stdin.readline().strip()
    kept = {**read_configuration(), name: checked_url(value) if name == "url" else checked_key(value)}
    path = write_configuration(kept)
    session.answer({"file": str(path)}, lambda: session.note(f"{name} is kept in {path}."))


@config.command("unset")
@NAME
@command
def unset(session: Session, name: str) -> None:
    """Forget a value."""
    kept = read_configuration()
    kept.pop(name, None)
    path = write_configuration(kept)
    session.answer({"file": str(path)}, lambda: None)
