"""`POST /models/<name>/versions`: an artifact is audited, loaded and tried by a worker before it is a version."""

import http.client
import io
import json
import os
import pickle
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_wine
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from examples.small_network import network, predicted
from tests.kept import Kept, short_folder, started_again
from tests.processes import Answer, Http
from tests.system.estimators import Deadly
from tests.system.service import Service, files_below
from tests.system.test_openapi import faults
from tests.system.test_uploads import begin, chunk, cut_off
from tests.system.trainings import aliases, own_name, versions
from tests.unit.graphs import endless
from tests.wait import until

WINE = load_wine()
NAMES = [name.replace("/", "_") for name in WINE.feature_names]
SAMPLE = "\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in WINE.data[::15].tolist()), ""]).encode()
MODEL = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(WINE.data, WINE.target)
SKOPS = bytes(skops.io.dumps(MODEL))
LIMIT_BYTES = 300_000
UNPACKED_BYTES = 2**20


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


def as_joblib(estimator: Any) -> bytes:
    """Its joblib file."""
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    """A zip archive; `__` in the name of a member is a slash."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return file.getvalue()


def with_member(name: str, data: bytes) -> bytes:
    """A good artifact with one more member."""
    file = io.BytesIO(SKOPS)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def form(artifact: bytes, *, sample: bytes | None = SAMPLE, **options: Any) -> bytes:
    """The body of a form with the boundary XX."""
    parts = {"artifact": artifact, "sample": sample, "options": json.dumps(options).encode() if options else None}
    files = {"artifact": "model.bin", "sample": "rows.csv"}
    body = b""
    for name, data in parts.items():
        if data is not None:
            file = f'; filename="{files[name]}"' if name in files else ""
            body += f'--XX\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return body + b"--XX--\r\n"


def send(http: Http, model: str, artifact: bytes, *, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """The answer to an artifact with its sample."""
    sent: dict[str, Any] = {"Content_Type": "multipart/form-data; boundary=XX"} | (headers or {})
    return http("POST", f"/models/{model}/versions", raw=form(artifact, **more), **sent)


def refused(answer: Answer, code: str) -> str:
    """What a 422 says."""
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json"), answer.body
    codes = {answer.json["code"], *(error["code"] for error in answer.json["errors"])}
    assert code in codes, answer.body
    return str(answer.json["detail"])


@pytest.fixture
def model() -> str:
    return own_name("wine")


def owners(service: Service) -> set[str]:
    """The jobs and models that have files, and all that there are."""
    there = {
        f"{folder}/{path.partition('/')[0]}" for folder in ("jobs", "models") for path in files_below(service, folder)
    }
    jobs = service.http("GET", "/jobs?limit=200").json["jobs"]
    models = service.http("GET", "/models").json["models"]
    return (
        there
        | {f"jobs/{job['id']}" for job in jobs if job["kind"] != "register"}
        | {f"models/{model['name']}" for model in models}
    )


@pytest.fixture
def nothing_left(service: Service) -> Iterator[None]:
    """No job and no model keeps anything that was not there before; what others do meanwhile is theirs."""
    before = owners(service)
    yield
    until(lambda: owners(service) <= before, 30, "the upload has left nothing")


@pytest.fixture(scope="module")
def lax(kept: Kept) -> Iterator[Service]:
    """A service that takes pickles, but nothing large."""
    with short_folder() as folder:
        service = started_again(
            kept, folder, allow_pickle_uploads=True, max_artifact_bytes=LIMIT_BYTES,
            max_unpacked_artifact_bytes=UNPACKED_BYTES, max_attempts=2, check_timeout_seconds=5,
        )  # fmt: skip
        yield service
        service.stop()


def test_an_artifact_that_passes_is_a_version_that_predicts(http: Http, service: Service, model: str) -> None:
    answer = send(http, model, SKOPS, description="grower of a wine")

    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"/models/{model}/versions/1"
    assert answer.json == http("GET", answer.headers["location"]).json
    assert (answer.json["description"], answer.json["format"]) == ("grower of a wine", "skops")
    assert [feature["name"] for feature in answer.json["signature"]["features"]] == NAMES
    job = http.done(http.submit(model, WINE.data[:50:7].tolist())["id"])
    assert job["result"]["predictions"] == MODEL.predict(WINE.data[:50:7]).tolist()
    check = http("GET", f"/jobs/{answer.json['source_job']}").json
    assert (check["kind"], check["status"], check["result"]["version"]) == ("register", "succeeded", 1)
    until(lambda: not files_below(service, f"jobs/{check['id']}"), what="what was sent is a version now, and no more")


def test_production_points_to_a_first_version_and_to_others_when_somebody_wants_it(http: Http, model: str) -> None:
    wanted: list[dict[str, Any]] = [{}, {}, {"alias": "canary"}, {"alias": "production"}]
    seen = []

    for options in wanted:
        assert send(http, model, SKOPS, **options).status == 201
        seen.append(aliases(http, model))

    assert seen == [
        {"production": 1}, {"production": 1}, {"production": 1, "canary": 3}, {"production": 4, "canary": 3},
    ]  # fmt: skip


def test_an_onnx_file_needs_nothing_but_itself(http: Http, model: str) -> None:
    answer = http("POST", f"/models/{model}/versions", raw=network(), Content_Type="application/octet-stream")

    assert (answer.status, answer.json["format"]) == (201, "onnx"), answer.body
    rows = np.random.default_rng(0).normal(size=(3, 4))
    job = http.done(http.submit(model, rows.tolist())["id"])
    assert job["result"]["predictions"] == pytest.approx(predicted(rows), rel=1e-5)


def test_what_accelerate_came_to_is_in_the_version(http: Http, model: str) -> None:
    answer = send(http, model, SKOPS, accelerate="onnx")

    assert answer.status == 201, answer.body
    assert (answer.json["accelerated"]["wanted"], type(answer.json["accelerated"]["used"])) == ("onnx", bool)
    assert answer.json["accelerated"]["reason"]


def test_what_is_no_tree_ensemble_is_left_alone_unless_it_is_asked_for(http: Http, model: str) -> None:
    answers = [send(http, model, SKOPS), send(http, model, SKOPS, accelerate="off")]

    chosen, off = [answer.json["accelerated"] for answer in answers]
    assert (chosen["wanted"], chosen["used"]) == ("auto", False)
    assert "LogisticRegression is none of the tree ensembles" in chosen["reason"]
    assert off == {}


def test_a_key_that_is_sent_twice_makes_one_version(http: Http, model: str) -> None:
    key = {"Idempotency-Key": own_name("key")}

    first, again = send(http, model, SKOPS, headers=key), send(http, model, SKOPS, headers=key)
    other = send(http, model, SKOPS, headers=key, description="another")

    assert (first.status, again.status, first.json) == (201, 201, again.json)
    assert versions(http, model) == [1]
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


def test_a_client_that_does_not_wait_gets_the_job_that_checks(http: Http, model: str) -> None:
    answer = send(http, model, SKOPS, headers={"Prefer": "wait=0"})
    job = http.done(answer.json["id"])

    assert (answer.status, answer.headers["location"]) == (202, f"/jobs/{job['id']}")
    assert (job["status"], job["model"]["version"], job["result"]["version"]) == ("succeeded", None, 1)
    assert http("GET", job["links"]["result"]).json["version"] == 1


def test_types_that_are_not_trusted_are_named_with_what_to_do(http: Http, model: str, nothing_left: None) -> None:
    unsafe = make_pipeline(FunctionTransformer(subprocess.Popen), LinearRegression())

    answer = send(http, model, bytes(skops.io.dumps(unsafe)))

    detail = refused(answer, "unsafe_artifact")
    assert "subprocess.Popen" in detail
    assert "FORETELL_TRUSTED_TYPES" in detail
    assert [error["type"] for error in answer.json["errors"]] == ["subprocess.Popen"]
    assert http("GET", f"/models/{model}").status == 404


@pytest.mark.parametrize("format", [None, "joblib", "skops"], ids=["unsaid", "said", "as-skops"])
@pytest.mark.parametrize("dump", [as_joblib, pickle.dumps], ids=["joblib", "pickle"])
def test_a_pickle_is_refused_and_nothing_of_it_runs(
    http: Http, model: str, folder: Path, nothing_left: None, dump: Any, format: str | None
) -> None:
    answer = send(http, model, dump(Harmful(folder / "ran")), format=format)

    refused(answer, "model_unusable" if format == "skops" else "pickle_refused")
    assert not (folder / "ran").exists()
    assert http("GET", f"/models/{model}").status == 404


def test_a_pickle_by_itself_is_refused_too(http: Http, model: str, folder: Path, nothing_left: None) -> None:
    path, data = f"/models/{model}/versions", as_joblib(Harmful(folder / "ran"))

    answers = [
        http("POST", path + query, raw=data, Content_Type="application/octet-stream")
        for query in ("?format=joblib", "", "?format=onnx")
    ]

    assert [answer.status for answer in answers] == [422] * 3
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("artifact", "code", "words"),
    [
        pytest.param(SKOPS[:-500], "model_unusable", "damaged or incomplete", id="truncated"),
        pytest.param(SKOPS[:2000] + b"\0" + SKOPS[2001:], "model_unusable", "damaged", id="a-byte-changed"),
        pytest.param(b"PK\x03\x04nonsense", "model_unusable", "damaged or incomplete", id="only-begins-as-a-zip"),
        pytest.param(zipped(readme=b"hello"), "model_unusable", "schema.json", id="another-zip"),
        pytest.param(zipped(**{"schema.json": b"{}"}), "model_unusable", "skops", id="an-empty-schema"),
        pytest.param(with_member("../evil", b"x"), "unsafe_artifact", "leads elsewhere", id="parent-folder"),
        pytest.param(with_member("/etc/passwd", b"x"), "unsafe_artifact", "leads elsewhere", id="absolute"),
        pytest.param(with_member("a\\b", b"x"), "unsafe_artifact", "leads elsewhere", id="backslash"),
        pytest.param(b"\x08\x0anonsense", "model_unusable", "ONNX", id="no-onnx"),
        pytest.param(b"import os", "unknown_format", "skops nor as an ONNX", id="text"),
        pytest.param(b"", "empty_file", "The artifact is empty", id="empty"),
    ],
)
def test_what_is_no_artifact_is_refused_with_the_reason(
    http: Http, model: str, nothing_left: None, artifact: bytes, code: str, words: str
) -> None:
    answer = send(http, model, artifact)

    assert words in refused(answer, code)
    assert http("GET", f"/models/{model}").status == 404


@pytest.mark.parametrize(
    ("sample", "code", "words"),
    [
        pytest.param(
            b"a,b\n1,2\n", "model_unusable", "as matrix or table or dataframe: predict raised", id="other-columns"
        ),
        pytest.param(SAMPLE.partition(b"\n")[0] + b"\n", "invalid_input", "no rows", id="no-rows"),
        pytest.param(b"", "bad_sample", "The sample is empty", id="empty"),
        pytest.param(b"a,b\n1\n", "bad_sample", "cannot be read as csv", id="no-table"),
        pytest.param(SKOPS, "bad_sample", "cannot be read as csv", id="the-artifact-itself"),
        pytest.param(None, "sample_missing", "-F sample=@rows.csv", id="none"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_the_reason(
    http: Http, model: str, nothing_left: None, sample: bytes | None, code: str, words: str
) -> None:
    answer = send(http, model, SKOPS, sample=sample)

    detail = refused(answer, code)
    assert words in detail
    assert detail.isprintable()


@pytest.mark.parametrize(
    ("head", "body", "code"),
    [
        pytest.param(
            "Content-Type: application/octet-stream\r\nContent-Length: 100000", SKOPS, "incomplete_body", id="length"
        ),
        pytest.param(
            "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked", chunk(SKOPS), "length_required",
            id="chunked",
        ),
        pytest.param(
            "Content-Type: multipart/form-data; boundary=XX\r\nTransfer-Encoding: chunked", chunk(form(SKOPS)[:5000]),
            "incomplete_body", id="form",
        ),
    ],
)  # fmt: skip
def test_an_artifact_that_is_cut_off_leaves_nothing(
    service: Service, model: str, nothing_left: None, head: str, body: bytes, code: str
) -> None:
    answer = cut_off(service.settings.port, f"POST /models/{model}/versions HTTP/1.1\r\n{head}", body)

    assert answer.status in (400, 411), answer.body
    assert answer.json["code"] == code


def test_a_form_without_a_length_is_taken(service: Service, model: str) -> None:
    head = f"POST /models/{model}/versions HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=XX"

    with begin(service.settings.port, f"{head}\r\nTransfer-Encoding: chunked") as connection:
        connection.sendall(chunk(form(SKOPS)) + b"0\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()

    assert response.status == 201


def test_the_answers_are_as_the_document_says(http: Http, model: str) -> None:
    document = http("GET", "/openapi.json").json
    described = document["paths"]["/models/{name}/versions"]["post"]["responses"]

    for status, answer in (
        ("201", send(http, model, SKOPS)),
        ("202", send(http, model, SKOPS, headers={"Prefer": "wait=0"})),
    ):
        assert str(answer.status) == status
        assert faults(answer.json, described[status]["content"]["application/json"]["schema"], document) == []


def test_an_artifact_that_unpacks_to_too_much_is_refused(lax: Service, model: str) -> None:
    bomb = with_member("zeros.npy", bytes(50 * UNPACKED_BYTES))
    assert len(bomb) < LIMIT_BYTES

    detail = refused(send(lax.http, model, bomb), "unsafe_artifact")

    assert "FORETELL_MAX_UNPACKED_ARTIFACT_BYTES" in detail


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "form"])
def test_an_artifact_larger_than_allowed_is_refused_before_it_is_kept(lax: Service, model: str, raw: bool) -> None:
    data = with_member("noise", np.random.default_rng(0).bytes(LIMIT_BYTES))
    before = files_below(lax, "jobs")

    answer = (
        lax.http("POST", f"/models/{model}/versions", raw=data, Content_Type="application/zip")
        if raw
        else send(lax.http, model, data)
    )

    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert str(LIMIT_BYTES) in answer.json["detail"]
    until(lambda: files_below(lax, "jobs") <= before, what="nothing is left of it")


def test_an_artifact_that_ends_its_worker_is_refused_and_the_service_goes_on(lax: Service, model: str) -> None:
    answer = send(lax.http, model, as_joblib(Deadly()))
    next_one = send(lax.http, model, as_joblib(DummyRegressor().fit([[0.0, 0.0]], [1.0])), sample=b"a,b\n1,2\n")

    refused(answer, "worker_lost")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.json["job_id"])
    assert (next_one.status, next_one.json["format"]) == (201, "joblib"), next_one.body


def test_an_artifact_that_is_never_done_with_a_row_is_refused_for_good(lax: Service, model: str) -> None:
    answer = lax.http("POST", f"/models/{model}/versions", raw=endless(), Content_Type="application/octet-stream")

    refused(answer, "timed_out")
    # It is not given another process to hold.
    assert [line["event"] for line in lax.logged()].count("unit.timed_out") == 1
    assert "retry-after" not in answer.headers
    assert send(lax.http, model, SKOPS).status == 201
