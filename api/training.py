"""`POST /models/<name>/retrain`: a train job, over a file that comes with it or that it names."""

from typing import Final

from flask import Blueprint, Request, Response, request

from api.batches import from_form, from_raw, from_reference, wanted_of
from api.documents import JobDocument, ValidationDocument
from api.headers import preferred_wait
from api.intake import VALIDATE_ONLY, accept, origin_of, validation
from api.media import FORM, FORMATS, is_json, unsupported
from api.openapi import JOB_HEADERS, operation
from api.options import RETRAIN_QUERY
from api.query import flag, only_known_parameters
from api.services import Services
from api.submission import Draft
from api.uploads import answer_early
from api.wire import read_json
from shared.requests import TrainingRequest

SUMMARY: Final = "Train a challenger on new rows, and promote it if it is better; the file may come along, as for a job"


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("training", __name__)
    blueprint.after_request(answer_early)

    @blueprint.post("/models/<name>/retrain")
    @operation(
        SUMMARY,
        tag="models",
        body=TrainingRequest,
        answers={200: (JobDocument, ValidationDocument), 202: JobDocument},
        headers=JOB_HEADERS,
        query=VALIDATE_ONLY | dict(RETRAIN_QUERY),
        upload="job",
    )
    def retrain(name: str) -> Response:
        validate_only = flag("validate_only")
        drafted = draft_of(services, request, name, validate_only=validate_only)
        if validate_only:
            return validation(services, drafted.first)
        return accept(services, drafted, preferred_wait(request, services.settings.max_wait_seconds))

    return blueprint


def draft_of(services: Services, request: Request, name: str, *, validate_only: bool) -> Draft:
    """The train job that a request asks for.

    Raises:
        RequestFault, InvalidRequest, UnknownFile, ModelNotFound, StoreUnavailable, StorageFailed, UploadLost
    """
    origin, media_type = origin_of(request), request.mimetype
    if media_type in FORMATS:
        only_known_parameters(*VALIDATE_ONLY, *RETRAIN_QUERY)
        return from_raw(services, origin, request, validate_only=validate_only, query=RETRAIN_QUERY, trained=name)
    if media_type != FORM and not is_json(media_type):
        raise unsupported(media_type, ("application/json", *FORMATS, FORM))
    only_known_parameters(*VALIDATE_ONLY)
    if media_type == FORM:
        return from_form(services, origin, request, validate_only=validate_only, trained=name)
    return from_reference(services, origin, wanted_of(read_json(request), name), request.get_data())
