"""The command: its options, and all checks in their order."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from deploy.doctor import broker, clocks, libraries, machine, models, server, storage
from deploy.doctor.finding import Finding, Reached, Status, made, problem, warning
from deploy.doctor.processes import alive, processes
from deploy.doctor.report import as_json, as_table, terminal_width, worst
from deploy.run import is_held
from shared.connection import Connections, read_server
from shared.errors import BadSetting
from shared.keys import Keys
from shared.settings import Settings

TIMEOUT_SECONDS: Final = 3
OF_REDIS: Final = {
    "redis": server.version,
    "persistence": server.persistence,
    "memory": server.memory,
    "replication": server.replication,
    "connections": server.connections,
    "commands": server.writes,
    "clocks": clocks.clocks,
}
OF_MACHINE: Final = {
    "storage": storage.storage,
    "inputs": storage.inputs,
    "disk": machine.disk,
    "open files": machine.open_files,
}


def see_doctor(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the command; 0 if the service can work, 1 if there is a problem.

    Raises:
        SystemExit: with 2, an option is not known.
    """
    wanted = parser().parse_args(arguments)
    findings = list(examined(settings, with_models=wanted.models))
    if wanted.json:
        print(as_json(findings))
    else:
        width = terminal_width(sys.stdout)
        coloured = width is not None and not os.environ.get("NO_COLOR")
        for line in as_table(findings, width=width, coloured=coloured):
            print(line)
    return int(worst(findings) is Status.PROBLEM)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(
        prog="python -m deploy doctor",
        description="Looks at Redis, broker, clocks, processes, models, storage, libraries and this machine, and says "
        "what to do. It changes nothing; of a RabbitMQ it rings each queue once.",
    )
    main.add_argument("--json", action="store_true", help="for machines: one object with the worst status and findings")
    main.add_argument(
        "--no-models", dest="models", action="store_false", help="load no model, which takes as long as it takes"
    )
    return main


def examined(settings: Settings, *, with_models: bool) -> Iterator[Finding]:
    """Every check, one after the other; each ends by itself."""
    reached, unreached = reach(settings)
    if reached is not None:
        yield from _of_redis(reached, with_models=with_models)
    else:
        assert unreached is not None  # noqa: S101  # one of the two
        yield unreached
        yield warning(
            "the rest", "what needs Redis was not looked at: commands, clocks, processes, models, access", "see redis"
        )
        if settings.broker_url is not None:
            yield from made("broker", partial(broker.broker, settings, ()))
    for name, check in OF_MACHINE.items():
        yield from made(name, partial(check, settings))
    yield from made("libraries", libraries.libraries)


def _of_redis(reached: Reached, *, with_models: bool) -> Iterator[Finding]:
    settings = reached.settings
    for name, check in OF_REDIS.items():
        yield from made(name, partial(check, reached))
    heard: dict[str, int] = {}

    def processes_heard() -> Iterator[Finding]:
        heard.update(alive(reached))
        return processes(reached, heard)

    yield from made("processes", processes_heard)
    yield from made("broker", lambda: broker.broker(settings, {role for role, number in heard.items() if number}))
    if with_models:
        yield from made("models", partial(models.models, reached))
    yield from made("access", partial(machine.access, settings))


def reach(settings: Settings) -> tuple[Reached | None, Finding | None]:
    """The service, or why its Redis does not answer."""
    address = settings.redis_address
    try:
        about = read_server(address, timeout_seconds=TIMEOUT_SECONDS)
    except BadSetting as error:
        return None, _unreached(settings, error)
    connections, keys = Connections(address, timeout_seconds=TIMEOUT_SECONDS), Keys(settings.redis_prefix)
    return Reached(settings=settings, server=about, connections=connections, keys=keys), None


def _unreached(settings: Settings, error: BadSetting) -> Finding:
    if settings.redis_url is not None:
        return problem(
            "redis", error.message, "start it, or correct FORETELL_REDIS_URL: docs/operations.md#an-outside-redis"
        )
    if is_held(settings.data_dir):
        return problem(
            "redis",
            error.message,
            "wait, if the service has just been started: it reads its file; else see its lines on standard output",
        )
    return warning(
        "redis",
        f"the service does not run on {settings.data_dir}, and so the embedded Redis does not",
        "start it, and run this again",
    )
