"""A span for each request."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from shared.tracing import TRACING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.trace import Span

# What monitors ask again and again.
UNTRACED: Final = frozenset(
    {"/healthz", "/readyz", "/metrics", "/ping", "/health", "/v2/health/live", "/v2/health/ready"}
)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """The WSGI application around ours; names and attributes are of OpenTelemetry's conventions for HTTP servers."""

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request; its span ends when its answer is sent."""
        path = environ.get("PATH_INFO", "")
        if path in UNTRACED:
            return self._application(environ, start_response)
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "_OTHER"
        about = {"http.request.method": method, "url.path": path, "url.scheme": environ["wsgi.url_scheme"]}
        span = TRACING.start(method, about, kind="SERVER", context=TRACING.below(asked_by(environ)))

        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            describe(span, method, environ, int(status[:3]), headers)
            return start_response(status, headers, *more)

        try:
            with TRACING.attached(span):
                blocks = self._application(environ, started)
        except BaseException:
            span.end()
            raise
        if isinstance(blocks, list):
            span.end()
            return blocks
        return Sent(blocks, span)


class Sent:
    """The blocks of an answer; when they are sent, or cannot be, its span ends."""

    def __init__(self, blocks: Iterable[bytes], span: "Span") -> None:
        self._blocks = blocks
        self._next = iter(blocks)
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._next)

    def close(self) -> None:
        """End it."""
        close = getattr(self._blocks, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._span.end()


def asked_by(environ: "WSGIEnvironment") -> Any:
    """The span of the client, if it has one."""
    return TRACING.remote(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))


def describe(
    span: "Span", method: str, environ: "WSGIEnvironment", status: int, headers: list[tuple[str, str]]
) -> None:
    """Say what became of a request."""
    span.set_attribute("http.response.status_code", status)
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    if rule is not None:
        span.set_attribute("http.route", rule.rule)
        span.update_name(f"{method} {rule.rule}")
    for name, value in headers:
        if name == "X-Request-Id":
            span.set_attribute("foretell.request.id", value)
    if status >= 500:
        TRACING.fail(str(status), span)
