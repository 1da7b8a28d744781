"""One request to a stranger's server: only to addresses that are allowed, in a bounded time, with little read of it.

The addresses of a host are asked for once, each is checked, and the connection is made to one of those that were
checked: a name that means something else a moment later changes nothing. No redirect is followed and no proxy is used.
What is said of a failure is for whoever chose the url: it names no address, so that nobody can ask the name server of
this network by way of us.
"""

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

from shared.networks import Address, Network, lies_in, why_refused
from shared.receiver import Receiver
from worker.lookups import Lookups, NotInTime

# Of an answer; its status and headers are all that is looked at.
MOST_BYTES: Final = 4096
MOST_ADDRESSES: Final = 16

# A socket family and what its sockets connect to.
Place = tuple[socket.AddressFamily, tuple[Any, ...]]


class NotSent(Exception):  # not an error of the service: it goes into the log of the delivery
    """There was no answer, or nothing was asked; the message says why in plain words.

    `inside` is what only the operator of the service may read.
    """

    def __init__(self, message: str, **inside: str) -> None:
        super().__init__(message)
        self.inside = inside


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """How requests are made; safe to use from several threads."""

    allowed: Sequence[Network]  # beside those that are public
    timeout_seconds: float  # of one request as a whole, however slowly it goes on
    tls: ssl.SSLContext
    lookups: Lookups = field(default_factory=Lookups)

    def post(self, receiver: Receiver, body: bytes, headers: Mapping[str, str], *, owner: str) -> int:
        """Send `body` for an owner; the status of the answer.

        Raises:
            NotSent
        """
        deadline = time.monotonic() + self.timeout_seconds
        try:
            connection = _connected(self._places(receiver, owner, deadline), deadline)
            try:
                connection.settimeout(_left(deadline))
                if receiver.secure:
                    connection = self.tls.wrap_socket(connection, server_hostname=receiver.host)
                return _asked(connection, _request(receiver, body, headers), deadline)
            finally:
                connection.close()
        except TimeoutError as error:
            raise NotSent(f"It took longer than {self.timeout_seconds:g} s.") from error
        except ssl.SSLCertVerificationError as error:
            raise NotSent(f"The certificate of {receiver.host} is not accepted: {error.verify_message}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise NotSent(_words(error)) from error

    def _places(self, receiver: Receiver, owner: str, deadline: float) -> list[Place]:
        """Where the receiver can be reached, every address of it checked.

        Raises:
            NotSent: it has no address, or one that is not allowed.
        """
        try:
            found = self.lookups.find(receiver.host, receiver.port, owner=owner, seconds=_left(deadline))
        except NotInTime as error:
            raise NotSent(f"The name {receiver.host} could not be looked up in time.") from error
        except (OSError, UnicodeError) as error:
            raise NotSent(f"The addresses of {receiver.host} cannot be found: {_words(error)}") from error
        places = list(dict.fromkeys((family, place) for family, _, _, _, place in found))[:MOST_ADDRESSES]
        if not places:
            raise NotSent(f"{receiver.host} has no address.")
        for _, place in places:
            self._check(receiver, ipaddress.ip_address(place[0]))
        return places

    def _check(self, receiver: Receiver, address: Address) -> None:
        why = why_refused(address, self.allowed)
        if why is not None:
            message = f"Refused: {receiver.host} is at an address that webhooks must not go to."
            raise NotSent(message, address=str(address), reason=why)
        if not receiver.secure and not lies_in(address, self.allowed):
            message = f"Refused: {receiver.host} is at an address where only https:// may be used."
            raise NotSent(message, address=str(address), reason="not in webhook_networks")


class _Wire(io.RawIOBase):
    """What comes over a connection, up to a number of bytes and a moment; past the bytes as if it had been closed."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._bytes_left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._bytes_left:
            return 0
        # Anew for each read, so that bytes which drip in do not prolong it.
        self._connection.settimeout(_left(self._deadline))
        read = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= read
        return read


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connected(places: Sequence[Place], deadline: float) -> socket.socket:
    """A connection to the first place that takes it; each has its share of the time."""
    failed: OSError = TimeoutError()
    for index, (family, place) in enumerate(places):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline) / (len(places) - index))
            connection.connect(place)
        except OSError as error:
            connection.close()
            failed = error
        else:
            return connection
    raise failed


def _request(receiver: Receiver, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {receiver.target} HTTP/1.1", f"Host: {receiver.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def _asked(connection: socket.socket, request: bytes, deadline: float) -> int:
    connection.settimeout(_left(deadline))
    connection.sendall(request)  # as a whole within that time, by TLS too
    reader = io.BufferedReader(_Wire(connection, deadline))
    source = cast(socket.socket, SimpleNamespace(makefile=lambda _: reader))
    # RFC 9110, section 15.2: any number of informational answers may come before the answer itself. All are kept until
    # then, since one that is let go closes what the next is read from.
    responses: list[http.client.HTTPResponse] = []
    while not responses or responses[-1].status < 200:
        responses.append(http.client.HTTPResponse(source, method="POST"))
        responses[-1].begin()
    return responses[-1].status


def _words(error: Exception) -> str:
    """What went wrong, without anything that the other side has said."""
    match error:
        case http.client.RemoteDisconnected():
            return "The connection was closed without an answer."
        case http.client.HTTPException():
            return "The answer is not HTTP."
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'the connection was closed'}."
        case OSError(strerror=str(text)):
            return f"{text}."
        case _:
            return f"{type(error).__name__}."
