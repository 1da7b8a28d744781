"""Where a job stands."""

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The statuses that this client knows; ask a job whether it is `done`, which holds for others too."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


DONE: Final = frozenset({Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED, Status.FAILED, Status.CANCELLED})
