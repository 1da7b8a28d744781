"""How many requests an owner has made of late, counted in Redis by the library `limits`."""

from typing import Any, Final

from limits.storage.redis import RedisStorage
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.keys import Keys

WINDOW_SECONDS: Final = 1


class Counter(RedisStorage):
    """The library's storage, which counts and looks at what it has counted in one round trip."""

    # As another one, so that the library goes on to use its own for its own addresses.
    STORAGE_SCHEME = ["foretell"]  # noqa: RUF012  # as the library declares it

    def count(self, key: str, most: int, window_seconds: int) -> tuple[bool, float]:
        """Count one more if there are not so many in the window; whether it was counted, and how many there are now.

        The window slides: of the requests of the window before as many count as it still covers.

        Raises:
            redis.exceptions.RedisError
        """
        keys = [self.prefixed_key(self._previous_window_key(key)), self.prefixed_key(self._current_window_key(key))]
        counting, looking = self.lua_acquire_sliding_window, self.lua_sliding_window
        # Not by way of the scripts themselves: for them redis-py asks each time whether the server has them.
        client: Any = self.get_connection()  # the library's types know less of it
        pipeline = client.pipeline(transaction=False)
        pipeline.evalsha(counting.sha, len(keys), *keys, most, window_seconds, 1)
        pipeline.evalsha(looking.sha, len(keys), *keys, window_seconds)
        counted, seen = replies = pipeline.execute(raise_on_error=False)
        missing = [isinstance(reply, NoScriptError) for reply in replies]
        if missing[0]:
            counted = counting(keys, [most, window_seconds, 1])  # which loads it
        if any(missing):
            seen = looking(keys, [window_seconds])
        for reply in (counted, seen):
            if isinstance(reply, RedisError):
                raise reply
        before, covered_millis, current, _ = seen
        covered = max(0, covered_millis) / 1000 / window_seconds
        return bool(counted), int(before or 0) * covered + int(current or 0)


class Rates:
    """The requests of all owners, whichever API process they are made to."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        # The address says nothing but whose client it is: the connections are ours.
        self._counter = Counter("redis://", connections.client.connection_pool, key_prefix=keys.rates)

    def count(self, owner: str, most: int) -> tuple[bool, int]:
        """Count a request of an owner who may make `most` in a second; whether it may be answered, and how many more.

        While Redis has no memory left nothing is counted, so that owners can delete what they do not need.

        Raises:
            StoreUnavailable
        """
        try:
            granted, number = self._counter.count(owner, most, WINDOW_SECONDS)
        except OutOfMemoryError:
            return True, most
        except RedisError as error:
            raise StoreUnavailable from error
        return granted, max(0, most - int(number))
