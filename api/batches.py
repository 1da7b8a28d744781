"""From a request over a file to a checked job: where its rows come from, and whether it has the columns."""

import csv
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import orjson
from flask import Request

from api.changes import check_change, check_rows, signed
from api.forms import missing_part, parts, refused_part, small
from api.media import FORMATS, format_by_name, header_line, is_plain_csv
from api.options import batch_options, check_training, form_options, kind_of, query_options
from api.parameters import Parameter
from api.repeats import Again, first_of
from api.services import Services
from api.submission import Draft, Origin, checked_metadata, checked_ttl, checked_webhook, spec_of
from api.uploads import HEAD_BYTES, Head, Received, announced, body_of, peek, receive
from api.wire import BatchRequest, parse
from shared.api_keys import Scope
from shared.batch import Input
from shared.dialect import check_columns, header_names
from shared.job import Spec, new_job_id
from shared.manifest import Manifest
from shared.queue import BATCH
from shared.records import Submission
from shared.requests import (
    TrainingRequest,
    TrainRequest,
    base_name,
    dialect_of,
    fault,
    referenced,
    train_submission,
    training_columns,
)
from shared.signature import Signature
from shared.storage import input_key, job_prefix

# What may be wanted of a file.
Wanted = BatchRequest | TrainRequest


def from_reference(services: Services, origin: Origin, wanted: Wanted, body: bytes) -> Draft:
    """A job over a file that was uploaded before, or that lies elsewhere.

    Raises:
        RequestFault, InvalidRequest, UnknownFile, ModelNotFound, StoreUnavailable, StorageFailed
    """
    key, job_id = origin.idempotency(body), new_job_id()
    input = referenced(services.files, services.inputs, wanted, origin.caller.owner)
    head = _head_of(services, input)

    def drafted() -> Submission:
        job = _draft(services, wanted, input, origin, job_id)
        _check_head(services, job, input, head, whole=len(head) < HEAD_BYTES)
        return replace(job, file_id=input.file_id, idempotency=key)

    return Draft(first=drafted(), again=drafted)


def _head_of(services: Services, input: Input) -> bytes:
    storage, key = services.inputs.open(input)
    return bytes(storage.get_range(key, 0, min(HEAD_BYTES, storage.size(key))))


def from_raw(
    services: Services, origin: Origin, request: Request, *, validate_only: bool, query: Mapping[str, Parameter],
    trained: str | None = None, fixed: Mapping[str, Any] | None = None,
) -> Draft:  # fmt: skip
    """A job over the file that is the body; its options are in the query, and are those of `query`.

    `trained`: the model that the job trains, if the path names it. `fixed`: options that the route itself says.

    Raises:
        Repeated, IdempotencyKeyReused, JobGone: something came with this key before.
        RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable, StorageFailed, UploadLost
    """
    # RFC 4180, section 3: what a CSV file cannot say of itself.
    said = {"encoding": request.mimetype_params["charset"]} if "charset" in request.mimetype_params else {}
    absent = {"header": False} if request.mimetype_params.get("header") == "absent" else {}
    options = said | absent | query_options(request.args, query) | dict(fixed or {})
    told = request.mimetype.encode(), orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
    if not validate_only and (first := first_of(services, origin)):
        raise first.repeated(*told, Again(services, first, services.settings.max_upload_bytes).file(request))
    arriving = Arriving(services, origin, media_type=request.mimetype)
    arriving.expect(wanted_of(options, trained))
    if arriving.input.format is None:
        message = f"{request.mimetype} does not say what the file is; add format=csv, ndjson or parquet to the query."
        raise fault("/format", "missing", message)
    body = body_of(services, request, services.settings.max_upload_bytes)
    head = Head(arriving.examine, bounded=body.bounded, encoding=body.encoding)
    if validate_only:
        peek(body.blocks, head)
        return arriving.checked()
    with announced(services, arriving.prefix):
        arriving.received = receive(services, body.blocks, head, prefix=arriving.prefix, key=arriving.key)
        return arriving.draft(*told)


