"""The door of the Open Inference Protocol v2, which KServe, Triton and MLServer speak: tensors in and out of jobs."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.access import PUBLIC
from api.documents import JobDocument
from api.errors import RequestFault
from api.features import inputs_of, outputs_of, rows_of
from api.headers import json_response
from api.inference_documents import (
    InferDocument,
    InferRequest,
    LiveDocument,
    ModelMetadata,
    OutputRequest,
    ReadyDocument,
    ServerDocument,
)
from api.intake import draft_of_rows, origin_of
from api.media import is_json, unsupported
from api.openapi import BINARY, operation
from api.operations import not_ready, refused
from api.outcomes import below, outcome, refusal
from api.parameters import JOB_HEADERS
from api.repeats import unless_repeated
from api.results import stored_predictions
from api.services import Services
from api.submission import Draft
from api.tensors import SHOWN, Tensor, read_tensors, refuse, split_body, tensor_of, written
from api.wire import JobRequest, loads, parse, whole_body
from shared import __version__
from shared.api_keys import Scope
from shared.errors import InvalidRequest, NoResult, NotDoneInTime, StorageFailed
from shared.job import Job, Status
from shared.manifest import Manifest
from shared.queue import ONLINE
from shared.requests import fault

HEADER_BYTES: Final = "Inference-Header-Content-Length"
# What `parameters` of a request may say of the job; the others are meant for servers of other kinds.
JOB_PARAMETERS: Final = ("top_k", "priority", "deadline_seconds", "result_ttl_seconds", "webhook")
TOP_K_OUTPUTS: Final = {"item": "item", "score": "score"}
# A model by its name alone, which means production, and by a version or alias.
PLACES: Final = (("/models/<name>", ""), ("/models/<name>/versions/<member>", "_of_version"))


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("v2", __name__, url_prefix="/v2")
    _add_health(blueprint, services)
    _add_models(blueprint, services)
    _add_inference(blueprint, services)
    return blueprint


def _add_health(blueprint: Blueprint, services: Services) -> None:
    @blueprint.get("")
    @operation("Which server this is", tag="inference protocol", scope=PUBLIC, answers={200: ServerDocument})
    def server() -> Response:
        about = {"name": "foretell", "version": __version__, "extensions": ["binary_tensor_data"]}
        return json_response(orjson.dumps(about))

    @blueprint.get("/health/live")
    @operation("Whether this process answers", tag="inference protocol", scope=PUBLIC, answers={200: LiveDocument})
    def live() -> Response:
        return json_response(b'{"live":true}')

    @blueprint.get("/health/ready")
    @operation(
        "Whether jobs can be done, as /readyz says", tag="inference protocol", scope=PUBLIC,
        answers={200: ReadyDocument}, raises=(StorageFailed,),
    )  # fmt: skip
    def ready() -> Response:
        return refused(services.readiness.checked()) or json_response(b'{"ready":true}')


def _add_models(blueprint: Blueprint, services: Services) -> None:
    registry = services.registry

    @operation(
        "Which tensors a model takes and gives", tag="inference protocol", scope=Scope.MODELS_READ,
        answers={200: ModelMetadata},
    )  # fmt: skip
    def show(name: str, member: str = "") -> Response:
        manifest = registry.resolve(reference(name, member), fresh=True).manifest
        # The name itself may have the version or alias, as those of jobs may.
        versions = [str(one.version) for one in registry.model(manifest.model).versions]
        about = {"name": manifest.model, "versions": versions, "platform": f"foretell_{manifest.format}"}
        tensors = {"inputs": inputs_of(manifest.signature), "outputs": outputs_of(manifest.signature)}
        return json_response(orjson.dumps(about | tensors))

    @operation(
        "Whether a model can be asked for predictions", tag="inference protocol", scope=Scope.MODELS_READ,
        answers={200: ReadyDocument}, raises=(StorageFailed,),
    )  # fmt: skip
    def ready(name: str, member: str = "") -> Response:
        registry.resolve(reference(name, member), fresh=True)
        state = services.readiness.alive(ONLINE)
        if not state["ready"]:
            return not_ready("not_ready", f"No worker predicts: {state['reason']}.", {f"workers_{ONLINE}": state})
        return json_response(orjson.dumps({"ready": True, "name": name}))

    for path, suffix in PLACES:
        blueprint.add_url_rule(path, f"show{suffix}", show, methods=["GET"])
        blueprint.add_url_rule(f"{path}/ready", f"model_ready{suffix}", ready, methods=["GET"])


def _add_inference(blueprint: Blueprint, services: Services) -> None:
    @operation(
        "Predict rows that are sent as tensors; with Prefer: respond-async as a job",
        tag="inference protocol",
        scope=Scope.JOBS_WRITE,
        body=InferRequest,
        answers={200: InferDocument, 202: JobDocument},
        headers=JOB_HEADERS,
        binary=True,
        raises=(NoResult, NotDoneInTime, StorageFailed),
    )
    def infer(name: str, member: str = "") -> Response:
        asked, binary = read_request(request)
        return outcome(
            services,
            lambda: _draft(services, reference(name, member), asked, binary),
            lambda job: _answer(services, asked, job),
        )

    for path, suffix in PLACES:
        blueprint.add_url_rule(f"{path}/infer", f"infer{suffix}", infer, methods=["POST"])


def reference(name: str, member: str) -> str:
    """A model as jobs name it."""
    return f"{name}@{member}" if member else name


def read_request(request: Request) -> tuple[InferRequest, memoryview]:
    """What is asked for, and the bytes of tensors that follow it.

    Raises:
        RequestFault, InvalidRequest
        werkzeug.exceptions.RequestEntityTooLarge: the body is larger than allowed, or unpacks to more.
    """
    media_type = request.mimetype
    # tritonclient sends none.
    if media_type and media_type != BINARY and not is_json(media_type):
        raise unsupported(media_type, ("application/json", BINARY), "add -H 'Content-Type: application/json'")
    body = unpacked(whole_body(request), request.headers.get("Content-Encoding", ""), request.max_content_length)
    header, binary = split_body(body, request.headers.get(HEADER_BYTES))
    raw = loads(header)
    # Members that other servers know are passed over.
    known = {key: raw[key] for key in InferRequest.model_fields if key in raw} if isinstance(raw, dict) else raw
    return parse(InferRequest, known), binary


def unpacked(body: bytes, encoding: str, most_bytes: int | None) -> bytes:
    """A body as it was before gzip or deflate (RFC 9110, section 8.4.1).

    Raises:
        RequestFault: it is none of these, or was cut off.
        werkzeug.exceptions.RequestEntityTooLarge
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        detail = f"Content-Encoding may be gzip, deflate or identity, not {encoding[:40]}."
        raise RequestFault(415, "unsupported_encoding", detail)
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header
    try:
        data = decoder.decompress(body, 0 if most_bytes is None else most_bytes + 1)
    except zlib.error as error:
        raise RequestFault(400, "bad_content_encoding", f"The body is not {encoding}: {error}.") from error
    if most_bytes is not None and len(data) > most_bytes:
        raise RequestEntityTooLarge
    if not decoder.eof or decoder.unused_data:
        raise RequestFault(400, "bad_content_encoding", f"The body is cut off, or more than one {encoding} stream.")
    return data


