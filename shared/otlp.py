"""Where spans go: into a bounded queue, and from it by a thread to a collector (OTLP over HTTP).

What is not taken, or does not fit into the queue, is lost: nothing waits for a collector. All but the name of the
service is configured by OpenTelemetry's own OTEL_ variables, which its library reads.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared import __version__

log = structlog.get_logger()

# While a process ends it sends again and again, since it does not know what will be its last moment.
ENDING_SECONDS: Final = 0.2
# A collector that is away is worth a line of the log once in a while.
QUIET_SECONDS: Final = 60.0


class Exporter(SpanExporter):
    """OpenTelemetry's, which would say in several lines of each attempt that there is no collector."""

    def __init__(self) -> None:
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._inner = OTLPSpanExporter()
        self._told = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send; whatever is not taken is lost."""
        result = self._inner.export(spans)
        now = time.monotonic()
        if result is not SpanExportResult.SUCCESS and (not self._told or now - self._told > QUIET_SECONDS):
            self._told = now
            log.warning("tracing.not_sent", spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]


class Sender:
    """What sends the spans of this process."""

    def __init__(self, process: str) -> None:
        self._processor = BatchSpanProcessor(Exporter())
        # Not at exit, where it would wait for as long as a collector may take.
        provider = TracerProvider(resource=resource(process), shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self.tracer = provider.get_tracer("foretell", __version__)
        self._ending = threading.Event()
        threading.Thread(target=self._send_at_last, name="tracing", daemon=True).start()

    def hurry(self) -> None:
        """From now on send without a pause; this does not block."""
        self._ending.set()

    def end(self, seconds: float) -> None:
        """Send what is left, and wait for that for so long at most."""
        last = threading.Thread(target=self._processor.force_flush, name="tracing-end", daemon=True)
        last.start()
        last.join(seconds)

    def _send_at_last(self) -> None:
        self._ending.wait()
        while True:
            self._processor.force_flush()
            time.sleep(ENDING_SECONDS)


def resource(process: str) -> Resource:
    """Who tells: the service, unless the environment names it, and this process of it."""
    ours = Resource(
        {
            "service.name": "foretell",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            "foretell.process": process,
        }
    )
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())
