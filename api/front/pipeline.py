"""One connection to Redis for all requests of the loop: commands go out as they come, replies come in that order."""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Final, cast

import hiredis
import structlog
from redis.exceptions import RedisError

from shared.connection import Argument, Connections, WouldWait, pack
from shared.meter import METER
from shared.script import Script

log = structlog.get_logger()

# Before another try to connect.
AGAIN_SECONDS: Final = 1.0
# Of a server that is a primary no more: another one is.
NO_PRIMARY: Final = ("READONLY", "MASTERDOWN")


class Pipeline(asyncio.Protocol):
    """Sends scripts and commands. What is not answered may have run all the same: who sent it runs it again elsewhere.

    Who is told must not raise.
    """

    def __init__(
        self, connections: Connections, loop: asyncio.AbstractEventLoop, threads: Executor, timeout_seconds: float
    ) -> None:
        self._connections = connections
        self._loop = loop
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._sent: deque[tuple[int, Callable[[Any], None]]] = deque()  # when, and who is told
        self._timer: asyncio.TimerHandle | None = None

    def connect(self) -> None:
        """Connect, in a thread, and go on trying."""
        self._opening = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            found = await self._loop.run_in_executor(self._threads, self._connections.socket)
            if isinstance(found, ssl.SSLSocket):  # which only waits; threads have theirs
                found.close()
                return
            found.setblocking(False)
            if found.family == socket.AF_UNIX:
                await self._loop.create_unix_connection(lambda: self, sock=found)
            else:
                await self._loop.create_connection(lambda: self, sock=found)
        except (RedisError, OSError):
            self._loop.call_later(AGAIN_SECONDS, self.connect)
        except Exception:
            log.exception("front.failed")
            self._loop.call_later(AGAIN_SECONDS, self.connect)

    def send(self, script: Script, arguments: tuple[Argument, ...], told: Callable[[Any], None]) -> bool:
        """Run a script; `told` is called with its reply, or None if there is none that could be used.

        False: there is no connection, and nothing was sent.
        """
        return self._send("EVALSHA", script.digest, "1", *arguments, told=told)

    def send_all(self, commands: Sequence[tuple[Argument, ...]], done: Callable[[], None]) -> None:
        """Run commands that may be refused; `done` is called if none is.

        Raises:
            WouldWait: there is no connection.
        """
        left = len(commands)

        def told(reply: Any) -> None:
            nonlocal left
            left -= reply is not None
            if not left:
                done()

        for command in commands:
            if not self._send(*command, told=told):
                raise WouldWait

    def _send(self, *command: Argument, told: Callable[[Any], None]) -> bool:
        if self._transport is None:
            return False
        self._transport.write(pack(*command))
        self._sent.append((time.perf_counter_ns(), told))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_seconds, self._look_at_clock)
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used from now on."""
        self._reader = hiredis.Reader()
        self._transport = cast(asyncio.Transport, transport)  # that of a socket is one

    def data_received(self, data: bytes) -> None:
        """Give each reply to whom it is for."""
        self._reader.feed(data)
        now = time.perf_counter_ns()
        while (reply := self._reader.gets()) is not False:
            began, told = self._sent.popleft()
            METER.observe(("redis_seconds", f"{METER.side} ", ((now - began) // 1000,)))
            if isinstance(reply, hiredis.ReplyError):
                # A thread finds out what it is, and says it.
                if str(reply).startswith(NO_PRIMARY):
                    self._give_up()
                reply = None
            told(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait, and connect again."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sent, self._sent = self._sent, deque()
        for _, told in sent:
            told(None)
        self._loop.call_later(AGAIN_SECONDS, self.connect)

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _look_at_clock(self) -> None:
        self._timer = None
        if not self._sent:
            return
        left = self._timeout_seconds - (time.perf_counter_ns() - self._sent[0][0]) / 1e9
        if left <= 0:
            self._give_up()
        else:
            self._timer = self._loop.call_later(left, self._look_at_clock)
