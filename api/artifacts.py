"""`POST /models/<name>/versions`: an artifact that is sent, checked in a worker, and a version once it has passed."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import orjson
from flask import Blueprint, Request, Response, request
from pydantic import BaseModel, ConfigDict, Field

from api.changes import check_change, signed
from api.documents import JobDocument, VersionDocument
from api.errors import RequestFault, problem
from api.forms import missing_part, parts, refused_part, small
from api.headers import json_response, preferred_wait
from api.intake import origin_of
from api.media import ARTIFACTS, FORM, FORMATS, format_by_name, unsupported
from api.openapi import operation
from api.parameters import JOB_HEADERS, Parameter, said_in_a_query
from api.query import only_known_parameters
from api.render import job_response, version_document
from api.repeats import Again, First, Repeated, first_of
from api.services import Services
from api.submission import Draft, Origin, checked_ttl
from api.uploads import Head, announced, answer_early, body_of, receive
from api.waiting import submit_and_wait
from api.wire import loads, parse
from shared.api_keys import Scope
from shared.batch import Format, Input
from shared.job import Job, Spec, new_job_id
from shared.queue import BATCH
from shared.records import Submission
from shared.registry import NAME
from shared.requests import base_name, fault
from shared.storage import job_prefix, parts_prefix
from shared.training import RegisterOptions

# How files begin: a zip archive; a pickle of protocols 2 to 5; the first field of an ONNX model, its ir_version.
ZIP: Final = b"PK\x03\x04"
PICKLE: Final = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
ONNX: Final = b"\x08"
EMPTY: Final = "The artifact is empty; send the file of a model."
CURL: Final = "curl -F artifact=@model.skops -F sample=@rows.csv"
LONGEST_WAIT_SECONDS: Final = 30.0
# A failure that is the service's, and not the artifact's.
OURS: Final = frozenset({"storage_failed", "storage_full", "internal", "store_unavailable"})


class ArtifactRequest(BaseModel):
    """What is to be done with an artifact."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Annotated[
        Literal["skops", "onnx", "joblib"] | None, Field(description="by default what the first bytes say")
    ] = None
    alias: Annotated[
        str | None,
        Field(description="to point at the version; by default production if the model has none, else nothing"),
    ] = None
    accelerate: Annotated[
        Literal["auto", "onnx", "off"],
        Field(
            description="what to predict by if it is equal and faster; auto: an exact form of tree ensembles, "
            "onnx: a converted copy"
        ),
    ] = "auto"
    description: Annotated[str, Field(max_length=1000, description="one line for people")] = ""


