"""Every setting of the service: an environment variable with the prefix FORETELL_, read once at the entry point."""

import difflib
import hashlib
import ipaddress
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import BadSetting
from shared.place import Place

PREFIX = "FORETELL_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """The settings, validated; the descriptions below are the reference in docs/configuration.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    host: str = Field(
        "127.0.0.1",
        description="Address that the API listens on. There is no authentication: keep it on loopback or behind a "
        "proxy that has one.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="Port that the API listens on.")
    data_dir: Path = Field(
        Path("var"),
        description="Folder of everything that must survive a restart: the embedded Redis and the file storage.",
    )
    redis_url: str | None = Field(
        None,
        description="An outside Redis (7.0 or newer) or Valkey: redis://, rediss:// or unix://. "
        "Unset: an embedded one is started in data_dir.",
    )
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = Field(
        "foretell", description="First part of every Redis key, so that several services can share a Redis."
    )
    redis_max_memory_mb: Annotated[int, Field(ge=8)] = Field(
        1024,
        description="Memory limit of the embedded Redis, MiB. Past 90 % of a Redis's limit submits are answered 503 "
        "`store_full`.",
    )
    redis_timeout_seconds: Seconds = Field(1.5, description="How long the API waits for Redis before it answers 503.")
    durability: Literal["process", "disk"] = Field(
        "process",
        description="`process`: an acknowledged job survives kill -9 of everything (fsync every second). "
        "`disk`: it survives a power cut too (fsync at every write); embedded Redis only.",
    )

    workers: Count = Field(
        default_factory=lambda: os.cpu_count() or 1,
        description="Prediction processes of one worker. Default: the number of cores.",
    )
    api_processes: Count = Field(2, description="Processes of the API.")
    api_threads: Annotated[int, Field(ge=4)] = Field(
        64, description="Threads of one API process; a waiting client or an event stream holds one."
    )
    max_waiters: Count = Field(
        40,
        description="Waiting clients (`Prefer: wait`, and polls that wait a moment) of one API process; past it the "
        "answer is the job as it is.",
    )
    max_event_streams: Count = Field(
        16,
        description="Open event streams of one API process; past it 503. With max_waiters less than api_threads.",
    )
    max_wait_seconds: Seconds = Field(
        30, description="Longest `Prefer: wait`, seconds; a longer one is shortened to it."
    )
    poll_patience_seconds: Annotated[float, Field(ge=0, le=10)] = Field(
        0.05,
        description="How long a plain poll of a job that will be done in a moment waits for it, so that a client that "
        "polls often asks less often. 0: every poll is answered at once.",
    )
    event_heartbeat_seconds: Seconds = Field(
        15, description="Pause after which an event stream sends a comment, so that proxies keep it open."
    )

    storage: str | None = Field(
        None,
        description="Where files lie: file:///path, or s3://bucket/prefix of any S3-compatible store, whose key, "
        "secret, region and endpoint come from the usual AWS_ variables. Unset: the folder `storage` in data_dir.",
    )
    input_prefixes: str = Field(
        "",
        description="Where jobs may read files by `uri`: prefixes with a blank between them, such as "
        "`file:///srv/exports/ s3://bucket/incoming/`. Empty: nowhere.",
    )

    max_body_bytes: Count = Field(16 * 2**20, description="Largest request body that is no file, bytes; 413 past it.")
    max_upload_bytes: Count = Field(100 * 2**30, description="Largest file that may be sent, bytes; 413 past it.")
    upload_idle_seconds: Annotated[int, Field(ge=60)] = Field(
        3600, description="What is left of an upload that nobody finished is removed so long after its last byte."
    )
    file_ttl_seconds: Count = Field(
        7 * 86_400,
        description="How long a file of `POST /files` is kept; longer while an unfinished job reads it. A file that "
        "came with a job lives as long as the job.",
    )
    max_instances: Count = Field(10_000, description="Most rows of one prediction job; 422 past it.")
    max_waiting_jobs: Count = Field(
        10_000, description="Most jobs waiting in one lane (a model version); 429 `queue_full` past it."
    )
    max_metadata_bytes: Count = Field(4096, description="Largest `metadata` of a job as JSON, bytes.")
    max_text_length: Count = Field(100_000, description="Longest string in a row, characters.")
    inline_result_bytes: Count = Field(
        2**20, description="Results up to this size are kept in Redis, larger ones in file storage."
    )
    result_ttl_seconds: Count = Field(
        86_400, description="How long a finished job and its result are kept, unless the job says otherwise."
    )
    max_result_ttl_seconds: Count = Field(
        7 * 86_400, description="Most that a job may ask for as `result_ttl_seconds`."
    )
    tombstone_seconds: Count = Field(
        86_400, description="How long a purged or deleted job is answered 410 before it becomes 404."
    )
    idempotency_seconds: Annotated[int, Field(ge=60)] = Field(
        86_400, description="How long an Idempotency-Key is remembered."
    )

    micro_batch_jobs: Annotated[int, Field(ge=1, le=1000)] = Field(64, description="Most jobs of one micro-batch.")
    micro_batch_rows: Count = Field(
        8192, description="Rows past which no further job joins a micro-batch, and most rows of one predict call."
    )
    gather_seconds: Annotated[float, Field(ge=0, le=1)] = Field(
        0.002,
        description="How long a worker under dense traffic lets jobs gather before it pulls again, so that one call "
        "serves several; an idle one never waits. 0: never.",
    )
    max_batch_jobs: Count = Field(1000, description="Most batch jobs that are not finished; 429 `queue_full` past it.")
    slice_bytes: Annotated[int, Field(ge=1, le=2**30)] = Field(
        8 * 2**20,
        description="Part of a CSV or NDJSON file that is parsed and predicted in one go, bytes; bounds the memory of "
        "a worker process at some ten times as much.",
    )
    slice_rows: Annotated[int, Field(ge=1, le=2**24)] = Field(65_536, description="The same for Parquet, rows.")
    max_row_bytes: Annotated[int, Field(ge=16, le=2**30)] = Field(
        2**20, description="Longest row of a CSV or NDJSON file, bytes; a longer one fails alone as `row_too_long`."
    )
    chunk_seconds: Seconds = Field(
        2,
        description="How much work a chunk of a file should be, at the measured speed; progress, cancelling and "
        "recovery go by chunks.",
    )
    drift_threshold: Annotated[float, Field(gt=0, le=100)] = Field(
        0.25,
        description="Population stability index at which a feature of a batch job has drifted from the training data, "
        "beyond what chance explains.",
    )
    max_chunk_slices: Count = Field(8, description="Most slices of one chunk; the least is one.")

    max_training_bytes: Count = Field(
        2 * 2**30,
        description="Most memory that the rows of a training may take, bytes; the fit itself takes more. A training "
        "over more fails as `too_much_data`.",
    )
    fit_timeout_seconds: Seconds = Field(86_400, description="Longest that one fit of a training may run.")
    check_timeout_seconds: Seconds = Field(
        300,
        description="Longest that the check of an artifact that was sent may run; then its process is killed and it is "
        "tried again, or refused with `timed_out`.",
    )
    keep_training_data: bool = Field(
        True,
        description="Keep the rows that a version was trained on beside it in the file storage, so that a later "
        "training can append to them (`combine: append`).",
    )
    keep_challengers: Annotated[int, Field(ge=0)] = Field(
        50,
        description="Versions of a model that trainings made and no alias points or ever pointed to that are kept, the "
        "newest; after a training the others are removed, unless an unfinished job needs them.",
    )

    lease_seconds: Seconds = Field(
        5, description="A unit whose worker has not renewed its lease for so long is given to another."
    )
    max_attempts: Count = Field(
        3, description="How often a job is tried when its worker dies; then it fails with `worker_lost`."
    )
    unit_timeout_seconds: Seconds = Field(
        300,
        description="Longest that one unit may run; then its process is killed and the job is tried again, or "
        "fails with `timed_out`.",
    )
    linger_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        0.5, description="How long an idle worker process waits for more work before it lets go of its Celery task."
    )
    drain_seconds: Seconds = Field(
        2,
        description="How long one Celery task pulls units before it hands over to the next; bounds the time of an "
        "orderly stop.",
    )
    janitor_seconds: Seconds = Field(1, description="Pause between two rounds of the janitor.")
    schedule_grace_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        3600,
        description="How late a scheduled training may still be started, after everything was down or the queue was "
        "full; an older one is skipped as `missed`. Never more than idempotency_seconds, within which it is certain "
        "that it was not started before.",
    )
    model_cache_mb: Count = Field(
        1024, description="Byte budget of the models that one worker process keeps loaded, MiB of unpacked artifacts."
    )

    max_artifact_bytes: Count = Field(
        2 * 2**30, description="Largest artifact of a model that is registered or loaded, bytes."
    )
    max_unpacked_artifact_bytes: Count = Field(
        8 * 2**30,
        description="Largest artifact when it is unpacked, bytes: what a skops file, which is a zip archive, may "
        "become in memory, and the largest tensor that an ONNX graph may make of one row. Its check may take twice as "
        "much and 512 MiB.",
    )
    trusted_types: str = Field(
        "",
        description="Types that skops files may hold beside those that are trusted anyway: dotted names with a blank "
        "between them, such as `features.Ratios`. Their code runs when a model is loaded, with whatever state the file "
        "gives it: read it first.",
    )
    allow_pickle_uploads: bool = Field(
        False,
        description="Whether joblib and pickle files may be uploaded. Loading one runs whatever code it holds, so with "
        "`true` whoever can reach the API can run code on the workers.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="`auto`: human in a terminal, JSON lines otherwise."
    )
    demo_models: bool = Field(True, description="Register the demo models at the first start of `make run`.")

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        if host == "localhost":
            return "127.0.0.1"
        try:
            return str(ipaddress.ip_address(host))
        except ValueError as error:
            raise ValueError("must be an IP address, such as 127.0.0.1 or 0.0.0.0") from error

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("storage")
    @classmethod
    def _storage_place(cls, url: str | None) -> str | None:
        if url is not None and not (place := Place.parse(url)).bucket and not place.path:
            raise ValueError("must name a folder")
        return url

    @field_validator("input_prefixes")
    @classmethod
    def _input_places(cls, prefixes: str) -> str:
        for prefix in prefixes.split():
            try:
                Place.parse(prefix)
            except ValueError as error:
                raise ValueError(f"{prefix} {error}") from error
        return prefixes

    @field_validator("trusted_types")
    @classmethod
    def _dotted_names(cls, names: str) -> str:
        for name in names.split():
            if "." not in name or not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(f"{name} is no dotted name of a type, such as features.Ratios")
        return names

    @field_validator("data_dir", mode="before")
    @classmethod
    def _absolute(cls, given: str | Path) -> Path:
        if not str(given):
            raise ValueError("must name a folder")
        try:
            return Path(given).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError("names a home folder that does not exist") from error

    def model_post_init(self, context: Any, /) -> None:
        """Check what no single field can know.

        Raises:
            BadSetting: waiting clients could take every thread of an API process.
        """
        if self.max_waiters + self.max_event_streams >= self.api_threads:
            raise BadSetting(
                f"{PREFIX}API_THREADS={self.api_threads} must be more than {PREFIX}MAX_WAITERS + "
                f"{PREFIX}MAX_EVENT_STREAMS ({self.max_waiters} + {self.max_event_streams})"
            )
        if self.result_ttl_seconds > self.max_result_ttl_seconds:
            raise BadSetting(f"{PREFIX}RESULT_TTL_SECONDS must not be more than {PREFIX}MAX_RESULT_TTL_SECONDS")

    @property
    def redis_address(self) -> str:
        """The URL of the outside Redis, or of the embedded one's socket.

        A unix socket's path is limited to 107 bytes (man 7 unix); a deeper data_dir gets a private folder under the
        temporary one, named after the data_dir so that every process finds it.
        """
        if self.redis_url is not None:
            return self.redis_url
        return f"unix://{self.redis_socket}"

    @property
    def redis_socket(self) -> Path:
        """Where the embedded Redis listens."""
        socket = self.data_dir / "redis" / "redis.sock"
        if len(os.fsencode(socket)) < 100:
            return socket
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"foretell-{os.getuid()}-{digest}" / "redis.sock"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        BadSetting: a value is not allowed, or a FORETELL_ variable is none of ours.
    """
    given = os.environ if environment is None else environment
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values: dict[str, str] = {}
    for variable, value in given.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            close = difflib.get_close_matches(
                variable.removeprefix(PREFIX), [name.upper() for name in Settings.model_fields], n=1
            )
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else "; docs/configuration.md lists all settings"
            raise BadSetting(f"{variable} is not a setting{hint}")
        values[known[variable]] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        shown = "..." if "@" in values.get(name, "") else values.get(name, "")  # a password may stand before the @
        raise BadSetting(f"{PREFIX}{name.upper()}={shown}: {first['msg']}") from error


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for a child process."""
    return {
        PREFIX + name.upper(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings.model_dump().items()
        if value is not None
    }


def reference() -> str:
    """docs/configuration.md, written from the fields above."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable. An unknown `FORETELL_` variable, or a value that is not allowed,",
        "ends the start with one line and exit code 1. This page is written by `make docs`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = (
            "number of cores"
            if field.default_factory
            else ""
            if field.default is None
            else f"`{_shown(field.default)}`"
        )
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"./{value}" if isinstance(value, Path) else str(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
