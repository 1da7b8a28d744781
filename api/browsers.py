"""What browsers are told: what a page of ours may do, and which pages of others may use the API (CORS)."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import Flask, Response, request

from api.headers import EXPOSED, TAKEN
from shared.api_keys import ApiKeys
from shared.errors import StoreUnavailable
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger()

# Of a page: its own scripts, styles and requests, and nothing that is written within it.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Of everything else, should a browser take it for a page.
OTHER_POLICY: Final = "default-src 'none'; sandbox; frame-ancestors 'none'"
ALWAYS: Final = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
OF_PAGES: Final = [*ALWAYS, ("Content-Security-Policy", PAGE_POLICY)]
OF_OTHERS: Final = [*ALWAYS, ("Content-Security-Policy", OTHER_POLICY)]
# Nobody else may keep it; what has a tag its own client may, if it asks each time whether it still holds.
UNTAGGED: Final = ("Cache-Control", "no-store")
TAGGED: Final = ("Cache-Control", "private, no-cache")
METHODS: Final = "GET, HEAD, POST, PUT, DELETE"
PREFLIGHT_SECONDS: Final = 600


def warn_of_origins(settings: Settings, api_keys: ApiKeys) -> None:
    """Say in the log that pages which may use the API may not yet: without keys api/access.py refuses them."""
    with suppress(StoreUnavailable):
        if settings.cors_origins and not api_keys.exist():
            log.warning("cors.without_keys", origins=settings.cors_origins)


class Told:
    """The WSGI application around ours that adds to each answer what browsers are told.

    Here and not in Flask, whose headers take ten times as long to add to.
    """

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, headers + told(headers, is_304=status.startswith("304")), exc_info)

        return self._application(environ, start)


def told(headers: list[tuple[str, str]], *, is_304: bool = False) -> list[tuple[str, str]]:
    """What goes with an answer that has these headers.

    A 304 leaves the policy of what the browser kept: it would replace it (RFC 9111, section 3.2), and does not say
    whether that is a page.
    """
    given = {name.lower(): value for name, value in headers}
    policies = OF_PAGES if given.get("content-type", "").startswith("text/html") else OF_OTHERS
    policies = ALWAYS if is_304 else policies
    if "cache-control" in given:
        return policies
    return [*policies, TAGGED if "etag" in given else UNTAGGED]


def install(app: Flask, settings: Settings) -> None:
    """Have every answer say it; before routes are guarded, since a preflight has no key."""
    app.wsgi_app = Told(app.wsgi_app)  # type: ignore[method-assign]  # as Flask says to do it
    origins = frozenset(settings.cors_origins.split())
    if not origins:
        return

    @app.after_request
    def share(response: Response) -> Response:
        response.vary.add("Origin")
        allowed = _allowed(origins)
        if allowed:
            # Never with credentials: a page sends a key that it was given, and no cookie of ours exists.
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
        return response

    @app.before_request
    def preflight() -> Response | None:
        """Fetch Standard, section 3.2.2: whether a page may send what it is about to send."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asks or not _allowed(origins):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = ", ".join(TAKEN)
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response


def _allowed(origins: frozenset[str]) -> str | None:
    """The origin of the request, if its pages may read the answer."""
    given = request.headers.get("Origin")
    return given if given is not None and (given in origins or "*" in origins) else None
