"""The routes of files that are uploaded by themselves, to be read by jobs."""

from datetime import UTC, datetime

import orjson
from flask import Blueprint, Request, Response, request

from api.documents import FileDocument
from api.errors import RequestFault
from api.forms import missing_part, parts, refused_part
from api.headers import json_response
from api.media import FORM, FORMATS, format_by_name, unsupported
from api.openapi import operation
from api.query import only_known_parameters
from api.render import file_document
from api.services import Services
from api.uploads import Head, Received, announced, answer_early, body_of, receive
from shared.batch import FORMATS as FORMAT_NAMES
from shared.batch import Format
from shared.files import StoredFile
from shared.job import new_job_id
from shared.requests import base_name
from shared.storage import file_key, file_prefix

QUERY = {"name": "what the file is called", "format": "csv, ndjson or parquet; by default what type or name say"}


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("files", __name__)
    blueprint.after_request(answer_early)

    @blueprint.post("/files")
    @operation("Send a file, to be read by jobs", tag="files", answers={201: FileDocument}, query=QUERY, upload="file")
    def create() -> Response:
        only_known_parameters(*QUERY)
        file = received(services, request)
        response = json_response(orjson.dumps(file_document(file)), 201)
        response.headers["Location"] = f"/files/{file.id}"
        return response

    @blueprint.get("/files/<file_id>")
    @operation("Read what is known of a file", tag="files", answers={200: FileDocument})
    def show(file_id: str) -> Response:
        return json_response(orjson.dumps(file_document(services.files.get(file_id))))

    @blueprint.delete("/files/<file_id>")
    @operation("Remove a file that no unfinished job reads", tag="files", answers={204: None})
    def delete(file_id: str) -> Response:
        services.files.delete(file_id)
        services.storage.delete(file_prefix(file_id))
        return Response(status=204)

    return blueprint


def received(services: Services, request: Request) -> StoredFile:
    """The file of a request, kept.

    Raises:
        RequestFault, InvalidRequest, StorageFailed, UploadLost, StoreUnavailable, StoreFull
    """
    stated, most_bytes = stated_format(request), services.settings.max_upload_bytes
    if request.mimetype != FORM and request.mimetype not in FORMATS:
        raise unsupported(request.mimetype, (*FORMATS, FORM))
    file_id, name, said = new_job_id(), request.args.get("name"), request.mimetype
    prefix, key = file_prefix(file_id), file_key(file_id)
    came: Received | None = None
    body = body_of(request, most_bytes + (services.settings.max_body_bytes if said == FORM else 0))
    with announced(services, prefix):
        if said == FORM:
            for part in parts(request, body.blocks):
                if part.name != "file" or came is not None:
                    raise refused_part(part.name, ("file",))
                name, said = name or part.file_name, part.media_type
                came = receive(services, part.blocks, Head(_anything), prefix=prefix, key=key)
        else:
            head = Head(_anything, bounded=body.bounded, encoding=body.encoding)
            came = receive(services, body.blocks, head, prefix=prefix, key=key)
        if came is None:
            raise missing_part("file")
    shown = base_name(name)
    file = StoredFile(
        id=file_id,
        name=shown,
        format=stated or FORMATS.get(said) or format_by_name(shown),
        size_bytes=came.size_bytes,
        sha256=came.sha256,
        created_at=datetime.now(UTC),
    )
    return services.files.add(file, prefix)


def _anything(head: bytes, whole: bool) -> bool:
    """Whatever the file holds, only a job can tell whether it is right."""
    return True


def stated_format(request: Request) -> Format | None:
    """The format that the query names.

    Raises:
        RequestFault
    """
    given = request.args.get("format")
    for format in FORMAT_NAMES:
        if format == given:
            return format
    if given is not None:
        raise RequestFault(400, "bad_parameter", f"format must be csv, ndjson or parquet, not {given[:20]}.")
    return None
