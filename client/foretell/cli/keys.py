"""`foretell keys`: who may use the service."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from foretell.cli.jobs import moment
from foretell.cli.session import Session, command, table

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
COLUMNS = ("key", "name", "owner", "scopes", "state", "expires", "last used")


class Duration(click.ParamType[int]):
    """Such as 90d, 12h, 30m or 45s, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        match = re.fullmatch(r"([0-9]+)([smhd])", str(value))
        if match is None:
            self.fail("write it like 90d, 12h, 30m or 45s", param, ctx)
        return int(match[1]) * SECONDS[match[2]]


@click.group("keys", short_help="Make, rotate and revoke keys.")
def keys() -> None:
    """Make, rotate and revoke keys; all of it needs a key with the scope admin."""


def _line(key: Mapping[str, Any]) -> list[object]:
    return [
        key["id"], key["name"], key["owner"], " ".join(key["scopes"]), key["state"], moment(key["expires_at"]),
        moment(key["last_used_at"]),
    ]  # fmt: skip


@keys.command("list")
@command
def listed(session: Session) -> None:
    """List keys, without their secrets."""
    found = session.client.keys()
    session.answer(found, lambda: table(COLUMNS, map(_line, found)))


@keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="Such as jobs:read; can be given several times.")
@click.option("--owner", help="Whose jobs, files and models are worked with.")
@click.option("--expires", type=Duration(), help="After 90d, 12h, 30m or 45s; by default never.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="In place of the service's, for this key.")
@command
def create(
    session: Session, name: str, scopes: Sequence[str], owner: str | None, expires: int | None, limits: Sequence[str]
) -> None:
    """Make a key called NAME, and print its secret, which nobody can read again."""
    try:
        numbers = {limit: int(number) for limit, _, number in (one.partition("=") for one in limits)}
    except ValueError as error:
        raise click.BadParameter("write it like waiting_jobs=1000", param_hint="--limit") from error
    key = session.client.create_key(name, scopes, owner=owner, expires_in_seconds=expires, limits=numbers)
    _shown_once(session, key)


@keys.command("rotate")
@click.argument("key_id")
@click.option("--overlap", type=Duration(), help="How long the secret before is valid too; by default a day.")
@command
def rotate(session: Session, key_id: str, overlap: int | None) -> None:
    """Give a key a new secret, and print it."""
    _shown_once(session, session.client.rotate_key(key_id, overlap_seconds=overlap))


def _shown_once(session: Session, key: Mapping[str, Any]) -> None:
    session.note(f"Key {key['id']}, {key['name']} of {key['owner']}. Keep it: nobody can show it again.")
    session.answer(key, lambda: click.echo(key["key"]))


@keys.command("revoke")
@click.argument("key_id")
@command
def revoke(session: Session, key_id: str) -> None:
    """Make a key invalid for ever."""
    session.client.revoke_key(key_id)
    session.answer({"revoked": key_id}, lambda: None)