def from_form(
    services: Services, origin: Origin, request: Request, *, validate_only: bool, trained: str | None = None
) -> Draft:
    """A job over the part `file` of a form, whose part `job` says what to do with it; they come in either order.

    `trained`: the model that the job trains.

    Raises:
        Repeated, IdempotencyKeyReused, JobGone: something came with this key before.
        RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable, StorageFailed, UploadLost
    """
    settings, arriving = services.settings, Arriving(services, origin)
    if not validate_only and (first := first_of(services, origin)):
        came = Again(services, first, settings.max_upload_bytes).form(request, "job", settings.max_body_bytes)
        raise first.repeated(came.get("job", b""), came.get("file", b""))
    body = body_of(services, request, settings.max_upload_bytes, beside=settings.max_body_bytes)
    form = parts(request, body.blocks)
    job: bytes | None = None
    head: Head | None = None
    with nullcontext() if validate_only else announced(services, arriving.prefix):
        for part in form:
            if part.name == "job" and job is None:
                job = small(part, settings.max_body_bytes)
                arriving.expect(wanted_of(form_options(job), trained))
            elif part.name == "file" and head is None:
                arriving.name, arriving.media_type = base_name(part.file_name), part.media_type
                head = Head(arriving.examine)
                if validate_only:
                    peek(part.blocks, head)
                else:
                    arriving.received = receive(services, part.blocks, head, prefix=arriving.prefix, key=arriving.key)
            else:
                raise refused_part(part.name, ("job", "file"))
            if validate_only and job is not None and head is not None:
                break
        if job is None or head is None:
            raise missing_part("job" if job is None else "file")
        arriving.examine(head.bytes, len(head.bytes) < HEAD_BYTES)
        return arriving.checked() if validate_only else arriving.draft(job)


class Arriving:
    """The file of a job on its way, and what is to be done with it; either may be known first."""

    def __init__(self, services: Services, origin: Origin, *, media_type: str = "") -> None:
        self._services = services
        self._origin = origin
        self._job_id = new_job_id()
        self._wanted: Wanted | None = None
        self._pinned: Submission | None = None
        self.prefix = job_prefix(self._job_id)
        self.key = input_key(self._job_id)
        self.name = ""
        self.media_type = media_type
        self.received: Received | None = None

    def expect(self, wanted: Wanted) -> None:
        """This is to be done with it, by the version that the model's name means now.

        Raises:
            InvalidRequest, ModelNotFound, StoreUnavailable
        """
        self._wanted = wanted
        self._pinned = self._drafted()

    @property
    def input(self) -> Input:
        """The file, as far as it is known."""
        wanted, received = self._expected(), self.received
        stated = wanted.input.format if wanted.input else None
        return Input(
            key=self.key,
            name=self.name,
            size_bytes=received.size_bytes if received else None,
            sha256=received.sha256 if received else None,
            format=stated or FORMATS.get(self.media_type) or format_by_name(self.name),
            dialect=dialect_of(wanted),
        )

    def examine(self, head: bytes, whole: bool) -> bool:
        """See that a file that begins so has the columns; False: more of it is needed, or what is to be done.

        Raises:
            InvalidRequest
        """
        pinned = self._pinned
        return pinned is not None and _check_head(self._services, pinned, self.input, head, whole=whole)

    def checked(self) -> Draft:
        """The job of a file that does not come."""
        return Draft(first=self._drafted(), again=self._drafted)

    def draft(self, *parts: bytes) -> Draft:
        """The job, when its file lies in storage. `parts`: what else tells the request from others with the same key.

        Raises:
            InvalidRequest
        """
        assert self._pinned is not None  # noqa: S101  # callers have seen to both
        assert self.received is not None  # noqa: S101
        head, key = self.received.head, self._origin.idempotency(*parts, self.received.sha256.encode())
        wanted, input = self._expected(), self.input

        def complete(job: Submission) -> Submission:
            return replace(
                job,
                spec=_over(job.spec, wanted, input),
                upload=self.prefix,
                upload_bytes=input.size_bytes or 0,
                idempotency=key,
            )

        def again() -> Submission:
            job = complete(self._drafted())
            _check_head(self._services, job, input, head, whole=len(head) < HEAD_BYTES)
            return job

        return Draft(first=complete(self._pinned), again=again)

    def _expected(self) -> Wanted:
        assert self._wanted is not None  # noqa: S101  # asked for only when it is known
        return self._wanted

    def _drafted(self) -> Submission:
        return _draft(self._services, self._expected(), self.input, self._origin, self._job_id)


