"""From a request to an accepted job: pin the model, check the rows, store, ring."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
import structlog

from api.errors import RequestFault
from api.services import Services
from api.wire import JobRequest
from shared.errors import InvalidRequest
from shared.job import Counts, Job, Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.registry import Resolved
from shared.store import Accepted, AliasMoved, Submission

log = structlog.get_logger()

LONGEST_KEY: Final = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A checked request: nothing is stored yet."""

    submission: Submission
    resolved: Resolved


def draft(
    services: Services,
    request: JobRequest,
    *,
    request_id: str,
    traceparent: str | None,
    idempotency: tuple[str, str] | None = None,
    fresh: bool = False,
) -> Draft:
    """Check a request against the signature of the model that it names.

    Raises:
        InvalidRequest, ModelNotFound, StoreUnavailable
    """
    settings = services.settings
    resolved = services.registry.resolve(request.model, fresh=fresh)
    manifest = resolved.manifest
    manifest.signature.check_method(request.method, request.top_k)
    ttl_seconds = request.result_ttl_seconds or settings.result_ttl_seconds
    if ttl_seconds > settings.max_result_ttl_seconds:
        raise _fault(
            "/result_ttl_seconds", "too_large", f"result_ttl_seconds may be at most {settings.max_result_ttl_seconds}."
        )
    metadata = request.metadata or {}
    if metadata and len(orjson.dumps(metadata)) > settings.max_metadata_bytes:
        raise _fault(
            "/metadata", "too_large", f"metadata may have at most {settings.max_metadata_bytes} bytes as JSON."
        )
    instances, pointer = instances_of(request)
    rows = services.checkers.of(manifest).check(instances, pointer)
    spec = Spec(
        requested=request.model,
        model=manifest.model,
        version=manifest.version,
        sha256=manifest.sha256,
        method=request.method,
        top_k=request.top_k,
        priority=request.priority,
        request_id=request_id,
        traceparent=traceparent,
        metadata=metadata,
    )
    submission = Submission(
        id=new_job_id(),
        spec=spec,
        rows=orjson.dumps(rows),
        total=len(rows),
        alias=resolved.alias,
        queue=ONLINE,
        ttl_seconds=ttl_seconds,
        deadline_seconds=request.deadline_seconds,
        idempotency=idempotency,
    )
    return Draft(submission=submission, resolved=resolved)


def instances_of(request: JobRequest) -> tuple[list[Any], str]:
    """The rows in whichever form they came, and where that is in the body.

    Raises:
        InvalidRequest: none of the forms is there, or several.
    """
    forms = {
        name: value
        for name in ("instances", "dataframe_split", "dataframe_records", "inputs")
        if (value := getattr(request, name)) is not None
    }
    if len(forms) != 1:
        found = f"found {' and '.join(forms)}" if forms else "found none of them"
        raise _fault(
            "/instances",
            "rows_missing",
            f"Send the rows as exactly one of instances, dataframe_split, dataframe_records, inputs; {found}.",
        )
    ((name, value),) = forms.items()
    if request.dataframe_split is not None:
        columns = request.dataframe_split.columns
        for index, row in enumerate(request.dataframe_split.data):
            if len(row) != len(columns):
                raise _fault(
                    f"/dataframe_split/data/{index}",
                    "wrong_number_of_values",
                    f"Row {index + 1} has {len(row)} values for {len(columns)} columns.",
                )
        return [dict(zip(columns, row, strict=True)) for row in request.dataframe_split.data], "/dataframe_split/data"
    return (_by_row(value) if isinstance(value, dict) else value), f"/{name}"


def _by_row(columns: dict[str, Any]) -> list[Any]:
    """{column: [values]} as rows."""
    lengths = {name: len(values) if isinstance(values, list) else -1 for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        raise _fault(
            "/inputs", "ragged_columns", "inputs as an object must hold an array of the same length for each column."
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _fault(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])


def idempotency_of(key: str | None, *parts: bytes) -> tuple[str, str] | None:
    """Digests of an Idempotency-Key and of the request that it stands for.

    Raises:
        RequestFault: the key is empty or too long.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= LONGEST_KEY:
        raise RequestFault(400, "bad_idempotency_key", f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return hashlib.sha256(key.encode()).hexdigest(), digest.hexdigest()


def submit(services: Services, drafted: Draft, again: Any = None) -> Accepted:
    """Store the job and ring; once this returns, the job is kept.

    Args:
        services: the process's.
        drafted: the checked request.
        again: makes the draft anew when the alias was moved since it was resolved.

    Raises:
        QueueFull, StoreFull, StoreUnavailable, IdempotencyKeyReused, and whatever `again` raises
    """
    job = drafted.submission
    try:
        accepted = services.store.submit(job)
    except AliasMoved:
        # Aliases move seldom: one look at the newest is enough, and a second move in between pins what was seen then.
        job = replace(again().submission, id=job.id, alias=None)
        accepted = services.store.submit(job)
    if accepted.created:
        log.info(
            "job.accepted",
            job_id=accepted.id,
            model=f"{job.spec.model}@{job.spec.version}",
            rows=job.total,
            request_id=job.spec.request_id,
            **({"traceparent": job.spec.traceparent} if job.spec.traceparent else {}),
        )
    if accepted.ring:
        ring(services)
    return accepted


def ring(services: Services) -> None:
    """Ring; a bell that cannot be rung is rung by the janitor, since the job is already kept."""
    try:
        services.doorbell.ring(ONLINE)
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
