"""Copies in storage of what Redis holds: which of them may be old, and how one is written.

A copy is marked before anybody begins to write it. The mark goes once it was written of what Redis still holds, and
nobody else is at it: who is slow may write an old copy over a new one, and be killed before anybody could notice.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final, Literal

from redis.exceptions import RedisError

from shared.connection import Connections
from shared.errors import ServiceError, StoreUnavailable
from shared.keys import Keys
from shared.script import loaded

SCRIPTS: Final = ("saving", "saved")
# A writer that has not ended by then is dead: storage gives up sooner.
WRITER_SECONDS: Final = 60


class Copies:
    """The copies of all models, or of all schedules."""

    def __init__(self, connections: Connections, keys: Keys, kind: Literal["model", "schedule"]) -> None:
        self._connections = connections
        self._base = keys.base
        self._kind = kind
        self._marked = keys.unsaved if kind == "model" else keys.uncopied
        self._scripts = loaded(SCRIPTS)

    def marked(self) -> list[str]:
        """The models whose copy may be old.

        Raises:
            StoreUnavailable
        """
        try:
            return sorted(name.decode() for name in self._connections.client.smembers(self._marked))
        except RedisError as error:
            raise StoreUnavailable from error

    def bring(self, name: str, write: Callable[[], bytes]) -> None:
        """Write the copy of a model, until it is as new as what Redis holds.

        Args:
            name: the model.
            write: reads from Redis and writes to storage; returns the changes of the model, or the revision of its
                schedule, when it was read.

        Raises:
            StoreUnavailable, and whatever `write` raises: the copy stays marked.
        """
        token, saved = secrets.token_hex(8), 0
        while not saved:
            self._run("saving", name, token, WRITER_SECONDS * 1000)
            try:
                seen = write()
            except ServiceError:
                self._run("saved", name, token, "")
                raise
            saved = self._run("saved", name, token, seen)

    def _run(self, script: str, *arguments: str | bytes | int) -> Any:
        return self._connections.script(self._scripts[script], self._base, self._kind, *arguments)