def wanted_of(raw: object, trained: str | None) -> Wanted:
    """What a body in JSON, or a query, wants of a file.

    Raises:
        InvalidRequest
    """
    if trained is not None:
        if not isinstance(raw, dict) or raw.get("model", trained) == trained:
            return parse(TrainRequest, {"kind": "train", **raw, "model": trained} if isinstance(raw, dict) else raw)
        raise fault("/model", "model_mismatch", f"The path names the model {trained}; leave model out of the body.")
    return parse(TrainRequest, raw) if kind_of(raw, with_file=True) == "train" else parse(BatchRequest, raw)


def _draft(services: Services, wanted: Wanted, input: Input, origin: Origin, job_id: str) -> Submission:
    """A job on the version that the model's name means now; its file has not been looked at.

    Raises:
        InvalidRequest, ModelNotFound, StoreUnavailable
    """
    ttl_seconds = checked_ttl(wanted.result_ttl_seconds, services.settings)
    origin.caller.need(Scope.TRAIN if isinstance(wanted, TrainingRequest) else Scope.JOBS_WRITE)
    if isinstance(wanted, TrainingRequest):
        check_change(services.registry, origin.caller, wanted.model, makes=True)
        checked_metadata(wanted.metadata, services.settings.max_metadata_bytes)
        checked_webhook(services, wanted.webhook, origin.caller.owner)
        job = train_submission(
            services.registry, wanted, wanted.model, input, job_id=job_id, ttl_seconds=ttl_seconds,
            request_id=origin.request_id, traceparent=origin.traceparent,
            owner=origin.caller.owner, limits=origin.caller.limits,
        )  # fmt: skip
        base = _base(services, job.spec)
        if wanted.combine == "append":
            check_rows(services.registry, origin.caller, base.model)
        check_training(wanted, base)
        return replace(job, spec=signed(job.spec, origin.caller))
    resolved = services.registry.resolve(wanted.model, fresh=True)
    manifest = resolved.manifest
    manifest.signature.check_method(wanted.method, wanted.top_k)
    spec = spec_of(services, wanted, manifest, origin)
    return Submission(
        id=job_id,
        spec=replace(spec, batch=batch_options(wanted, input)),
        alias=resolved.alias,
        queue=BATCH,
        ttl_seconds=ttl_seconds,
        deadline_seconds=wanted.deadline_seconds,
        limits=origin.caller.limits,
    )


def _over(spec: Spec, wanted: Wanted, input: Input) -> Spec:
    """The same job over this file, which has come.

    Raises:
        InvalidRequest
    """
    if isinstance(wanted, BatchRequest):
        return replace(spec, batch=batch_options(wanted, input))
    assert spec.train is not None  # noqa: S101  # what is wanted is a training
    return replace(spec, train=replace(spec.train, input=input))


def _base(services: Services, spec: Spec) -> Manifest:
    """The version that a training starts from."""
    assert spec.train is not None  # noqa: S101  # the job is a training
    return services.registry.resolve(spec.train.recipe.base or spec.requested).manifest


def _needed(services: Services, spec: Spec) -> tuple[Signature, str | None, tuple[str, ...]]:
    """The columns that a job's file must have: those of a signature, the key, and the included ones."""
    if spec.train is not None:
        return training_columns(spec.train, _base(services, spec).signature), None, ()
    assert spec.batch is not None  # noqa: S101  # it is a job over a file
    signature = services.registry.manifest(spec.model, spec.version).signature
    return signature, spec.batch.key_column, spec.batch.include


def _check_head(services: Services, job: Submission, input: Input, head: bytes, *, whole: bool) -> bool:
    """See that a file that begins so has the columns that the job needs, where that can be told without a worker.

    Returns:
        False: more of the file is needed.

    Raises:
        InvalidRequest
    """
    if not input.dialect.header or not is_plain_csv(head, input):
        return True
    line = header_line(head, input.dialect, whole=whole)
    if line is None:
        return False
    try:
        names = header_names(line.decode(), input.dialect)
    except UnicodeDecodeError as error:
        message = "The header is not UTF-8; say what it is, such as encoding=latin-1 or encoding=cp1252."
        raise fault("/encoding", "bad_encoding", message) from error
    except csv.Error as error:
        raise fault("/input", "bad_header", f"The header cannot be read: {error}.") from error
    if not names:
        raise fault("/input", "no_header", "The file has no header line; send header=false if it has none.")
    services.inputs.limits.check_columns(names)
    signature, key, include = _needed(services, job.spec)
    check_columns(names, signature, key=key, include=include)
    return True
