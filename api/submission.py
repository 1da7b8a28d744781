"""From a request to an accepted job: pin the model, check the rows, store, ring."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson
import structlog

from api.errors import RequestFault
from api.services import Services
from api.wire import JobRequest
from shared.errors import InvalidRequest
from shared.job import Counts, Job, Spec, Status, new_job_id
from shared.queue import ONLINE
from shared.records import Accepted, AliasMoved, Submission
from shared.registry import Resolved
from shared.settings import Settings
from shared.signature import Locate, escaped

log = structlog.get_logger()

LONGEST_KEY: Final = 255


def draft(
    services: Services,
    request: JobRequest,
    *,
    request_id: str,
    traceparent: str | None,
    idempotency: tuple[str, str] | None = None,
    fresh: bool = False,
) -> Submission:
    """Check a request against the signature of the model that it names; nothing is stored yet.

    Args:
        services: the process's.
        request: the body.
        request_id: of the HTTP request.
        traceparent: the trace that the client takes part in.
        idempotency: digests of key and request.
        fresh: look up where an alias points instead of remembering it.

    Raises:
        InvalidRequest, ModelNotFound, StoreUnavailable
    """
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
        metadata=checked_metadata(request.metadata, services.settings.max_metadata_bytes),
    )
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
        raise _fault(
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
        raise _fault("/metadata", "too_deep", "metadata is nested too deeply.") from error
    if size_bytes > most_bytes:
        raise _fault("/metadata", "too_large", f"metadata may have at most {most_bytes} bytes as JSON.")
    return metadata


FORMS: Final = ("instances", "dataframe_split", "dataframe_records", "inputs")


def instances_of(request: JobRequest) -> tuple[list[Any], str, Locate | None]:
    """The rows in whichever form they came, where they are in the body, and where a value is if that is special.

    Raises:
        InvalidRequest: none of the forms is there, or several, or one that is not made as it should be.
    """
    forms = {name: value for name in FORMS if (value := getattr(request, name)) is not None}
    if len(forms) != 1:
        found = f"found {' and '.join(forms)}" if forms else "found none of them"
        raise _fault("/instances", "rows_missing", f"Send the rows as exactly one of {', '.join(FORMS)}; {found}.")
    ((name, value),) = forms.items()
    pointer = f"/{name}"
    if name == "dataframe_split":
        return _split(value)
    if name == "inputs" and isinstance(value, dict):
        return _columns(value)
    if not isinstance(value, list):
        raise _fault(pointer, "not_rows", f"{name} must be an array of rows.")
    if name == "dataframe_records":
        for index, row in enumerate(value):
            if not isinstance(row, dict):
                raise _fault(f"{pointer}/{index}", "not_a_row", f"Row {index + 1} of dataframe_records is no object.")
    return value, pointer, None


def _split(frame: Any) -> tuple[list[Any], str, Locate]:
    """{"columns": [...], "data": [[...], ...]}, as pandas' `to_dict("split")` writes it, as rows."""
    place = "/dataframe_split"
    columns, data = (frame.get("columns"), frame.get("data")) if isinstance(frame, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list):
        raise _fault(place, "not_rows", "dataframe_split must be an object with the arrays columns and data.")
    positions = {column: index for index, column in enumerate(columns) if isinstance(column, str)}
    if len(positions) != len(columns):
        message = "The columns of dataframe_split must be strings, each of them once."
        raise _fault(f"{place}/columns", "bad_columns", message)
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            found = f"has {len(row)} values" if isinstance(row, list) else "is no array"
            message = f"Row {index + 1} {found}; there are {len(columns)} columns."
            raise _fault(f"{place}/data/{index}", "wrong_number_of_values", message)

    def locate(index: int, key: str | int | None) -> str:
        if isinstance(key, str) and key not in positions:
            return f"{place}/columns"
        return f"{place}/data/{index}" + ("" if key is None else f"/{positions[str(key)]}")

    return [dict(zip(columns, row, strict=True)) for row in data], f"{place}/data", locate


def _columns(columns: dict[str, Any]) -> tuple[list[Any], str, Locate]:
    """{column: [values]} as rows."""
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        message = "inputs as an object must hold an array of the same length for each column."
        raise _fault("/inputs", "ragged_columns", message)

    def locate(index: int, key: str | int | None) -> str:
        return "/inputs" if key is None or key not in columns else f"/inputs/{escaped(key)}/{index}"

    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows, "/inputs", locate


def _fault(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])


def idempotency_of(key: str, *parts: bytes) -> tuple[str, str]:
    """Digests of an Idempotency-Key and of the request that it stands for.

    Raises:
        RequestFault: the key is empty or too long.
    """
    if not 1 <= len(key) <= LONGEST_KEY:
        raise RequestFault(400, "bad_idempotency_key", f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return hashlib.sha256(key.encode()).hexdigest(), digest.hexdigest()


def submit(services: Services, job: Submission, again: Callable[[], Submission]) -> tuple[Submission, Accepted]:
    """Store the job and ring; once this returns, the job is kept.

    Args:
        services: the process's.
        job: the checked request.
        again: makes it anew, with the alias as it is now.

    Returns:
        What was stored, and the answer.

    Raises:
        QueueFull, StoreFull, StoreUnavailable, IdempotencyKeyReused, and whatever `again` raises
    """
    try:
        accepted = services.store.submit(job)
    except AliasMoved:
        # Aliases move seldom: one look at the newest is enough, and a second move in between pins what was seen then.
        job = replace(again(), id=job.id, alias=None)
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
    return job, accepted


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
