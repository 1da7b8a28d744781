"""Request headers of any characters: they say something, or nothing, or are refused."""

import base64
import hashlib
import re
from typing import Final

from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from api.digests import Digests
from api.downloads import attachment, wanted_range
from api.errors import RequestFault
from api.events import last_event
from api.headers import expected_revisions, known_revision, preferred_wait, request_id_of, traceparent
from tests.fuzz.profile import examples

# What a server hands on of a header: Latin-1 without line breaks (RFC 9110, section 5.5).
FIELD: Final = st.characters(max_codepoint=255, exclude_characters="\r\n\0")
WORDS: Final = (
    *('"1"', 'W/"1"', "*", ",", ";", "=", ":", "-", " ", "\t", '"', "bytes=", "bytes", "0", "9" * 18, "9" * 30, "-0"),
    *("wait=", "wait", "respond-async", "sha-256=", "sha-512=", "md5=", "00-", "0" * 32, "a" * 16, "\xb2", "+1", "1e9"),
)
values = st.lists(st.sampled_from(WORDS) | st.text(FIELD, max_size=4), max_size=12).map("".join)
sizes = st.integers(0, 1000) | st.just(10**12)
ETAG: Final = '"abc"'


def asking(method: str = "GET", **headers: str) -> Request:
    """A request with these headers, whose names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(EnvironBuilder(method=method, headers=list(named.items())).get_environ())


@given(values, values | st.just(ETAG), sizes, st.sampled_from(["GET", "HEAD"]))
@examples(300)
def test_a_range_of_any_characters_is_within_the_file_or_none(asked: str, tag: str, size: int, method: str) -> None:
    for value in (asked, f"bytes={asked}"):
        found = wanted_range(asking(method, Range=value, If_Range=tag), ETAG, size)

        # A start past the end is what 416 is for.
        assert found is None or (found[0] >= 0 and found[1] <= size and method == "GET" and tag.strip() == ETAG)


@given(st.integers(0, 100), st.integers(0, 120), st.integers(1, 110))
@examples(150)
def test_a_range_is_as_many_bytes_as_it_says(first: int, more: int, size: int) -> None:
    data = bytes(range(size))

    from_to = wanted_range(asking(Range=f"bytes={first}-{first + more}"), ETAG, size)
    onwards = wanted_range(asking(Range=f"bytes={first}-"), ETAG, size)
    suffix = wanted_range(asking(Range=f"bytes=-{more}"), ETAG, size)

    assert from_to is not None
    assert onwards is not None
    assert suffix is not None
    assert data[slice(*from_to)] == data[first : first + more + 1]
    assert data[slice(*onwards)] == data[first:]
    assert data[slice(*suffix)] == data[max(0, size - more) :]
    assert (from_to[0] >= from_to[1]) == (first >= size)


@given(values, st.floats(0.1, 60))
@examples(200)
def test_a_preference_of_any_characters_waits_no_longer_than_allowed(value: str, most: float) -> None:
    for given_value in (value, f"wait={value}", f"respond-async, wait={value}"):
        wait = preferred_wait(asking(Prefer=given_value), most)

        assert wait is None or 0 <= wait <= most


@given(st.integers(0, 10**6), st.sampled_from(["wait={}", "respond-async, wait={}", 'wait="{}"', "Wait = {} ;x=1"]))
@examples(80)
def test_a_wait_is_understood(seconds: int, written: str) -> None:
    assert preferred_wait(asking(Prefer=written.format(seconds)), 30.0) == min(seconds, 30)


@given(values)
@examples(200)
def test_revisions_in_conditions_are_whole_numbers_or_none(value: str) -> None:
    request = asking(If_None_Match=value, If_Match=value, Last_Event_ID=value)

    known, expected, event = known_revision(request), expected_revisions(request), last_event(value)

    assert known is None or 0 <= known < 10**18
    assert expected == "*" or (isinstance(expected, list) and all(0 <= revision < 10**18 for revision in expected))
    assert event is None or event >= 0


@given(st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=5), st.sampled_from([",", ", ", " ,\t"]))
@examples(80)
def test_every_revision_of_a_list_is_found(revisions: list[int], between: str) -> None:
    listed = between.join(f'"{revision}"' for revision in revisions)
    weak = between.join(f'W/"{revision}"' for revision in revisions)

    assert expected_revisions(asking(If_Match=listed)) == revisions
    assert expected_revisions(asking(If_Match=weak)) == []  # weak tags never match (RFC 9110, section 13.1.1)
    assert known_revision(asking(If_None_Match=listed)) == known_revision(asking(If_None_Match=weak)) == max(revisions)


@given(values, values)
@examples(150)
def test_ids_that_are_carried_on_can_be_logged_as_they_are(request_id: str, trace: str) -> None:
    taken = request_id_of(asking(X_Request_Id=request_id))
    parent = traceparent(asking(traceparent=trace))

    assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", taken)
    assert parent is None or (len(parent) == 55 and parent[2:] == trace[2:55])


@given(values, values, values, st.binary(max_size=20))
@examples(200)
def test_announced_digests_of_any_characters_are_ignored_or_compared_or_refused(
    repr_digest: str, content_digest: str, md5: str, body: bytes
) -> None:
    for headers in (
        {"Repr-Digest": repr_digest},
        {"Content-Digest": f"sha-256=:{content_digest}:"},
        {"Content-MD5": md5},
    ):
        try:
            digests = Digests(Headers(headers))
            digests.update(body)
            digests.check()
        except RequestFault as error:
            assert (error.status, error.code) in {(400, "bad_digest"), (400, "digest_mismatch")}
        else:
            assert not digests.announced


@given(st.lists(st.binary(max_size=20), max_size=4), st.booleans(), st.sampled_from(["sha-256", "sha-512"]))
@examples(80)
def test_a_digest_of_other_bytes_is_refused_and_of_these_is_not(blocks: list[bytes], same: bool, name: str) -> None:
    body = b"".join(blocks) if same else b"".join(blocks) + b"!"
    digest = hashlib.new(name.replace("-", ""), body).digest()
    digests = Digests(Headers({"Repr-Digest": f"unknown=:AA==:, {name}=:{base64.b64encode(digest).decode()}:;x=1"}))
    for block in blocks:
        digests.update(block)

    try:
        digests.check()
        agreed = True
    except RequestFault as error:
        agreed = error.code != "digest_mismatch"

    assert agreed is same


@given(st.text(max_size=30))
@examples(150)
def test_any_file_name_is_one_header_line(name: str) -> None:
    value = attachment(name)

    value.encode("ascii")
    assert not set(value) & set("\r\n\0")
