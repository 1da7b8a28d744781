"""`/openapi.json`: a valid document, and every answer is as it says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from examples.small_network import network
from tests.processes import Answer, Http
from tests.system.access import batch_of
from tests.system.rows import LINEAR
from tests.system.service import Barrier, HeldFile, Service
from tests.system.trainings import labelled, line

WAIT = {"Prefer": "wait=30"}
NO_WAIT = {"Prefer": "wait=0"}
ROWS = labelled(50)
# Two more rows than the model takes.
TOO_LONG = [*LINEAR, 1, 2]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, by the path in the document, and the status that it must have."""

    method: str
    path: str
    status: int
    job: str = ""
    name: str = "linear"
    version: str = "1"
    alias: str = "production"
    delivery: str = "nobody"
    content: str = "nobody"
    query: str = ""
    body: Any = None
    raw: bytes | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.method} {self.path}{self.query} {self.status} {self.job}".strip()

    def send(self, http: Http, jobs: dict[str, str]) -> Answer:
        """The answer."""
        path = self.path.format(
            job_id=jobs.get(self.job, self.job), name=jobs.get(self.name, self.name), version=self.version,
            batch_id=jobs.get(self.job, self.job), content_id=jobs.get(self.content, self.content),
            member=self.version, alias=self.alias, file_id="nobody", key_id="nobody",
            delivery_id=jobs.get(self.delivery, self.delivery),
        )  # fmt: skip
        return http(self.method, path + self.query, self.body, raw=self.raw, **self.headers)


