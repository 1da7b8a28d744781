"""The connection of one client."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import structlog

from api.front.head import Other, read_request
from api.front.tunnel import Tunnel

if TYPE_CHECKING:
    from api.front.loop import Front

log = structlog.get_logger()

# Connections that one API process keeps open beside those that its threads serve and those that wait for a job, and as
# many may be granian's. One more waits, unanswered, until another ends.
IDLE_CONNECTIONS: Final = 1024
# So many wait; what comes then is hung up on.
MOST_HELD: Final = 128
# Of requests that were sent without waiting for the answer before; as much again is in the kernel.
MOST_AHEAD_BYTES: Final = 2**17
# After the answer that ends a connection, what still comes is read and thrown away for so long: else the client might
# be told that its connection is broken before it has read the answer.
LINGER_SECONDS: Final = 2.0
REFUSED: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Phase(Enum):
    """What a connection is at; BUSY leads back to READING, TUNNEL to ENDING only."""

    HELD = auto()  # too many are open
    READING = auto()  # no request is whole
    BUSY = auto()  # a request is being answered
    TUNNEL = auto()  # it is granian's
    ENDING = auto()  # nothing more is answered


class Client(asyncio.Protocol):
    """Has its requests answered one after the other, until something comes that is granian's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, front: "Front") -> None:
        self._loop = loop
        self._front = front
        self._buffer = bytearray()
        self._is_reading = False  # further up in the stack
        self._wants_no_more = False  # than the answer to the request at hand
        self._transport: asyncio.Transport
        self._tunnel: Tunnel | None = None
        self._quiet_since = self._taken_at = loop.time()
        self._unsent_bytes = 0  # at that time, if it takes no more
        self.phase = Phase.READING
        self.full = False  # it takes no more for the moment
        self.has_ended = False  # it sends no more
        # For who answers: called when it is gone, and when it sends no more.
        self.on_lost: Callable[[], None] | None = None
        self.on_eof: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)  # that of a socket is one
        if not self._front.clients.add(self):
            self._transport.abort()

    def begin(self) -> None:
        """It was held back, and is read now."""
        self.phase, self._quiet_since = Phase.READING, self._loop.time()
        self.resume()
        self._read()

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        if self.phase is Phase.TUNNEL:
            assert self._tunnel is not None  # noqa: S101  # for mypy
            self._tunnel.send(data)
        elif self.phase is not Phase.ENDING:
            if not self._buffer:
                self._quiet_since = self._loop.time()
            self._buffer += data
            if self.phase is Phase.HELD or len(self._buffer) > MOST_AHEAD_BYTES:
                self.pause()
            self._read()

    def _read(self) -> None:
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while self.phase is Phase.READING and self._buffer and not self.full:
                request = read_request(self._buffer)
                if request is None:
                    break
                del self._buffer[: request.size_bytes]
                self.phase, self._wants_no_more = Phase.BUSY, request.closes
                self._front.answer(self, request)
        except Other:
            self.hand_over()
        except Exception:
            log.exception("front.failed")
            self.abort()
        finally:
            self._is_reading = False
        if self.has_ended and self.phase is Phase.READING and not self.full:
            self.end()

    def respond(self, status: int, fields: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send the answer to the request that is being answered."""
        if self.phase is not Phase.BUSY:
            return  # it is gone
        try:
            lines = [f"{name.lower()}: {value}\r\n" for name, value in fields]  # as granian writes them
            head = "".join([_status_line(status), *lines, _date(int(time.time()))]).encode("latin-1")
        except ValueError:
            log.exception("front.failed")
            self.abort()
            return
        self.send(head + body)
        self.phase, self._quiet_since = Phase.READING, self._loop.time()
        if self._wants_no_more or ("Connection", "close") in fields:
            self.end()
            return
        if len(self._buffer) <= MOST_AHEAD_BYTES:
            self.resume()
        self._read()

    def hand_over(self) -> None:
        """Let granian have this connection, from what has not been answered yet."""
        self.pause()
        self.phase = Phase.TUNNEL
        self._tunnel = Tunnel(self._loop, self, bytes(self._buffer), has_ended=self.has_ended)
        self._tunnel.open(self._front.address)
        self._buffer.clear()

    def granian_is_gone(self) -> None:
        """Granian listens no more."""
        self.refuse()
        self._front.granian_is_gone()

    def refuse(self) -> None:
        """Say that nothing was done about what the client has sent, and end it."""
        self.send(REFUSED)
        self.end()

    @property
    def has_unsent(self) -> bool:
        """Whether something is still to be sent, or its sending awaited."""
        return self._transport.get_write_buffer_size() > 0

    def look_after(self, now: float, *, idle_seconds: float, patience_seconds: float, stuck_seconds: float) -> None:
        """End it if it is idle or takes nothing of its answers, and hand it over if a request comes too slowly."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if not self.full or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._taken_at = unsent_bytes, now
        elif self.phase is not Phase.TUNNEL and now - self._taken_at > stuck_seconds:
            self.abort()
        if self.phase is not Phase.READING or self.full:
            return
        quiet_seconds = now - self._quiet_since
        if not self._buffer and quiet_seconds > idle_seconds:
            self.end()
        elif self._buffer and quiet_seconds > patience_seconds:
            self.hand_over()

    def end(self) -> None:
        """Close it when all is sent, and the client has hung up or had time to read."""
        if self.phase is Phase.ENDING or self._transport.is_closing():
            return
        self.phase = Phase.ENDING
        self._buffer.clear()
        if self.has_ended:
            self._transport.close()
            return
        self.resume()
        self._transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def abort(self) -> None:
        """Hang up."""
        self.phase = Phase.ENDING
        self._transport.abort()

    def send(self, data: bytes) -> None:
        """Send."""
        if not self._transport.is_closing() and self.phase is not Phase.ENDING:
            self._transport.write(data)

    def pause(self) -> None:
        """Read no more for the moment."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client takes no more for the moment: nothing more is answered, or read for it."""
        self.full = True
        if self._tunnel is not None:
            self._tunnel.pause()

    def resume_writing(self) -> None:
        """It takes more."""
        self.full = False
        self._quiet_since = self._loop.time()
        if self._tunnel is not None:
            self._tunnel.resume()
        self._read()

    def eof_received(self) -> bool:
        """The client sends no more; True: it may still be answered."""
        self.has_ended = True
        match self.phase:
            case Phase.TUNNEL:
                assert self._tunnel is not None  # noqa: S101  # for mypy
                self._tunnel.end()
                return True
            case Phase.BUSY:
                if self.on_eof is not None:
                    self.on_eof()
                return True
            case Phase.READING if self.full:
                return True
        self.phase = Phase.ENDING
        self._buffer.clear()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.phase = Phase.ENDING
        self._front.clients.discard(self)
        if self._tunnel is not None:
            self._tunnel.close()
        if self.on_lost is not None:
            self.on_lost()


class Clients:
    """All connections of one process. Those that are too many are not read until others have ended."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Client] = set()
        self._held: dict[Client, None] = {}  # in the order in which they came

    def __iter__(self) -> Iterator[Client]:
        """Those that are read, as they are now."""
        return iter(list(self._open))

    def add(self, client: Client) -> bool:
        """One came; False if it has to go."""
        if len(self._open) < self._most:
            self._open.add(client)
            return True
        client.phase = Phase.HELD
        if len(self._held) >= MOST_HELD:
            return False
        self._held[client] = None
        return True

    def discard(self, client: Client) -> None:
        """One is gone."""
        self._held.pop(client, None)
        self._open.discard(client)
        while self._held and len(self._open) < self._most:
            following = next(iter(self._held))
            del self._held[following]
            self._open.add(following)
            following.begin()


@lru_cache(100)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


@lru_cache(1)
def _date(now: int) -> str:
    return f"date: {formatdate(now, usegmt=True)}\r\n\r\n"
