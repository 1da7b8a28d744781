"""Bodies of requests: what is wrong with one, and where."""

import gzip
from typing import Any

import orjson
import pytest
from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from api.errors import RequestFault
from api.wire import JobRequest, RetryRequest, parse, read_json
from shared.errors import InvalidRequest

MOST_ERRORS = 20


def faults(body: Any) -> list[dict[str, Any]]:
    """The faults that a body is refused with."""
    with pytest.raises(InvalidRequest) as caught:
        parse(JobRequest, body)
    return [dict(error) for error in caught.value.errors]


def request_with(body: bytes, media_type: str | None = "application/json", **environ: Any) -> Request:
    return Request(
        EnvironBuilder(method="POST", data=body, content_type=media_type).get_environ() | environ,
        populate_request=False,
    )


def test_a_body_with_nothing_but_a_model_and_rows_gets_the_defaults() -> None:
    request = parse(JobRequest, {"model": "m", "instances": [[1]]})

    assert (request.method, request.priority, request.top_k, request.metadata) == ("predict", "normal", None, None)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        pytest.param({"instances": [[1]]}, "/model", "missing", id="no-model"),
        pytest.param({"model": 5}, "/model", "string_type", id="model-is-a-number"),
        pytest.param({"model": "m", "priority": "urgent"}, "/priority", "literal_error", id="unknown-priority"),
        pytest.param({"model": "m", "kind": "train"}, "/kind", "literal_error", id="unknown-kind"),
        pytest.param({"model": "m", "top_k": 0}, "/top_k", "greater_than_equal", id="top-k-zero"),
        pytest.param({"model": "m", "metadata": []}, "/metadata", "dict_type", id="metadata-is-an-array"),
        pytest.param({"model": "m", "deadline_seconds": 0}, "/deadline_seconds", "greater_than", id="deadline-at-once"),
        pytest.param({"model": "m", "rows": [[1]]}, "/rows", "unknown_field", id="unknown-field"),
        pytest.param({"model": "m", "a/b~c": 1}, "/a~1b~0c", "unknown_field", id="unknown-field-to-be-escaped"),
    ],
)
def test_a_fault_points_at_its_place_in_the_body(body: Any, pointer: str, code: str) -> None:
    (fault,) = faults(body)

    assert (fault["pointer"], fault["code"]) == (pointer, code)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"top_k": True}, id="true-is-no-top-k"),
        pytest.param({"deadline_seconds": True}, id="true-is-no-deadline"),
        pytest.param({"result_ttl_seconds": True}, id="true-is-no-time-to-live"),
    ],
)
def test_a_boolean_is_not_taken_for_a_number(field: dict[str, Any]) -> None:
    (fault,) = faults({"model": "m", "instances": [[1]]} | field)

    assert fault["pointer"] == f"/{next(iter(field))}"


@pytest.mark.parametrize(
    ("top_k", "taken"), [(3, True), (3.0, True), (3.5, False), (0.0, False), (1e300, False), ("3", False)]
)
def test_a_number_without_a_fraction_is_a_whole_one_however_it_is_written(top_k: Any, taken: bool) -> None:
    body = {"model": "m", "instances": [[3.0]], "metadata": {"x": 3.0}, "top_k": top_k}

    if taken:
        wanted = parse(JobRequest, body)
        assert (wanted.top_k, type(wanted.top_k)) == (3, int)
        assert [type(value) for value in (wanted.instances[0][0], (wanted.metadata or {})["x"])] == [float, float]
    else:
        assert [fault["pointer"] for fault in faults(body)] == ["/top_k"]


def test_the_message_about_an_unknown_field_lists_those_that_there_are() -> None:
    (fault,) = faults({"model": "m", "rows": []})

    assert fault["message"].startswith("rows is not a field; the fields are model, method, ")


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse(JobRequest, [])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"model": "m"} | {f"x{number}": 1 for number in range(1000)}, id="fields"),
        pytest.param({name: [] for name in ("kind", "model", "method", "top_k", "priority")}, id="types"),
    ],
)
def test_no_more_than_twenty_faults_are_told(body: dict[str, Any]) -> None:
    assert len(faults(body)) <= MOST_ERRORS


def test_a_retry_takes_the_failed_rows_unless_it_says_otherwise() -> None:
    assert parse(RetryRequest, {}).only == "failed"
    assert parse(RetryRequest, {"only": "all"}).only == "all"


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"],
)
def test_json_is_read_under_every_name_that_it_has(media_type: str) -> None:
    assert read_json(request_with(b'{"a": 1}', media_type)) == {"a": 1}


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_another_media_type_is_refused(media_type: str | None) -> None:
    with pytest.raises(RequestFault, match="Send the body as application/json") as caught:
        read_json(request_with(b"{}", media_type))

    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"{}{}", id="two"),
        pytest.param(b"[NaN]", id="nan"),
        pytest.param(b"[1e999]", id="infinity"),
        pytest.param(b'["\xff"]', id="not-utf-8"),
        pytest.param(b'["\\ud800"]', id="half-a-character"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestFault, match="The body is not JSON") as caught:
        read_json(request_with(body))

    assert (caught.value.status, caught.value.code) == (400, "malformed_json")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 65 + b"]" * 65, id="arrays"),
        pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, id="objects"),
        pytest.param(b"[" * 100_000, id="never-closed"),
        pytest.param(b'["\\\\", ' + b"[" * 64 + b"]" * 65, id="after-an-escape"),
    ],
)
def test_a_body_that_is_nested_too_deeply_is_refused(body: bytes) -> None:
    with pytest.raises(RequestFault, match="more than 64 deep") as caught:
        read_json(request_with(body))

    assert (caught.value.status, caught.value.code) == (400, "json_too_deep")


def test_brackets_in_strings_and_side_by_side_are_not_deep() -> None:
    rows = [["[" * 100, "{" * 100, '"' + "[" * 100]] * 100

    assert read_json(request_with(orjson.dumps(rows))) == rows


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(RequestFault, match="without Content-Encoding") as caught:
        read_json(request_with(gzip.compress(b"{}"), HTTP_CONTENT_ENCODING="gzip"))

    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")


def test_a_body_that_ends_before_its_time_is_refused() -> None:
    with pytest.raises(Exception, match=r"bytes were announced|could not understand") as caught:
        read_json(request_with(b"{}", CONTENT_LENGTH="10"))

    assert (getattr(caught.value, "status", None) or getattr(caught.value, "code", None)) == 400


def test_a_body_past_the_limit_is_not_read() -> None:
    request = request_with(b"[" + b"1," * 1000 + b"1]")
    request.max_content_length = 100

    with pytest.raises(RequestEntityTooLarge):
        read_json(request)
