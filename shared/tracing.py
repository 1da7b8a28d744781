"""Spans of OpenTelemetry, where FORETELL_TRACING asks for them; else nothing of OpenTelemetry is even imported.

Whoever has something to tell asks `TRACING.on` first, which costs less than a call. A span says what a line of the log
may say: ids, names, counts and codes of errors, but no message of an exception, which may quote a row.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from shared.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanContext

Answer = TypeVar("Answer")
Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | bool | int | float]
# W3C Trace Context, section 3.2: version, trace id, parent id, flags; a later version may have more behind them.
TRACEPARENT: Final = re.compile(
    r"(?:00|(?!ff)[0-9a-f]{2}(?=.{53}(?:-|$)))-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
LENGTH: Final = 55
# W3C Trace Context, section 3.3.1.5: as much of a `tracestate` as must be passed on; what is longer is not.
MOST_STATE: Final = 512
# How long a process that ends waits for a collector.
STOP_SECONDS: Final = 2.0


def parsed(given: str) -> str | None:
    """A `traceparent`, in version 00, or None if it is none.

    Args:
        given: what a client sent.
    """
    if not TRACEPARENT.match(given) or (given.startswith("00") and len(given) != LENGTH):
        return None
    return f"00{given[2:LENGTH]}"


def trace_id(traceparent: str | None) -> dict[str, str]:
    """The trace that a job belongs to, as a log line has it; nothing if it belongs to none."""
    return {"trace_id": traceparent[3:35]} if traceparent else {}


class Tracing:
    """For any number of threads. All but `begin` and the ends may be called only while it is on."""

    def __init__(self) -> None:
        self.on = False
        self._api: Any = None  # opentelemetry.trace
        self._context: Any = None  # opentelemetry.context
        self._sender: Any = None  # shared.otlp.Sender

    def begin(self, settings: Settings, process: str) -> None:
        """Begin in a process, after it was forked: what sends is a thread of its own.

        Args:
            settings: the service's.
            process: what this process is: api, or a queue that it works for.
        """
        self.on = settings.tracing
        if self.on:
            from opentelemetry import context, trace

            from shared.otlp import Sender

            self._api, self._context, self._sender = trace, context, Sender(process)

    def hurry(self) -> None:
        """The process is about to end: what comes from now on is sent at once."""
        if self._sender is not None:
            self._sender.hurry()

    def end(self) -> None:
        """Send what is left, within `STOP_SECONDS`."""
        if self._sender is not None:
            self._sender.end(STOP_SECONDS)

    def start(
        self, name: str, attributes: Attributes, *, kind: Kind = "INTERNAL", context: Any = None,
        links: Iterable["SpanContext"] = (), began: float | None = None,
    ) -> "Span":  # fmt: skip
        """A span that whoever calls this ends.

        Args:
            name: low in cardinality.
            attributes: what is known by now.
            kind: of the span.
            context: that of its parent; None: the current one.
            links: other spans that it is about.
            began: by time.perf_counter; None: now.
        """
        made: list[Link] = [self._api.Link(link) for link in links]
        span: Span = self._sender.tracer.start_span(
            name, context=context, kind=self._api.SpanKind[kind], attributes=attributes, links=made,
            start_time=None if began is None else wall_clock(began),
        )  # fmt: skip
        return span

    @contextmanager
    def attached(self, span: "Span") -> Iterator["Span"]:
        """Make a span the current one; what the block raises makes it an error."""
        token = self._context.attach(self._api.set_span_in_context(span))
        try:
            yield span
        except BaseException as error:
            self.fail(error, span)
            raise
        finally:
            self._context.detach(token)

    @contextmanager
    def inside(self, span: "Span") -> Iterator["Span"]:
        """The same, and the span ends with the block."""
        try:
            with self.attached(span):
                yield span
        finally:
            span.end()

    def run(self, name: str, attributes: Attributes, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What a function returns, within a span."""
        with self.inside(self.start(name, attributes)):
            return function(*arguments)

    def note(self, name: str, attributes: Attributes, began: float, ended: float) -> None:
        """Tell of something within the current span that is over; times are those of time.perf_counter."""
        if self.current() is not None:
            self.start(name, attributes, began=began).end(wall_clock(ended))

    def mark(self, attributes: Attributes) -> None:
        """Say more of the current span."""
        self._api.get_current_span().set_attributes(attributes)

    def fail(self, error: BaseException | str, span: "Span | None" = None) -> None:
        """Make a span, the current one unless it is given, an error: by its code, without its message."""
        found = span or self._api.get_current_span()
        code = error if isinstance(error, str) else getattr(error, "code", None) or type(error).__name__
        found.set_attribute("error.type", str(code))
        found.set_status(self._api.StatusCode.ERROR)

    def link(self, traceparent: str | None) -> None:
        """Link the current span to another one."""
        if (remote := self.remote(traceparent)) is not None:
            self._api.get_current_span().add_link(remote)

    def current(self) -> "SpanContext | None":
        """What the current span is called by others; None: there is none."""
        context: SpanContext = self._api.get_current_span().get_span_context()
        return context if context.is_valid else None

    def carried(self) -> tuple[str, str | None] | None:
        """`traceparent` and `tracestate` of the current span, for whom it asks for something; None: there is none."""
        context = self.current()
        if context is None:
            return None
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        state = context.trace_state.to_header()
        return parent, state if 0 < len(state) <= MOST_STATE else None

    def remote(self, traceparent: str | None, tracestate: str | None = None) -> "SpanContext | None":
        """A span of another process, by what it is called; None if that is not understood."""
        parent = parsed(traceparent) if traceparent else None
        if parent is None:
            return None
        context: SpanContext = self._api.SpanContext(
            trace_id=int(parent[3:35], 16), span_id=int(parent[36:52], 16), is_remote=True,
            trace_flags=self._api.TraceFlags(int(parent[53:], 16)),
            trace_state=self._api.TraceState.from_header([tracestate]) if tracestate else None,
        )  # fmt: skip
        return context

    def below(self, parent: "SpanContext | None") -> Any:
        """The context of what is asked for by a span of another process; None: nobody is known to have asked."""
        empty = self._context.Context()
        if parent is None:
            return empty
        return self._api.set_span_in_context(self._api.NonRecordingSpan(parent), empty)

    def tell(self, _: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        """Put the current span into a line of the log (a processor of structlog)."""
        context = self.current() if self.on else None
        if context is not None:
            event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        return event


def wall_clock(moment: float) -> int:
    """A moment of time.perf_counter as nanoseconds since 1970."""
    return time.time_ns() - int((time.perf_counter() - moment) * 1e9)


# One for a process, as loggers are.
TRACING: Final = Tracing()