def _draft(services: Services, model: str, asked: InferRequest, binary: memoryview) -> Draft:
    """The job for the rows of a request.

    Raises:
        RequestFault, InvalidRequest, ModelNotFound, StoreUnavailable
    """
    origin = origin_of(request)

    def drafted() -> Draft:
        manifest = services.registry.resolve(model).manifest
        tensors = read_tensors(
            [tensor.model_dump() for tensor in asked.inputs],
            binary,
            most_rows=services.settings.max_instances,
            most_columns=len(manifest.signature.features),
        )
        body = _job(model, manifest, asked, rows_of(tensors, manifest.signature))
        try:
            return draft_of_rows(services, origin, body, whole_body(request))
        except InvalidRequest as error:
            raise below(_of_tensors(error, tensors), "/parameters", JOB_PARAMETERS) from error

    return unless_repeated(services, origin, whole_body(request), drafted)


def _job(model: str, manifest: Manifest, asked: InferRequest, rows: list[list[Any]]) -> JobRequest:
    parameters = asked.parameters or {}
    options = {name: parameters[name] for name in JOB_PARAMETERS if parameters.get(name) is not None}
    if "webhook" in options:
        options["webhook"] = {"url": options["webhook"]}
    method = _method(manifest.signature.methods, asked.outputs or [], top_k="top_k" in options)
    try:
        job = parse(JobRequest, {"model": model, "method": method, **options})
    except InvalidRequest as error:
        raise below(error, "/parameters", JOB_PARAMETERS) from error
    # Rows are put in afterwards: to be validated they would be copied.
    return job.model_copy(update={"instances": rows, "metadata": {"id": asked.id} if asked.id else None})


