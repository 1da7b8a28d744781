"""Windows of drift: how far the rows of a model's newest batch jobs were from the training data of its version."""

from typing import Final, TypedDict, cast

import orjson
from redis.exceptions import RedisError

from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.job import from_millis, timestamp
from shared.keys import Keys

# So many are kept of a model; commit_final.lua has it too.
MOST_WINDOWS: Final = 100


class Window(TypedDict):
    """One batch job that succeeded, at least partially."""

    job_id: str
    version: int
    at: str  # when it ended, RFC 3339 in UTC, to the millisecond: as text these sort by time
    rows: int  # that were counted, a sample of large files
    max_psi: float | None  # the largest population stability index of a feature
    drifted: bool | None  # None: too few rows to tell
    drifted_features: list[str]  # the farthest first
    features: dict[str, float]  # the index of each


class Drift:
    """Reads the windows, which shared.batch_store.BatchStore.commit_final writes with the end of a job."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections = connections
        self._keys = keys

    def windows(self, name: str, most: int = MOST_WINDOWS) -> list[Window]:
        """The newest windows of a model, newest first; empty if there are none, also without such a model.

        Raises:
            StoreUnavailable
        """
        try:
            found: list[bytes] = self._connections.client.lrange(self._keys.drift(name), 0, most - 1)
        except RedisError as error:
            raise StoreUnavailable from error
        return [_parsed(raw) for raw in found]


def _parsed(raw: bytes) -> Window:
    """What commit_final.lua wrote: milliseconds of Redis's clock, a blank, and JSON."""
    millis, _, window = raw.partition(b" ")
    return cast(Window, orjson.loads(window) | {"at": timestamp(from_millis(millis))})
