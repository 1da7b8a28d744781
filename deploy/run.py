"""`make run`: Redis, API, workers and scheduler under one supervisor, on nothing but this machine."""

import fcntl
import gc
import http.client
import importlib
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import redis

from deploy.commands import api_command, api_stop_seconds, redis_command, scheduler_command, worker_command
from deploy.keys import check_open, has_keys
from deploy.supervisor import Child, Supervisor, say
from shared.connection import check_server
from shared.errors import BadSetting
from shared.queue import QUEUES, SERVED
from shared.settings import Settings, environment_of
from worker.imports import import_for

READY_SECONDS = 120.0
# One thread for what libraries do within a process.
THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Elsewhere libraries of the system do not bear a fork, and a process could not be told another name.
FORKED: Final = sys.platform == "linux"
# What each process would import by itself, beside what its jobs need.
IMPORTED: Final = (
    *("api.app", "granian.cli", "worker.app", "worker.scheduler", "celery.bin.celery", "celery.apps.worker"),
    *("celery.apps.beat", "celery.concurrency.prefork", "celery.concurrency.solo", "celery.concurrency.thread"),
    *("celery.fixups.django", "kombu.transport.redis"),
)
BEARER = " -H 'Authorization: Bearer ft_...'"
CURL = """curl -s {address}/predict -H 'Content-Type: application/json' -d '{{"x1": 0.06, "x2": 0.02, "x3": 0.02}}'"""


def run(settings: Settings) -> None:
    """Start everything, stay in the foreground, and stop everything at SIGINT or SIGTERM.

    Raises:
        BadSetting: the port is in use, the data folder cannot be used, or Redis cannot be reached.
    """
    began = time.monotonic()
    check_port(settings)
    held = hold_data_dir(settings.data_dir)
    supervisor = Supervisor()
    try:
        server = begin_redis(supervisor, settings)
        environment = os.environ | environment_of(settings) | THREADS
        if FORKED:
            import_all(settings, environment)
        if server is not None:
            await_redis(supervisor, server, settings)
        if supervisor.stopping:
            return
        check_open(settings)
        # Workers before the API: a task name must be known before anybody publishes it.
        for queue in SERVED:
            supervisor.start(
                Child(
                    f"worker-{queue}",
                    worker_command(settings, queue),
                    environment,
                    forked=FORKED,
                    stage=1,
                    # Long enough for a unit in hand; what is killed is done again, but counts as an attempt.
                    grace_seconds=settings.drain_seconds + 30,
                )
            )
        supervisor.start(Child("scheduler", scheduler_command(), environment, forked=FORKED, stage=1))
        grace_seconds = api_stop_seconds(settings)
        supervisor.start(
            Child("api", api_command(settings), environment, forked=FORKED, stage=2, grace_seconds=grace_seconds)
        )
        command = [sys.executable, "-m", "examples"]
        demo = Child("demo models", command, environment, forked=FORKED, stage=2, once=True)
        if settings.demo_models:
            supervisor.start(demo)
        ready = supervisor.wait_until(
            lambda: (demo.ended or not settings.demo_models) and answers(settings), READY_SECONDS
        )
        if ready:
            announce(settings, time.monotonic() - began)
        elif not supervisor.stopping:
            say(f"not ready after {READY_SECONDS:g} s; GET /readyz says what is missing")
        supervisor.run()
    finally:
        supervisor.stop()
        held.close()


def check_port(settings: Settings) -> None:
    """See that the port is free.

    Raises:
        BadSetting
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise BadSetting(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "set FORETELL_PORT or FORETELL_HOST to another"
            ) from error


def hold_data_dir(folder: Path) -> IO[str]:
    """Make the data folder, and hold it as long as the file is open, so that no second service writes into it.

    Raises:
        BadSetting
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise BadSetting(f"FORETELL_DATA_DIR={folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BadSetting(
            f"another Foretell runs on {folder}; stop it, or set FORETELL_DATA_DIR to another folder"
        ) from error
    return lock


