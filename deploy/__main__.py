"""`python -m deploy COMMAND`: starts the service or a process of it, looks after keys, looks for faults, backs up."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from redis.exceptions import RedisError

from deploy.backup import back_up_service
from deploy.commands import api_command, root, scheduler_command, worker_command
from deploy.doctor.command import see_doctor
from deploy.keys import check_open, look_after_keys
from deploy.restore import restore_service
from deploy.run import run
from deploy.supervisor import say
from shared.connection import Connections, check_server
from shared.errors import BadSetting, ServiceError
from shared.heartbeat import SCHEDULER, living
from shared.keys import Keys
from shared.queue import QUEUES
from shared.settings import Settings, load_settings

LIVENESS: Final = "--liveness"


def become(settings: Settings, command: Sequence[str]) -> NoReturn:
    """Replace this process, so that signals reach the right one.

    Raises:
        BadSetting: Redis cannot be reached, or used.
    """
    check_server(settings.redis_address, timeout_seconds=5)
    os.chdir(root())
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.stdout.flush()
    os.execv(command[0], list(command))  # noqa: S606  # our own command line


def run_all(settings: Settings, arguments: Sequence[str]) -> int:
    """Everything, under the supervisor."""
    run(settings)
    return 0


def api(settings: Settings, arguments: Sequence[str]) -> int:
    """The API alone."""
    check_server(settings.redis_address, timeout_seconds=5)
    check_open(settings)
    become(settings, api_command(settings))


def worker(settings: Settings, arguments: Sequence[str]) -> int:
    """The worker of one queue."""
    become(settings, worker_command(settings, one_of(arguments, QUEUES)))


def scheduler(settings: Settings, arguments: Sequence[str]) -> int:
    """The scheduler."""
    become(settings, scheduler_command())


def health(settings: Settings, arguments: Sequence[str]) -> int:
    """0 if a process of this role on this machine was heard of lately, else 1.

    With `--liveness` 0 also while Redis cannot be asked, when a restart would help nobody.
    """
    liveness = LIVENESS in arguments
    role = one_of([argument for argument in arguments if argument != LIVENESS], (*QUEUES, SCHEDULER))
    connections = Connections(settings.redis_address, timeout_seconds=2)
    try:
        alive = living(connections, Keys(settings.redis_prefix), role, socket.gethostname())
    except RedisError as error:
        say(f"{role}: Redis cannot be reached: {error}")
        return 0 if liveness else 1
    if not alive:
        say(f"{role}: no process of it was heard of lately on this machine")
    return 0 if alive else 1


COMMANDS: Final[dict[str, Callable[[Settings, Sequence[str]], int]]] = {
    "run": run_all,
    "api": api,
    "worker": worker,
    "scheduler": scheduler,
    "health": health,
    "doctor": see_doctor,
    "keys": look_after_keys,
    "backup": back_up_service,
    "restore": restore_service,
}


def one_of(arguments: Sequence[str], allowed: Sequence[str]) -> str:
    """The one argument.

    Raises:
        BadSetting: there is none, or it is not allowed.
    """
    if len(arguments) != 1 or arguments[0] not in allowed:
        raise BadSetting(f"name one of {', '.join(allowed)}")
    return arguments[0]


def main() -> int:
    """Run the command; what cannot be done is one line and exit code 1."""
    name, *arguments = sys.argv[1:] or ["run"]
    # Jobs, models and secrets are nobody else's, whatever the shell allows.
    os.umask(0o077)
    try:
        if name not in COMMANDS:
            raise BadSetting(f"{name} is no command; there are {', '.join(COMMANDS)}")
        return COMMANDS[name](load_settings(), arguments)
    except ServiceError as error:
        say(error.message)
        return 1


if __name__ == "__main__":
    sys.exit(main())
