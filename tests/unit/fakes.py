"""A job store and a registry's Redis in memory, for what the API does between the two."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
from flask import Flask, request

from api import errors, events, jobs
from api.access import Gate, anybody, guard
from api.headers import here, request_id_of
from api.services import Services, build_services
from api.submission import Origin
from shared.api_keys import ApiKeys
from shared.connection import Connections
from shared.errors import JobNotFound
from shared.job import Counts, Job, Spec, Status
from shared.keys import Keys
from shared.records import Accepted, AliasMoved, Submission
from shared.registry import Manifest, Registry
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import Storage
from shared.store import JobStore

CREATED_AT = datetime(2026, 1, 31, 12, 0, 0, 123_000, UTC)
KEYS = Keys("foretell")


def make_job(job_id: str = "j1", **fields: Any) -> Job:
    """A queued job of three rows, unless the fields say otherwise."""
    spec = Spec(requested="m@production", model="m", version=3, sha256="ab", method="predict")
    return replace(
        Job(
            id=job_id,
            status=Status.QUEUED,
            revision=1,
            spec=spec,
            counts=Counts(total=3),
            attempt=0,
            cancel_requested=False,
            queue_position=None,
            jobs_per_second=None,
            created_at=CREATED_AT,
            started_at=None,
            finished_at=None,
            expires_at=None,
            predictions=None,
            stored_bytes=None,
            failure=None,
            errors=(),
            warnings=(),
        ),
        **fields,
    )


def make_manifest(signature: Signature, version: int = 1) -> Manifest:
    """A version of the model m."""
    return Manifest(
        model="m",
        version=version,
        format="skops",
        sha256=f"sha of {version}",
        size_bytes=10,
        signature=signature,
        estimator="sklearn.linear_model.LinearRegression",
        libraries={},
        created_at="2026-01-31T12:00:00.000Z",
    )


class Index:
    """The part of Redis that the registry reads: versions of the model m, and its alias production."""

    def __init__(self) -> None:
        self.strings: dict[str, bytes] = {}
        self.record: dict[bytes, bytes] = {}

    def publish(self, signature: Signature) -> None:
        """Add a version and point production at it."""
        version = len(self.strings) + 1
        self.strings[KEYS.version("m", version)] = orjson.dumps(make_manifest(signature, version).to_dict())
        self.record |= {b"v:%d" % version: b"1", b"alias:production": b"%d" % version}

    def get(self, key: str) -> bytes | None:
        return self.strings.get(key)

    def hget(self, key: str, field: str) -> bytes | None:
        return self.hgetall(key).get(field.encode())

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.record if key == KEYS.model("m") else {}

    def sismember(self, _: str, name: str) -> bool:
        return bool(self.record) and name == "m"

    def smembers(self, _: str) -> set[bytes]:
        return {b"m"} if self.record else set()


class Jobs:
    """A store that keeps what was submitted, and like submit.lua refuses an alias that was moved."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.submitted: list[Submission] = []
        self.snapshots: dict[str, Job] = {}
        self.next_cursor: str | None = None

    def submit(self, job: Submission) -> Accepted:
        if job.alias and self.index.record[f"alias:{job.alias}".encode()] != b"%d" % job.spec.version:
            raise AliasMoved
        self.submitted.append(job)
        return Accepted(id=job.id, created=True, created_at=CREATED_AT, queue_position=1)

    def first(self, _: str) -> None:
        """It remembers no Idempotency-Key."""

    def read(self, job_id: str, **_: Any) -> Job:
        if job_id not in self.snapshots:
            raise JobNotFound
        return self.snapshots[job_id]

    def page(self, **_: Any) -> tuple[list[Job], str | None]:
        return list(self.snapshots.values()), self.next_cursor


class NoKeys:
    """Nobody has made a key."""

    def exist(self) -> bool:
        return False


def make_origin(services: Services) -> Origin:
    """The request r, without an Idempotency-Key."""
    return Origin(request_id="r", traceparent=None, key=None, target=(), caller=anybody(services.settings))


def make_services(folder: Path, index: Index, store: Jobs, **settings: Any) -> Services:
    """The API's parts, with the registry and the store in memory."""
    services = build_services(Settings(data_dir=folder, redis_url=f"unix://{folder}/nobody.sock", **settings))
    connections = cast(Connections, SimpleNamespace(client=index))
    registry = Registry(connections, KEYS, Storage(folder.as_uri()))
    return replace(services, registry=registry, store=cast(JobStore, store))


def make_app(services: Services) -> Flask:
    """The routes of jobs alone."""
    app = Flask("test")
    errors.install(app)
    app.before_request(lambda: setattr(here(), "request_id", request_id_of(request)))
    guard(app, Gate(cast(ApiKeys, NoKeys()), services.rates, services.settings))
    app.register_blueprint(jobs.routes(services))
    app.register_blueprint(events.routes(services))
    return app
