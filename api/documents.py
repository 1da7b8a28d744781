"""Bodies of answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field


class FaultDocument(BaseModel):
    """One fault in a request, or one failed row."""

    row: int | None = None
    column: str | None = None
    pointer: str | None = None
    type: str | None = None  # of an artifact: one that is not trusted
    code: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457; `error`, `error_code` and `message` are for clients of other protocols, on their routes alone."""

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
    error: str | dict[str, Any] | None = None
    error_code: str | None = None
    message: str | None = None


class PinnedModel(BaseModel):
    """The version that a job was pinned to when it was submitted."""

    requested: str
    name: str
    version: int | None  # of a training the one it starts from; null where there is none yet
    sha256: str | None


class CountsDocument(BaseModel):
    """Rows; total = pending + succeeded + failed + skipped, or null until the rows of a file are counted."""

    total: int | None
    pending: int | None
    succeeded: int
    failed: int
    skipped: int


class FitsDocument(BaseModel):
    """The fits of a search that are done, and all of them; the last fit, on all rows, comes on top."""

    done: int
    total: int


class ProgressDocument(BaseModel):
    """How far, and from the measured pace of the lane how long yet."""

    fraction: float
    fits: FitsDocument | None
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


class TrainingDocument(BaseModel):
    """What a train job does."""

    target: str
    sample_weight: str | None
    group: str | None
    time: str | None
    held_out: float
    combine: Literal["replace", "append"]
    recipe: dict[str, Any]
    gate: dict[str, Any]
    promote: Literal["auto", "manual", "never"]


