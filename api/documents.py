"""Bodies of answers, as the OpenAPI document shows them."""

from typing import Any, Literal

from pydantic import BaseModel


class FaultDocument(BaseModel):
    """One fault in a request, or one failed row."""

    row: int | None = None
    column: str | None = None
    pointer: str | None = None
    code: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FaultDocument]
    job_id: str | None = None
    ready: bool | None = None
    checks: dict[str, Any] | None = None


class PinnedModel(BaseModel):
    """The version that a job was pinned to when it was submitted."""

    requested: str
    name: str
    version: int
    sha256: str


class CountsDocument(BaseModel):
    """Rows; total = pending + succeeded + failed + skipped, or null until the rows of a file are counted."""

    total: int | None
    pending: int | None
    succeeded: int
    failed: int
    skipped: int


class ProgressDocument(BaseModel):
    """How far, and from the measured pace of the lane how long yet."""

    fraction: float
    rows_per_second: float | None
    eta_seconds: float | None


class InputDocument(BaseModel):
    """The file of a batch job."""

    name: str
    file_id: str | None
    uri: str | None
    format: str | None
    bytes: int | None
    sha256: str | None


class OptionsDocument(BaseModel):
    """How a batch job reads its file, and what it writes."""

    key: str | None
    include: Literal["all"] | list[str]
    output_format: str | None
    output_compression: str
    max_failed_rows: int | None
    max_failed_fraction: float | None
    keep_failed_rows: bool
    delimiter: str
    quote: str
    header: bool
    encoding: str
    only: Literal["failed", "skipped"] | None


class FailureDocument(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    errors: list[FaultDocument]


class JobDocument(BaseModel):
    """A job."""

    id: str
    kind: Literal["predict", "batch"]
    status: Literal["queued", "running", "succeeded", "partially_succeeded", "failed", "cancelled"]
    done: bool
    phase: str | None
    revision: int
    model: PinnedModel
    method: str
    top_k: int | None
    priority: str
    counts: CountsDocument
    progress: ProgressDocument
    queue_position: int | None
    attempt: int
    cancel_requested: bool
    retry_of: str | None
    input: InputDocument | None
    options: OptionsDocument | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    result: dict[str, Any] | None
    failure: FailureDocument | None
    errors: list[FaultDocument]
    warnings: list[str]
    metadata: dict[str, Any]
    links: dict[str, str]


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobDocument]
    next: str | None


class ValidationDocument(BaseModel):
    """What would be done."""

    valid: Literal[True]
    model: PinnedModel
    rows: int | None
    queue_length: int | None
    estimated_seconds: float | None


class PredictionDocument(BaseModel):
    """The prediction for one row."""

    prediction: Any
    warnings: list[str] = []


class ResultDocument(BaseModel):
    """A stored result."""

    job_id: str
    model: PinnedModel
    counts: CountsDocument
    warnings: list[str]
    errors: list[FaultDocument]
    predictions: list[Any]


class FileDocument(BaseModel):
    """A file that was uploaded by itself."""

    id: str
    name: str
    format: str | None
    bytes: int
    sha256: str
    created_at: str
    expires_at: str | None
    links: dict[str, str]
