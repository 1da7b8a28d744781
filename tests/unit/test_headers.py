"""Request headers: what they are taken to say."""

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from api.headers import expected_revisions, known_revision, preferred_wait, request_id_of, traceparent

LONGEST_WAIT = 30.0


def request_with(**headers: str) -> Request:
    """A request with these headers; underscores stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(EnvironBuilder(headers=list(named.items())).get_environ())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("wait=10", 10.0, id="plain"),
        pytest.param("wait=0", 0.0, id="zero"),
        pytest.param('wait="10"', 10.0, id="quoted"),
        pytest.param("WAIT=10", 10.0, id="capitals"),
        pytest.param("wait = 10", 10.0, id="blanks"),
        pytest.param("respond-async, wait=10", 10.0, id="second"),
        pytest.param("wait=10, respond-async", 10.0, id="first"),
        pytest.param("wait=10; x=y", 10.0, id="with-a-parameter"),
        pytest.param("wait=30", 30.0, id="as-long-as-allowed"),
        pytest.param("wait=31", LONGEST_WAIT, id="longer-than-allowed"),
        pytest.param("wait=999999", LONGEST_WAIT, id="days"),
        pytest.param("wait=31536000000", LONGEST_WAIT, id="centuries"),
    ],
)
def test_a_preferred_wait_is_cut_to_the_longest_that_is_allowed(header: str, seconds: float) -> None:
    assert preferred_wait(request_with(Prefer=header), LONGEST_WAIT) == seconds


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("respond-async", id="another-preference"),
        pytest.param("await=10", id="a-longer-name"),
        pytest.param("wait-10", id="no-value"),
        pytest.param("wait=", id="empty-value"),
        pytest.param("wait=-1", id="negative"),
        pytest.param("wait=1.5", id="fraction"),
        pytest.param("wait=10s", id="with-a-unit"),
        pytest.param("wait=soon", id="words"),
        pytest.param("wait", id="bare"),
    ],
)
def test_a_preference_that_cannot_be_understood_is_ignored(header: str) -> None:
    assert preferred_wait(request_with(Prefer=header), LONGEST_WAIT) is None


def test_without_a_preference_nobody_waits() -> None:
    assert preferred_wait(request_with(), LONGEST_WAIT) is None


@pytest.mark.parametrize(
    ("header", "revision"),
    [
        pytest.param('"17"', 17, id="strong"),
        pytest.param('W/"17"', 17, id="weakened-by-a-proxy"),
        pytest.param(' "17" ', 17, id="blanks-around"),
        pytest.param('"999999999999999999"', 999_999_999_999_999_999, id="large"),
        pytest.param("17", None, id="without-quotes"),
        pytest.param('"abc"', None, id="not-one-of-ours"),
        pytest.param('"-1"', None, id="negative"),
        pytest.param('""', None, id="empty-tag"),
        pytest.param("", None, id="empty"),
        pytest.param('w/"17"', None, id="weak-in-small-letters"),
        pytest.param('"17', None, id="not-closed"),
        pytest.param(f'"{"9" * 5000}"', None, id="endless"),
    ],
)
def test_a_known_revision_is_an_etag_of_ours(header: str, revision: int | None) -> None:
    assert known_revision(request_with(If_None_Match=header)) == revision


def test_without_if_none_match_no_revision_is_known() -> None:
    assert known_revision(request_with()) is None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        pytest.param("order-42", True, id="short"),
        pytest.param("01ARZ3NDEKTSV4RRFFQ69G5FAV", True, id="ulid"),
        pytest.param("a/b:c+d=e_f.g", True, id="every-punctuation"),
        pytest.param("x" * 128, True, id="longest"),
        pytest.param("x" * 129, False, id="too-long"),
        pytest.param("", False, id="empty"),
        pytest.param("a b", False, id="blank"),
        pytest.param('"}', False, id="quotes"),
        pytest.param("\x1b[31mred", False, id="escape-codes"),
        pytest.param("ä", False, id="beyond-ascii"),
    ],
)
def test_a_request_id_is_taken_over_if_it_can_be_logged_as_it_is(given: str, taken: bool) -> None:
    request_id = request_id_of(request_with(X_Request_Id=given))

    assert (request_id == given) is taken
    assert request_id != ""


def test_requests_without_an_id_get_different_ones() -> None:
    ids = {request_id_of(request_with()) for _ in range(100)}

    assert len(ids) == 100


@pytest.mark.parametrize(
    ("given", "valid"),
    [
        pytest.param("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True, id="as-in-the-specification"),
        pytest.param("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", False, id="capitals"),
        pytest.param("00-4bf92f3577b34da6a3ce929d0e0e4736-01", False, id="without-a-parent"),
        pytest.param("nonsense", False, id="nonsense"),
        pytest.param("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False, id="no-trace"),
        pytest.param("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False, id="no-span"),
        pytest.param("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False, id="no-version"),
        pytest.param(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False, id="more-than-version-00-has"
        ),
        pytest.param("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", False, id="more-without-a-dash"),
    ],
)
def test_a_trace_is_carried_on_if_it_is_well_formed(given: str, valid: bool) -> None:
    assert traceparent(request_with(traceparent=given)) == (given if valid else None)


def test_a_trace_of_a_later_version_is_read_as_the_one_that_is_known() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    assert traceparent(request_with(traceparent=f"cc-{trace}")) == f"00-{trace}"
    assert traceparent(request_with(traceparent=f"cc-{trace}-what-will-be")) == f"00-{trace}"


@pytest.mark.parametrize(
    ("header", "revisions"),
    [
        pytest.param('"3"', [3], id="one"),
        pytest.param('"3", "5"', [3, 5], id="several"),
        pytest.param('"3",W/"5"', [3], id="a-weak-one-never-matches"),
        pytest.param(" * ", "*", id="any"),
        pytest.param("3", [], id="without-quotes"),
        pytest.param('"abc"', [], id="not-ours"),
        pytest.param("", [], id="empty"),
    ],
)
def test_the_revisions_that_may_be_changed_are_those_of_if_match(header: str, revisions: object) -> None:
    assert expected_revisions(request_with(If_Match=header)) == revisions


def test_without_if_match_any_revision_may_be_changed() -> None:
    assert expected_revisions(request_with()) is None
