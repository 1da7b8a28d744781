"""What is answered past Flask is answered as by Flask, word for word; and an error on the way changes nothing twice."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from flask import request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.application import Application
from api.shortcut import Shortcut
from shared.api_keys import Scope
from shared.errors import StoreUnavailable
from shared.meter import METER
from shared.records import Accepted, Submission
from shared.tracing import TRACING
from tests.integration.apis import Api, online_work, pull
from tests.models import RAISE, register_moody
from tests.wait import until

MakeApi = Callable[..., Api]
ROWS: Final = {"model": "moody", "instances": [[1.0], [2.0]]}
# What differs from one request to the next: ids, moments, and how much waits or is left.
VARYING: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{16}\b|\d{4}-\d\d-\d\dT[\d:.]+Z"
    rb'|(?<="queue_position":)\d+|(?<=;r=)\d+'
)
# More of them than the loop checks by itself, see api/front/small_jobs.py.
MANY: Final = [[1.0]] * 3000
UNKNOWN: Final = "/jobs/01a219cb-5970-7a73-9416-705b08a22ab8"
DEEP: Final = b'{"model":"moody","instances":' + b"[" * 60 + b"]" * 60 + b"}"


@dataclass(frozen=True)
class Sent:
    """A request; `past`: whether its answer comes past Flask."""

    method: str = "POST"
    path: str = "/jobs"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    past: bool = False
    token: str = ""  # of the keys that the test makes


def rows(more: Mapping[str, Any] | None = None, *, past: bool = True, **headers: str) -> Sent:
    """A submit of rows."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent(body=json.dumps({**ROWS, **(more or {})}).encode(), headers=named, past=past)


def look(path: str = "{job}", *, past: bool = True, method: str = "GET", **headers: str) -> Sent:
    """A look at a job; `{job}` is one that waits, `{gone}` one that was deleted."""
    return Sent(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}, past=past)


