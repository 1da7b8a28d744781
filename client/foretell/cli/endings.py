"""How a command ends: exit codes that mean something, and a sentence on standard error."""

from enum import IntEnum
from typing import Any

from foretell.errors import (
    BadConfiguration,
    ForetellError,
    JobFailed,
    Problem,
    RowsFailed,
    StillRunning,
    Unreachable,
)
from foretell.retry import AGAIN


class Ending(IntEnum):
    """The exit code of a command."""

    FINE = 0
    JOB_FAILED = 1  # a job failed or was cancelled
    USAGE = 2  # the command, or the configuration
    REFUSED = 3  # the service says no: not found, not allowed, wrong
    AWAY = 4  # the service does not answer, or cannot now
    ROWS_FAILED = 5  # some rows failed; the result has the others
    NOT_DONE = 6  # --timeout is over; the job goes on
    LOCAL = 7  # a file here cannot be read, written or sent
    INTERRUPTED = 130  # Ctrl-C


def ending_of(error: Exception) -> Ending:
    """The exit code of an error."""
    match error:
        case JobFailed():
            return Ending.JOB_FAILED
        case BadConfiguration():
            return Ending.USAGE
        case Problem():
            return Ending.AWAY if error.status >= 500 or error.status in AGAIN else Ending.REFUSED
        case Unreachable():
            return Ending.AWAY
        case RowsFailed():
            return Ending.ROWS_FAILED
        case StillRunning():
            return Ending.NOT_DONE
    return Ending.LOCAL


def sentence_of(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, OSError) and not isinstance(error, ForetellError):
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{place}"
    return str(error)


def document_of(error: Exception) -> dict[str, Any]:
    """What went wrong, for programs."""
    told: dict[str, Any] = {"code": getattr(error, "code", "") or type(error).__name__, "message": sentence_of(error)}
    for name in ("errors", "job_id", "request_id"):
        if value := getattr(error, name, None):
            told[name] = value
    return {"error": told}
