"""What an owner may use; a key may have limits of its own instead of those of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from shared.errors import InvalidRequest, LimitReached, TooManyInstances
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The most of everything; 0 is as much as the service can."""

    requests_per_second: int = 0
    waiting_jobs: int = 0  # not finished
    waiting_rows: int = 0  # of prediction jobs that are not finished
    stored_bytes: int = 0  # files, inputs, results and versions of models in storage
    upload_bytes_per_day: int = 0
    uploads: int = 0  # at a time, of one API process; so are the next two
    waiters: int = 0
    event_streams: int = 0
    models: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Those of every owner."""
        return cls(**{name: getattr(settings, f"owner_{name}") for name in NAMES})

    def overridden(self, own: Mapping[str, int]) -> "Limits":
        """These with those that a key has for itself."""
        return replace(self, **own) if own else self


NAMES: Final = tuple(field.name for field in fields(Limits))
NO_LIMITS: Final = Limits()


def checked_limits(given: Mapping[str, Any]) -> dict[str, int]:
    """The limits that a key shall have for itself.

    Raises:
        InvalidRequest: one is none of ours, or is no whole number from 0.
    """
    for name, value in given.items():
        pointer = f"/limits/{name}"
        if name not in NAMES:
            message = f"{name[:100]} is no limit; there are {', '.join(NAMES)}."
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            message = f"The limit {name} must be a whole number; 0 is no limit."
        else:
            continue
        raise InvalidRequest(message, errors=[{"pointer": pointer, "code": "bad_limit", "message": message}])
    return dict(given)


# What submit.lua calls them: the limit, what is counted, and how long it is worth waiting for less of it, seconds.
COUNTED: Final = {
    "jobs": ("waiting_jobs", "unfinished jobs", 5),
    "rows": ("waiting_rows", "rows in unfinished prediction jobs", 5),
    "bytes": ("stored_bytes", "bytes in storage", 120),
}


SENT: Final = "bytes sent as files on one day"


def beyond(what: str, used: int, wanted: int, limits: Limits) -> LimitReached | InvalidRequest:
    """The error for a job that wants more than its owner may have; `what` as submit.lua says it."""
    limit, things, seconds = COUNTED[what]
    most = getattr(limits, limit)
    if wanted > most:
        return never(limit, things, wanted, most)
    return LimitReached(
        f"You have {used} {things}, and may have {most}; wait for jobs to end, or delete what you do not need.",
        limit=limit,
        retry_after_seconds=seconds,
    )


def never(limit: str, things: str, wanted: int, most: int) -> InvalidRequest:
    """The error for what is by itself more than its owner may ever have, so that to wait for room would not help."""
    message = (
        f"This is {wanted} {things}, and you may have {most} in all, so it can never be accepted. Split it, or ask the "
        f"operator for a higher limit: FORETELL_OWNER_{limit.upper()}, or {limit} of your key."
    )
    kind = TooManyInstances if limit == "waiting_rows" else InvalidRequest
    return kind(message, errors=[{"code": limit, "message": message}])
