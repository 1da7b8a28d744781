"""Which prediction processes have which versions loaded: each says so every two seconds, or is soon forgotten.

When that was is told by Redis's clock: those of the machines may differ by more than it takes to be forgotten.
"""

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
        told = {"queue": resident.queue, "models": resident.models, "failed": resident.failed}
        try:
            told["at"] = self._connections.client.time()[0]
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
        return [
            Resident(worker=worker.decode(), queue=told["queue"], models=told["models"], failed=told["failed"])
            for worker, told, fresh in self._told()
            if fresh
        ]

    def forget_the_silent(self) -> None:
        """Remove what processes said that have not been heard of lately.

        Raises:
            StoreUnavailable
        """
        silent = [worker for worker, _, fresh in self._told() if not fresh]
        if silent:
            try:
                self._connections.client.hdel(self._key, *silent)
            except RedisError as error:
                raise StoreUnavailable from error

    def _told(self) -> list[tuple[bytes, dict[str, Any], bool]]:
        """Each process, what it said, and whether it did so lately; by name."""
        try:
            pipeline = self._connections.client.pipeline(transaction=False)
            pipeline.hgetall(self._key)
            pipeline.time()
            entries, (seconds, _) = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        told = [(worker, orjson.loads(raw)) for worker, raw in sorted(entries.items())]
        return [(worker, entry, entry["at"] >= seconds - FRESH_SECONDS) for worker, entry in told]
