"""Where a webhook goes: a URL that was checked, as the owner of a job gives it."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shared.errors import InvalidRequest
from shared.networks import Address, Network, lies_in, why_refused

LONGEST_URL: Final = 2000
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986, section 2. urlsplit leaves out tabs and line breaks without a word, so they are looked for before it.
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Receiver:
    """The parts of a webhook's URL."""

    scheme: str  # http or https
    host: str  # a name, or an address without brackets
    port: int
    target: str  # path and query

    @classmethod
    def parse(cls, url: str, allowed: Sequence[Network], pointer: str = "/webhook/url") -> "Receiver":
        """Check a URL as far as that can be without asking for the addresses of its host.

        Raises:
            InvalidRequest: it is malformed, has a user or password in it, or can never be called.
        """
        if not 1 <= len(url) <= LONGEST_URL:
            raise _fault(pointer, "bad_length", f"A webhook's url has 1 to {LONGEST_URL} characters.")
        if not _CHARACTERS.fullmatch(url):
            message = "The url has characters that a URL must not have; write them with %, and a host as xn--."
            raise _fault(pointer, "bad_url", message)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _fault(pointer, "bad_url", f"The url is none: {error}.") from error
        if parts.scheme not in DEFAULT_PORTS:
            raise _fault(pointer, "bad_scheme", "The url must begin with https:// (or http://).")
        if "@" in parts.netloc:
            message = "The url must hold no user and no password; receivers tell us by the signature."
            raise _fault(pointer, "credentials_in_url", message)
        if port == 0:
            raise _fault(pointer, "bad_port", "A port is a number from 1 to 65535.")
        host = (parts.hostname or "").removesuffix(".")
        address = literal_address(host)
        if "%" in host or (address is None and not _NAME.fullmatch(host)):
            raise _fault(pointer, "bad_url", "The url has no host that there could be.")
        _check_reach(pointer, parts.scheme, address, allowed)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(
            scheme=parts.scheme,
            host=host if address is None or host == "localhost" else str(address),
            port=port or DEFAULT_PORTS[parts.scheme],
            target=target,
        )

    @property
    def secure(self) -> bool:
        """Whether it is called by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port as a URL and the header Host have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its normal form."""
        return f"{self.scheme}://{self.authority}{self.target}"


def literal_address(host: str) -> Address | None:
    """The address that a host is written as, in any form that resolvers take, such as 127.1 or 0x7f000001."""
    if host == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _check_reach(pointer: str, scheme: str, address: Address | None, allowed: Sequence[Network]) -> None:
    why = None if address is None else why_refused(address, allowed)
    if why is not None:
        message = f"The address {address} is {why}; webhooks go there only if the operator allows it."
        raise _fault(pointer, "forbidden_address", message)
    if scheme == "http" and not (lies_in(address, allowed) if address is not None else allowed):
        message = "Use https://; plain http:// is only for networks that the operator allows."
        raise _fault(pointer, "plain_http", message)


def _fault(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])
