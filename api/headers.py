"""Request headers that several routes read, and the ones that every response carries."""

import re
from typing import TYPE_CHECKING, Final, Literal

from flask import Request, Response, g
from werkzeug.datastructures import Headers

from shared.job import random_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# W3C Trace Context, section 3.2: version, trace id, parent id, flags.
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# A strong ETag that is a revision; a weak one never matches.
STRONG: Final = re.compile(r'(?:^|[\s,])"(\d{1,18})"')
WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d+)\"?\s*(?:$|[,;])", re.IGNORECASE)


def take_request_id(request: Request) -> str:
    """The client's X-Request-Id, if it can be logged as it is, or a new one."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if REQUEST_ID.fullmatch(given) else random_bytes(8).hex()
    g.request_id = request_id
    return request_id


def traceparent(request: Request) -> str | None:
    """The trace that the client takes part in."""
    given = request.headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else None


def preferred_wait(request: Request, most_seconds: float) -> float | None:
    """N of `Prefer: wait=N` (RFC 7240, section 4.3), cut to what the server allows; None without one."""
    header = request.headers.get("Prefer")
    if header is None:
        return None
    found = WAIT.search(header)
    return min(float(found[1]), most_seconds) if found else None


def known_revision(request: Request) -> int | None:
    """The newest revision in If-None-Match, if there is one of ours."""
    found = re.findall(r'(?:^|[\s,])(?:W/)?"(\d{1,18})"', request.headers.get("If-None-Match", ""))
    return max(map(int, found)) if found else None


def expected_revisions(request: Request) -> list[int] | Literal["*"] | None:
    """The revisions of ours in If-Match, which may be none at all; None without one (RFC 9110, section 13.1.1)."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    return "*" if header.strip() == "*" else [int(revision) for revision in STRONG.findall(header)]


class JsonResponse(Response):
    """A body that is there, with the headers as they are: Werkzeug would work out again what we know already."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """The headers as they were set; locations are paths of ours, so there is nothing to encode."""
        return self.headers


def json_response(body: bytes, status: int = 200, media_type: str = "application/json") -> JsonResponse:
    """A response with these bytes."""
    headers = Headers([("Content-Type", media_type), ("Content-Length", str(len(body)))])
    return JsonResponse(body, status=status, headers=headers)
