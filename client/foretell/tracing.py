"""The trace that the calling program takes part in, where it has one."""

import sys
from typing import Any


def trace_headers() -> dict[str, str]:
    """`traceparent` and `tracestate` of the span that is active, if the program uses OpenTelemetry; else nothing.

    Nothing is imported that the program has not imported already: without it there is no span.
    """
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    state = context.trace_state.to_header()
    return {"traceparent": parent} | ({"tracestate": state} if state else {})
