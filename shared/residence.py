"""Which prediction processes have which versions loaded: each says so every two seconds, or is soon forgotten."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.keys import Keys

PAUSE_SECONDS: Final = 2
FRESH_SECONDS: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """What one process has loaded."""

    worker: str  # <host>:<pid>
    queue: str
    models: Mapping[str, Mapping[str, Sequence[str]]]  # model -> version -> what was warned of when it was loaded
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model -> version -> why it was not loaded

    def of(self, name: str) -> dict[str, Any] | None:
        """What it has of one model, as clients read it; None if it has nothing of it."""
        loaded, failed = self.models.get(name, {}), self.failed.get(name, {})
        if not loaded and not failed:
            return None
        return {
            "worker": self.worker,
            "queue": self.queue,
            "versions": sorted(map(int, loaded)),
            "warnings": {version: list(told) for version, told in loaded.items() if told},
            "failed": dict(failed),
        }


class Residence:
    """The hash of what is loaded."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections = connections
        self._key = keys.loaded

    def tell(self, resident: Resident) -> None:
        """Say what a process has loaded.

        Raises:
            StoreUnavailable
        """
        told = {"at": time.time(), "queue": resident.queue, "models": resident.models, "failed": resident.failed}
        try:
            pipeline = self._connections.client.pipeline(transaction=False)
            pipeline.hset(self._key, resident.worker, orjson.dumps(told))
            pipeline.expire(self._key, 10 * FRESH_SECONDS)
            pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error

    def residents(self) -> list[Resident]:
        """The processes that were heard of lately, by name.

        Raises:
            StoreUnavailable
        """
        try:
            entries: dict[bytes, bytes] = self._connections.client.hgetall(self._key)
        except RedisError as error:
            raise StoreUnavailable from error
        oldest = time.time() - FRESH_SECONDS
        told = {worker.decode(): orjson.loads(raw) for worker, raw in sorted(entries.items())}
        return [
            Resident(worker=worker, queue=entry["queue"], models=entry["models"], failed=entry["failed"])
            for worker, entry in told.items()
            if entry["at"] >= oldest
        ]

    def forget_the_silent(self) -> None:
        """Remove what processes said that have not been heard of lately.

        Raises:
            StoreUnavailable
        """
        try:
            entries: dict[bytes, bytes] = self._connections.client.hgetall(self._key)
            oldest = time.time() - FRESH_SECONDS
            silent = [worker for worker, raw in entries.items() if orjson.loads(raw)["at"] < oldest]
            if silent:
                self._connections.client.hdel(self._key, *silent)
        except RedisError as error:
            raise StoreUnavailable from error