JOB = "/jobs/{job_id}"
MODEL = "/models/{name}"
ALIAS = f"{MODEL}/aliases/{{alias}}"
DELIVERY = "/webhooks/deliveries/{delivery_id}"
V1_FILE = "/v1/files/{content_id}"
V1_BATCH = "/v1/batches/{batch_id}"
BATCH = {"input_file_id": "nobody", "endpoint": "/v1/predictions", "completion_window": "24h"}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n--b--\r\n'
)
MULTIPART = {"Content_Type": "multipart/form-data; boundary=b"}
V2_MODEL = "/v2/models/{name}"
V2_VERSION = f"{V2_MODEL}/versions/{{member}}"
TENSOR = {"name": "input", "datatype": "FP64", "shape": [1, 3], "data": LINEAR}
ASYNC = {"Prefer": "respond-async"}
CSV = {"Content_Type": "text/csv"}
ONNX = {"Content_Type": "application/onnx"}
CALLS = [
    Call(method="POST", path="/jobs", status=202, body={"model": "linear", "instances": [LINEAR]}),
    Call(method="POST", path="/jobs", status=200, body={"model": "linear", "instances": [LINEAR]}, headers=WAIT),
    Call(
        method="POST",
        path="/jobs",
        status=200,
        query="?validate_only=true",
        body={"model": "linear", "inputs": [LINEAR]},
    ),
    Call(method="POST", path="/jobs", status=422, body={"model": "linear", "instances": [TOO_LONG]}),
    Call(method="POST", path="/jobs", status=422, body={"model": "linear", "instances": [["a", 0, 0]]}),
    Call(method="POST", path="/jobs", status=404, body={"model": "nobody", "instances": [LINEAR]}),
    Call(method="POST", path="/jobs", status=422, query="?model=linear", raw=b"x1\n1\n", headers=CSV),
    Call(method="POST", path="/jobs", status=404, body={"model": "linear", "input": {"file_id": "nobody"}}),
    Call(method="POST", path="/files", status=201, raw=b"x1,x2,x3\n1,2,3\n", headers=CSV),
    Call(method="POST", path="/files", status=415, body={}),
    Call(method="GET", path="/files/{file_id}", status=404),
    Call(method="DELETE", path="/files/{file_id}", status=404),
    Call(method="POST", path="/predict", status=200, body={"x1": 0, "x2": 0, "x3": 0}, headers=WAIT),
    Call(method="POST", path="/predict", status=422, query="?model=lookup", body={"text": "unknown"}, headers=WAIT),
    Call(method="GET", path="/jobs", status=200),
    Call(method="GET", path="/jobs", status=400, query="?limit=0"),
    Call(method="GET", path=JOB, status=200, job="running"),
    Call(method="GET", path=JOB, status=200, job="succeeded"),
    Call(method="GET", path=JOB, status=200, job="partially_succeeded"),
    Call(method="GET", path=JOB, status=200, job="failed"),
    Call(method="GET", path=JOB, status=200, job="cancelled"),
    Call(method="GET", path=JOB, status=200, job="large"),
    Call(method="GET", path=JOB, status=304, job="succeeded", headers={"If_None_Match": '"3"'}),
    Call(method="GET", path=JOB, status=404, job="nobody"),
    Call(method="GET", path=JOB, status=410, job="deleted"),
    Call(method="DELETE", path=JOB, status=204, job="disposable"),
    Call(method="DELETE", path=JOB, status=409, job="running"),
    Call(method="POST", path=f"{JOB}/cancel", status=202, job="cancellable"),
    Call(method="POST", path=f"{JOB}/cancel", status=200, job="cancelled"),
    Call(method="POST", path=f"{JOB}/cancel", status=409, job="succeeded"),
    Call(method="POST", path=f"{JOB}/retry", status=202, job="succeeded", body={"only": "all"}),
    Call(method="POST", path=f"{JOB}/retry", status=200, job="succeeded", body={"only": "all"}, headers=WAIT),
    Call(method="POST", path=f"{JOB}/retry", status=409, job="succeeded"),
    Call(method="GET", path=f"{JOB}/result", status=200, job="succeeded"),
    Call(method="GET", path=f"{JOB}/result", status=200, job="partially_succeeded"),
    Call(method="GET", path=f"{JOB}/result", status=206, job="succeeded", headers={"Range": "bytes=0-9"}),
    Call(method="GET", path=f"{JOB}/result", status=409, job="running"),
    Call(method="GET", path=f"{JOB}/errors", status=200, job="partially_succeeded"),
    Call(method="GET", path=f"{JOB}/manifest", status=409, job="succeeded"),
    Call(method="GET", path=f"{JOB}/events", status=200, job="succeeded"),
    Call(method="GET", path="/models", status=200),
    Call(method="GET", path="/models/{name}", status=200),
    Call(method="GET", path="/models/{name}", status=404, name="nobody"),
    Call(method="GET", path="/models/{name}/versions/{version}", status=200),
    Call(method="GET", path="/models/{name}/versions/{version}", status=404, version="99"),
    Call(method="POST", path=f"{MODEL}/versions", status=201, name="own", raw=network(), headers=ONNX),
    Call(method="POST", path=f"{MODEL}/versions", status=202, name="own", raw=network(), headers=ONNX | NO_WAIT),
    Call(method="POST", path=f"{MODEL}/versions", status=422, name="own", raw=b"nonsense", headers=ONNX),
    Call(method="POST", path=f"{MODEL}/versions", status=415, name="own", body={}),
    Call(method="POST", path=f"{MODEL}/retrain", status=202, name="trained", query="?target=y", raw=ROWS, headers=CSV),
    Call(
        method="POST",
        path=f"{MODEL}/retrain",
        status=200,
        name="trained",
        query="?target=y&validate_only=true",
        raw=ROWS,
        headers=CSV,
    ),
    Call(method="POST", path=f"{MODEL}/retrain", status=422, name="trained", query="?target=z", raw=ROWS, headers=CSV),
    Call(method="GET", path=ALIAS, status=200),
    Call(method="GET", path=ALIAS, status=404, alias="nobody"),
    Call(method="PUT", path=ALIAS, status=200, name="own", alias="canary", body={"version": 1, "why": "tried"}),
    Call(method="PUT", path=ALIAS, status=412, name="own", body={"version": 1}, headers={"If_Match": '"99"'}),
    Call(method="PUT", path=ALIAS, status=404, name="own", body={"version": 99}),
    Call(method="DELETE", path=ALIAS, status=204, name="own", alias="disposable"),
    Call(method="DELETE", path=ALIAS, status=409, name="own"),
    Call(method="POST", path=f"{MODEL}/rollback", status=200, name="turned"),
    Call(method="POST", path=f"{MODEL}/rollback", status=409, body={"why": "tried"}),
    Call(method="DELETE", path=f"{MODEL}/versions/{{version}}", status=204, name="own", version="2"),
    Call(method="DELETE", path=f"{MODEL}/versions/{{version}}", status=409, name="own", version="3"),
    Call(method="DELETE", path=MODEL, status=204, name="removed"),
    Call(method="DELETE", path=MODEL, status=404, name="nobody"),
    # A key would shut out all others of this service; tests/system/test_access.py makes them.
    Call(method="GET", path="/keys", status=200),
    Call(method="POST", path="/keys", status=422, body={"name": "k", "scopes": ["everything"]}),
    Call(method="GET", path="/keys/{key_id}", status=404),
    Call(method="POST", path="/keys/{key_id}/rotate", status=404, body={"overlap_seconds": 0}),
    Call(method="DELETE", path="/keys/{key_id}", status=404),
    Call(method="GET", path="/limits", status=200),
    Call(method="GET", path="/overview", status=200),
    Call(method="GET", path="/metrics", status=200),
    Call(method="GET", path="/whoami", status=200),
    Call(method="GET", path="/overview", status=200, headers={"If_None_Match": "*"}),
    Call(method="POST", path="/webhooks/secret", status=201),
    Call(method="GET", path="/webhooks", status=200),
    Call(method="POST", path="/webhooks/test", status=202, body={"url": "https://nobody.invalid/"}),
    Call(method="POST", path="/webhooks/test", status=422, body={"url": "https://127.0.0.1/"}),
    Call(method="GET", path="/webhooks/deliveries", status=200),
    Call(method="GET", path="/webhooks/deliveries", status=400, query="?status=done"),
    Call(method="GET", path=DELIVERY, status=200, delivery="delivery"),
    Call(method="GET", path=DELIVERY, status=404),
    Call(method="POST", path=f"{DELIVERY}/redeliver", status=202, delivery="delivery"),
    Call(method="POST", path=f"{DELIVERY}/redeliver", status=404),
    Call(method="GET", path=f"{MODEL}/drift", status=200),
    Call(method="GET", path=f"{MODEL}/drift", status=400, query="?limit=0"),
    Call(method="PUT", path=f"{MODEL}/schedule", status=422, body={"cron": "nonsense"}),
    Call(method="GET", path=f"{MODEL}/schedule", status=404),
    Call(method="DELETE", path=f"{MODEL}/schedule", status=404),
    Call(method="GET", path="/limits", status=200),
    Call(method="GET", path="/v2", status=200),
    Call(method="GET", path="/v2/health/live", status=200),
    Call(method="GET", path="/v2/health/ready", status=200),
    Call(method="GET", path=V2_MODEL, status=200),
    Call(method="GET", path=V2_MODEL, status=404, name="nobody"),
    Call(method="GET", path=f"{V2_MODEL}/ready", status=200),
    Call(method="GET", path=V2_VERSION, status=200),
    Call(method="GET", path=f"{V2_VERSION}/ready", status=200),
    Call(method="POST", path=f"{V2_MODEL}/infer", status=200, body={"inputs": [TENSOR]}),
    Call(method="POST", path=f"{V2_MODEL}/infer", status=202, body={"inputs": [TENSOR]}, headers=ASYNC),
    Call(method="POST", path=f"{V2_MODEL}/infer", status=422, body={"inputs": [TENSOR | {"datatype": "BOOL"}]}),
    Call(method="POST", path=f"{V2_VERSION}/infer", status=200, body={"id": "a", "inputs": [TENSOR]}),
    Call(method="POST", path=f"{V2_VERSION}/infer", status=404, version="99", body={"inputs": [TENSOR]}),
    Call(method="POST", path="/invocations", status=200, body={"inputs": [LINEAR]}),
    Call(method="POST", path="/invocations", status=202, body={"instances": [LINEAR]}, headers=ASYNC),
    Call(method="POST", path="/invocations", status=200, raw=b"x1,x2,x3\n1,2,3\n", headers=CSV),
    Call(method="POST", path="/invocations", status=422, body={"inputs": [TOO_LONG]}),
    Call(method="GET", path="/ping", status=200),
    Call(method="GET", path="/health", status=200),
    Call(method="POST", path="/v1/files", status=415, raw=b"x1,x2,x3\n1,2,3\n", headers=CSV),
    Call(method="POST", path="/v1/files", status=200, raw=FORM, headers=MULTIPART),
    Call(method="GET", path="/v1/files", status=200),
    Call(method="GET", path="/v1/files", status=400, query="?limit=0"),
    Call(method="GET", path=V1_FILE, status=200, content="file"),
    Call(method="GET", path=V1_FILE, status=200, content="output"),
    Call(method="GET", path=V1_FILE, status=404),
    Call(method="GET", path=f"{V1_FILE}/content", status=200, content="file"),
    Call(method="GET", path=f"{V1_FILE}/content", status=200, content="output"),
    Call(method="GET", path=f"{V1_FILE}/content", status=404),
    Call(method="DELETE", path=V1_FILE, status=200, content="disposable file"),
    Call(method="DELETE", path=V1_FILE, status=409, content="output"),
    Call(method="POST", path="/v1/batches", status=404, body=BATCH),
    Call(method="POST", path="/v1/batches", status=422, body=BATCH | {"endpoint": "/v1/embeddings"}),
    Call(method="GET", path="/v1/batches", status=200),
    Call(method="GET", path="/v1/batches", status=404, query="?after=nobody"),
    Call(method="GET", path=V1_BATCH, status=200, job="batch"),
    Call(method="GET", path=V1_BATCH, status=404, job="succeeded"),
    Call(method="POST", path=f"{V1_BATCH}/cancel", status=409, job="batch"),
    Call(method="GET", path="/v1/models", status=200),
    Call(method="GET", path="/v1/models/{name}", status=200),
    Call(method="GET", path="/v1/models/{name}", status=404, name="nobody"),
    Call(method="GET", path="/healthz", status=200),
    Call(method="GET", path="/readyz", status=200),
    Call(method="GET", path="/version", status=200),
]


