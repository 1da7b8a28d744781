"""One keep-alive HTTP/1.1 connection to a server on loopback, without blocking and nearly without cost."""

import selectors
import socket
from typing import Any, NamedTuple

# A request is sent in one go: 100 rows are some 20 KB.
SEND_BYTES = 2**18


class VoidRunError(Exception):
    """An answer was wrong, lost, doubled or refused: the run measures nothing."""


class Response(NamedTuple):
    """`retry_after_seconds` is what a refusal asks for (RFC 9110, section 10.2.3, in seconds), if it asks."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None


class Connection:
    """Sends one request at a time; `owner` is what the selector hands back when this connection has news.

    Understands responses with a Content-Length (RFC 9112, section 6.3, rule 6) or in chunks without trailers (section
    7.1), in any number of packets.
    """

    def __init__(self, port: int, selector: selectors.BaseSelector, owner: Any) -> None:
        self._port = port
        self._selector = selector
        self._owner = owner
        self._socket: socket.socket | None = None
        self._request = b""
        self._repeatable = False
        self._retry_after: float | None = None
        self._length: int | None = None  # of head and body together, once it is known
        self._forget_response()

    def send(self, request: bytes, *, repeatable: bool) -> None:
        """Send the head and body of a request; a `repeatable` one is sent again if the server hangs up on it."""
        if self._request:
            raise RuntimeError("the last request has no response yet")
        self._request = request
        self._repeatable = repeatable
        self._write()

    def receive(self) -> Response | None:
        """Read what has arrived; the response once it is whole. Raises VoidRunError if it was lost or not asked for."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            self._hung_up()
            return None
        self._buffer += data
        if not self._request:
            raise VoidRunError(f"an answer that nobody asked for: {self._buffer[:200]!r}")
        if not self._head_length and not self._read_head():
            return None
        if self._chunked:
            self._read_chunks()
        if self._length is None or len(self._buffer) < self._length:
            return None
        if len(self._buffer) > self._length:
            raise VoidRunError(f"more than one answer: {self._buffer[self._length :][:200]!r}")
        return self._take_response()

    def close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def _write(self) -> None:
        if self._socket is None:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
            except OSError as error:
                raise VoidRunError(f"the server takes no connection: {error}") from error
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            self._socket.setblocking(False)
            self._selector.register(self._socket, selectors.EVENT_READ, self._owner)
        try:
            sent = self._socket.send(self._request)
        except (BrokenPipeError, ConnectionResetError):
            # The server had closed the idle connection before; nothing of this request was read.
            self.close()
            self._write()
            return
        if sent != len(self._request):
            raise RuntimeError("the request does not fit into the socket's buffer")

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[: end + 2]).lower()
        mark = head.find(b"\r\ncontent-length:")
        self._status = int(head[9:12])
        self._head_length = end + 4
        self._closes = b"\r\nconnection: close\r\n" in head
        asked = head.find(b"\r\nretry-after:") if self._status in (429, 503) else -1
        self._retry_after = float(head[asked + 14 : head.index(b"\r\n", asked + 2)]) if asked >= 0 else None
        self._chunked = b"\r\ntransfer-encoding: chunked\r\n" in head
        if mark >= 0:
            self._length = self._head_length + int(head[mark + 17 : head.index(b"\r\n", mark + 2)])
        elif not self._chunked:
            raise VoidRunError(f"a response of unknown length: {head[:200]!r}")
        return True

    def _read_chunks(self) -> None:
        """Find the end of the last chunk, and take the chunks apart once it is there."""
        at = self._head_length
        pieces: list[bytes] = []
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            size, at = int(bytes(self._buffer[at:end]).partition(b";")[0], 16), end + 2
            if not size:
                if len(self._buffer) >= at + 2:
                    self._buffer[self._head_length : at + 2] = b"".join(pieces)
                    self._length = self._head_length + sum(map(len, pieces))
                    self._chunked = False
                return
            pieces.append(bytes(self._buffer[at : at + size]))
            at += size + 2

    def _take_response(self) -> Response:
        response = Response(self._status, bytes(self._buffer[self._head_length :]), self._retry_after)
        if self._closes:
            self.close()
        self._request = b""
        self._forget_response()
        return response

    def _forget_response(self) -> None:
        self._buffer = bytearray()
        self._status = self._head_length = 0
        self._length = None
        self._retry_after = None
        self._closes = self._chunked = False

    def _hung_up(self) -> None:
        self.close()
        if not self._request:
            return
        if self._buffer or not self._repeatable:
            raise VoidRunError(f"the server hung up on {self._request.split(maxsplit=2)[:2]}: the answer is lost")
        self._write()
