"""Errors in the words of other protocols."""

import pytest
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS

from api.neighbours import SCORING_CODES, members


@pytest.mark.parametrize(("status", "code"), SCORING_CODES.items())
def test_a_code_for_mlflow_is_one_that_it_has_for_the_same_status(status: int, code: str) -> None:
    assert ERROR_CODE_TO_HTTP_STATUS[code] == (400 if status == 422 else status)  # it has none for 422


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(409, "RESOURCE_CONFLICT", id="conflict"),
        pytest.param(413, "BAD_REQUEST", id="other-fault-of-the-request"),
        pytest.param(429, "REQUEST_LIMIT_EXCEEDED", id="limit"),
        pytest.param(500, "INTERNAL_ERROR", id="crash"),
        pytest.param(504, "DEADLINE_EXCEEDED", id="late"),
        pytest.param(507, "INTERNAL_ERROR", id="other-fault-of-ours"),
    ],
)
def test_mlflow_is_told_what_a_status_means(status: int, code: str) -> None:
    assert members("/invocations", status, "ours", "Why.") == {"error_code": code, "message": "Why."}


def test_our_own_routes_are_as_they_are() -> None:
    assert members("/jobs", 409, "ours", "Why.") == {}
