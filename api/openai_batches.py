"""The facade of OpenAI's batch API: a batch is a job over a file whose lines are requests, each with a row."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response, request
from pydantic import BaseModel

from api.access import caller
from api.batches import from_reference
from api.errors import RequestFault
from api.headers import json_response
from api.intake import origin_of
from api.media import COMPRESSED, UTF8_MARK
from api.openai_documents import (
    OpenAIBatch,
    OpenAIBatchError,
    OpenAIBatchErrors,
    OpenAIBatchList,
    OpenAIBatchRequest,
    OpenAICounts,
    OpenAIModel,
    OpenAIModelList,
)
from api.openai_outputs import outputs_of, unreached
from api.openapi import operation
from api.parameters import Parameter, whole
from api.query import limit_of, only_known_parameters
from api.repeats import unless_repeated
from api.services import Services
from api.submission import Draft
from api.uploads import HEAD_BYTES
from api.waiting import must_read, submit_and_wait
from api.wire import BatchRequest, PredictionOptions, loads, parse, read_json, whole_body
from shared.api_keys import Scope
from shared.batch import ROWS_OF_REQUESTS, Requests
from shared.errors import InvalidRequest, JobFinished, JobNotFound, ModelNotFound, UnknownFile
from shared.files import StoredFile
from shared.job import Job, Status
from shared.records import Submission
from shared.requests import fault
from shared.storage import file_key

LIST_QUERY: Final = {
    "after": Parameter(text="the `last_id` of the page before"),
    "limit": Parameter(text="entries a page; 20 by default", schema=whole(1, 100)),
}
# What the body of a line may say beside its row.
ASKED: Final = tuple(PredictionOptions.model_fields)
MOST_HOURS: Final = 168
# Pages of jobs that one list is made of, most of whose jobs may be of another kind.
MOST_PAGES: Final = 10
# Where a list stopped that found no more batches in so many pages, in place of the id of one.
CURSOR: Final = re.compile("[1-9][0-9]{0,17}-[0-9]{1,18}")
STATUSES: Final[Mapping[str, str]] = {"validating": "validating", "scoring": "in_progress", "finalising": "finalizing"}


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("openai_batches", __name__, url_prefix="/v1")
    _add_batches(blueprint, services)
    _add_reading(blueprint, services)
    _add_models(blueprint, services)
    return blueprint


def _add_batches(blueprint: Blueprint, services: Services) -> None:
    @blueprint.post("/batches")
    @operation(
        "Start a batch over a file of lines",
        tag="openai",
        scope=Scope.JOBS_WRITE,
        body=OpenAIBatchRequest,
        answers={200: OpenAIBatch},
        headers=("Idempotency-Key",),
        raises=(UnknownFile,),
    )
    def create() -> Response:
        wanted, origin, body = parse(OpenAIBatchRequest, read_json(request)), origin_of(request), whole_body(request)

        def drafted() -> Draft:
            return unless_repeated(services, origin, body, lambda: draft_of(services, wanted, body))

        return shown(batch_document(submit_and_wait(services, drafted, None)))

    @blueprint.post("/batches/<batch_id>/cancel")
    @operation(
        "Cancel a batch", tag="openai", scope=Scope.JOBS_WRITE, answers={200: OpenAIBatch}, raises=(JobFinished,)
    )
    def cancel(batch_id: str) -> Response:
        batch_of(services, batch_id)
        services.store.cancel(batch_id, owner=caller().owner)
        return shown(batch_document(batch_of(services, batch_id)))


def _add_reading(blueprint: Blueprint, services: Services) -> None:
    @blueprint.get("/batches/<batch_id>")
    @operation("Read a batch", tag="openai", scope=Scope.JOBS_READ, answers={200: OpenAIBatch})
    def show(batch_id: str) -> Response:
        return shown(batch_document(batch_of(services, batch_id)))

    @blueprint.get("/batches")
    @operation(
        "List batches, newest first", tag="openai", scope=Scope.JOBS_READ, answers={200: OpenAIBatchList},
        query=LIST_QUERY, raises=(JobNotFound,),
    )  # fmt: skip
    def list_batches() -> Response:
        only_known_parameters(*LIST_QUERY)
        limit, owner = limit_of(20, 100), caller().owner
        after = request.args.get("after", "")
        cursor = after if CURSOR.fullmatch(after) else services.store.cursor_of(after, owner=owner) if after else ""
        found: list[Job] = []
        following: str | None = cursor
        for _ in range(MOST_PAGES):
            jobs, following = services.store.page(owner=owner, limit=100, cursor=following or "", kind="batch")
            found += [job for job in jobs if is_batch(job)]
            if following is None or len(found) > limit:
                break
        data = [batch_document(job) for job in found[:limit]]
        last = data[-1].id if data else None
        if following is not None and len(found) <= limit:
            last = following  # there may be more, past what was looked at
        more = len(found) > limit or following is not None
        return shown(OpenAIBatchList(data=data, first_id=data[0].id if data else None, last_id=last, has_more=more))


def _add_models(blueprint: Blueprint, services: Services) -> None:
    registry = services.registry

    @blueprint.get("/models")
    @operation("List models by name", tag="openai", scope=Scope.MODELS_READ, answers={200: OpenAIModelList})
    def list_models() -> Response:
        found = []
        for name in registry.names():
            try:
                found.append(_model(services, name))
            except ModelNotFound:  # it has no version in production, or is deleted by now
                continue
        return shown(OpenAIModelList(data=found))

    @blueprint.get("/models/<name>")
    @operation("Read a model", tag="openai", scope=Scope.MODELS_READ, answers={200: OpenAIModel})
    def show_model(name: str) -> Response:
        return shown(_model(services, name))


def _model(services: Services, name: str) -> OpenAIModel:
    manifest = services.registry.resolve(name, fresh=True).manifest
    _, owner = services.registry.owner(manifest.model)
    created = int(datetime.fromisoformat(manifest.created_at).timestamp())
    return OpenAIModel(id=name, created=created, owned_by=owner or "foretell")


def shown(document: BaseModel) -> Response:
    """A document as an answer."""
    return json_response(document.model_dump_json().encode())


def is_batch(job: Job) -> bool:
    """Whether a job is over a file of requests."""
    return job.spec.batch is not None and job.spec.batch.requests is not None


def batch_of(services: Services, batch_id: str) -> Job:
    """The job of a batch.

    Raises:
        JobNotFound, JobGone, StoreUnavailable
    """
    job = must_read(services, batch_id, caller().owner)
    if not is_batch(job):
        raise JobNotFound(f"There is no job {batch_id}.")
    return job


def draft_of(services: Services, wanted: OpenAIBatchRequest, body: bytes) -> Draft:
    """The job for a batch, on the model that the first line names.

    Raises:
        RequestFault, InvalidRequest, UnknownFile, ModelNotFound, StoreUnavailable, StorageFailed
    """
    hours = int(wanted.completion_window.removesuffix("h"))
    if hours > MOST_HOURS:
        raise fault("/completion_window", "too_large", f"completion_window may be at most {MOST_HOURS}h.")
    file = services.files.get(wanted.input_file_id, owner=caller().owner)
    asked = asked_of(first_line(services, file), wanted.endpoint)
    options = wanted.model_dump(include={"priority", "result_ttl_seconds", "metadata", "webhook"})
    job = {
        **asked, **options, "input": {"file_id": file.id, "format": "ndjson"}, "key": "custom_id",
        "output_format": "ndjson", "deadline_seconds": hours * 3600,
    }  # fmt: skip
    requests = Requests(url=wanted.endpoint, body=asked, window=wanted.completion_window)
    try:
        draft = from_reference(services, origin_of(request), parse(BatchRequest, job), body)
    except InvalidRequest as error:
        raise _of_lines(error) from error

    def of_requests(submission: Submission) -> Submission:
        spec = submission.spec
        assert spec.batch is not None  # noqa: S101  # it is a job over a file
        return replace(submission, spec=replace(spec, batch=replace(spec.batch, requests=requests)))

    return Draft(first=of_requests(draft.first), again=lambda: of_requests(draft.again()))


def _of_lines(error: InvalidRequest) -> InvalidRequest:
    """The same error, where what the lines ask is in the file."""
    error.errors = tuple(
        one | {"pointer": "/input_file_id"} if str(one.get("pointer", ""))[1:] in ASKED else one for one in error.errors
    )
    return error


def first_line(services: Services, file: StoredFile) -> Any:
    """What the first line of a file holds, which says what all of them ask.

    Raises:
        InvalidRequest, StorageFailed
    """
    head = bytes(services.storage.get_range(file_key(file.id), 0, min(HEAD_BYTES, file.size_bytes)))
    if head.startswith(tuple(COMPRESSED.values())):
        raise fault("/input_file_id", "compressed", "The file is compressed; send its lines as they are.")
    text = head.removeprefix(UTF8_MARK).lstrip()
    line, end, _ = text.partition(b"\n")
    if not line or (not end and len(head) < file.size_bytes):
        message = "The file has no line." if not line else f"The first line is longer than {HEAD_BYTES} bytes."
        raise fault("/input_file_id", "bad_input", message)
    try:
        return loads(line, "The first line of the file")
    except RequestFault as error:
        raise fault("/input_file_id", error.code, error.detail) from error


def asked_of(line: Any, endpoint: str) -> dict[str, Any]:
    """What the body of a line says beside its row.

    Raises:
        InvalidRequest
    """
    body = line.get("body") if isinstance(line, dict) else None
    if not isinstance(body, dict):
        message = (
            'The first line of the file must be a request: {"custom_id": "...", "method": "POST", "url": '
            f'"{endpoint}", "body": {{"model": "...", "input": ...}}}}.'
        )
        raise fault("/input_file_id", "not_a_request", message)
    for name, wanted in (("method", "POST"), ("url", endpoint)):
        if line.get(name) != wanted:
            raise fault("/input_file_id", "other_request", f"The {name} of the first line must be {wanted}.")
    asked = {name: value for name, value in body.items() if name not in ROWS_OF_REQUESTS}
    unknown = next((name for name in asked if name not in ASKED), None)
    if unknown is not None:
        message = f"The body of the first line has {unknown[:100]}; beside its row it may have {', '.join(ASKED)}."
        raise fault("/input_file_id", "unknown_field", message)
    return asked


def batch_document(job: Job) -> OpenAIBatch:
    """A batch as OpenAI's clients read it."""
    batch, status = job.spec.batch, status_of(job)
    assert batch is not None  # noqa: S101  # see is_batch
    assert batch.requests is not None  # noqa: S101
    outputs, window, left = outputs_of(job), batch.requests.window, unreached(job)
    ended = None if job.finished_at is None else int(job.finished_at.timestamp())
    return OpenAIBatch(
        id=job.id,
        endpoint=batch.requests.url,
        model=f"{job.spec.model}@{job.spec.version}",
        input_file_id=batch.input.file_id or "",
        completion_window=window,
        status=status,
        output_file_id=outputs["output"].id if "output" in outputs else None,
        error_file_id=outputs["errors"].id if "errors" in outputs else None,
        errors=_errors(job) if status in ("failed", "expired") else None,
        created_at=int(job.created_at.timestamp()),
        in_progress_at=None if job.started_at is None else int(job.started_at.timestamp()),
        finalizing_at=None,
        completed_at=ended if status == "completed" else None,
        failed_at=ended if status == "failed" else None,
        expired_at=ended if status == "expired" else None,
        cancelling_at=None,
        cancelled_at=ended if status == "cancelled" else None,
        expires_at=int((job.created_at + timedelta(hours=int(window.removesuffix("h")))).timestamp()),
        request_counts=OpenAICounts(
            # The job counts rows that its plan has seen; those that it has not are among `left`.
            total=job.counts.succeeded + job.counts.failed + left if left else job.counts.total or 0,
            completed=job.counts.succeeded,
            failed=job.counts.failed + left,
        ),
        metadata=job.spec.metadata or None,
    )


def status_of(job: Job) -> Any:
    """The status in OpenAI's words; a batch of which no line could be predicted is completed, with errors alone."""
    code = (job.failure or {}).get("code")
    match job.status:
        case Status.SUCCEEDED | Status.PARTIALLY_SUCCEEDED:
            return "completed"
        case Status.FAILED:
            return {"all_rows_failed": "completed", "deadline_exceeded": "expired"}.get(str(code), "failed")
        case Status.CANCELLED:
            return "cancelled"
        case _ if job.cancel_requested:
            return "cancelling"
        case Status.QUEUED:
            return "validating"
        case Status.RUNNING:
            return STATUSES.get(job.phase or "", "in_progress")


def _errors(job: Job) -> OpenAIBatchErrors:
    failure = job.failure or {}
    if failure.get("code") == "invalid_input" and job.errors:
        about = [
            OpenAIBatchError(code=one["code"], message=one["message"], line=one.get("row"), param=one.get("column"))
            for one in job.errors
        ]
    else:
        code, message = str(failure.get("code")), str(failure.get("message"))
        about = [OpenAIBatchError(code=code, message=message, line=None, param=None)]
    return OpenAIBatchErrors(data=about)
