"""The facade of OpenAI's files: those that batches read, which are files as any, and what batches made."""

from typing import Any, Final

from flask import Blueprint, Response, request

from api.access import caller
from api.downloads import serve
from api.errors import RequestFault
from api.files import received
from api.media import FORM
from api.openai_batches import batch_of, shown
from api.openai_documents import OpenAIDeleted, OpenAIFile, OpenAIFileList
from api.openai_outputs import KINDS, MEDIA_TYPE, OutputFile, outputs_of
from api.openapi import operation
from api.parameters import Parameter, choice, whole
from api.query import limit_of, only_known_parameters
from api.services import Services
from api.uploads import answer_early
from shared.api_keys import Scope
from shared.errors import FileInUse, JobNotFound, StorageFailed, StoreFull, TooManyDownloads, UnknownFile
from shared.files import StoredFile
from shared.storage import file_key, file_prefix

PURPOSE: Final = "batch"
LIST_QUERY: Final = {
    "after": Parameter(text="the last id of the page before"),
    "limit": Parameter(text="files a page; 100 by default", schema=whole(1, 500)),
    "order": Parameter(text="newest first, which is the only order", schema=choice("desc")),
    "purpose": Parameter(text="only files of this purpose", schema=choice(PURPOSE)),
}


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("openai_files", __name__, url_prefix="/v1")
    blueprint.after_request(answer_early)
    _add_files(blueprint, services)
    _add_reading(blueprint, services)
    return blueprint


def _add_files(blueprint: Blueprint, services: Services) -> None:
    @blueprint.post("/files")
    @operation(
        "Send a file of lines, to be read by batches", tag="openai", scope=Scope.JOBS_WRITE,
        answers={200: OpenAIFile}, upload="openai", raises=(StoreFull,),
    )  # fmt: skip
    def create() -> Response:
        if request.mimetype != FORM:
            raise RequestFault(415, "unsupported_media_type", f"Send a form, {FORM}, with the parts purpose and file.")
        only_known_parameters()
        return shown(file_document(received(services, request, fields={"purpose": PURPOSE}, format="ndjson")))

    @blueprint.delete("/files/<content_id>")
    @operation(
        "Remove a file that no unfinished batch reads", tag="openai", scope=Scope.JOBS_WRITE,
        answers={200: OpenAIDeleted}, raises=(FileInUse, StorageFailed),
    )  # fmt: skip
    def delete(content_id: str) -> Response:
        output = output_of(services, content_id)
        if output is not None:
            raise FileInUse(f"The file goes with its batch: DELETE /jobs/{output.job.id} removes both.")
        services.files.delete(content_id, owner=caller().owner)
        services.storage.delete(file_prefix(content_id))
        return shown(OpenAIDeleted(id=content_id))


def _add_reading(blueprint: Blueprint, services: Services) -> None:
    @blueprint.get("/files")
    @operation(
        "List files that were sent, newest first", tag="openai", scope=Scope.JOBS_READ,
        answers={200: OpenAIFileList}, query=LIST_QUERY, raises=(UnknownFile,),
    )  # fmt: skip
    def list_files() -> Response:
        only_known_parameters(*LIST_QUERY)
        for name, only in (("order", "desc"), ("purpose", PURPOSE)):
            if request.args.get(name, only) != only:
                raise RequestFault(400, "bad_parameter", f"{name} must be {only}.")
        limit = limit_of(100, 500)
        found = services.files.page(owner=caller().owner, after=request.args.get("after"), limit=limit + 1)
        data = [file_document(file) for file in found[:limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return shown(OpenAIFileList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(found) > limit))

    @blueprint.get("/files/<content_id>")
    @operation("Read what is known of a file", tag="openai", scope=Scope.JOBS_READ, answers={200: OpenAIFile})
    def show(content_id: str) -> Response:
        output = output_of(services, content_id)
        if output is not None:
            return shown(output.document())
        return shown(file_document(services.files.get(content_id, owner=caller().owner)))

    @blueprint.get("/files/<content_id>/content")
    @operation(
        "Read a file, or the output or the errors of a batch", tag="openai", scope=Scope.JOBS_READ,
        answers={200: MEDIA_TYPE, 206: None, 304: None}, headers=("Range", "If-Range", "If-Match", "If-None-Match"),
        raises=(StorageFailed, TooManyDownloads),
    )  # fmt: skip
    def content(content_id: str) -> Response:
        output = output_of(services, content_id)
        if output is not None:
            return output.response(services)
        file = services.files.get(content_id, owner=caller().owner)
        about: dict[str, Any] = {
            "key": file_key(file.id),
            "name": file.name or f"{file.id}.jsonl",
            "media_type": MEDIA_TYPE,
        }
        about |= {"encoding": None, "bytes": file.size_bytes, "sha256": file.sha256}
        return serve(services.storage, about, request, services.downloads)


def file_document(file: StoredFile) -> OpenAIFile:
    """A file as OpenAI's clients read it."""
    return OpenAIFile(
        id=file.id,
        bytes=file.size_bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=None if file.expires_at is None else int(file.expires_at.timestamp()),
        filename=file.name,
        purpose="batch",
    )


def output_of(services: Services, content_id: str) -> OutputFile | None:
    """The output or errors of a batch that an id means; None: it means no such file.

    Raises:
        UnknownFile: the batch has none, or there is no such batch.
        JobGone, StoreUnavailable
    """
    kind = next((kind for kind in KINDS if content_id.endswith(f"-{kind}")), None)
    if kind is None:
        return None
    job_id = content_id.removesuffix(f"-{kind}")
    try:
        found = outputs_of(batch_of(services, job_id)).get(kind)
    except JobNotFound:
        found = None
    if found is None:
        raise UnknownFile(f"There is no file {content_id}.")
    return found
