"""Request headers that several routes read, and the ones that every response carries."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from flask import Request, Response, g, request
from werkzeug.datastructures import Headers

from api.errors import RequestFault
from shared.job import random_bytes
from shared.tracing import parsed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# A strong ETag that is a revision; a weak one never matches.
STRONG: Final = re.compile(r'(?:^|[\s,])"(\d{1,18})"')
REVISIONS: Final = re.compile(r'(?:^|[\s,])(?:W/)?"(\d{1,18})"')
# Headers that a page of another origin may send, and may read, where it may use the API at all (CORS).
TAKEN: Final = (
    "Accept", "Authorization", "Content-Encoding", "Content-Digest", "Content-MD5", "Content-Type", "Idempotency-Key",
    "If-Match", "If-None-Match", "If-Range", "Inference-Header-Content-Length", "Last-Event-ID", "Prefer", "Range",
    "Repr-Digest", "traceparent", "tracestate", "X-Request-Id",
)  # fmt: skip
EXPOSED: Final = (
    "Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Inference-Header-Content-Length", "Link",
    "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Repr-Digest", "Retry-After", "WWW-Authenticate",
    "X-Request-Id",
)  # fmt: skip
ASYNC: Final = re.compile(r"(?:^|[,;])\s*respond-async\s*(?:$|[,;])", re.IGNORECASE)
WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d+)\"?\s*(?:$|[,;])", re.IGNORECASE)


class WithHeaders(Protocol):
    """A request, or as much of one as is looked at before anything is done about it."""

    @property
    def headers(self) -> Headers:
        """Its header fields."""

    @property
    def host(self) -> str:
        """What it was sent to, as its Host field says."""


def this_request() -> Request:
    """The request that is answered, and not Flask's stand-in for it, by which each look takes 1.4 us longer."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]  # as Werkzeug says to do it
    return found


def here() -> Any:
    """What is kept of this request while it is answered: `flask.g`, and not the stand-in for it."""
    return g._get_current_object()


def request_id_of(request: WithHeaders) -> str:
    """The client's X-Request-Id, if it can be logged as it is, or a new one."""
    given: str | None = request.headers.get("X-Request-Id")
    return given if given is not None and REQUEST_ID.fullmatch(given) else random_bytes(8).hex()


def check_query(request: Request, most_bytes: int) -> None:
    """See that the query string is not too long.

    Raises:
        RequestFault: 414.
    """
    if len(request.environ.get("QUERY_STRING", "")) > most_bytes:
        raise RequestFault(414, "query_too_long", f"The query is longer than the {most_bytes} bytes that are allowed.")


def traceparent(request: WithHeaders) -> str | None:
    """The trace that the client takes part in; None also if that is not understood, as the standard says."""
    given = request.headers.get("traceparent")
    return None if given is None else parsed(given)


def preferred_wait(request: WithHeaders, most_seconds: float) -> float | None:
    """N of `Prefer: wait=N` (RFC 7240, section 4.3), cut to what the server allows; None without one."""
    header = request.headers.get("Prefer")
    if header is None:
        return None
    found = WAIT.search(header)
    return min(float(found[1]), most_seconds) if found else None


def prefers_async(request: Request) -> bool:
    """Whether `Prefer: respond-async` is there (RFC 7240, section 4.1)."""
    return ASYNC.search(request.headers.get("Prefer", "")) is not None


def known_revision(request: WithHeaders) -> int | None:
    """The newest revision in If-None-Match, if there is one of ours."""
    header = request.headers.get("If-None-Match")
    found = REVISIONS.findall(header) if header is not None else None
    return max(map(int, found)) if found else None


def expected_revisions(request: Request) -> list[int] | Literal["*"] | None:
    """The revisions of ours in If-Match, which may be none at all; None without one (RFC 9110, section 13.1.1)."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    return "*" if header.strip() == "*" else [int(revision) for revision in STRONG.findall(header)]


class JsonResponse(Response):
    """A body that is there, with the headers as they are: Werkzeug would work out again what we know already."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[str, str]]) -> None:
        # What Werkzeug's own sets, without looking for what else it could have been given.
        self.headers = Headers()
        self.headers._list = headers  # each would be looked through for line ends
        self.status_code = status
        self.is_304 = status == 304
        self.response = self._whole = [body]
        self.direct_passthrough = False
        self._on_close = []

    def add(self, *more: tuple[str, str]) -> None:
        """Add header fields that are not there yet, and whose values are ours."""
        self.headers._list.extend(more)

    def sent(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, header fields and body, for who sends it without a WSGI server."""
        return self.status_code, self.headers._list, self._whole[0]

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """The headers as they were set; locations are paths of ours, so there is nothing to encode."""
        return self.headers

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Send it."""
        if self.response is not self._whole or environ["REQUEST_METHOD"] == "HEAD" or self.status_code in (204, 304):
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers._list)
        return self._whole


def json_response(body: bytes, status: int = 200, media_type: str = "application/json") -> JsonResponse:
    """A response with these bytes."""
    return JsonResponse(body, status, [("Content-Type", media_type), ("Content-Length", str(len(body)))])
