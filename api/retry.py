"""A new job from a finished one: the same version, with its failed rows or all of them."""

from dataclasses import replace

import orjson

from api.changes import check_change, signed
from api.services import Services
from api.submission import Origin
from shared.api_keys import Scope
from shared.batch import BatchOptions, Input
from shared.errors import InputGone, InvalidRequest, JobNotFinished, NothingToRetry, UnknownFile
from shared.job import Job, Spec, new_job_id
from shared.queue import BATCH, ONLINE, TRAIN
from shared.records import Submission
from shared.storage import input_key
from shared.tracing import TRACING


def retried(services: Services, job: Job, only: str, origin: Origin, body: bytes) -> Submission:
    """The job that repeats a finished one.

    Args:
        services: the process's.
        job: the finished one.
        only: failed (rows without a prediction), skipped (rows that were never tried), or all; a training has but all.
        origin: the HTTP request.
        body: of it.

    Raises:
        JobNotFinished, NothingToRetry, InputGone, JobGone, LimitReached, StoreUnavailable, StorageFailed, RequestFault
    """
    if not job.done:
        raise JobNotFinished
    origin.caller.need(Scope.JOBS_WRITE if job.spec.train is None else Scope.TRAIN)
    if job.spec.webhook is not None:
        services.webhooks.check_room(job.spec.owner)
    if TRACING.on:
        TRACING.link(job.spec.traceparent)
    spec = replace(
        job.spec, retry_of=job.id, request_id=origin.request_id, traceparent=origin.traceparent, tracestate=None
    )
    limits = origin.caller.limits
    kept_seconds, key = services.settings.result_ttl_seconds, origin.idempotency(body)
    if job.spec.train is not None:
        check_change(services.registry, origin.caller, job.spec.model, makes=True)
        _see_input(services, job.id, job.spec.owner, job.spec.train.input)
        return Submission(
            id=new_job_id(), spec=signed(spec, origin.caller), alias=None, queue=TRAIN, ttl_seconds=kept_seconds,
            file_id=job.spec.train.input.file_id, idempotency=key, limits=limits,
            upload_bytes=_copied_bytes(job.spec.train.input),
        )  # fmt: skip
    if job.spec.register is not None:
        raise NothingToRetry("The artifact was checked to its end; send it again to have it checked again.")
    if job.spec.batch is not None:
        batch = _over_file(services, job, job.spec.batch, only)
        again = batch.retry_only is not None and not job.outputs
        return Submission(
            id=new_job_id(), spec=replace(spec, batch=batch, retry_of=job.spec.retry_of if again else job.id),
            alias=None, queue=BATCH, ttl_seconds=kept_seconds, file_id=batch.input.file_id, idempotency=key,
            limits=limits, upload_bytes=_copied_bytes(batch.input),
        )  # fmt: skip
    spec, rows = _over_rows(services, job, spec, only)
    return Submission(
        id=new_job_id(), spec=spec, rows=orjson.dumps(rows), total=len(rows), alias=None, queue=ONLINE,
        ttl_seconds=kept_seconds, idempotency=key, limits=limits,
    )  # fmt: skip


def _over_file(services: Services, job: Job, batch: BatchOptions, only: str) -> BatchOptions:
    """The options for the rows of a file that are to be repeated."""
    counts = job.counts
    unreached = counts.total is None or counts.skipped > 0
    if (only == "skipped" and not unreached) or (only == "failed" and not unreached and not counts.failed):
        raise NothingToRetry
    _see_input(services, job.id, job.spec.owner, batch.input)
    if only == "all":
        return replace(batch, retry_only=None)
    # Without outputs nobody knows one row from another: the same is done again as a whole.
    return replace(batch, retry_only="skipped" if only == "skipped" else "failed") if job.outputs else batch


def _see_input(services: Services, job_id: str, owner: str, input: Input) -> None:
    """See that the file is still there; a job that is a retry itself has a copy of what came with the first one."""
    try:
        if input.uri is not None:
            services.inputs.check(input.uri)
            return
        if input.file_id is not None:
            services.files.get(input.file_id, owner=owner)
    except (InvalidRequest, UnknownFile) as error:
        raise InputGone from error
    if input.key is None or not any(map(services.storage.exists, (input.key, input_key(job_id)))):
        raise InputGone


def _copied_bytes(input: Input) -> int:
    """What the new job takes of storage: a file that came with the first one is copied (worker/retry.py)."""
    return (input.size_bytes or 0) if input.key is not None and input.file_id is None else 0


def _over_rows(services: Services, job: Job, spec: Spec, only: str) -> tuple[Spec, list[object]]:
    """The rows to be repeated, and the job's spec with their numbers."""
    rows = services.store.rows(job.id)
    numbers = list(job.spec.retry_rows or range(1, len(rows) + 1))
    failed = {error["row"] for error in job.errors}
    if (only == "skipped" and not job.counts.skipped) or (only == "failed" and not job.counts.skipped and not failed):
        raise NothingToRetry
    if only == "failed" and not job.counts.skipped:
        kept = [index for index, number in enumerate(numbers) if number in failed]
    elif only == "skipped":
        kept = [index for index, number in enumerate(numbers) if number not in failed]
    else:
        kept = list(range(len(rows)))
    return replace(spec, retry_rows=tuple(numbers[index] for index in kept)), [rows[index] for index in kept]
