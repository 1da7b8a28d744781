"""Connections to Redis: one for each thread, scripts by their digest, and errors in our own words.

redis-py does the connecting, authentication and TLS; its command layer is passed by, since it costs 90 of the 145 us
of CPU that a scripted call takes (docs/architecture.md, "Where the time goes").
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.errors import BadSetting, StoreFull, StoreUnavailable

LUA: Final = Path(__file__).parent / "lua"
OLDEST_SERVER: Final = (7, 0)

Argument = str | bytes | int | float


class Script:
    """One Lua script with the prelude before it."""

    def __init__(self, name: str) -> None:
        self.source = (LUA / "prelude.lua").read_bytes() + (LUA / f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class Connections:
    """A connection for each thread that calls; safe to make before a fork, as nothing is opened until then."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._threads = threading.local()
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # For what is called seldom: plain redis-py on the same settings. Its types cover asyncio too: no use to us.
        self.client: Any = redis.Redis(connection_pool=self._pool)

    def script(self, script: Script, base: str, *arguments: Argument) -> Any:
        """Run a script; every script may safely run twice, so a broken connection is tried once more on a new one.

        Raises:
            StoreUnavailable: no answer in time. Whether the script ran is not known.
            StoreFull: Redis is at its memory limit; nothing was written.
        """
        packed = _pack("EVALSHA", script.digest, "1", base, *arguments)
        try:
            return self._send(packed)
        except NoScriptError:
            return self._send(_pack("EVAL", script.source, "1", base, *arguments))

    def _send(self, packed: bytes) -> Any:
        try:
            try:
                return self._exchange(packed)
            except RedisTimeoutError:
                raise
            except RedisConnectionError:
                return self._exchange(packed)
        except OutOfMemoryError as error:
            raise StoreFull from error
        except NoScriptError:
            raise
        except ResponseError as error:
            raise _translated(error) from error
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    def _exchange(self, packed: bytes) -> Any:
        connection: Any = self._connection()
        try:
            connection.send_packed_command([packed])
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            # An answer may still be on its way: it must not be read as that of the next command.
            connection.disconnect()
            raise

    def _connection(self) -> AbstractConnection:
        connection: AbstractConnection | None = getattr(self._threads, "connection", None)
        if connection is None or self._threads.pid != os.getpid():
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            self._threads.connection = connection
            self._threads.pid = os.getpid()
        return connection

    @contextmanager
    def subscription(self, channel: str, turn_seconds: float) -> Iterator[Iterator[bytes | None]]:
        """The messages of a channel from now on, and None whenever there was none for `turn_seconds`.

        Read from the connection itself: redis-py's own subscriber takes several times as long for a message.

        Raises:
            redis.exceptions.ConnectionError: the connection is gone, and with it what was sent meanwhile.
        """
        options = self._pool.connection_kwargs | {"socket_timeout": turn_seconds}
        connection: Any = self._pool.connection_class(**options)
        try:
            connection.send_command("SUBSCRIBE", channel, check_health=False)
            connection.read_response()

            def messages() -> Iterator[bytes | None]:
                while True:
                    try:
                        yield connection.read_response(disconnect_on_error=False)[2]
                    except RedisTimeoutError:
                        yield None

            yield messages()
        finally:
            connection.disconnect()

    def blocking(self, seconds: float) -> Any:
        """A client of its own for a thread that blocks on Redis for up to `seconds` at a time."""
        options: dict[str, Any] = {} if self._url.startswith("unix://") else {"socket_keepalive": True}
        return redis.Redis.from_url(
            self._url,
            # A Redis that vanished without a word is noticed all the same.
            socket_timeout=seconds + self._timeout_seconds,
            socket_connect_timeout=self._timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **options,
        )


def _pack(*arguments: Argument) -> bytes:
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub takes one argument only
    return packed


def _translated(error: ResponseError) -> Exception:
    text = str(error)
    # A script's own call was refused for want of memory, or Redis is starting, or it became a replica.
    if text.startswith("OOM") or "OOM command not allowed" in text:
        return StoreFull()
    if text.startswith(("LOADING", "BUSY", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS")):
        return StoreUnavailable(
            f"The job store (Redis) takes no writes at the moment ({text.partition(' ')[0]}); try again."
        )
    return error


def check_server(url: str, *, timeout_seconds: float) -> None:
    """See that the Redis at `url` answers and is new enough.

    Raises:
        BadSetting: it does not, with what to do.
    """
    place = _place(url)
    try:
        client: Any = redis.Redis.from_url(
            url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise BadSetting(f"FORETELL_REDIS_URL ({place}) is no address of a Redis: {error}") from error
    try:
        version = str(client.info("server")["redis_version"])
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except ResponseError as error:
        if "config" not in str(error).lower():
            raise BadSetting(f"Redis at {place} refuses us: {error}") from error
        policy = "noeviction"  # managed services forbid CONFIG; their consoles show the policy
    except (RedisError, OSError, ValueError, TypeError) as error:
        raise BadSetting(f"Redis at {place} cannot be reached: {error}") from error
    finally:
        client.close()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise BadSetting(f"Redis at {place} is version {version}; 7.0 or newer is needed")
    if policy != "noeviction":
        raise BadSetting(
            f"Redis at {place} has maxmemory-policy {policy}, which throws jobs away; set it to noeviction"
        )


def _place(url: str) -> str:
    """Where a Redis is, without the passwords that its URL may hold."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}" or url.partition(":")[0]


def loaded(names: Sequence[str]) -> dict[str, Script]:
    """The scripts of these names."""
    return {name: Script(name) for name in names}
