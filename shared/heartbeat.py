"""Heartbeats: every process of a role says in Redis that it lives, and readiness and health checks look there."""

import os
import socket
import threading
import time
from typing import Final

import orjson
import structlog
from redis.exceptions import RedisError

from shared import __version__
from shared.connection import Connections
from shared.keys import Keys

PAUSE_SECONDS: Final = 2
FRESH_SECONDS: Final = 10
SCHEDULER: Final = "scheduler"
API: Final = "api"

log = structlog.get_logger()


def beat_for_ever(
    connections: Connections, keys: Keys, role: str, family: str | None = None, *, processes: int = 1
) -> None:
    """Have a thread say every two seconds that this process works for `role`: a queue, the scheduler or the API.

    `family`: what the names of the processes that it forks end in; `processes`: how many of them work at once.
    """
    member = f"{socket.gethostname()}:{os.getpid()}"

    def beat() -> None:
        while True:
            try:
                beat_once(connections, keys, role, member, family, processes)
            except RedisError:
                log.debug("heartbeat.failed", role=role)
            time.sleep(PAUSE_SECONDS)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


def beat_once(
    connections: Connections, keys: Keys, role: str, member: str, family: str | None = None, processes: int = 1
) -> None:
    """Say once that `member` lives, and what it is, and forget who has been silent for long."""
    now = time.time()
    pipeline = connections.client.pipeline(transaction=False)
    pipeline.zadd(keys.workers(role), {member: now})
    pipeline.zremrangebyscore(keys.workers(role), "-inf", now - 10 * FRESH_SECONDS)
    pipeline.expire(keys.workers(role), 10 * FRESH_SECONDS)
    about = {"version": __version__, "family": family, "processes": processes}
    pipeline.set(keys.process(member), orjson.dumps(about), ex=10 * FRESH_SECONDS)
    pipeline.execute()


def living(connections: Connections, keys: Keys, role: str, host: str | None = None) -> int:
    """How many processes of a role were heard of lately, on one host or on all.

    Raises:
        redis.exceptions.RedisError
    """
    members: list[bytes] = connections.client.zrangebyscore(keys.workers(role), time.time() - FRESH_SECONDS, "+inf")
    return sum(1 for member in members if host is None or member.decode().startswith(f"{host}:"))
