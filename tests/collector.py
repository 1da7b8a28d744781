"""A collector of OpenTelemetry: takes spans over HTTP as any other does, and shows them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.wait import until


@dataclass(frozen=True, kw_only=True)
class Told:
    """A span as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: it is a root
    kind: int
    failed: bool
    start: int  # nanoseconds since 1970
    end: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]  # trace and span ids
    state: str = ""
    resource: dict[str, Any] = field(default_factory=dict)


class Collector:
    """Listens on a free port while it is entered."""

    def __init__(self) -> None:
        self._spans: list[Told] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector._take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Not to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector", daemon=True)

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to send here, soon after each span."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def spans(self, trace_id: str | None = None) -> list[Told]:
        """What came, of one trace or of all, by when it began."""
        return sorted((span for span in list(self._spans) if trace_id in (None, span.trace_id)), key=lambda s: s.start)

    def wait(self, ready: Callable[[list[Told]], bool], what: str, trace_id: str | None = None) -> list[Told]:
        """The same, once it is as it is wanted."""
        until(lambda: ready(self.spans(trace_id)), 60, what)
        return self.spans(trace_id)

    def names(self, trace_id: str, *names: str) -> list[Told]:
        """The spans of a trace, once these have come."""
        return self.wait(lambda spans: {span.name for span in spans}.issuperset(names), f"{names} are told", trace_id)

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            about = values(group.resource.attributes)
            for scope in group.scope_spans:
                self._spans += [told(span, about) for span in scope.spans]


def told(span: Any, resource: dict[str, Any]) -> Told:
    """A span of the protocol."""
    return Told(
        name=span.name, trace_id=span.trace_id.hex(), span_id=span.span_id.hex(), parent_id=span.parent_span_id.hex(),
        kind=span.kind, failed=span.status.code == span.status.STATUS_CODE_ERROR, start=span.start_time_unix_nano,
        end=span.end_time_unix_nano, attributes=values(span.attributes), state=span.trace_state,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links), resource=resource,
    )  # fmt: skip


def values(attributes: Any) -> dict[str, Any]:
    """Attributes of the protocol."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
