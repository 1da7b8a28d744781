"""Structured logs: lines for people in a terminal, JSON otherwise. No payloads and no secrets are ever logged."""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

from shared.settings import Settings
from shared.tracing import TRACING

MOST_FRAMES: Final = 12


def _json(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def configure_logs(settings: Settings, process: str) -> None:
    """Send every line of this process, also those of libraries, to standard error with the process's name on it."""
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.log_level.upper())

    def describe(_: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """In one step, since each of structlog's own takes as long as this."""
        event.setdefault("process", process)
        event["level"] = "error" if method == "exception" else method
        now = datetime.now(UTC)
        event["timestamp"] = f"{now.astimezone():%H:%M:%S}" if human else now.isoformat()[:-6] + "Z"
        return event

    shared: list[Any] = [TRACING.tell, describe] if settings.tracing else [describe]
    final: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=28,
                # Others print local variables too, which are payloads.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries report their successes at info; only ours are worth a line there.
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)


def frames(error: BaseException) -> list[str]:
    """Where an error came from, for errors whose message may quote a payload: the innermost frames, outermost first."""
    stack = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]
