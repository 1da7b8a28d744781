"""A job: what the user submitted, owns and polls; immutable snapshots of it and its legal transitions."""

import os
import threading
import time
from dataclasses import field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from shared.batch import BatchOptions, Input
from shared.frozen import frozen
from shared.owner import DEFAULT_OWNER
from shared.schema import SCHEMA
from shared.training import RegisterOptions, TrainOptions


class Status(StrEnum):
    """Where a job stands; the last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


DONE: Final = frozenset({Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED, Status.FAILED, Status.CANCELLED})

# The scripts enforce this table: shared/lua/prelude.lua holds it too, and a test compares them.
TRANSITIONS: Final = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: DONE | {Status.QUEUED},
    Status.SUCCEEDED: frozenset[Status](),
    Status.PARTIALLY_SUCCEEDED: frozenset[Status](),
    Status.FAILED: frozenset[Status](),
    Status.CANCELLED: frozenset[Status](),
}

# Head start of a priority, in seconds of waiting: a high job overtakes what was submitted less than a minute before
# it, and a low one is never put off for longer than that.
PRIORITY_SECONDS: Final = {"high": -60, "normal": 0, "low": 60}


class _Pool(threading.local):
    """Random bytes of the operating system that a thread has fetched and not used yet."""

    pid = 0
    rest = b""


_pool: Final = _Pool()


def random_bytes(count: int) -> bytes:
    """Unguessable bytes, up to 64; fetched by the page, since each fetch gives up the interpreter to other threads."""
    if _pool.pid != os.getpid() or len(_pool.rest) < count:
        _pool.pid, _pool.rest = os.getpid(), os.urandom(1024)
    taken, _pool.rest = _pool.rest[:count], _pool.rest[count:]
    return taken


def new_job_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): time-ordered by 48 bits of Unix milliseconds, unguessable by 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random_bytes(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@frozen
class Counts:
    """Rows of a job; the parts sum up to the total in every snapshot."""

    total: int | None  # None: a file whose rows are not counted yet
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def pending(self) -> int | None:
        """Rows that are neither done nor given up; None while nobody knows how many there are."""
        return None if self.total is None else self.total - self.succeeded - self.failed - self.skipped

    def to_dict(self) -> dict[str, int | None]:
        """As clients read them."""
        return {
            "total": self.total,
            "pending": self.pending,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "skipped": self.skipped,
        }


@frozen
class Spec:
    """What never changes about a job once it is accepted, beside its rows."""

    requested: str  # the model as the client named it
    model: str
    method: str
    owner: str = DEFAULT_OWNER  # whose it is; for others it does not exist
    submitted_by: str = ""  # as histories name them
    most_models: int = 0  # that its owner may have; 0: any number
    any_model: bool = False  # it may change models of other owners too, since an admin submitted it
    version: int = 0  # of a training the one whose pipeline is cloned; 0: none yet, as of an artifact's check
    sha256: str = ""
    top_k: int | None = None
    priority: str = "normal"
    request_id: str = ""
    traceparent: str | None = None  # the span that asked for it (W3C Trace Context)
    tracestate: str | None = None  # what else that trace takes along; only where tracing is on
    retry_of: str | None = None
    # Row numbers of the original job, where a retry repeats only some of them.
    retry_rows: tuple[int, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    webhook: dict[str, Any] | None = None  # {"url": where its end is told}
    batch: BatchOptions | None = None  # of a job whose rows are in a file
    train: TrainOptions | None = None
    register: RegisterOptions | None = None
    schema: int = SCHEMA  # that this was written in, and that all about the job is written in

    @property
    def kind(self) -> str:
        """predict (rows in the request), batch (rows in a file), train, or register (the check of an artifact)."""
        return "batch" if self.batch else "train" if self.train else "register" if self.register else "predict"

    def pinned(self) -> dict[str, Any]:
        """The model, as clients read it."""
        version, sha256 = self.version or None, self.sha256 or None
        return {"requested": self.requested, "name": self.model, "version": version, "sha256": sha256}

    @property
    def input(self) -> Input | None:
        """The file that the job reads, if it reads one."""
        about = self.batch or self.train
        return None if about is None else about.input


@frozen
class Job:
    """One consistent snapshot of a job."""

    id: str
    status: Status
    revision: int  # grows by one at every change; the ETag
    spec: Spec
    counts: Counts
    created_at: datetime
    attempt: int = 0  # tries so far; 0 while it waits for the first
    cancel_requested: bool = False
    queue_position: int | None = None  # 1 is next
    jobs_per_second: float | None = None  # measured pace of its lane, if it had one lately; not of a batch job
    rows_per_second: float | None = None  # of a batch job that runs, since its first chunk was begun
    phase: str | None = None  # of a job in stages that runs, as the scripts know it
    fits: tuple[int, int] | None = None  # of a train job that runs: fits of its search that are done, and all of them
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    predictions: bytes | None = None  # JSON array, as it is in Redis
    stored_bytes: int | None = None  # of the array in file storage, if it was too large for Redis
    failure: dict[str, Any] | None = None
    errors: tuple[dict[str, Any], ...] = ()  # one entry a failed row: {row, column?, code, message}
    warnings: tuple[str, ...] = ()
    # Of a batch job that ended: "result", "errors" and "manifest", each {key, name, media_type, encoding, rows, bytes,
    # sha256}; what a failed or cancelled one had done is there too.
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Of a train or register job that ended: the version that it made, and what became of it.
    registered: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """predict, batch, train or register."""
        return self.spec.kind

    @property
    def has_result(self) -> bool:
        """Whether there are predictions, here or in storage."""
        return self.predictions is not None or self.stored_bytes is not None

    @property
    def done(self) -> bool:
        """Whether the status is final."""
        return self.status in DONE

    @property
    def complete(self) -> bool:
        """Whether it has come to its end."""
        return self.status in (Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED)

    @property
    def readable(self) -> list[str]:
        """What can be read of one that is done, as paths below its own."""
        result = "result" in self.outputs or self.registered or (self.kind == "predict" and self.complete)
        return ["errors", *(["result"] if result else []), *(["manifest"] if "manifest" in self.outputs else [])]


def from_millis(millis: bytes | None) -> datetime | None:
    """Redis's milliseconds since 1970 as an aware time."""
    return datetime.fromtimestamp(int(millis) / 1000, UTC) if millis else None


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    return None if moment is None else moment.isoformat(timespec="milliseconds")[:23] + "Z"