def _method(methods: Sequence[str], outputs: Sequence[OutputRequest], *, top_k: bool) -> str:
    """The method that gives the wanted tensors.

    Raises:
        InvalidRequest
    """
    known: Mapping[str, str] = TOP_K_OUTPUTS if top_k else {method: method for method in methods}
    for index, output in enumerate(outputs):
        refuse(output.parameters or {}, f"/outputs/{index}", f"Output {output.name[:SHOWN]}")
        if output.name not in known:
            message = f"There is no output {output.name[:SHOWN]}; there {_are(list(known))}."
            raise fault(f"/outputs/{index}/name", "unknown_output", message)
    wanted = list(dict.fromkeys(output.name for output in outputs))
    if top_k:
        return "predict"
    if len(wanted) > 1:
        message = f"Ask for {' and '.join(wanted)} in requests of their own: a job calls one method of the model."
        raise fault("/outputs/1/name", "several_methods", message)
    return wanted[0] if wanted else methods[0]


def _are(names: Sequence[str]) -> str:
    return f"{'are' if len(names) > 1 else 'is'} {', '.join(names)}"


def _of_tensors(error: InvalidRequest, tensors: Sequence[Tensor]) -> InvalidRequest:
    """The same error, which points at the tensor of each value."""
    places = {tensor.name: f"/inputs/{index}/data" for index, tensor in enumerate(tensors)}
    error.errors = tuple(
        one | {"pointer": places.get(str(one.get("column")), "/inputs/0/data" if len(tensors) == 1 else "/inputs")}
        if str(one.get("pointer", "")).startswith("/instances")
        else one
        for one in error.errors
    )
    return error


def _answer(services: Services, asked: InferRequest, job: Job) -> Response:
    """The predictions of a job as tensors, or why there are not all of them.

    Raises:
        StorageFailed
        InvalidRequest: they are no tensors.
    """
    if job.status is not Status.SUCCEEDED:
        return refusal(job)
    predictions = orjson.loads(stored_predictions(services, job))
    outputs = {output.name: output.parameters or {} for output in asked.outputs or ()}
    always = bool((asked.parameters or {}).get("binary_data_output"))
    shown, data = [], []
    for tensor in _tensors(job, predictions):
        if not outputs or tensor.name in outputs:
            binary = bool(outputs.get(tensor.name, {}).get("binary_data", always))
            about, raw = written(tensor, binary=binary)
            shown.append(about)
            data.append(raw)
    document: dict[str, Any] = {"model_name": job.spec.model, "model_version": str(job.spec.version)}
    document |= {"id": asked.id} if asked.id else {}
    document |= {"parameters": {"job_id": job.id, "sha256": job.spec.sha256}, "outputs": shown}
    header = orjson.dumps(document)
    if not any("parameters" in about for about in shown):
        return json_response(header)
    response = json_response(b"".join((header, *data)), media_type=BINARY)
    response.headers[HEADER_BYTES] = str(len(header))
    return response


def _tensors(job: Job, predictions: list[Any]) -> list[Tensor]:
    if job.spec.top_k is None:
        return [tensor_of(job.spec.method, predictions)]
    return [tensor_of(name, [[one[name] for one in row] for row in predictions]) for name in TOP_K_OUTPUTS]
