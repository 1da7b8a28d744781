"""The statuses and errors of the client are those of the server, so that neither can drift."""

import foretell
import pytest
from foretell.errors import PROBLEMS, BodyTooLarge, Problem, Refused, ServiceFault, problem_of

from api.errors import HTTP_CODES, STATUS
from shared import errors, job
from tests.processes import Http

# Of the root of each tree, and what the client tells apart by the HTTP status.
OWN = {BodyTooLarge, Refused, ServiceFault}
# These are answered with the code of a job's failure: see docs/http-api.md, "Sending an artifact".
OF_ARTIFACTS: set[type[errors.ServiceError]] = {errors.ModelUnusable, errors.UnsafeArtifact}


def test_statuses_are_those_of_the_server(http: Http) -> None:
    document = http("GET", "/openapi.json").json["components"]["schemas"]["JobDocument"]["properties"]["status"]

    assert list(map(str, foretell.Status)) == list(map(str, job.Status)) == document["enum"]
    assert set(map(str, foretell.DONE)) == set(map(str, job.DONE))


@pytest.mark.parametrize("kind", [*STATUS, *OF_ARTIFACTS], ids=lambda kind: str(kind.__name__))
def test_every_error_of_the_server_has_a_class_of_the_same_name_and_parents(kind: type[errors.ServiceError]) -> None:
    own = PROBLEMS[kind.code]

    assert own.__name__ == kind.__name__
    assert own.retryable == kind.retryable
    parents = [parent.__name__ for parent in kind.__mro__[1 : kind.__mro__.index(errors.ServiceError)]]
    assert [parent.__name__ for parent in own.__mro__[1 : own.__mro__.index(Problem)]] == parents


def test_the_client_has_no_error_that_the_server_has_not() -> None:
    theirs = {kind.code for kind in [*STATUS, *OF_ARTIFACTS]}

    assert {kind.code for kind in PROBLEMS.values() if kind not in OWN} == theirs


def test_every_code_of_the_document_has_a_class_or_is_of_the_request_itself(http: Http) -> None:
    responses = http("GET", "/openapi.json").json["components"]["responses"]

    codes = {code for one in responses.values() for code in one["description"].partition(": ")[2].split(", ") if code}

    assert "queue_full" in codes
    assert codes - set(HTTP_CODES.values()) <= set(PROBLEMS)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (413, b'{"code": "body_too_large", "detail": "d"}', BodyTooLarge, "body_too_large"),
        (415, b'{"code": "unsupported_media_type", "detail": "d"}', Refused, "unsupported_media_type"),
        (500, b'{"code": "internal", "detail": "d"}', ServiceFault, "internal"),
        (502, b"<html>Bad Gateway</html>", ServiceFault, "http_502"),
        (403, b"[]", Refused, "http_403"),
        (400, b"", Refused, "http_400"),
        (400, b'{"errors": ["of a proxy"]}', Refused, "http_400"),
    ],
)
def test_any_other_answer_is_an_error_too(status: int, body: bytes, kind: type[Problem], code: str) -> None:
    error = problem_of(status, body)

    assert type(error) is kind
    assert (error.code, error.status) == (code, status)


def test_an_error_keeps_all_that_the_service_said(http: Http) -> None:
    answer = http("POST", "/jobs", {"model": "linear", "instances": [[1, "a", 2]]})

    error = problem_of(answer.status, answer.body, "7")

    assert error.detail == str(error) == answer.json["detail"]
    assert list(error.errors) == answer.json["errors"]
    assert error.request_id == answer.headers["x-request-id"]
    assert error.retry_after_seconds == 7.0
