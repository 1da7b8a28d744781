"""From a request to an accepted job: pin the model, check the rows, store, ring."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import structlog

from api.access import Caller
from api.errors import RequestFault
from api.instances import instances_of
from api.services import Services
from api.uploads import discard
from api.wire import BatchRequest, JobRequest
from shared.api_keys import Scope
from shared.errors import InvalidRequest, ModelNotFound, ServiceError, StoreUnavailable
from shared.frozen import frozen
from shared.job import Counts, Job, Spec, Status, new_job_id
from shared.owner import DEFAULT_OWNER
from shared.queue import ONLINE
from shared.records import Accepted, AliasMoved, Submission
from shared.registry import Manifest, Resolved
from shared.requests import WebhookRequest, fault
from shared.settings import Settings
from shared.submit_span import submitted
from shared.tracing import TRACING, trace_id

log = structlog.get_logger()

LONGEST_KEY: Final = 255


@frozen
class Origin:
    """The HTTP request that a job comes from."""

    request_id: str
    traceparent: str | None  # the trace that the client takes part in
    key: str | None  # Idempotency-Key
    target: tuple[bytes, ...]  # path and query
    caller: Caller

    def idempotency(self, *parts: bytes) -> tuple[str, str] | None:
        """Digests of the key and of the request with this body; None without a key.

        Raises:
            RequestFault: the key is empty or too long.
        """
        return None if self.key is None else idempotency_of(self.key, *self.target, *parts, owner=self.caller.owner)


@frozen
class Draft:
    """A checked job that is not stored yet."""

    first: Submission
    again: Callable[[], Submission]  # makes it anew, with the alias as it is now


def draft(
    services: Services,
    request: JobRequest,
    origin: Origin,
    *,
    idempotency: tuple[str, str] | None = None,
    fresh: bool = False,
) -> Submission:
    """Check a request against the signature of the model that it names; nothing is stored yet.

    Args:
        services: the process's.
        request: the body.
        origin: the HTTP request.
        idempotency: digests of key and request.
        fresh: look up where an alias points instead of remembering it.

    Raises:
        Forbidden, InvalidRequest, ModelNotFound, StoreUnavailable
    """
    origin.caller.need(Scope.JOBS_WRITE)
    resolved = services.registry.resolve(request.model, fresh=fresh)
    try:
        rows = checked_rows(services, request, resolved)
    except InvalidRequest:
        # The alias may have moved to a version that takes what this one does not.
        newest = services.registry.resolve(request.model, fresh=True)
        if newest.manifest is resolved.manifest:
            raise
        resolved = newest
        rows = checked_rows(services, request, resolved)
    manifest = resolved.manifest
    spec = spec_of(services, request, manifest, origin)
    return Submission(
        id=new_job_id(),
        spec=spec,
        rows=orjson.dumps(rows),
        total=len(rows),
        alias=resolved.alias,
        queue=ONLINE,
        ttl_seconds=checked_ttl(request.result_ttl_seconds, services.settings),
        deadline_seconds=request.deadline_seconds,
        idempotency=idempotency,
        limits=origin.caller.limits,
    )


def spec_of(
    services: Services,
    wanted: JobRequest | BatchRequest,
    manifest: Manifest,
    origin: Origin,
) -> Spec:
    """What never changes about a job on this version.

    Raises:
        InvalidRequest: the metadata is too large.
    """
    return Spec(
        requested=wanted.model,
        model=manifest.model,
        version=manifest.version,
        sha256=manifest.sha256,
        method=wanted.method,
        top_k=wanted.top_k,
        priority=wanted.priority,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
        owner=origin.caller.owner,
        metadata=checked_metadata(wanted.metadata, services.settings.max_metadata_bytes),
        webhook=checked_webhook(services, wanted.webhook, origin.caller.owner),
    )


def checked_rows(services: Services, request: JobRequest, resolved: Resolved) -> list[list[Any]]:
    """The rows in feature order, fit for the method.

    Raises:
        InvalidRequest
    """
    resolved.manifest.signature.check_method(request.method, request.top_k)
    instances, pointer, locate = instances_of(request)
    return services.checkers.of(resolved.manifest).check(instances, pointer, locate)


def checked_ttl(wanted: int | None, settings: Settings) -> int:
    """How long the finished job is kept, seconds.

    Raises:
        InvalidRequest: longer than allowed.
    """
    if wanted is not None and wanted > settings.max_result_ttl_seconds:
        raise fault(
            "/result_ttl_seconds", "too_large", f"result_ttl_seconds may be at most {settings.max_result_ttl_seconds}."
        )
    return wanted or settings.result_ttl_seconds


def checked_metadata(metadata: dict[str, Any] | None, most_bytes: int) -> dict[str, Any]:
    """The metadata.

    Raises:
        InvalidRequest: too large, or nested too deeply to be written again.
    """
    if not metadata:
        return {}
    try:
        size_bytes = len(orjson.dumps(metadata))
    except TypeError as error:
        raise fault("/metadata", "too_deep", "metadata is nested too deeply.") from error
    if size_bytes > most_bytes:
        raise fault("/metadata", "too_large", f"metadata may have at most {most_bytes} bytes as JSON.")
    return metadata


def checked_webhook(services: Services, wanted: WebhookRequest | None, owner: str) -> dict[str, Any] | None:
    """Where the end of a job is told, if that can be.

    Raises:
        InvalidRequest, WebhookSecretMissing, LimitReached, StoreUnavailable
    """
    if wanted is None:
        return None
    services.webhooks.check(owner, wanted.url)
    return wanted.model_dump()


def idempotency_of(key: str, *parts: bytes, owner: str = DEFAULT_OWNER) -> tuple[str, str]:
    """Digests of an owner's Idempotency-Key and of the request that it stands for.

    Raises:
        RequestFault: the key is empty or too long.
    """
    if not 1 <= len(key) <= LONGEST_KEY:
        raise RequestFault(400, "bad_idempotency_key", f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    whose = b"" if owner == DEFAULT_OWNER else b"%s\0" % owner.encode()
    return hashlib.sha256(whose + key.encode()).hexdigest(), digest.hexdigest()


def submit(services: Services, job: Submission, again: Callable[[], Submission]) -> tuple[Submission, Accepted]:
    """Store the job and ring; once this returns, the job is kept. A file that came with a job that is not is removed.

    Args:
        services: the process's.
        job: the checked request.
        again: makes it anew, with the alias as it is now.

    Returns:
        What was stored, and the answer.

    Raises:
        QueueFull, StoreFull, StoreUnavailable, IdempotencyKeyReused, UploadLost, UnknownFile, ModelNotFound, and
        whatever `again` raises
    """
    upload, job_id = job.upload, job.id
    try:
        if TRACING.on:
            job, accepted = submitted(job, partial(_stored, services), again)
        else:
            job, accepted = _stored(services, job, again)
    except StoreUnavailable:
        raise  # it may have been stored all the same: what was not is removed by the janitor
    except ServiceError:
        if upload is not None:
            discard(services, upload)
        raise
    if upload is not None and accepted.id != job_id:
        discard(services, upload)
    if accepted.created:
        tell(job)
    if accepted.ring:
        ring(services, job.queue)
    return job, accepted


def tell(job: Submission) -> None:
    """Log that a job was accepted."""
    log.info(
        "job.accepted",
        job_id=job.id,
        model=f"{job.spec.model}@{job.spec.version}",
        rows=job.total,
        request_id=job.spec.request_id,
        **({} if job.spec.owner == DEFAULT_OWNER else {"owner": job.spec.owner}),
        **trace_id(job.spec.traceparent),
    )


def _stored(services: Services, job: Submission, again: Callable[[], Submission]) -> tuple[Submission, Accepted]:
    try:
        return job, services.store.submit(job)
    except AliasMoved:
        # Aliases move seldom: one look at the newest is enough, and a second move in between pins what was seen then.
        job = replace(again(), id=job.id, alias=None)
    try:
        return job, services.store.submit(job)
    except AliasMoved as error:
        spec = job.spec
        raise ModelNotFound(f"Version {spec.version} of {spec.model} was deleted; name another version.") from error


def ring(services: Services, queue: str) -> None:
    """Ring; a bell that cannot be rung is rung by the janitor, since the job is already kept."""
    try:
        if TRACING.on:
            TRACING.run("foretell.doorbell", {"messaging.destination.name": queue}, services.doorbell.ring, queue)
        else:
            services.doorbell.ring(queue)
    except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
        log.warning("doorbell.not_rung", error=type(error).__name__)


def queued(submission: Submission, accepted: Accepted) -> Job:
    """The snapshot of a job that was accepted just now, without reading it back."""
    assert accepted.created_at is not None  # noqa: S101  # set whenever `created`
    return Job(
        id=accepted.id,
        status=Status.QUEUED,
        revision=1,
        spec=submission.spec,
        counts=Counts(total=submission.total),
        created_at=accepted.created_at,
        queue_position=accepted.queue_position,
    )
