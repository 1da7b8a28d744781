"""`POST /models/<name>/versions`: what is sent, what is asked for, and what is refused before a worker looks."""

import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import request
from werkzeug.test import TestResponse

from api import artifacts
from api.intake import origin_of
from shared.records import Submission
from tests.unit.file_fakes import FileService

PATH = "/models/m/versions"
SKOPS = b"PK\x03\x04 and so on"
ONNX = b"\x08\x0a and so on"
PICKLES = [pickle.dumps([1], protocol) for protocol in range(2, 6)]
SAMPLE = b"a,b\n1,2\n"
SKOPS_FORM = {"artifact": SKOPS, "sample": SAMPLE}


@pytest.fixture
def service(tmp_path: Path) -> FileService:
    return made(tmp_path)


def made(folder: Path, **settings: Any) -> FileService:
    """A service with the route."""
    service = FileService(folder, **settings)
    service.app.register_blueprint(artifacts.routes(service.services))
    return service


def form_of(parts: dict[str, bytes]) -> tuple[bytes, str]:
    """The body of a form, and its media type."""
    names = {"artifact": "model.bin", "sample": "rows.csv"}
    body = b""
    for name, data in parts.items():
        file = f'; filename="{names[name]}"' if name in names else ""
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return body + b"--b--\r\n", "multipart/form-data; boundary=b"


def sent(service: FileService, parts: dict[str, bytes], path: str = PATH) -> TestResponse:
    """The answer to a form, which must be refused: nobody would check the artifact."""
    body, media_type = form_of(parts)
    answer = service.client.post(path, data=body, content_type=media_type)
    assert service.is_clean()
    return answer


def raw(service: FileService, data: bytes, query: str = "", **headers: str) -> TestResponse:
    """The answer to an artifact by itself, which must be refused."""
    answer = service.client.post(
        PATH + query, data=data, headers={"Content-Type": "application/octet-stream"} | headers
    )
    assert service.is_clean()
    return answer


def taken(service: FileService, parts: dict[str, bytes] | bytes, query: str = "", **headers: str) -> Submission:
    """The job that checks an artifact that is taken."""
    body, media_type = (parts, "application/zip") if isinstance(parts, bytes) else form_of(parts)
    with service.app.test_request_context(
        PATH + query, method="POST", data=body, content_type=media_type, headers=headers
    ):
        service.app.preprocess_request()
        return artifacts.received(service.services, origin_of(request), request, "m").first


def code(answer: TestResponse) -> str:
    """What an answer says is wrong."""
    assert answer.json is not None
    errors = answer.json["errors"]
    return str(errors[0]["code"] if errors else answer.json["code"])


def test_an_artifact_lies_in_storage_with_its_sample_until_it_is_checked(service: FileService) -> None:
    options = {"alias": "canary", "accelerate": "onnx", "description": "better"}

    job = taken(service, SKOPS_FORM | {"options": orjson.dumps(options)})

    wanted, storage = job.spec.register, service.services.storage
    assert wanted is not None
    assert wanted.sample is not None
    assert (job.spec.kind, job.spec.model, job.spec.version, job.queue) == ("register", "m", 0, "batch")
    assert (wanted.format, wanted.alias, wanted.accelerate, wanted.description) == ("skops", "canary", "onnx", "better")
    assert (storage.get(wanted.key), storage.get(wanted.sample.key or "")) == (SKOPS, SAMPLE)
    assert job.upload in service.noted.under_way


@pytest.mark.parametrize("parts", [("artifact", "sample"), ("sample", "artifact")], ids=["as-usual", "turned"])
def test_the_parts_come_in_any_order(service: FileService, parts: tuple[str, ...]) -> None:
    job = taken(service, {name: SKOPS_FORM[name] for name in parts})

    assert job.spec.register is not None


@pytest.mark.parametrize(
    ("data", "query", "format"),
    [
        pytest.param(ONNX, "", "onnx", id="by-its-first-bytes"),
        pytest.param(b"\x3a\x00", "?format=onnx", "onnx", id="by-what-is-said"),
    ],
)
def test_an_onnx_file_needs_no_sample(service: FileService, data: bytes, query: str, format: str) -> None:
    job = taken(service, data, query)

    assert job.spec.register is not None
    assert (job.spec.register.format, job.spec.register.sample) == (format, None)


@pytest.mark.parametrize("data", PICKLES, ids=lambda data: f"protocol-{data[1]}")
@pytest.mark.parametrize("said", [{}, {"options": b'{"format": "joblib"}'}], ids=["unsaid", "said"])
def test_a_pickle_is_refused_before_anybody_looks_into_it(
    service: FileService, data: bytes, said: dict[str, bytes]
) -> None:
    answer = sent(service, {"artifact": data, "sample": SAMPLE} | said)

    assert (answer.status_code, code(answer)) == (422, "pickle_refused")
    assert "python -m worker register" in answer.text


@pytest.mark.parametrize("said", [{}, {"options": b'{"format": "joblib"}'}], ids=["unsaid", "said"])
def test_a_pickle_is_taken_where_the_operator_allows_it(tmp_path: Path, said: dict[str, bytes]) -> None:
    service = made(tmp_path, allow_pickle_uploads=True)

    job = taken(service, {"artifact": PICKLES[-1], "sample": SAMPLE} | said)

    assert job.spec.register is not None
    assert job.spec.register.format == "joblib"


