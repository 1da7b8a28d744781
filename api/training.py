"""`POST /models/<name>/retrain`: a train job, over a file that comes with it or that it names."""

from typing import Final

from flask import Blueprint, Request, Response, request

from api.batches import from_form, from_raw, from_reference, wanted_of
from api.documents import JobDocument, ValidationDocument
from api.headers import preferred_wait
from api.intake import VALIDATE_ONLY, accept, origin_of, validation
from api.media import FORM, FORMATS, is_json, unsupported
from api.openapi import operation
from api.options import RETRAIN_QUERY
from api.parameters import JOB_HEADERS
from api.query import flag, only_known_parameters
from api.repeats import unless_repeated
from api.services import Services
from api.submission import Draft
from api.uploads import answer_early
from api.wire import read_json, whole_body
from shared.api_keys import Scope
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
        scope=Scope.TRAIN,
        body=TrainingRequest,
        answers={200: (JobDocument, ValidationDocument), 202: JobDocument},
        headers=JOB_HEADERS,
        query=VALIDATE_ONLY | dict(RETRAIN_QUERY),
        upload="job",
    )
    def retrain(name: str) -> Response:
        if flag("validate_only"):
            return validation(services, draft_of(services, request, name, validate_only=True).first)
        wait = preferred_wait(request, services.settings.max_wait_seconds)
        return accept(services, lambda: draft_of(services, request, name, validate_only=False), wait)

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
    wanted, body = wanted_of(read_json(request), name), whole_body(request)
    return unless_repeated(services, origin, body, lambda: from_reference(services, origin, wanted, body))
