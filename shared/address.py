"""The address of a Redis, as FORETELL_REDIS_URL gives it, and the connections to it.

    redis://user:password@host:6379/0     rediss:// with TLS     unix:///path/to/socket?db=0
    sentinel://user:password@host1:26379,host2:26379/service/0     sentinels:// with TLS, to the sentinels too

User and password are those of Redis. Those of the sentinels are `sentinel_username` and `sentinel_password` after a
question mark, where redis-py's own options may stand too, such as `ssl_ca_certs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from shared.settings import REDIS_SCHEMES

SENTINEL_PORT: Final = 26379
# Without what was found there, which may be a part of the password.
UNREADABLE: Final = (
    "its port or one of its options cannot be read; in a user or password, / ? # @ and : are written as "
    "%2F %3F %23 %40 and %3A"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """One server, or a service whose master the sentinels name."""

    place: str  # for messages, without user and password
    options: Mapping[str, Any]  # as redis-py's connections take them
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """The address that a URL names.

        Raises:
            ValueError: it names none; the message holds no part of a password.
        """
        if not url.startswith(REDIS_SCHEMES):
            raise ValueError(f"it must begin with one of {', '.join(REDIS_SCHEMES)}")
        parts = urlsplit(url)
        if parts.scheme != "unix" and "@" in parts.path + parts.fragment:
            raise ValueError(UNREADABLE)
        place = f"{parts.netloc.rpartition('@')[2]}{parts.path}" or parts.scheme
        if not parts.scheme.startswith("sentinel"):
            return cls(place=place, options=_options(url))
        user, _, hosts = parts.netloc.rpartition("@")
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("the name of the service is missing: sentinel://host:26379/service")
        scheme = "rediss" if parts.scheme == "sentinels" else "redis"
        options = _options(f"{scheme}://{user}@localhost/{database}?{parts.query}")
        del options["host"]
        asked = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        secured = {name: value for name, value in options.items() if name.startswith("ssl_")}
        if options.pop("connection_class", None) is not None:
            options["ssl"] = secured["ssl"] = True
        return cls(
            place=place,
            options=options,
            sentinels=tuple(_host(host) for host in hosts.split(",")),
            service=service,
            sentinel_options={name: value for name, value in asked.items() if value} | secured,
        )

    def asking(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """How the sentinels are asked, where connections have these options: redis-py's.

        One after another within the time that one answer may take, and each once: by itself redis-py tries one whose
        host is gone so often, with such pauses, that nobody would go on for minutes.
        """
        waits = {
            name: value / len(self.sentinels) if name.endswith("timeout") else value
            for name, value in options.items()
            if name.startswith("socket_")
        }
        return {**self.sentinel_options, **waits, "retry": Retry(NoBackoff(), 0)}

    def pool(self, **options: Any) -> redis.ConnectionPool:
        """Connections to the server, of a service to whichever is its master when one is opened.

        Args:
            options: redis-py's, beside those of the address.
        """
        if not self.sentinels:
            return redis.ConnectionPool(**{**options, **self.options})
        manager: Any = Sentinel(list(self.sentinels), sentinel_kwargs=self.asking(options))  # type: ignore[no-untyped-call]
        pool: Any = SentinelConnectionPool
        found: redis.ConnectionPool = pool(self.service, manager, **{**options, **self.options})
        return found


def _options(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL.

    Raises:
        ValueError
    """
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError(UNREADABLE) from None
    return options


def _host(text: str) -> tuple[str, int]:
    """A sentinel's host and port.

    Raises:
        ValueError: the port is no number, or the host is missing.
    """
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:
        raise ValueError(UNREADABLE) from None
    if not host:
        raise ValueError("the host of a sentinel is missing: sentinel://host:26379/service")
    return host, port
