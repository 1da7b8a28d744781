"""What an operator does on the server itself: register a model, move aliases, delete versions, rebuild the registry."""

import argparse
import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.connection import Connections, check_server
from shared.errors import InvalidRequest, ServiceError
from shared.keys import Keys
from shared.owner import check_owner
from shared.registry import ANY, PRODUCTION, Move, Registry
from shared.schedules import Schedules
from shared.settings import Settings, load_settings
from shared.storage import Storage

SUFFIXES: Final = {".joblib": "joblib", ".pkl": "joblib", ".pickle": "joblib", ".onnx": "onnx"}


class Damaged(Exception):
    """Some of what was to be rebuilt cannot be used; one sentence for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The service that a command works on."""

    settings: Settings
    registry: Registry
    schedules: Schedules


def open_place() -> Place:
    """The service that the environment names.

    Raises:
        BadSetting: a setting is wrong, or its Redis does not answer.
    """
    settings = load_settings()
    check_server(settings.redis_address, timeout_seconds=5)
    connections, keys = Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix)
    storage = Storage.of(settings)
    return Place(
        settings=settings,
        registry=Registry(connections, keys, storage),
        schedules=Schedules(connections, keys, storage),
    )


def operator() -> str:
    """Who runs the command, as the history of an alias names them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def register(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Register an artifact.

    Raises:
        ServiceError, OSError, ValueError
    """
    # Here, since the other commands do without scikit-learn.
    import pyarrow.csv
    import pyarrow.parquet

    from worker.registration import register as register_artifact

    check_owned(place.registry, arguments.name, arguments.owner)
    sample = None
    if arguments.sample is not None:
        read = pyarrow.parquet.read_table if arguments.sample.suffix == ".parquet" else pyarrow.csv.read_csv
        sample = read(arguments.sample)
    manifest = register_artifact(
        place.registry,
        arguments.name,
        arguments.artifact.read_bytes(),
        format=SUFFIXES.get(arguments.artifact.suffix, "skops"),
        sample=sample,
        description=arguments.description,
        alias=None if arguments.alias == "none" else arguments.alias,
        accelerate=arguments.accelerate,
        who=operator(),
        why="registered from disk",
        owner=arguments.owner or "",
        settings=place.settings,
    )
    for warning in manifest.warnings:
        print(f"foretell: {warning}", file=sys.stderr)
    yield f"{manifest.model}@{manifest.version} {manifest.format} {manifest.estimator} sha256 {manifest.sha256}"


def check_owned(registry: Registry, name: str, owner: str | None) -> None:
    """See that a model is, or can become, this owner's; None: it does not matter.

    Raises:
        InvalidRequest, StoreUnavailable
    """
    if owner is None:
        return
    check_owner(owner)
    exists, whose = registry.owner(name)
    if exists and whose != owner:
        raise InvalidRequest(
            f"{name} is there already and {belongs(whose)}. Leave --owner out, or say first whose it is: "
            f"python -m worker owner {name} {owner}"
        )


def belongs(owner: str | None) -> str:
    """Whose a model is, in words."""
    return f"belongs to {owner}" if owner else "belongs to nobody in particular"


