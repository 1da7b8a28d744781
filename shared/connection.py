"""Connections to Redis: one for each thread, scripts by their digest, and errors in our own words.

redis-py does the connecting, authentication and TLS; its command layer is passed by, since it costs 90 of the 145 us
of CPU that a scripted call takes (docs/architecture.md, "Where the time goes").
"""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import AuthenticationError, NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.address import Address
from shared.errors import BadSetting, StoreFull, StoreUnavailable
from shared.meter import METER
from shared.script import Script

OLDEST_SERVER: Final = (7, 0)
# The one maxmemory-policy under which no job is thrown away.
KEEPS_ALL: Final = "noeviction"
# What sends the times of the others, and has none itself: an idle process would have something to send for ever.
SENDING: Final = "count"

# Whether a host that says nothing is still there is asked after 5 s, and then each 2 s; the third silence is the end.
KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)  # not each system has all of them
}

Argument = str | bytes | int | float


class WouldWait(Exception):
    """The thread that asked may not wait for Redis."""


class _Thread(threading.local):
    """What each thread has of its own."""

    never_waits = False
    connection: AbstractConnection | None = None
    pid = 0  # of the process that connected


class Connections:
    """A connection for each thread that calls; safe to make before a fork, as nothing is opened until then."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._address = Address.parse(url)
        self._timeout_seconds = timeout_seconds
        self._threads = _Thread()
        self._pool = self._address.pool(**_patience(timeout_seconds))
        # Its types cover asyncio too: no use to us.
        self._client: Any = redis.Redis(connection_pool=self._pool)

    @property
    def client(self) -> Any:
        """Plain redis-py on the same settings, for what is called seldom.

        Raises:
            WouldWait
        """
        if self._threads.never_waits:
            raise WouldWait
        return self._client

    def never_wait(self) -> None:
        """Let the calling thread, which serves others meanwhile, be told instead of waiting for Redis from now on."""
        self._threads.never_waits = True

    @property
    def database(self) -> int:
        """The number of the database that is used."""
        return int(self._address.options.get("db", 0))

    def script(self, script: Script, base: str, *arguments: Argument) -> Any:
        """Run a script; every script may safely run twice, so a broken connection is tried once more on a new one.

        Raises:
            StoreUnavailable: no answer in time. Whether the script ran is not known.
            StoreFull: Redis is at its memory limit; nothing was written.
            WouldWait
        """
        if self._threads.never_waits:
            raise WouldWait
        packed, began = pack("EVALSHA", script.digest, "1", base, *arguments), time.perf_counter_ns()
        try:
            try:
                return self._send(packed)
            except NoScriptError:
                return self._send(pack("EVAL", script.source, "1", base, *arguments))
        except (StoreUnavailable, StoreFull) as error:
            METER.add(f"redis_errors_total {METER.side} {error.code}")
            raise
        finally:
            if script.name != SENDING:
                METER.observe(("redis_seconds", f"{METER.side} ", ((time.perf_counter_ns() - began) // 1000,)))

    def confirm(self, key: str, written: str, replicas: int) -> bool:
        """Whether the server has a key, and so many of its replicas all that it has; they get half of the timeout.

        Args:
            key: what must be there, so that another server than was written to does not answer for that one.
            written: a key that is written, since replicas are waited for up to the newest write of a connection.
            replicas: how many.

        Raises:
            StoreUnavailable
        """
        pipeline = self.client.pipeline(transaction=False)
        pipeline.exists(key).set(written, 1, px=60_000).wait(replicas, max(1, int(500 * self._timeout_seconds)))
        began = time.perf_counter_ns()
        try:
            there, _, having = pipeline.execute()
        except (RedisError, OSError) as error:
            METER.add(f"redis_errors_total {METER.side} {StoreUnavailable.code}")
            raise StoreUnavailable from error
        finally:
            METER.observe(("redis_seconds", f"{METER.side} ", ((time.perf_counter_ns() - began) // 1000,)))
        return bool(there and having >= replicas)

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
            if not connection.is_connected:
                connection.connect()  # of a service the sentinels are asked anew; sending alone would not do that
            connection.send_packed_command([packed])
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            # An answer may still be on its way: it must not be read as that of the next command.
            connection.disconnect()
            raise

    def _connection(self) -> AbstractConnection:
        connection = self._threads.connection
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
        if "path" not in self._address.options:
            # Who only listens does not notice otherwise that the other host is gone.
            options |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
        connection: Any = self._pool.connection_class(**options)
        try:
            connection.connect()
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
        options = _patience(self._timeout_seconds)
        # A Redis that vanished without a word is noticed all the same.
        options["socket_timeout"] = seconds + self._timeout_seconds
        if "path" not in self._address.options:
            options["socket_keepalive"] = True
        return redis.Redis.from_pool(self._address.pool(**options))

    def socket(self) -> socket.socket:
        """A connected socket of its own, for who writes and reads by itself; through TLS it is an SSLSocket.

        Raises:
            redis.exceptions.RedisError, OSError
        """
        # Without what a server may say of itself in between (RESP3).
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs | {"protocol": 2})
        connection.connect()
        taken: socket.socket = connection._sock
        connection._sock = None  # so that it is not closed with the connection
        return taken

    @contextmanager
    def raw(self) -> Iterator[Any]:
        """A connection of its own, for what is no call and answer.

        Raises:
            redis.exceptions.RedisError, OSError
        """
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            connection.connect()
            yield connection
        finally:
            connection.disconnect()


def _patience(seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def pack(*arguments: Argument) -> bytes:
    """A command as it is sent."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a Redis says of itself."""

    place: str  # for messages, without user and password
    info: Mapping[str, Any]  # of INFO, as redis-py reads it

    @property
    def version(self) -> str:
        """Of the Redis that it is, or is compatible with."""
        return str(self.info["redis_version"])

    @property
    def is_new_enough(self) -> bool:
        """Whether all our commands and scripts are understood."""
        return tuple(int(part) for part in self.version.split(".")[:2]) >= OLDEST_SERVER

    @property
    def policy(self) -> str:
        """What it does when its memory is used up; any other than `noeviction` throws jobs away."""
        return str(self.info.get("maxmemory_policy", KEEPS_ALL))


