"""Whether jobs can be done: what they need, each part with its state."""

from collections.abc import Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

from api.stopping import Stopping
from shared.connection import Connections
from shared.errors import ServiceError, StoreFull
from shared.heartbeat import SCHEDULER, living
from shared.keys import Keys
from shared.queue import SERVED
from shared.storage import Storage
from shared.store import JobStore

log = structlog.get_logger()


class Readiness:
    """Of this process, and of what it works with."""

    def __init__(
        self, store: JobStore, storage: Storage, connections: Connections, keys: Keys, stopping: Stopping
    ) -> None:
        self._store = store
        self._storage = storage
        self._connections = connections
        self._keys = keys
        self._stopping = stopping
        self._told = {check: Told(check) for check in ("redis", "storage")}

    def checked(self) -> dict[str, Any]:
        """Each part with `ready`, and with a `reason` if it is not; a process that stops names itself alone."""
        if self._stopping.begun:
            return {"process": {"ready": False}}
        redis = state(lambda: self._store.check_room(), self._told["redis"])
        checks = {"redis": redis, "storage": state(self._storage.check, self._told["storage"])}
        if redis["ready"]:
            checks |= {f"workers_{queue}": self.alive(queue) for queue in SERVED}
            checks["scheduler"] = self.alive(SCHEDULER)
        return checks

    def alive(self, role: str) -> dict[str, Any]:
        """Whether somebody works for a role."""
        try:
            number = living(self._connections, self._keys, role)
        except (RedisError, OSError):
            return {"ready": False, "reason": "Redis cannot be reached"}
        if number:
            return {"ready": True, "alive": number}
        return {"ready": False, "alive": 0, "reason": "no process of it was heard of lately"}


class Told:
    """What the log was told of a check that is made again and again: a reason is new to it once."""

    def __init__(self, check: str) -> None:
        self._check = check
        self._reason: str | None = None

    def of(self, reason: str | None) -> None:
        """Why the check fails now; None: it passes."""
        if reason not in (None, self._reason):
            log.warning("readiness.failed", check=self._check, reason=reason)
        self._reason = reason


def state(check: Callable[[], Any], told: Told) -> dict[str, Any]:
    """Whether a check passes, and if not the plain word for it.

    Anybody may ask; what the reason says beside that, such as names of folders, is for the log.
    """
    try:
        check()
    except ServiceError as error:
        told.of(error.message)
        return {"ready": False, "reason": (error if isinstance(error, StoreFull) else type(error)()).message}
    except (RedisError, OSError) as error:
        told.of(type(error).__name__)
        return {"ready": False, "reason": "Redis cannot be reached"}
    told.of(None)
    return {"ready": True}
