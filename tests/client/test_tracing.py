"""A client within a span sends it along, and without OpenTelemetry sends nothing."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from foretell import Client
from opentelemetry import context, trace


class Models(BaseHTTPRequestHandler):
    """A service without models, which keeps the headers that it gets."""

    got: list[dict[str, str]]

    def do_GET(self) -> None:
        self.got.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"models": []}')

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[Client]:
    Models.got = []
    with HTTPServer(("127.0.0.1", 0), Models) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()
        thread.join()


def test_the_span_that_is_active_is_sent_along(client: Client) -> None:
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            trace_id=0x4BF92F3577B34DA6A3CE929D0E0E4736, span_id=0x00F067AA0BA902B7, is_remote=False,
            trace_flags=trace.TraceFlags(1), trace_state=trace.TraceState([("vendor", "abc")]),
        )
    )  # fmt: skip
    token = context.attach(trace.set_span_in_context(span))
    try:
        client.models()
    finally:
        context.detach(token)
    client.models()

    within, without = Models.got
    assert within["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert within["tracestate"] == "vendor=abc"
    assert not {"traceparent", "tracestate"} & set(without)