@pytest.mark.parametrize(
    ("parts", "expected", "words"),
    [
        pytest.param({"sample": SAMPLE}, "missing_part", "The part artifact is missing", id="no-artifact"),
        pytest.param({"artifact": SKOPS}, "sample_missing", "-F sample=@rows.csv", id="no-sample"),
        pytest.param({"artifact": b"", "sample": SAMPLE}, "empty_file", "The artifact is empty", id="empty"),
        pytest.param({"artifact": b"hello", "sample": SAMPLE}, "unknown_format", "skops nor as an ONNX", id="text"),
        pytest.param(SKOPS_FORM | {"colour": b"red"}, "unknown_part", "artifact and sample and options", id="part"),
        pytest.param(SKOPS_FORM | {"options": b'{"alia": "a"}'}, "unknown_field", "did you mean alias?", id="option"),
        pytest.param(SKOPS_FORM | {"options": b'{"alias": "7"}'}, "bad_alias", "is no number", id="alias"),
        pytest.param(SKOPS_FORM | {"options": b'{"alias": "a b"}'}, "bad_alias", "letters", id="alias-with-a-blank"),
        pytest.param(SKOPS_FORM | {"options": b'{"format": "h5"}'}, "literal_error", "'skops'", id="format"),
        pytest.param(SKOPS_FORM | {"options": b'{"accelerate": true}'}, "literal_error", "'onnx'", id="accelerate"),
        pytest.param(SKOPS_FORM | {"options": b"[]"}, "invalid_request", "JSON object", id="options-are-an-array"),
    ],
)
def test_a_form_that_cannot_be_a_version_is_refused(
    service: FileService, parts: dict[str, bytes], expected: str, words: str
) -> None:
    answer = sent(service, parts)

    assert (answer.status_code, code(answer)) == (422, expected)
    assert answer.json is not None
    assert words in answer.json["detail"]


def test_options_that_are_no_json_are_named(service: FileService) -> None:
    answer = sent(service, SKOPS_FORM | {"options": b"alias=x"})

    assert answer.json is not None
    assert (answer.status_code, code(answer)) == (400, "malformed_json")
    assert answer.json["detail"].startswith("The part options is not JSON: ")


@pytest.mark.parametrize(
    ("data", "query", "headers", "status", "expected"),
    [
        pytest.param(SKOPS, "", {}, 422, "sample_missing", id="skops"),
        pytest.param(PICKLES[0], "", {}, 422, "pickle_refused", id="pickle"),
        pytest.param(ONNX, "?colour=red", {}, 400, "unknown_parameter", id="parameter"),
        pytest.param(ONNX, "?format=h5", {}, 422, "literal_error", id="format"),
        pytest.param(ONNX, "", {"Content-Encoding": "gzip"}, 415, "unsupported_encoding", id="encoding"),
        pytest.param(ONNX, "", {"Content-Type": "application/json"}, 415, "unsupported_media_type", id="json"),
        pytest.param(ONNX, "", {"Content-Type": ""}, 415, "unsupported_media_type", id="no-type"),
        pytest.param(ONNX, "", {"Idempotency-Key": ""}, 400, "bad_idempotency_key", id="key"),
        pytest.param(ONNX, "", {"Repr-Digest": "sha-256=:AAAA:"}, 400, "bad_digest", id="digest"),
    ],
)
def test_an_artifact_by_itself_that_cannot_be_a_version_is_refused(
    service: FileService, data: bytes, query: str, headers: dict[str, str], status: int, expected: str
) -> None:
    answer = raw(service, data, query, **headers)

    assert (answer.status_code, code(answer)) == (status, expected), answer.text


@pytest.mark.parametrize("media_type", ["", "application/x-www-form-urlencoded"])
def test_whoever_uses_curl_is_told_how(service: FileService, media_type: str) -> None:
    answer = raw(service, SKOPS, **{"Content-Type": media_type})

    assert "curl -F artifact=@model.skops -F sample=@rows.csv" in answer.text


@pytest.mark.parametrize("name", ["m@1", "a%20b", "x" * 65, "%F0%9F%98%80"], ids=["version", "blank", "long", "emoji"])
def test_what_is_no_model_name_is_refused_with_the_rule(service: FileService, name: str) -> None:
    answer = sent(service, SKOPS_FORM, f"/models/{name}/versions")

    assert (answer.status_code, code(answer)) == (422, "bad_model_name")
    assert "up to 64 letters" in answer.text


def test_an_artifact_larger_than_allowed_is_refused_in_either_form(tmp_path: Path) -> None:
    service = made(tmp_path, max_artifact_bytes=1000)

    answers = [
        raw(service, ONNX.ljust(1001)),
        sent(service, {"artifact": SKOPS.ljust(1001), "sample": SAMPLE}),
        sent(service, {"artifact": SKOPS, "sample": b"a" * 2 * service.services.settings.max_body_bytes}),
    ]

    assert [(answer.status_code, code(answer)) for answer in answers] == [(413, "body_too_large")] * 3
    assert "1000 bytes" in answers[0].text
    assert "1000 bytes" in answers[1].text
    assert taken(service, ONNX.ljust(1000)).spec.register is not None


def test_the_same_key_means_the_same_artifact_and_the_same_options(service: FileService) -> None:
    form = SKOPS_FORM | {"options": b'{"alias": "a"}'}
    others = {"options": b'{"alias": "b"}', "artifact": SKOPS + b"2", "sample": SAMPLE * 2}
    forms = [form, *(form | {name: data} for name, data in others.items()), form]

    digests = [taken(service, parts, **{"Idempotency-Key": "k"}).idempotency for parts in forms]

    assert digests[0] == digests[-1]
    assert len({digest[1] for digest in digests if digest is not None}) == len(others) + 1
    assert len({digest[0] for digest in digests if digest is not None}) == 1