def is_held(folder: Path) -> bool:
    """Whether a service runs on a data folder, as far as this user may know; nothing is made or changed."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return False


def private_folders(settings: Settings) -> None:
    """Make the folders of the embedded Redis, of its socket and of the file storage, for nobody else to enter.

    Raises:
        BadSetting: one cannot be made, or that of the socket is somebody else's.
    """
    own = [settings.data_dir / "redis"]
    if settings.storage is None:
        own.append(settings.data_dir / "storage")
    socket_folder = settings.redis_socket.parent
    for folder in own if socket_folder in own else (*own, socket_folder):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # Where everybody may make folders, this one must not be somebody else's, nor lead elsewhere.
            about = folder.stat() if folder in own else folder.lstat()
            if folder not in own and (about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode)):
                raise BadSetting(f"{folder} is not a folder of the user that runs the service; remove it")
            if about.st_uid == os.getuid():
                folder.chmod(0o700)  # one of an older release, or made under another umask, may be open
        except OSError as error:
            raise BadSetting(f"{folder} cannot be used: {error.strerror}") from error


def import_all(settings: Settings, environment: Mapping[str, str]) -> None:
    """Import here, once, what the processes need that are forked from this one."""
    os.environ.update(environment)
    for module in IMPORTED:
        importlib.import_module(module)
    import_for(QUEUES, tracing=settings.tracing)
    # The collector would write to all that is here, and what is written to is shared no more.
    gc.collect()
    gc.freeze()


def begin_redis(supervisor: Supervisor, settings: Settings) -> Child | None:
    """Start the embedded Redis; None if it is another one that is used.

    Raises:
        BadSetting: the other one cannot be reached, or used.
    """
    if settings.redis_url is not None:
        check_server(settings.redis_address, timeout_seconds=3)
        return None
    private_folders(settings)
    settings.redis_socket.unlink(missing_ok=True)
    child = Child("redis", redis_command(settings), os.environ, grace_seconds=30, orphan_signal=signal.SIGTERM)
    supervisor.start(child)
    return child


def await_redis(supervisor: Supervisor, child: Child, settings: Settings) -> None:
    """Wait until the embedded Redis can be used, or the end is asked for.

    Raises:
        BadSetting
    """
    # It reads its append-only file first, which takes a second for some million entries.
    ready = supervisor.wait_until(lambda: pings(settings) or child.failures > 0, READY_SECONDS)
    if supervisor.stopping:
        return
    if not ready or child.failures:
        raise BadSetting(
            f"the embedded Redis does not start on {settings.data_dir / 'redis'}; its own lines above say why"
        )
    check_server(settings.redis_address, timeout_seconds=3)


def pings(settings: Settings) -> bool:
    """Whether the embedded Redis answers."""
    try:
        with redis.Redis.from_url(settings.redis_address, socket_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def answers(settings: Settings) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection(reachable(settings.host), settings.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """The address under which this machine reaches itself."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # recognised, not bound


def announce(settings: Settings, seconds: float) -> None:
    """The block that `make run` prints when everything is ready."""
    host = reachable(settings.host)
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    keys = has_keys(settings)
    if not keys and not settings.is_local:
        say(f"warning: {settings.host} can be reached from other machines, and everybody can do everything")
    access = "with a key" if keys else "without a key, from this machine" if settings.is_local else "without a key"
    print(
        f"\nForetell is ready after {seconds:.1f} s.\n\n"
        f"  address  {address}\n"
        f"  browse   {address}/\n"
        f"  docs     {address}/docs\n"
        f"  access   {access}\n"
        f"  data     {settings.data_dir}\n"
        f"  try      {CURL.format(address=address)}{BEARER if keys else ''}\n\n"
        "Ctrl-C stops it; jobs and models are kept.\n",
        flush=True,
    )