@pytest.fixture(scope="module")
def document(http: Http) -> dict[str, Any]:
    answer = http("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    openapi: dict[str, Any] = answer.json
    return openapi


def sent_file(http: Http) -> str:
    """A new file; its id."""
    return str(http("POST", "/files", raw=ROWS, Content_Type="text/csv").json["id"])


def the_id(http: Http, model: str, instances: list[Any], status: str, **more: Any) -> str:
    """A new job, done with this status."""
    job = http.done(http.submit(model, instances, **more)["id"])
    assert job["status"] == status, job
    return str(job["id"])


@pytest.fixture(scope="module")
def jobs(http: Http, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A job in every state, by its name, and models to be changed; the calls come in any order."""
    own, turned = line(service), line(service)
    for model in (own, own, turned):
        line(service, slope=2, name=model)
    http("PUT", f"/models/{own}/aliases/disposable", {"version": 1})
    gates = tmp_path_factory.mktemp("gates")
    barrier, held = Barrier(http, gates), HeldFile(http, gates)
    cancelled = barrier.hold()["id"]
    http("POST", f"/jobs/{cancelled}/cancel")
    barrier.let_through(cancelled)
    http.done(cancelled)
    deleted = the_id(http, "linear", [LINEAR], "succeeded")
    http("DELETE", f"/jobs/{deleted}")
    http("POST", "/webhooks/secret")
    many = [[number % 7, *[0] * 23] for number in range(4000)]
    batch = batch_of(http)
    yield {
        "batch": batch,
        "output": f"{batch}-output",
        "file": sent_file(http),
        "disposable file": sent_file(http),
        "own": own,
        "trained": line(service),
        "turned": turned,
        "removed": line(service),
        "cancelled": cancelled,
        "deleted": deleted,
        "succeeded": the_id(http, "linear", [LINEAR], "succeeded"),
        "disposable": the_id(http, "linear", [LINEAR], "succeeded"),
        "partially_succeeded": the_id(http, "lookup", ["known", "unknown"], "partially_succeeded"),
        "failed": the_id(http, "lookup", ["unknown"], "failed"),
        "delivery": http("POST", "/webhooks/test", {"url": "https://nobody.invalid/"}).json["id"],
        "large": the_id(http, "recommend", many, "succeeded", method="predict_proba"),
        # One prediction process is left for the calls themselves.
        "running": barrier.hold()["id"],
        # One of its own: it ends as soon as its process is slow to renew its lease.
        "cancellable": held.half_done()["id"],
    }
    barrier.open()
    held.end()


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)


def test_every_operation_of_the_document_is_called_here(document: dict[str, Any]) -> None:
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert operations == {(call.method, call.path) for call in CALLS}


@pytest.mark.parametrize("call", [pytest.param(call, id=call.id) for call in CALLS])
def test_an_answer_is_as_the_document_says(
    http: Http, document: dict[str, Any], jobs: dict[str, str], call: Call
) -> None:
    described = document["paths"][call.path][call.method.lower()]["responses"]

    answer = call.send(http, jobs)

    assert answer.status == call.status, answer.body
    response = described.get(str(answer.status)) if answer.status < 400 else described["default"]
    assert response is not None, f"{answer.status} is not documented, only {', '.join(described)}"
    contents = response.get("content", {})
    media_type = answer.headers.get("content-type", "")
    if contents and answer.body:
        # What comes behind a semicolon, such as a version, is for who reads it.
        media_type = media_type.partition(";")[0]
        assert media_type in contents
        if media_type.endswith(("/json", "+json")) and "schema" in contents[media_type]:
            assert faults(answer.json, contents[media_type]["schema"], document) == []


def test_a_schedule_is_as_the_document_says(http: Http, service: Service, document: dict[str, Any]) -> None:
    path = f"/models/{line(service)}/schedule"
    file_id = http("POST", "/files", raw=ROWS, Content_Type="text/csv").json["id"]
    body = {"cron": "0 3 1 1 *", "input": {"file_id": file_id}, "target": "y"}

    answers = {"put": http("PUT", path, body), "get": http("GET", path)}
    removed = http("DELETE", path)

    assert removed.status == 204
    for method, answer in answers.items():
        described = document["paths"][f"{MODEL}/schedule"][method]["responses"]["200"]
        assert answer.status == 200, answer.body
        assert faults(answer.json, described["content"]["application/json"]["schema"], document) == []


def faults(answer: Any, schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Where an answer is not as its schema says, undocumented fields included."""
    whole = {**schema, "components": document["components"]}
    found = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(whole).iter_errors(answer)
    ]
    named = schema.get("$ref", "").rpartition("/")[2]
    if named and isinstance(answer, dict):
        fields = document["components"]["schemas"][named]["properties"]
        found += [f"{name} is not documented" for name in answer if name not in fields]
    return found
