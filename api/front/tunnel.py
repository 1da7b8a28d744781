"""A client's connection as one to granian: bytes are passed on, both ways, as fast as the slower side takes them."""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, cast

import structlog

if TYPE_CHECKING:
    from api.front.client import Client

log = structlog.get_logger()

AGAIN_SECONDS: Final = 0.01
READ_BYTES: Final = 2**16


class Tunnel(asyncio.Protocol):
    """The side of granian."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: "Client", first: bytes, *, has_ended: bool = False
    ) -> None:
        """Keep what the client has sent so far, and whether it sends more; it is not read until this is open."""
        self._loop = loop
        self._client = client
        self._first = first
        self._has_ended = has_ended
        self._is_closed = False  # the client is gone
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None

    def open(self, address: bytes) -> None:
        """Connect."""
        self._opening = self._loop.create_task(self._connect(address))

    async def _connect(self, address: bytes) -> None:
        try:
            self._socket = await connected(address)
            await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        except ConnectionRefusedError:
            self._client.granian_is_gone()
        except OSError as error:  # such as too many open files
            log.warning("front.refused", error=str(error))
            if self._socket is not None:
                self._socket.close()
            self._client.refuse()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on what there is."""
        self._transport = cast(asyncio.Transport, transport)  # that of a socket is one
        if self._is_closed:
            self._transport.abort()
            return
        self._client.resume()  # until granian takes no more, which it may be as soon as something is sent
        self._transport.write(self._first)
        self._first = b""
        if self._client.full:
            self._loop.call_soon(self._pause_if_full)  # uvloop begins to read after this
        if self._has_ended:
            self._transport.write_eof()

    def _pause_if_full(self) -> None:
        if self._client.full:
            self.pause()

    def send(self, data: bytes) -> None:
        """Pass on what the client sends."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """The client sends no more."""
        self._has_ended = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """The client is gone."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """The client takes no more for the moment."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """It takes more."""
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass on what granian answers."""
        self._client.send(data)

    def pause_writing(self) -> None:
        """Granian takes no more for the moment."""
        self._client.pause()

    def resume_writing(self) -> None:
        """It takes more."""
        self._client.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Granian has closed it, and all that it sent is passed on."""
        self._transport = None
        if self._is_closed:
            return
        if exc is not None and self._socket is not None:
            self._send_rest(self._socket)  # which is closed after this
        self._client.end()

    def _send_rest(self, left: socket.socket) -> None:
        """Pass on what granian said before it closed a connection on which the client still sends, such as why."""
        with contextlib.suppress(OSError):
            while data := left.recv(READ_BYTES):
                self._client.send(data)


async def connected(address: bytes) -> socket.socket:
    """A connection to granian.

    Raises:
        OSError: it does not listen.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.setblocking(False)
    while True:
        try:
            found.connect(address)
        except BlockingIOError:  # too many come at once
            await asyncio.sleep(AGAIN_SECONDS)
        except OSError:
            found.close()
            raise
        else:
            return found
