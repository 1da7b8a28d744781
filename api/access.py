"""Who makes a request, and whether they may: every route names the scope that it needs."""

import functools
import ipaddress
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import structlog
from flask import Flask, g, request
from werkzeug.exceptions import NotFound

from api.headers import WithHeaders, here, this_request
from api.quotas import Quota, tell
from api.rates import WINDOW_SECONDS, Rates
from shared.api_keys import ApiKey, ApiKeys, Scope, digest_of
from shared.errors import Forbidden, LimitReached, StoreUnavailable, Unauthorized
from shared.limits import Limits
from shared.owner import DEFAULT_OWNER
from shared.settings import Settings

log = structlog.get_logger()

# A key that was looked up is believed for so long: a revoked one is refused that much later.
REMEMBER_SECONDS: Final = 1.0
MOST_REMEMBERED: Final = 10_000
MOST_HOSTS: Final = 100  # whose names are remembered
ALL_SCOPES: Final = frozenset(Scope)
BEARER: Final = "bearer "
# What proxies add, unless they are told not to.
PROXIED: Final = ("Forwarded", "X-Forwarded-For")


@dataclass(frozen=True, kw_only=True, slots=True)
class Public:
    """A route that everybody may call."""


PUBLIC: Final = Public()
View = TypeVar("View", bound=Callable[..., Any])
# A route's scopes: any one of them is enough.
Needed = Public | Scope | tuple[Scope, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who makes a request."""

    owner: str
    who: str  # as histories name them
    scopes: frozenset[Scope]
    limits: Limits
    key_id: str | None = None  # None: there are no keys

    def may(self, *scopes: Scope) -> bool:
        """Whether any one of these is allowed."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    def need(self, *scopes: Scope) -> None:
        """See that any one of these is allowed.

        Raises:
            Forbidden
        """
        if not self.may(*scopes):
            needed = " or ".join(scopes)
            raise Forbidden(f"The key {self.key_id} does not have the scope {needed}; ask for a key that has it.")


def public(view: View) -> View:
    """Let everybody have a view that the OpenAPI document leaves out."""
    marked: Any = view
    marked.scope = PUBLIC
    return view


def caller() -> Caller:
    """Who makes the request that is being answered."""
    found: Caller = here().caller
    return found


def still_let_in() -> Callable[[], bool]:
    """Whether who makes this request still may, to be asked while a long answer to it is being sent.

    While Redis is away nobody knows, and the answer goes on.
    """
    gate, header = g.gate, request.headers.get("Authorization", "")

    def asked() -> bool:
        try:
            return bool(gate.lets_in(header))
        except StoreUnavailable:
            return True

    return asked


def anybody(settings: Settings) -> Caller:
    """Who makes a request while there are no keys."""
    return Caller(owner=DEFAULT_OWNER, who="http", scopes=ALL_SCOPES, limits=Limits.of(settings))


class Gate:
    """Lets requests in."""

    def __init__(self, api_keys: ApiKeys, rates: Rates, settings: Settings) -> None:
        self._api_keys = api_keys
        self._rates = rates
        self._limits = Limits.of(settings)
        self._anybody = anybody(settings)
        self._local = settings.is_local
        self._open = self._local or settings.allow_access_without_keys
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Caller]] = {}
        self._without_keys_until = 0.0

    def identify(self, request: WithHeaders) -> Caller:
        """Who makes a request.

        Raises:
            Unauthorized: no key, or none that is valid.
            Forbidden: there are no keys, and the request is not from this machine's own programs.
            StoreUnavailable
        """
        found = self._of_header(request.headers.get("Authorization", ""))
        if found is not None:
            return found
        if self._without_keys():
            self._check_origin(request)
            return self._anybody
        raise Unauthorized

    def count(self, caller: Caller) -> None:
        """Count a request of a caller.

        Raises:
            LimitReached, StoreUnavailable
        """
        most = caller.limits.requests_per_second
        if not most:
            return
        granted, left = self._rates.count(caller.owner, most)
        quota = Quota(name="requests", most=most, left=left, window_seconds=WINDOW_SECONDS, left_seconds=WINDOW_SECONDS)
        tell(quota)
        if not granted:
            raise LimitReached(
                f"You may make {most} requests in a second; make this one again in a moment.",
                limit="requests_per_second",
                retry_after_seconds=WINDOW_SECONDS,
            )

    def lets_in(self, header: str) -> bool:
        """Whether a request with this Authorization header, which was let in before, still would be.

        Raises:
            StoreUnavailable
        """
        return self._of_header(header) is not None or self._without_keys()

    def _of_header(self, header: str) -> Caller | None:
        return self._of_token(header[len(BEARER) :].strip()) if header[: len(BEARER)].lower() == BEARER else None

    def _of_token(self, token: str) -> Caller | None:
        now, digest = time.monotonic(), digest_of(token)
        with self._lock:
            until, known = self._known.get(digest, (0.0, None))
        if known is not None and until > now:
            return known
        key = self._api_keys.authenticate(token)
        with self._lock:
            if key is None:
                self._known.pop(digest, None)
                return None
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            found = self._caller(key)
            self._known[digest] = (now + REMEMBER_SECONDS, found)
        return found

    def _caller(self, key: ApiKey) -> Caller:
        return Caller(
            owner=key.owner,
            who=f"{key.name} ({key.owner})",
            scopes=key.scopes,
            limits=self._limits.overridden(key.limits),
            key_id=key.id,
        )

    def _without_keys(self) -> bool:
        """Whether there are no keys, and everybody may do everything."""
        if not self._open:
            return False
        now = time.monotonic()
        if self._without_keys_until <= now:
            if self._api_keys.exist():
                return False
            self._without_keys_until = now + REMEMBER_SECONDS
        return True

    def _check_origin(self, request: WithHeaders) -> None:
        """Keep out who is not on this machine, and web pages of others, which a browser here could be made to load.

        A page reaches a service on loopback under a host name that its owner points there (DNS rebinding), or by a
        form or script of another origin.
        """
        if not (_is_local(request.host) if self._local else _is_no_site(request.host)):
            names = "localhost and loopback addresses" if self._local else "addresses and names without a dot"
            raise Forbidden(
                f"Without keys the service answers to {names} only. Make a key to use it under another name: "
                "python -m deploy keys create."
            )
        if self._local and any(name in request.headers for name in PROXIED):
            raise Forbidden(
                "Without keys the service does not answer through a proxy, which others may reach. Make a key: "
                "python -m deploy keys create."
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise Forbidden("Without keys the service does not answer to pages of other origins.")


@functools.lru_cache(maxsize=MOST_HOSTS)
def _is_local(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:  # it is no host at all
        return False


@functools.lru_cache(maxsize=MOST_HOSTS)
def _is_no_site(host: str) -> bool:
    """Whether a Host header is none that a page of others could have: an address, or a name without a dot."""
    try:
        name = urlsplit(f"//{host}").hostname or "."
        return "." not in name or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def guard(app: Flask, gate: Gate) -> None:
    """See before every view that the caller may have it."""

    @app.before_request
    def let_in() -> None:
        asked = this_request()
        if asked.routing_exception is not None:
            return  # nothing is there that could be guarded: it is answered 404 or 405
        view: Any = app.view_functions[asked.endpoint or ""]
        needed: Needed | None = getattr(view, "scope", None)
        at_hand = here()
        at_hand.gate = gate
        if isinstance(needed, Public):
            return
        found = at_hand.caller = gate.identify(asked)
        gate.count(found)
        if needed is None:
            log.error("route.without_scope", endpoint=asked.endpoint)
            raise NotFound
        found.need(*(needed if isinstance(needed, tuple) else (needed,)))