def read_server(url: str, *, timeout_seconds: float) -> Server:
    """Ask the Redis at `url` about itself.

    Raises:
        BadSetting: it does not answer, with why.
    """
    try:
        address = Address.parse(url)
    except ValueError as error:
        raise BadSetting(f"FORETELL_REDIS_URL is no address of a Redis: {error}") from error
    place = address.place
    client: Any = redis.Redis.from_pool(address.pool(**_patience(timeout_seconds)))
    try:
        return Server(place=place, info=client.info())
    except AuthenticationError as error:
        raise BadSetting(
            f"Redis at {place} refuses the user or the password of FORETELL_REDIS_URL, or needs one: {error}"
        ) from error
    except ResponseError as error:
        raise BadSetting(f"Redis at {place} refuses us: {error}") from error
    except (RedisError, OSError, ValueError, TypeError) as error:
        raise BadSetting(f"Redis at {place} cannot be reached: {error}") from error
    finally:
        client.close()


def check_server(url: str, *, timeout_seconds: float) -> None:
    """See that the Redis at `url` answers, is new enough, and throws nothing away.

    Raises:
        BadSetting: it does not, with what to do.
    """
    server = read_server(url, timeout_seconds=timeout_seconds)
    if not server.is_new_enough:
        raise BadSetting(f"Redis at {server.place} is version {server.version}; 7.0 or newer is needed")
    if server.policy != KEEPS_ALL:
        raise BadSetting(
            f"Redis at {server.place} has maxmemory-policy {server.policy}, which throws jobs away; set it to "
            "noeviction"
        )