REQUESTS: Final[Mapping[str, Sent]] = {
    "rows": rows(),
    "rows by column": rows({"instances": [{"x": 1.0}]}),
    "rows with options": rows({"metadata": {"a": [1]}, "priority": "high", "deadline_seconds": 60}),
    "rows that are waited for": rows(Prefer="wait=0"),
    "rows with a key": rows(Idempotency_Key="k"),
    "rows of a trace": rows(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "rows with an id": rows(X_Request_Id="mine"),
    "rows with a bad id": rows(X_Request_Id="not mine"),
    "a number that is whole": rows({"result_ttl_seconds": 60.0}),
    "many rows": rows({"instances": MANY}),
    "many rows that are waited for": rows({"instances": MANY}, Prefer="wait=0"),
    "many rows with a key": rows({"instances": MANY}, Idempotency_Key="k"),
    "many rows of which one is too long": rows({"instances": [*MANY, [1.0, 2.0]]}, past=False),
    "many rows for an unknown model": rows({"model": "nobody", "instances": MANY}, past=False),
    "many rows and an unknown kind": rows({"kind": "register", "instances": MANY}, past=False),
    "no JSON": Sent(body=b"{"),
    "no object": Sent(body=b"[]"),
    "nothing": Sent(body=b""),
    "JSON that is too deep": Sent(body=DEEP),
    "a body that is too large": Sent(body=b" " * 2_000_000),
    "an unknown field": rows({"instance": 1}, past=False),
    "an unknown model": rows({"model": "nobody"}, past=False),
    "an unknown method": rows({"method": "transform"}, past=False),
    "a row that is too long": rows({"instances": [[1.0], [1.0, 2.0]]}, past=False),
    "no rows": rows({"instances": []}, past=False),
    "metadata that are too large": rows({"metadata": {"a": "x" * 100_000}}, past=False),
    "a webhook without a secret": rows({"webhook": {"url": "https://93.184.216.34/"}}, past=False),
    "an unknown kind": rows({"kind": "register"}, past=False),
    "a job over a file that is not there": rows({"input": {"file_id": UNKNOWN[6:]}, "instances": None}, past=False),
    "a key that is too long": rows(Idempotency_Key="k" * 300, past=False),
    "rows as another type": Sent(body=b"{}", headers={"Content-Type": "application/x-ours+json"}),
    "rows that are compressed": rows(Content_Encoding="gzip", past=False),
    "a check only": Sent(path="/jobs?validate_only=true", body=json.dumps(ROWS).encode()),
    "a query that is none": Sent(path="/jobs?a=1", body=json.dumps(ROWS).encode()),
    "a look": look(),
    "a look with an id": look(X_Request_Id="mine"),
    "a look without its body": look(method="HEAD", past=False),
    "a look at the known revision": look(If_None_Match='"1"'),
    "a look at one of two known revisions": look(If_None_Match='W/"0", "1"'),
    "a look at another revision": look(If_None_Match='"9"'),
    "a look at whether there is one": look(If_None_Match="*", past=False),
    "a look at whether there is one that is gone": look("{gone}", If_None_Match="*", past=False),
    "a look that waits for nothing": look(Prefer="wait=0"),
    "a look that waits": look(Prefer="wait=1"),
    "a look that prefers something else": look(Prefer="respond-async"),
    "a look that waits for another revision": look(Prefer="wait=1", If_None_Match='"1"'),
    "a look that waits and knows another revision": look(Prefer="wait=1", If_None_Match='"9"'),
    "a look that waits for what is gone": look("{gone}", Prefer="wait=1", past=False),
    "a look with a query": look("{job}?a=1", past=False),
    "a look at nothing": look(UNKNOWN, past=False),
    "a look at what is no job": look("/jobs/one", past=False),
    "a look at what is gone": look("{gone}", past=False),
    "a look from another origin": look(Origin="https://example.org", past=False),
    "rows to another host": rows(Host="example.org", past=False),
    "rows through a proxy": rows(X_Forwarded_For="10.0.0.1", past=False),
    "a host of another user": look(Host="evil.com@127.0.0.1", past=False),
    "rows to a host of another user": rows(Host="evil.com@127.0.0.1", past=False),
    "a host with a path": look(Host="127.0.0.1/evil.com", Origin="http://127.0.0.1/evil.com", past=False),
    "a host with a port that is none": look(Host="localhost:99999", past=False),
    "a host with the usual port": look(Host="localhost:80"),
    "a page of our own": look(Host="localhost:80", Origin="http://localhost"),
    "a page of our own that names its port": look(Host="localhost:80", Origin="http://localhost:80", past=False),
    "rows with a charset": rows(Content_Type="application/json; charset=utf-8", past=False),
    "rows that are no text": rows(Content_Type="text/plain", past=False),
    "rows that are announced to be endless": rows(Content_Length="9" * 18, past=False),
    "rows that are cut off": rows(Content_Length="2000", past=False),
    "jobs with a slash": look("/jobs/", past=False),
    "a look with a body": Sent("GET", "{job}", body=b"{}"),
    "another method": look("/jobs", method="PUT", past=False),
}
WITH_KEYS: Final[Mapping[str, Sent]] = {
    "rows": Sent(body=json.dumps(ROWS).encode(), token="all", past=True),
    "rows from elsewhere": Sent(
        body=json.dumps(ROWS).encode(), token="all", headers={"Host": "example.org"}, past=True
    ),
    "rows without a key": Sent(body=json.dumps(ROWS).encode()),
    "rows with a key that is none": Sent(body=json.dumps(ROWS).encode(), headers={"Authorization": "Bearer ft_x"}),
    "rows with a key that may read": Sent(body=json.dumps(ROWS).encode(), token="reads"),
    "rows with a key that is counted": Sent(body=json.dumps(ROWS).encode(), token="counted"),
    "more rows than its owner may have waiting": Sent(body=json.dumps(ROWS).encode(), token="few"),
    "a look": Sent("GET", "{job}", token="reads", past=True),
    "a look at another owner's": Sent("GET", "{job}", token="other"),
    "a look with a key that is counted": Sent("GET", "{job}", token="counted"),
    "a look with a key that may not": Sent("GET", "{job}", token="models"),
}


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """The API, with the model."""
    api = make_api(max_metadata_bytes=1000, max_body_bytes=1_000_000)
    register_moody(api.settings)
    return api


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that Flask was asked for."""
    paths: list[str] = []
    dispatch = Application.full_dispatch_request

    def noted(app: Application) -> Any:
        paths.append(request.path)
        return dispatch(app)

    monkeypatch.setattr(Application, "full_dispatch_request", noted)
    return paths


def send(client: FlaskClient, sent: Sent, places: Mapping[str, str]) -> TestResponse:
    """The answer to a request."""
    headers = dict(sent.headers)
    length = headers.pop("Content-Length", None)  # which the client would set itself
    about: dict[str, Any] = {"headers": headers, "data": sent.body}
    if length is not None:
        about["environ_overrides"] = {"CONTENT_LENGTH": length}
    if sent.body is not None and "Content-Type" not in sent.headers:
        about["content_type"] = "application/json"
    return client.open(sent.path.format_map(places), method=sent.method, **about)


def told(response: TestResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """What can be compared of an answer."""
    fields = sorted((name, VARYING.sub(b"*", value.encode()).decode()) for name, value in response.headers)
    return response.status_code, fields, VARYING.sub(b"*", response.data)


def waiting(client: FlaskClient) -> str:
    """Where a new job is that waits."""
    response = client.post("/jobs", json=ROWS)
    assert response.status_code == 202, response.text
    return response.headers["Location"]


def compare(client: FlaskClient, sent: Sent, places: Mapping[str, str], asked: list[str]) -> None:
    """See that a request is answered as by Flask alone, and that Flask was asked or not as it should be."""
    asked.clear()
    response = send(client, sent, places)
    past = not asked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shortcut, "_look", lambda self, environ: None)
        patch.setattr(Shortcut, "_submit", lambda self, environ: None)
        assert told(response) == told(send(client, sent, places))
    assert past == sent.past


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_without_keys(name: str, api: Api, asked: list[str]) -> None:
    client = api.client
    gone = waiting(client)
    assert client.post(f"{gone}/cancel").status_code == 202
    assert client.delete(gone).status_code == 204
    places = {"job": waiting(client), "gone": gone}

    compare(client, REQUESTS[name], places, asked)


@pytest.mark.parametrize("name", WITH_KEYS)
def test_a_request_with_keys(name: str, api: Api, asked: list[str]) -> None:
    clients = {
        "": api.client,
        "all": api.client_of("ann"),
        "reads": api.client_of("ann", scopes=[Scope.JOBS_READ]),
        "models": api.client_of("ann", scopes=[Scope.MODELS_READ]),
        "counted": api.client_of("ann", {"requests_per_second": 1000}),
        "few": api.client_of("ann", {"waiting_jobs": 1}),
        "other": api.client_of("bob"),
    }
    places = {"job": waiting(clients["all"])}
    sent = WITH_KEYS[name]

    compare(clients[sent.token], sent, places, asked)


def test_a_submit_whose_answer_from_redis_is_lost_is_not_done_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = api.services.store.submit

    def lost(job: Submission) -> Accepted:
        submit(job)
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(api.services.store, "submit", lost)
        response = api.client.post("/jobs", json=ROWS, headers={"X-Request-Id": "mine"})

    assert response.status_code == 503
    assert response.headers["X-Request-Id"] == "mine"
    jobs = (api.client.get("/jobs").json or {})["jobs"]
    assert [api.services.store.read(job["id"]).spec.request_id for job in jobs] == ["mine"]  # type: ignore[union-attr]


def test_what_nobody_expected_is_answered(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.services.store, "read", lambda *_, **__: 1 / 0)

    response = api.client.get(UNKNOWN)

    assert response.status_code == 500
    assert (response.json or {})["code"] == "internal"


def test_rows_are_accepted_once_under_their_key(api: Api) -> None:
    places = [
        api.client.post("/jobs", json=ROWS, headers={"Idempotency-Key": "k"}).headers["Location"] for _ in range(2)
    ]

    assert len(set(places)) == 1


def test_a_process_that_stops_says_so(api: Api) -> None:
    place = waiting(api.client)
    api.services.stopping.begin()

    assert api.client.get(place).headers["Connection"] == "close"
    assert api.client.post("/jobs", json=ROWS).headers["Connection"] == "close"


def test_a_process_that_stops_while_a_client_waits_says_so(api: Api) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(lambda: api.client.post("/jobs", json=ROWS, headers={"Prefer": "wait=10"}))
        until(lambda: api.services.waiters.waiting("default") == 1)
        api.services.stopping.begin()

    assert sent.result().headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("error", "status"),
    [pytest.param(StoreUnavailable, 503, id="known"), pytest.param(ZeroDivisionError, 500, id="not")],
)
def test_an_error_at_the_gate_is_answered_without_asking_again(
    error: type[Exception], status: int, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def raising() -> bool:
        nonlocal asked
        asked += 1
        raise error

    monkeypatch.setattr(api.services.api_keys, "exist", raising)

    assert api.client.get(UNKNOWN).status_code == api.client.post("/jobs", json=ROWS).status_code == status
    assert asked == 2


def test_a_refusal_is_counted_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(METER, "add", lambda field, amount=1: counted.append(field))

    api.client.post("/jobs", json={**ROWS, "model": "nobody"})

    assert [field for field in counted if "refus" in field] == [
        "refusals_total model_not_found",
        "jobs_refused_total model_not_found",
    ]


@pytest.fixture
def done_at_once(api: Api) -> Iterator[None]:
    """A thread of this process that does what a worker does."""
    work, ending = online_work(api), threading.Event()

    def go_on() -> None:
        while not ending.is_set():
            unit = pull(work)
            if unit is None:
                ending.wait(0.01)
            else:
                work.do(unit)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        yield
        ending.set()
    going.result()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(rows(Prefer="wait=10"), "succeeded", id="rows"),
        pytest.param(rows({"instances": [[1.0], [RAISE]]}, Prefer="wait=10"), "partially_succeeded", id="bad-row"),
        pytest.param(look(), "succeeded", id="look"),
    ],
)
@pytest.mark.usefixtures("done_at_once")
def test_a_job_that_is_done(sent: Sent, status: str, api: Api, asked: list[str]) -> None:
    place = waiting(api.client)
    assert api.client.get(place, headers={"Prefer": "wait=10"}).status_code == 200

    compare(api.client, sent, {"job": place}, asked)

    assert (send(api.client, sent, {"job": place}).json or {})["status"] == status


@pytest.mark.parametrize("values", [{"cors_origins": "https://example.org"}, {"tracing": True}])
def test_where_more_is_to_be_told_flask_is_asked(
    values: dict[str, Any], make_api: MakeApi, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TRACING, "on", False)  # afterwards too
    api = make_api(**values)
    register_moody(api.settings)
    asked.clear()

    waiting(api.client)

    assert asked == ["/jobs"]