class FailureDocument(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    errors: list[FaultDocument]


class JobDocument(BaseModel):
    """A job."""

    id: str
    kind: Literal["predict", "batch", "train", "register"]
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
    training: TrainingDocument | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    result: dict[str, Any] | None
    failure: FailureDocument | None
    errors: list[FaultDocument]
    warnings: list[str]
    metadata: dict[str, Any]
    webhook: "WebhookDocument | None"
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


class RegisteredDocument(BaseModel):
    """The version that a train or register job made; of a training with the outcome of its gate, in numbers."""

    job_id: str
    model: str
    version: int
    sha256: str
    alias: str | None  # what points to it since
    promoted: bool  # whether that is production
    parent: int | None = None
    metrics: dict[str, float] = {}
    gate: dict[str, Any] = {}
    params: dict[str, Any] = {}


class FeatureDocument(BaseModel):
    """A column of the rows that a version takes."""

    name: str
    type: Literal["number", "integer", "boolean", "string"]
    nullable: bool


class SignatureDocument(BaseModel):
    """What rows a version takes, and what it gives."""

    container: Literal["matrix", "table", "dataframe", "text"]
    features: list[FeatureDocument]
    methods: list[str]
    outputs: list[dict[str, Any]]
    classes: list[Any] | None
    example: list[Any]


class VersionSummary(BaseModel):
    """A version, without its training profile."""

    version: int
    format: str
    sha256: str
    size_bytes: int
    memory_bytes: int
    stored_bytes: int
    signature: SignatureDocument
    estimator: str
    libraries: dict[str, str]
    created_at: str
    description: str
    artifact: str
    parent: int | None
    source_job: str | None
    created_by: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    metrics: dict[str, float]
    comparison: dict[str, Any]
    accelerated: dict[str, Any]
    code: str
    warnings: list[str]
    links: dict[str, str]


class VersionDocument(VersionSummary):
    """A version."""

    name: str
    profile: dict[str, Any]


class ModelSummary(BaseModel):
    """A model with its versions, newest first."""

    name: str
    owner: str | None
    aliases: dict[str, int]
    versions: list[VersionSummary]
    links: dict[str, str]


class LoadedDocument(BaseModel):
    """What a prediction process has of a model: its versions, what was warned of, and what it could not load."""

    worker: str
    queue: str
    versions: list[int]
    warnings: dict[str, list[str]]
    failed: dict[str, str]


class ModelDocument(ModelSummary):
    """A model with its versions, newest first, where they are loaded, and whether there is a schedule."""

    loaded: list[LoadedDocument]
    scheduled: bool


class ModelList(BaseModel):
    """Every model, by name."""

    models: list[ModelSummary]


class AliasDocument(BaseModel):
    """Where an alias points, since when, and how often it was moved."""

    model: str
    alias: str
    version: int
    revision: int
    moved_at: str | None
    links: dict[str, str]


class MoveDocument(BaseModel):
    """A move of an alias; `from` is null where it was made, `to` where it was removed."""

    at: str
    alias: str
    from_: Annotated[int | None, Field(alias="from")]
    to: int | None
    who: str
    why: str
    job_id: str | None
    request_id: str | None
    details: dict[str, Any]


class AliasHistoryDocument(AliasDocument):
    """An alias with its moves, newest first, up to 100."""

    history: list[MoveDocument]


class DriftWindow(BaseModel):
    """How far the rows of one batch job were from the training data; `drifted` is null if there were too few rows."""

    job_id: str
    version: int
    at: str
    rows: int
    max_psi: float | None
    drifted: bool | None
    drifted_features: list[str]
    features: dict[str, float]


class DriftDocument(BaseModel):
    """The drift of a model, newest first; a feature whose index reaches the threshold, beyond chance, has drifted."""

    model: str
    threshold: float
    windows: list[DriftWindow]


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


class KeyDocument(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    owner: str
    scopes: list[str]
    limits: dict[str, int]
    state: Literal["active", "expired", "revoked"]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    previous_valid_until: str | None
    links: dict[str, str]


class NewKeyDocument(KeyDocument):
    """A key with its secret, which is shown once."""

    key: str


class KeyList(BaseModel):
    """All keys, newest first."""

    keys: list[KeyDocument]


class LimitNumbers(BaseModel):
    """The most of everything; 0 is as much as the service can."""

    requests_per_second: int
    waiting_jobs: int
    waiting_rows: int
    stored_bytes: int
    upload_bytes_per_day: int
    uploads: int
    waiters: int
    event_streams: int
    models: int


class UsedNumbers(BaseModel):
    """What is used of it; null for what is counted only while it is limited.

    Uploads, waiters and event streams are those of the API process that answers.
    """

    requests_per_second: int | None
    waiting_jobs: int
    waiting_rows: int
    stored_bytes: int
    upload_bytes_per_day: int | None
    uploads: int
    waiters: int
    event_streams: int
    models: int


class LimitsDocument(BaseModel):
    """What an owner may use, and what it uses."""

    owner: str
    limits: LimitNumbers
    used: UsedNumbers


class WebhookDocument(BaseModel):
    """Where the end of a job is told."""

    url: str


class SecretState(BaseModel):
    """When the secret was made, and until when the one before signs too."""

    created_at: str
    previous_valid_until: str | None


class SecretDocument(SecretState):
    """The secret, which is shown once."""

    secret: str


class WebhooksDocument(BaseModel):
    """What an owner has of webhooks: deliveries that wait, and those that have ended and are kept."""

    secret: SecretState | None
    waiting: int
    ended: int
    links: dict[str, str]


class DeliveryDocument(BaseModel):
    """A webhook on its way, or what came of it."""

    id: str
    type: str
    job_id: str | None
    url: str
    status: Literal["waiting", "delivered", "failed"]
    attempts: int
    created_at: str
    next_attempt_at: str | None
    ended_at: str | None
    links: dict[str, str]


class AttemptDocument(BaseModel):
    """One attempt; without status and error it is under way. Attempt 0 is none: error says why none was made."""

    attempt: int
    at: str
    status: int | None
    error: str | None
    milliseconds: int | None


class DeliveryDetail(DeliveryDocument):
    """A delivery, with what is sent (null before the first attempt) and its attempts, newest first, 20 at most."""

    payload: dict[str, Any] | None
    log: list[AttemptDocument]


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryDocument]
    next: str | None
