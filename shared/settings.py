"""Every setting of the service: an environment variable with the prefix FORETELL_, read once at the entry point."""

import difflib
import hashlib
import importlib.util
import ipaddress
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import BadSetting
from shared.json_depth import MOST_DEPTH
from shared.networks import networks_of
from shared.place import Place

PREFIX = "FORETELL_"
# What the client reads, and people have in their shells: see client/foretell/access.py.
OF_CLIENTS = frozenset({"FORETELL_URL", "FORETELL_KEY", "FORETELL_CONFIG_FILE"})
REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "sentinel://", "sentinels://")
BROKER_SCHEMES = ("amqp://", "amqps://")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
AtMost = Annotated[int, Field(ge=0)]
# RFC 6454, section 6.2, as browsers send it.
ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Settings(BaseModel):
    """The settings, validated; the descriptions below are the reference in docs/configuration.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    host: str = Field(
        "127.0.0.1",
        description="Address that the API listens on. Another than a loopback address needs keys: see "
        "docs/security.md.",
    )
    allow_access_without_keys: bool = Field(
        False,
        description="Whether an API that listens on another than a loopback address lets everybody do everything as "
        "long as there are no keys. Without it such an API does not start.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="Port that the API listens on.")
    cors_origins: str = Field(
        "",
        description="Web pages of which other origins may use the API from a browser: origins with a blank between "
        "them, such as `https://app.example.com`, or `*` for any. Empty: none. While there are no API keys it does "
        "nothing: pages of other origins are refused.",
    )
    data_dir: Path = Field(
        Path("var"),
        description="Folder of everything that must survive a restart: the embedded Redis and the file storage.",
    )
    redis_url: str | None = Field(
        None,
        description="An outside Redis (7.0 or newer) or Valkey: redis://, rediss://, unix://, or "
        "sentinel://host1:26379,host2:26379/service (sentinels:// with TLS). Unset: an embedded one is started in "
        "data_dir.",
    )
    redis_ca_file: Path | None = Field(
        None,
        description="Certificates of who may sign the certificate of a rediss:// or sentinels:// server, PEM. Unset: "
        "those that the system trusts.",
    )
    redis_cert_file: Path | None = Field(
        None, description="Certificate that such a server is shown, PEM; with redis_key_file. Unset: none."
    )
    redis_key_file: Path | None = Field(None, description="The private key of redis_cert_file, PEM.")
    broker_url: str | None = Field(
        None,
        description="Where Celery's messages, the doorbells, go instead of the Redis that holds the jobs: amqp:// or "
        "amqps:// of a RabbitMQ, with a comma between the nodes of a cluster, or another Redis.",
    )
    broker_ca_file: Path | None = Field(
        None,
        description="Certificates of who may sign the certificate of an amqps:// or rediss:// broker_url, PEM. Unset: "
        "those that the system trusts.",
    )
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = Field(
        "foretell", description="First part of every Redis key, so that several services can share a Redis."
    )
    redis_max_memory_mb: Annotated[int, Field(ge=8)] = Field(
        1024,
        description="Memory limit of the embedded Redis, MiB. Past 90 % of a Redis's limit submits are answered 503 "
        "`store_full`.",
    )
    redis_disk_reserve_mb: Annotated[int, Field(ge=1)] = Field(
        64,
        description="Room on the disk that is kept for what the embedded Redis writes next, MiB. While it "
        'cannot be had, submits are answered 503 `store_full`: docs/operations.md, "The disk is full".',
    )
    redis_timeout_seconds: Seconds = Field(1.5, description="How long the API waits for Redis before it answers 503.")
    replicas_acknowledge: AtMost = Field(
        0,
        description="Replicas of Redis that must have a job before it is acknowledged, so that it survives a failover; "
        "503 `store_unavailable` if they do not within half of redis_timeout_seconds. See docs/several-machines.md. 0: "
        "none, and a failover may lose the last jobs that were acknowledged.",
    )
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
    api_threads: Annotated[int, Field(ge=6)] = Field(
        128,
        description="Threads of one API process; as many again may serve its event loop. Each event stream, upload and "
        "download holds one, each body that comes, and some waiting clients, so there must be more than "
        "max_waiting_threads, max_event_streams, max_bodies, max_uploads and max_downloads together: then other "
        "requests are always answered.",
    )
    max_waiters: Count = Field(
        1000,
        description="Clients that wait for a job at one API process (`Prefer: wait`, and polls that wait a moment) and "
        "hold no thread; past it the answer is the job as it is.",
    )
    max_waiting_threads: Count = Field(
        40,
        description="Clients that wait for a job at one API process and hold a thread: elsewhere than at `/jobs` "
        "(`/predict`, retries, other protocols), with a file or more than 64 KiB of rows, or under a limit of requests "
        "a second; and all of them with tracing, CORS, replicas_acknowledge or a Redis through TLS, or without Linux. "
        "Past it the answer is the job as it is.",
    )
    max_event_streams: Count = Field(
        16,
        description="Open event streams of one API process; past it 503.",
    )
    max_wait_seconds: Seconds = Field(
        30, description="Longest `Prefer: wait`, seconds; a longer one is shortened to it."
    )
    poll_patience_seconds: Annotated[float, Field(ge=0, le=10)] = Field(
        0.05,
        description="How long a plain poll of a job that will be done in a moment, or was accepted a moment ago, waits "
        "for it, so that a client that polls often asks less often. 0: every poll is answered at once.",
    )
    event_heartbeat_seconds: Seconds = Field(
        15, description="Pause after which an event stream sends a comment, so that proxies keep it open."
    )

    stop_delay_seconds: Annotated[float, Field(ge=0, le=300)] = Field(
        0,
        description="How long the API goes on taking requests after SIGTERM, while `/readyz` is 503 already, so that a "
        "load balancer notices. 0 is right where nothing looks at `/readyz`.",
    )
    stop_grace_seconds: Annotated[int, Field(ge=1, le=1800)] = Field(
        20,
        description="How long requests under way have to end after that, such as uploads and downloads; those that "
        "wait for a job are answered at once. What is not done then is cut off.",
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
    max_query_bytes: Annotated[int, Field(ge=256)] = Field(
        16 * 2**10, description="Longest query string of a request, bytes; 414 past it."
    )
    max_json_depth: Annotated[int, Field(ge=4, le=200)] = Field(
        MOST_DEPTH,
        description="How deep arrays and objects of JSON may be nested, in bodies and in NDJSON rows; 400 past it.",
    )
    max_columns: Count = Field(
        10_000, description="Most columns of a file, and of the rows of a prediction job; `too_many_columns` past it."
    )
    max_bodies: Count = Field(
        12,
        description="Bodies other than files that are being received by one API process at a time; one more waits for "
        "half a second, then it is 503 `too_many_uploads`.",
    )
    max_uploads: Count = Field(
        20, description="Files that are being received by one API process at a time; 503 `too_many_uploads` past it."
    )
    max_downloads: Count = Field(
        20, description="Files that are being sent by one API process at a time; 503 `too_many_downloads` past it."
    )
    slow_client_seconds: Seconds = Field(
        30,
        description="A client that sends its body slower than slow_client_bytes_per_second for so long is answered 408 "
        "and cut off. At least 5 s more than max_wait_seconds and event_heartbeat_seconds are waited in any case.",
    )
    slow_client_bytes_per_second: Count = Field(
        500, description="What is slow: fewer bytes a second than this, over slow_client_seconds."
    )
    stuck_client_seconds: Seconds = Field(
        120, description="A client that takes nothing of its answer for so long is cut off."
    )
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
    max_file_rows: AtMost = Field(
        0, description="Most rows of a file; a job over more fails as `too_many_rows`. 0: no limit."
    )
    max_waiting_jobs: Count = Field(
        10_000, description="Most jobs of an owner waiting for one model version; 429 `queue_full` past it."
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
    max_batch_jobs: Count = Field(1000, description="Most unfinished batch jobs of an owner; 429 `queue_full` past it.")
    slice_bytes: Annotated[int, Field(ge=1, le=2**30)] = Field(
        8 * 2**20,
        description="Part of a CSV or NDJSON file that is parsed and predicted in one go, bytes; bounds the memory of "
        "a worker process at some ten times as much.",
    )
    slice_rows: Annotated[int, Field(ge=1, le=2**24)] = Field(65_536, description="The same for Parquet, rows.")
    max_row_bytes: Annotated[int, Field(ge=16, le=2**30)] = Field(
        2**20, description="Longest row of a CSV or NDJSON file, bytes; a longer one fails alone as `row_too_long`."
    )
    max_unpacked_bytes: Count = Field(
        2**40,
        description="Most bytes that a gzip or zstd file may unpack to; a job over more fails as "
        "`unpacks_to_too_much`.",
    )
    max_compression_ratio: Count = Field(
        2000,
        description="How many times its own size a file may unpack to, beyond the first 64 MiB; a job over one that "
        "exceeds it fails as `unpacks_to_too_much`. Of Parquet: rows for each byte.",
    )
    max_parquet_memory_mb: Annotated[int, Field(ge=64)] = Field(
        1024,
        description="Memory that reading one slice of a Parquet file may take, MiB; of a file with many columns fewer "
        "rows are read at a time, and a job over one that needs more still fails as `unpacks_to_too_much`. On Linux.",
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
    webhook_networks: str = Field(
        "",
        description="Networks that webhooks may go to although they are not public, with a blank between them, such as "
        "`10.20.0.0/16 127.0.0.1`; plain http:// is for these alone. Whoever may submit jobs can make the service "
        "send requests there. Empty: none.",
    )
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=25)] = Field(
        10, description="Longest that one attempt at a webhook may take, from the connection to the answer."
    )
    webhook_retry_seconds: str = Field(
        "5 30 120 600 1800 7200 21600 43200 86400",
        description="Pauses before each further attempt at a webhook, seconds with a blank between them, up to a fifth "
        "longer by chance. After the last one it has failed.",
    )
    webhook_log_seconds: Count = Field(
        7 * 86_400, description="How long a webhook's delivery is kept after its last attempt."
    )
    webhook_secret_overlap_seconds: AtMost = Field(
        86_400, description="How long webhooks are signed with the secret before too, after it was rotated."
    )
    webhook_senders: Count = Field(
        8,
        description="Webhooks that one process sends at a time. At most a quarter of them go to one host, and three "
        "quarters are of one owner, over all processes.",
    )
    max_waiting_webhooks: Count = Field(
        10_000,
        description="Webhooks of an owner that are not delivered yet, past which jobs with a webhook are answered 429 "
        "`limit_reached`, and those of jobs that end have failed without being tried.",
    )
    max_kept_webhooks: Count = Field(
        10_000, description="Deliveries of an owner that are kept after their last attempt; the oldest go first."
    )
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

    owner_requests_per_second: AtMost = Field(
        0, description="Most requests of an owner in a second; 429 `limit_reached` past it. 0 here and below: no limit."
    )
    owner_waiting_jobs: AtMost = Field(0, description="Most unfinished jobs of an owner; 429 `limit_reached` past it.")
    owner_waiting_rows: AtMost = Field(
        0, description="Most rows of an owner's unfinished prediction jobs; 429 `limit_reached` past it."
    )
    owner_stored_bytes: AtMost = Field(
        0,
        description="Most bytes of an owner in file storage: files, inputs, results and versions of models; 429 "
        "`limit_reached` past it.",
    )
    owner_upload_bytes_per_day: AtMost = Field(
        0, description="Most bytes that an owner may send as files on one day (UTC); 429 `limit_reached` past it."
    )
    owner_uploads: AtMost = Field(
        0,
        description="Most files that an owner may be sending to one API process at a time; 429 `limit_reached` past "
        "it.",
    )
    owner_waiters: AtMost = Field(
        0,
        description="Most waiting clients of an owner at one API process; past it the answer is the job as it is.",
    )
    owner_event_streams: AtMost = Field(
        0, description="Most open event streams of an owner at one API process; 429 `limit_reached` past it."
    )
    owner_models: AtMost = Field(0, description="Most models that an owner may have; 429 `limit_reached` past it.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="`auto`: human in a terminal, JSON lines otherwise."
    )
    tracing: bool = Field(
        False,
        description="Whether spans of requests, jobs and units are sent to an OpenTelemetry collector, which "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` names: see docs/tracing.md.",
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
        if url is not None and not url.startswith(REDIS_SCHEMES):
            raise ValueError(f"must begin with one of {', '.join(REDIS_SCHEMES)}")
        return url

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith((*BROKER_SCHEMES, *REDIS_SCHEMES)):
            raise ValueError(f"must begin with one of {', '.join((*BROKER_SCHEMES, *REDIS_SCHEMES))}")
        return url

    @field_validator("redis_ca_file", "redis_cert_file", "redis_key_file", "broker_ca_file")
    @classmethod
    def _readable(cls, file: Path | None) -> Path | None:
        if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
            raise ValueError("must name a file that can be read")
        return None if file is None else file.absolute()

    @field_validator("storage")
    @classmethod
    def _storage_place(cls, url: str | None) -> str | None:
        if url is not None and not (place := Place.parse(url)).bucket and not place.path:
            raise ValueError("must name a folder")
        return url

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, origins: str) -> str:
        for origin in origins.split():
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is no origin: scheme, host and port in lower case, without a path")
        return origins

    @field_validator("input_prefixes")
    @classmethod
    def _input_places(cls, prefixes: str) -> str:
        for prefix in prefixes.split():
            try:
                Place.parse(prefix)
            except ValueError as error:
                raise ValueError(f"{prefix} {error}") from error
        return prefixes

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, networks: str) -> str:
        networks_of(networks)
        return networks

    @field_validator("webhook_retry_seconds")
    @classmethod
    def _pauses(cls, pauses: str) -> str:
        for pause in pauses.split():
            if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", pause):
                raise ValueError(f"{pause} is no number of seconds, such as 30 or 0.5")
        return pauses

    metrics_seconds: Annotated[float, Field(ge=0.1, le=60)] = Field(
        5,
        description="How often a process sends what it has counted for `/metrics` to Redis. One that is killed loses "
        "as much of it at most.",
    )
    metrics_models: AtMost = Field(
        100,
        description="Models that have counters of their own in `/metrics`: those that had a job first, until they are "
        "deleted. The others are counted together, as `other`.",
    )
    autoscale_target_seconds: Seconds = Field(
        30,
        description="Within which time wanted workers work off what waits. Smaller: more of them, and sooner.",
    )
    autoscale_hold_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        300, description="Wanted workers become fewer only when no more were wanted for this long."
    )
    autoscale_min_processes: AtMost = Field(
        1, description="Fewest processes that are wanted for a queue. 0: none while there is nothing to do."
    )
    autoscale_max_processes: Count = Field(64, description="Most processes that are wanted for a queue.")

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
            BadSetting: waiting clients could take every thread of an API process, or files are named that are not used.
        """
        self._check_files()
        if self.tracing and not all(map(_can_import, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
            raise BadSetting(
                f"{PREFIX}TRACING=true needs packages that are not installed: `make tracing` installs them, "
                "or pip install --requirement requirements-tracing.txt"
            )
        holders = ("max_waiting_threads", "max_event_streams", "max_bodies", "max_uploads", "max_downloads")
        numbers = [getattr(self, name) for name in holders]
        if sum(numbers) >= self.api_threads:
            raise BadSetting(
                f"{PREFIX}API_THREADS={self.api_threads} must be more than "
                f"{' + '.join(PREFIX + name.upper() for name in holders)} ({' + '.join(map(str, numbers))})"
            )
        if self.autoscale_min_processes > self.autoscale_max_processes:
            raise BadSetting(f"{PREFIX}AUTOSCALE_MIN_PROCESSES must not be more than {PREFIX}AUTOSCALE_MAX_PROCESSES")
        if self.result_ttl_seconds > self.max_result_ttl_seconds:
            raise BadSetting(f"{PREFIX}RESULT_TTL_SECONDS must not be more than {PREFIX}MAX_RESULT_TTL_SECONDS")

    def _check_files(self) -> None:
        """See that certificates are named only where they are used."""
        given = [name for name in ("redis_ca_file", "redis_cert_file", "redis_key_file") if getattr(self, name)]
        if given and not (self.redis_url or "").startswith(("rediss://", "sentinels://")):
            raise BadSetting(f"{PREFIX}{given[0].upper()} needs a {PREFIX}REDIS_URL of rediss:// or sentinels://")
        if bool(self.redis_cert_file) != bool(self.redis_key_file):
            raise BadSetting(f"{PREFIX}REDIS_CERT_FILE and {PREFIX}REDIS_KEY_FILE go together")
        if self.broker_ca_file and not (self.broker_url or "").startswith(("amqps://", "rediss://", "sentinels://")):
            raise BadSetting(f"{PREFIX}BROKER_CA_FILE needs a {PREFIX}BROKER_URL of amqps:// or rediss://")

    @property
    def is_local(self) -> bool:
        """Whether the API can be reached from this machine alone."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def webhook_pauses(self) -> tuple[float, ...]:
        """Seconds before the second attempt at a webhook, the third, and so on."""
        return tuple(map(float, self.webhook_retry_seconds.split()))

    @property
    def redis_address(self) -> str:
        """The URL of the outside Redis with the files of its TLS, or of the embedded one's socket.

        A unix socket's path is limited to 107 bytes (man 7 unix); a deeper data_dir gets a private folder under the
        temporary one, named after the data_dir so that every process finds it.
        """
        if self.redis_url is None:
            return f"unix://{self.redis_socket}"
        return _with_files(
            self.redis_url,
            {
                "ssl_ca_certs": self.redis_ca_file,
                "ssl_certfile": self.redis_cert_file,
                "ssl_keyfile": self.redis_key_file,
            },
        )

    @property
    def broker_address(self) -> str:
        """The URL of the broker: that of the Redis, unless it is another."""
        if self.broker_url is None:
            return self.redis_address
        return _with_files(self.broker_url, {"ssl_ca_certs": self.broker_ca_file})

    @property
    def storage_url(self) -> str:
        """Where the files of the service lie."""
        return self.storage or (self.data_dir / "storage").as_uri()

    @property
    def redis_socket(self) -> Path:
        """Where the embedded Redis listens."""
        socket = self.data_dir / "redis" / "redis.sock"
        if len(os.fsencode(socket)) < 100:
            return socket
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"foretell-{os.getuid()}-{digest}" / "redis.sock"


def _can_import(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # not even what it is a part of
        return False


def _with_files(url: str, files: Mapping[str, Path | None]) -> str:
    given = urlencode({name: str(file) for name, file in files.items() if file is not None}, quote_via=quote)
    return f"{url}{'&' if '?' in url else '?'}{given}" if given else url


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        BadSetting: a value is not allowed, or a FORETELL_ variable is none of ours.
    """
    given = os.environ if environment is None else environment
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values: dict[str, str] = {}
    for variable, value in given.items():
        if not variable.startswith(PREFIX) or variable in OF_CLIENTS:
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
        given_value = values.get(name, "")
        # A password may stand before the @, or be an option of a URL.
        shown = "..." if "@" in given_value or "password" in given_value else given_value
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
        "ends the start with one line and exit code 1; those of the [client](cli.md#configuration) are left alone.",
        "This page is written by `make docs`.",
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