QUERY: Final[Mapping[str, Parameter]] = said_in_a_query(ArtifactRequest)


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("artifacts", __name__)
    blueprint.after_request(answer_early)

    @blueprint.post("/models/<name>/versions")
    @operation(
        "Send an artifact; it is a version once a worker has audited, loaded and tried it",
        tag="models",
        scope=Scope.MODELS_WRITE,
        body=ArtifactRequest,
        answers={201: VersionDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        query=QUERY,
        upload="artifact",
    )
    def create(name: str) -> Response:
        origin = origin_of(request)
        wait = preferred_wait(request, services.settings.max_wait_seconds)
        wait = min(LONGEST_WAIT_SECONDS, services.settings.max_wait_seconds) if wait is None else wait
        return answer(services, submit_and_wait(services, lambda: received(services, origin, request, name), wait))

    return blueprint


def answer(services: Services, job: Job) -> Response:
    """The version, why there is none, or the job that still checks."""
    if not job.done:
        response: Response = job_response(job, 202)
        response.headers["Location"] = f"/jobs/{job.id}"
        return response
    if job.registered is None:
        failure = job.failure or {"code": "cancelled", "message": "The check was cancelled."}
        status = 503 if failure["code"] in OURS else 422
        response = problem(status, failure["code"], failure["message"], errors=job.errors, extra={"job_id": job.id})
        if status == 503:
            response.headers["Retry-After"] = "5"
        return response
    name, version = job.spec.model, job.registered["version"]
    manifest = services.registry.manifest(name, version)
    response = json_response(orjson.dumps({"name": name} | version_document(manifest)), 201)
    response.headers["Location"] = f"/models/{name}/versions/{version}"
    return response


def received(services: Services, origin: Origin, request: Request, name: str) -> Draft:
    """The job that checks the artifact of a request, which lies in storage then.

    Raises:
        Repeated, IdempotencyKeyReused, JobGone: something came with this key before.
        RequestFault, InvalidRequest, Forbidden, LimitReached, StorageFailed, UploadLost, StoreUnavailable, StoreFull
    """
    if not NAME.fullmatch(name):
        message = (
            f"{name[:100]!r} is no model name; use up to 64 letters, digits, dots, dashes and underscores, beginning "
            "with a letter or digit."
        )
        raise fault("/name", "bad_model_name", message)
    if request.mimetype != FORM and request.mimetype not in ARTIFACTS:
        raise unsupported(request.mimetype, (*ARTIFACTS, FORM), f"send a form: {CURL}")
    if first := first_of(services, origin):
        raise _repeated(services, first, request)
    check_change(services.registry, origin.caller, name, makes=True)
    arriving = Arriving(services, origin, name)
    with announced(services, arriving.prefix):
        if request.mimetype == FORM:
            only_known_parameters()
            arriving.take_form(request)
        else:
            only_known_parameters(*QUERY)
            arriving.take_raw(request)
        return arriving.draft()


def _repeated(services: Services, first: First, request: Request) -> Repeated:
    settings = services.settings
    again = Again(services, first, settings.max_artifact_bytes)
    if request.mimetype == FORM:
        came = again.form(request, "options", 2 * settings.max_body_bytes)
        artifact, sample = came.get("artifact", b""), came.get("sample", b"")
        options = loads(came["options"], "The part options") if "options" in came else {}
    else:
        artifact, sample, options = again.file(request), b"", request.args.to_dict()
    return first.repeated(*told(artifact, sample, parse(ArtifactRequest, options)))


def told(artifact: bytes, sample: bytes, wanted: ArtifactRequest) -> tuple[bytes, bytes]:
    """What tells a request from others with the same key; of artifact and sample the sha256 in hexadecimal."""
    return b"%s %s" % (artifact, sample), orjson.dumps(wanted.model_dump())


class Arriving:
    """An artifact on its way, with its sample and what is to be done with it; they come in any order."""

    def __init__(self, services: Services, origin: Origin, name: str) -> None:
        self._services = services
        self._origin = origin
        self._name = name
        self._job_id = new_job_id()
        self._wanted: ArtifactRequest | None = None
        self._artifact: tuple[bytes, str] | None = None  # first bytes, sha256
        self._sample: Input | None = None
        self._bytes = 0
        self.prefix = job_prefix(self._job_id)

    def _key(self, part: str) -> str:
        # With the parts of a job's output, so that it is removed when the job has ended.
        return f"{parts_prefix(self._job_id)}/{part}"

    def take_raw(self, request: Request) -> None:
        """The artifact is the body, and the query says what to do."""
        self._wanted = checked(self._services, parse(ArtifactRequest, request.args.to_dict()))
        body = body_of(self._services, request, self._services.settings.max_artifact_bytes)
        if body.encoding != "identity":
            raise RequestFault(415, "unsupported_encoding", "Send an artifact as it is, without Content-Encoding.")
        self._receive(body.blocks, bounded=body.bounded)

    def take_form(self, request: Request) -> None:
        """The parts `artifact`, `sample` and `options`."""
        settings = self._services.settings
        body = body_of(self._services, request, settings.max_artifact_bytes, beside=2 * settings.max_body_bytes)
        for part in parts(request, body.blocks):
            if part.name == "options" and self._wanted is None:
                options = loads(small(part, settings.max_body_bytes), "The part options")
                self._wanted = checked(self._services, parse(ArtifactRequest, options))
            elif part.name == "artifact" and self._artifact is None:
                self._receive(limited(part.blocks, settings.max_artifact_bytes))
            elif part.name == "sample" and self._sample is None:
                data, key = small(part, settings.max_body_bytes), self._key("sample")
                self._services.storage.put(key, data)
                self._bytes += len(data)
                name = base_name(part.file_name)
                self._sample = Input(
                    key=key, name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
                    format=_sample_format(name, part.media_type),
                )  # fmt: skip
            else:
                raise refused_part(part.name, ("artifact", "sample", "options"))

    def _receive(self, blocks: Iterator[bytes], *, bounded: bool = True) -> None:
        head = Head(_anything, bounded=bounded, empty=EMPTY)
        came = receive(self._services, blocks, head, prefix=self.prefix, key=self._key("artifact"))
        self._artifact = (came.head, came.sha256)
        self._bytes += came.size_bytes

    def draft(self) -> Draft:
        """The job.

        Raises:
            InvalidRequest
        """
        if self._artifact is None:
            raise missing_part("artifact")
        wanted = self._wanted or ArtifactRequest()
        head, sha256 = self._artifact
        format = wanted.format or format_of(head)
        checked(self._services, wanted.model_copy(update={"format": format}))
        if format != "onnx" and self._sample is None:
            message = (
                f"A {format} artifact needs a few rows to be tried on; send a form with the parts artifact and sample: "
                f"{CURL}"
            )
            raise fault("/sample", "sample_missing", message)
        options = RegisterOptions(
            format=format,
            key=self._key("artifact"),
            sample=self._sample,
            alias=wanted.alias,
            accelerate=wanted.accelerate,
            description=wanted.description,
        )
        spec = Spec(
            requested=self._name, model=self._name, method="register", request_id=self._origin.request_id,
            traceparent=self._origin.traceparent, owner=self._origin.caller.owner, register=options,
        )  # fmt: skip
        sample = ("" if self._sample is None else self._sample.sha256) or ""
        key = self._origin.idempotency(*told(sha256.encode(), sample.encode(), wanted))
        job = Submission(
            id=self._job_id, spec=signed(spec, self._origin.caller), alias=None, queue=BATCH,
            ttl_seconds=checked_ttl(None, self._services.settings), total=0, upload=self.prefix,
            idempotency=key, limits=self._origin.caller.limits,
            upload_bytes=self._bytes,
        )  # fmt: skip
        return Draft(first=job, again=lambda: job)


def checked(services: Services, wanted: ArtifactRequest) -> ArtifactRequest:
    """What is wanted, if it is allowed.

    Raises:
        InvalidRequest
    """
    if wanted.format == "joblib" and not services.settings.allow_pickle_uploads:
        raise fault("/format", "pickle_refused", PICKLE_REFUSED)
    if wanted.alias is not None and (not NAME.fullmatch(wanted.alias) or wanted.alias.isdigit()):
        message = "An alias has up to 64 letters, digits, dots, dashes and underscores, and is no number."
        raise fault("/alias", "bad_alias", message)
    return wanted


PICKLE_REFUSED: Final = (
    "A pickle runs whatever code it holds, so it is not taken over HTTP. Send a skops or ONNX file, or have an "
    "operator register it on the server: python -m worker register."
)


def format_of(head: bytes) -> Literal["skops", "onnx", "joblib"]:
    """What an artifact that begins so is, unless the request says it.

    Raises:
        InvalidRequest: nobody can tell.
    """
    if head.startswith(ZIP):
        return "skops"
    if head.startswith(PICKLE):
        return "joblib"
    if head.startswith(ONNX):
        return "onnx"
    message = "The artifact begins neither as a skops nor as an ONNX file; send one of these."
    raise fault("/artifact", "unknown_format", message)


def limited(blocks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    """The same blocks.

    Raises:
        RequestFault: 413, there are more bytes.
    """
    came = 0
    for block in blocks:
        came += len(block)
        if came > most_bytes:
            detail = f"The artifact is larger than the {most_bytes} bytes that are allowed."
            raise RequestFault(413, "body_too_large", detail)
        yield block


def _sample_format(name: str, media_type: str) -> Format:
    return FORMATS.get(media_type) or format_by_name(name) or "csv"


def _anything(head: bytes, whole: bool) -> bool:
    """Only a worker can tell whether an artifact is right."""
    return True
