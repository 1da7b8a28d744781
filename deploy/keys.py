"""`python -m deploy keys ...`: who may use the service, and for what; on the server, where no key is needed."""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.api_keys import ApiKey, ApiKeys, Scope, Wish
from shared.connection import Connections, check_server
from shared.errors import BadSetting
from shared.keys import Keys
from shared.limits import NAMES
from shared.owner import DEFAULT_OWNER
from shared.settings import Settings

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def look_after_keys(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the command; the exit code.

    Raises:
        ServiceError
    """
    wanted = parser().parse_args(arguments)
    check_server(settings.redis_address, timeout_seconds=5)
    api_keys = ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))
    for line in wanted.act(api_keys, wanted):
        print(line)
    return 0


def create(api_keys: ApiKeys, wanted: argparse.Namespace) -> Iterator[str]:
    """Make a key.

    Raises:
        ServiceError
    """
    wish = Wish(
        name=wanted.name,
        owner=wanted.owner,
        scopes=wanted.scope or (),
        lifetime=wanted.expires,
        limits=dict(wanted.limit or ()),
    )
    key, token = api_keys.create(wish)
    yield described(key)
    yield from shown_once(token)


def rotate(api_keys: ApiKeys, wanted: argparse.Namespace) -> Iterator[str]:
    """Give a key a new secret.

    Raises:
        ServiceError
    """
    key, token = api_keys.rotate(wanted.id, wanted.overlap)
    yield described(key)
    yield f"The secret before is valid until {key.previous_until:%Y-%m-%d %H:%M:%S} UTC."
    yield from shown_once(token)


def revoke(api_keys: ApiKeys, wanted: argparse.Namespace) -> Iterator[str]:
    """End a key.

    Raises:
        ServiceError
    """
    api_keys.revoke(wanted.id)
    yield f"{wanted.id} is revoked; every API process refuses it within a second."


def delete(api_keys: ApiKeys, wanted: argparse.Namespace) -> Iterator[str]:
    """Forget a key that is not valid any more.

    Raises:
        ServiceError
    """
    api_keys.delete(wanted.id)
    yield f"{wanted.id} is deleted"


def list_keys(api_keys: ApiKeys, _: argparse.Namespace) -> Iterator[str]:
    """Say what there is, a key a line.

    Raises:
        ServiceError
    """
    found = api_keys.all()
    yield from map(described, found)
    if not found:
        yield "There are no keys: the service asks nobody for one, and answers on loopback addresses only."


def described(key: ApiKey) -> str:
    """A key in a line, without its secret."""
    ends = f", expires {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else ""
    used = f", last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else ", never used"
    limits = "".join(f", {name} {most}" for name, most in key.limits.items())
    return (
        f"{key.id}  {key.name} of {key.owner}: {' '.join(sorted(key.scopes))}; {key.state(datetime.now(UTC))}, "
        f"made {key.created_at:%Y-%m-%d %H:%M}{ends}{used}{limits}"
    )


def shown_once(token: str) -> Iterator[str]:
    """The secret, and that it is shown this one time."""
    yield "Keep it: nobody can show it again."
    yield token


def duration(text: str) -> timedelta:
    """A time such as 90d, 12h, 30m or 45s."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no time such as 90d, 12h, 30m or 45s")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def limit(text: str) -> tuple[str, int]:
    """A limit such as waiting_jobs=1000."""
    name, _, most = text.partition("=")
    if name not in NAMES or not most.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no limit such as waiting_jobs=1000; there are {', '.join(NAMES)}")
    return name, int(most)


def parser() -> argparse.ArgumentParser:
    """The command line; what is to be done stands in `act`."""
    main = argparse.ArgumentParser(prog="python -m deploy keys")
    commands = main.add_subparsers(dest="command", required=True)
    made = _command(commands, "create", create, "make a key; it is shown once")
    made.add_argument("name", help="what it is for, such as 'nightly scoring'")
    made.add_argument("--owner", default=DEFAULT_OWNER, help="whose jobs, files and models it works with")
    made.add_argument(
        "--scope", action="append", choices=list(Scope), help="what it allows; can be given several times"
    )
    made.add_argument("--expires", type=duration, help="after so long, such as 90d; by default it does not")
    made.add_argument("--limit", action="append", type=limit, help="in place of an owner_ setting: waiting_jobs=1000")
    _command(commands, "list", list_keys, "list keys, without their secrets")
    new = _command(commands, "rotate", rotate, "give a key a new secret; it is shown once")
    new.add_argument("id", help="the key's id")
    new.add_argument("--overlap", type=duration, default=timedelta(days=1), help="the secret before stays valid, 1d")
    _command(commands, "revoke", revoke, "end a key for ever").add_argument("id", help="the key's id")
    gone = _command(commands, "delete", delete, "forget a key that is revoked or expired; not the last one")
    gone.add_argument("id", help="the key's id")
    return main


def _command(
    commands: Any, name: str, act: Callable[[ApiKeys, argparse.Namespace], Iterator[str]], about: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    made.set_defaults(act=act)
    return made


def has_keys(settings: Settings) -> bool:
    """Whether there are keys, so that the API asks for one.

    Raises:
        StoreUnavailable
    """
    return ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix)).exist()


def check_open(settings: Settings) -> None:
    """See that an API which others can reach asks them for a key.

    Raises:
        BadSetting: there is none, and it is not said that this is wanted.
        StoreUnavailable
    """
    if not (settings.is_local or settings.allow_access_without_keys or has_keys(settings)):
        raise BadSetting(
            f"{settings.host} can be reached from other machines, and there are no keys: anybody could do anything. "
            "Start once with FORETELL_HOST=127.0.0.1 and make a key: python -m deploy keys create NAME --scope admin. "
            "If you want it open to everybody: FORETELL_ALLOW_ACCESS_WITHOUT_KEYS=true"
        )