def hand_over(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Make a model another owner's.

    Raises:
        ServiceError
    """
    place.registry.hand_over(arguments.name, arguments.owner or "")
    yield f"{arguments.name} {belongs(arguments.owner)}"


def list_models(place: Place, _: argparse.Namespace) -> Iterator[str]:
    """Say what there is, a model a line.

    Raises:
        ServiceError
    """
    for name in place.registry.names():
        model = place.registry.model(name)
        aliases = ", ".join(f"{alias} -> {version}" for alias, version in model.aliases.items())
        versions = " ".join(str(manifest.version) for manifest in model.versions)
        owner = f"; of {model.owner}" if model.owner else ""
        yield f"{name}: {aliases or 'no alias'}; versions {versions}{owner}"


def rebuild(place: Place, _: argparse.Namespace) -> Iterator[str]:
    """Add what storage holds and Redis does not.

    Raises:
        Damaged: some of it cannot be used; the rest is there.
        ServiceError
    """
    damaged: list[str] = []
    added = 0
    for restored in place.registry.rebuild():
        damaged += restored.damaged
        if restored.versions or restored.aliases:
            added += 1
            versions = " ".join(map(str, restored.versions)) or "none"
            yield f"{restored.model}: versions added {versions}; aliases added {', '.join(restored.aliases) or 'none'}"
    for name, fault in place.schedules.rebuild(place.registry.names()).items():
        if fault is None:
            added += 1
            yield f"{name}: schedule added"
        else:
            damaged.append(fault)
    if damaged:
        raise Damaged(*damaged)
    if not added:
        yield "nothing is missing"


def move_alias(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Point an alias at a version.

    Raises:
        ServiceError
    """
    move = Move(alias=arguments.alias, version=arguments.version, expected=ANY, who=operator(), why=arguments.why)
    state = place.registry.move(arguments.name, move)
    yield f"{arguments.name}@{state.alias} points to {state.version} (revision {state.revision})"


def remove_alias(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Remove an alias.

    Raises:
        ServiceError
    """
    place.registry.unalias(arguments.name, arguments.alias, who=operator(), why=arguments.why)
    yield f"{arguments.name}@{arguments.alias} is removed"


def roll_back(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Point production at the version before.

    Raises:
        ServiceError
    """
    state = place.registry.rollback(arguments.name, who=operator(), why=arguments.why)
    yield f"{arguments.name}@{state.alias} points to {state.version} (revision {state.revision})"


def delete(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Remove a version, or a whole model.

    Raises:
        ServiceError
    """
    name, version = arguments.name, arguments.version
    if version is None:
        versions = " ".join(map(str, place.registry.delete_model(name)))
        removed = f"{name} is removed with its versions {versions}"
    else:
        place.registry.delete(name, version)
        removed = f"{name}@{version} is removed"
    place.schedules.save(name)  # that of a model without versions is gone
    yield removed


def parser() -> argparse.ArgumentParser:
    """The command line; what is to be done stands in `act`."""
    main = argparse.ArgumentParser(prog="python -m worker")
    commands = main.add_subparsers(dest="command", required=True)
    _add_register(commands)
    registry = commands.add_parser("registry", help="look after the registry as a whole").add_subparsers(
        dest="registry_command", required=True
    )
    _command(registry, "rebuild", rebuild, "add to Redis what the copy in storage holds and Redis does not")
    _command(registry, "list", list_models, "list models with their aliases and versions")
    alias = _command(commands, "alias", move_alias, "point an alias of a model at a version")
    alias.add_argument("name", help="the model's name")
    alias.add_argument("alias", help="the alias; it is made if there is none")
    alias.add_argument("version", type=int, help="the version's number")
    alias.add_argument("--why", required=True, help="for the history")
    unalias = _command(commands, "unalias", remove_alias, "remove an alias other than production")
    unalias.add_argument("name", help="the model's name")
    unalias.add_argument("alias", help="the alias")
    unalias.add_argument("--why", default="removed", help="for the history")
    back = _command(commands, "rollback", roll_back, "point production at the version before the current one")
    back.add_argument("name", help="the model's name")
    back.add_argument("--why", default="rolled back", help="for the history")
    owner = _command(commands, "owner", hand_over, "say whose a model is, who alone may change it then")
    owner.add_argument("name", help="the model's name")
    owner.add_argument("owner", nargs="?", help="the owner, as keys name it; none: nobody in particular")
    removal = _command(
        commands, "delete", delete, "delete a version that nothing needs; without a version the whole model"
    )
    removal.add_argument("name", help="the model's name")
    removal.add_argument("version", type=int, nargs="?", help="the version's number; none: all that the model has")
    return main


def _add_register(commands: Any) -> None:
    add = _command(commands, "register", register, "register a new version of a model and point production at it")
    add.add_argument("name", help="the model's name")
    add.add_argument(
        "artifact", type=Path, help="a .skops, .onnx or .joblib file; joblib runs the file's code, so only your own"
    )
    add.add_argument(
        "--sample",
        type=Path,
        help="a CSV or Parquet file with a few input rows, columns in feature order; only .onnx does without",
    )
    add.add_argument("--description", default="", help="one line for people")
    add.add_argument(
        "--owner", help="whose the model is, if this is its first version; by default nobody's in particular"
    )
    add.add_argument("--alias", default=PRODUCTION, help="what shall point to it; none for nothing")
    add.add_argument(
        "--accelerate",
        choices=("auto", "onnx", "off"),
        default="auto",
        help="predict so if it is equal and faster; auto: by an exact form of tree ensembles, onnx: a converted copy",
    )


def _command(
    commands: Any, name: str, act: Callable[[Place, argparse.Namespace], Iterator[str]], about: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    made.set_defaults(act=act)
    return made


FAULTS: Final = (ServiceError, Damaged, OSError, ValueError)
