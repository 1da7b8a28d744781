"""The routes of files that are uploaded by themselves, to be read by jobs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import orjson
from flask import Blueprint, Request, Response, request

from api.access import caller
from api.documents import FileDocument
from api.errors import RequestFault
from api.forms import missing_part, parts, refused_part, small
from api.headers import json_response
from api.media import FORM, FORMATS, format_by_name, unsupported
from api.openapi import operation
from api.parameters import Parameter, choice
from api.query import only_known_parameters
from api.render import file_document
from api.services import Services
from api.uploads import Head, Received, announced, answer_early, body_of, discard, receive
from shared.api_keys import Scope
from shared.batch import FORMATS as FORMAT_NAMES
from shared.batch import Format
from shared.errors import FileInUse, InvalidRequest, LimitReached, StorageFailed, StoreFull
from shared.files import StoredFile
from shared.job import new_job_id
from shared.requests import base_name, fault
from shared.storage import file_key, file_prefix

LONGEST_FIELD: Final = 1000
QUERY: Final = {
    "name": Parameter(text="what the file is called"),
    "format": Parameter(text="what the file is; by default what type or name say", schema=choice(*FORMAT_NAMES)),
}


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("files", __name__)
    blueprint.after_request(answer_early)

    @blueprint.post("/files")
    @operation(
        "Send a file, to be read by jobs",
        tag="files",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        answers={201: FileDocument},
        query=QUERY,
        upload="file",
        raises=(StoreFull,),
    )
    def create() -> Response:
        only_known_parameters(*QUERY)
        file = received(services, request)
        response = json_response(orjson.dumps(file_document(file)), 201)
        response.headers["Location"] = f"/files/{file.id}"
        return response

    @blueprint.get("/files/<file_id>")
    @operation("Read what is known of a file", tag="files", scope=Scope.JOBS_READ, answers={200: FileDocument})
    def show(file_id: str) -> Response:
        return json_response(orjson.dumps(file_document(services.files.get(file_id, owner=caller().owner))))

    @blueprint.delete("/files/<file_id>")
    @operation(
        "Remove a file that no unfinished job reads",
        tag="files",
        scope=(Scope.JOBS_WRITE, Scope.TRAIN),
        answers={204: None},
        raises=(FileInUse, StorageFailed),
    )
    def delete(file_id: str) -> Response:
        services.files.delete(file_id, owner=caller().owner)
        services.storage.delete(file_prefix(file_id))
        return Response(status=204)

    return blueprint


def received(
    services: Services, request: Request, *, fields: Mapping[str, str] | None = None, format: Format | None = None
) -> StoredFile:
    """The file of a request, kept.

    Args:
        services: the process's.
        request: the request.
        fields: parts that a form has beside the file, and the one value that each may have.
        format: what the file is, if the route says it.

    Raises:
        RequestFault, InvalidRequest, LimitReached, StorageFailed, UploadLost, StoreUnavailable, StoreFull
    """
    stated, most_bytes = format or stated_format(request), services.settings.max_upload_bytes
    expected = fields or {}
    if request.mimetype != FORM and request.mimetype not in FORMATS:
        raise unsupported(request.mimetype, (*FORMATS, FORM))
    file_id, name, said = new_job_id(), request.args.get("name"), request.mimetype
    prefix, key = file_prefix(file_id), file_key(file_id)
    came: Received | None = None
    told: dict[str, str] = {}
    body = body_of(services, request, most_bytes, beside=services.settings.max_body_bytes if said == FORM else 0)
    with announced(services, prefix):
        if said == FORM:
            for part in parts(request, body.blocks):
                if part.name in expected and part.name not in told:
                    told[part.name] = small(part, LONGEST_FIELD).decode(errors="replace")
                    check_field(part.name, told[part.name], expected[part.name])
                    continue
                if part.name != "file" or came is not None:
                    raise refused_part(part.name, (*expected, "file"))
                name, said = name or part.file_name, part.media_type
                came = receive(services, part.blocks, Head(_anything), prefix=prefix, key=key)
        else:
            head = Head(_anything, bounded=body.bounded, encoding=body.encoding)
            came = receive(services, body.blocks, head, prefix=prefix, key=key)
        missing = next((name for name in expected if name not in told), None if came else "file")
        if came is None or missing is not None:
            raise missing_part(missing or "file")
    shown = base_name(name)
    file = StoredFile(
        id=file_id,
        name=shown,
        format=stated or FORMATS.get(said) or format_by_name(shown),
        size_bytes=came.size_bytes,
        sha256=came.sha256,
        created_at=datetime.now(UTC),
    )
    who = caller()
    try:
        return services.files.add(file, prefix, owner=who.owner, most_bytes=who.limits.stored_bytes)
    except (LimitReached, InvalidRequest):
        discard(services, prefix)
        raise


def check_field(name: str, found: str, wanted: str) -> None:
    """See that a part of a form has the one value that it may have.

    Raises:
        InvalidRequest
    """
    if found != wanted:
        raise fault(f"/{name}", "bad_value", f"{name} must be {wanted}; found {found[:40]!r}.")


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
