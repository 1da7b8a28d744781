"""Traces of a service as a user starts it, as a collector on this machine gets them."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.collector import Collector, Told
from tests.integration.receivers import Receiver
from tests.kept import Kept, short_folder, started_again
from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Service, send_file
from tests.system.trainings import labelled, line, send_training
from tests.wait import until

SERVER, PRODUCER, CONSUMER = 2, 4, 5  # kinds of spans


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(kept: Kept, collector: Collector) -> Iterator[Service]:
    """A service with one prediction process, whose spans come to the collector."""
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
        service = started_again(kept, folder, workers=1, api_processes=1, tracing=True, webhook_networks="127.0.0.1")
        yield service
        service.stop()


@pytest.fixture
def http(traced: Service) -> Http:
    return traced.http


@pytest.fixture
def barrier(http: Http, folder: Path) -> Iterator[Barrier]:
    barrier = Barrier(http, folder)
    yield barrier
    barrier.open()


class Caller:
    """A client's trace, of which it sends its own span along."""

    def __init__(self) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def one(spans: list[Told], name: str) -> Told:
    """The span of a name, of which there is one."""
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, [span.name for span in spans]
    return found[0]


def test_one_trace_from_the_request_of_a_client_to_the_commit(http: Http, collector: Collector) -> None:
    caller = Caller()

    answer = http(
        "POST", "/jobs", {"model": "linear", "instances": [LINEAR, LINEAR]}, Prefer="wait=30", X_Request_Id="order-7",
        tracestate="vendor=abc", traceparent=caller.header,
    )  # fmt: skip

    spans = collector.names(
        caller.trace_id,
        *("POST /jobs", "foretell.submit", "foretell.job", "foretell.micro_batch", "foretell.predict"),
        "foretell.commit",
    )
    request, submit = one(spans, "POST /jobs"), one(spans, "foretell.submit")
    job, unit = one(spans, "foretell.job"), one(spans, "foretell.micro_batch")
    assert (request.kind, request.parent_id) == (SERVER, caller.span_id)
    assert (submit.kind, submit.parent_id) == (PRODUCER, request.span_id)
    assert (job.kind, job.parent_id, unit.parent_id) == (CONSUMER, submit.span_id, submit.span_id)
    assert unit.links == ((caller.trace_id, submit.span_id),)
    assert job.links == ((caller.trace_id, unit.span_id),)
    assert {one(spans, f"foretell.{step}").parent_id for step in ("predict", "commit")} == {unit.span_id}
    assert {span.state for span in spans} == {"vendor=abc"}
    assert not any(span.failed for span in spans)
    # The worker hears that its commit is written when the request may be answered already.
    assert request.start <= submit.start <= unit.start <= one(spans, "foretell.commit").start <= request.end
    about = {"http.request.method": "POST", "http.route": "/jobs", "url.path": "/jobs", "url.scheme": "http"}
    assert request.attributes == about | {"http.response.status_code": 200, "foretell.request.id": "order-7"}
    waited = job.attributes.pop("foretell.wait_seconds")
    assert waited >= 0
    assert job.attributes == {
        "foretell.job.id": answer.json["id"],
        "foretell.job.kind": "predict",
        "foretell.job.status": "succeeded",
        "foretell.model": "linear@1",
        "foretell.request.id": "order-7",
        "foretell.rows": 2,
        "foretell.rows.failed": 0,
        "foretell.attempt": 1,
    }
    assert (submit.attributes["foretell.job.id"], submit.attributes["foretell.rows"]) == (answer.json["id"], 2)
    assert {span.resource["service.name"] for span in spans} == {"foretell"}
    assert {span.resource["deployment.environment.name"] for span in spans} == {"tests"}
    assert {span.resource["foretell.process"] for span in (request, unit)} == {"api", "online"}


def test_jobs_of_one_micro_batch_keep_their_traces_and_are_linked(
    http: Http, collector: Collector, barrier: Barrier
) -> None:
    callers = [Caller() for _ in range(3)]
    barrier.hold()
    for caller in callers:
        http("POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, traceparent=caller.header)

    barrier.open()

    traces = {
        caller.trace_id: collector.names(caller.trace_id, "foretell.submit", "foretell.job") for caller in callers
    }
    submits = {trace_id: one(spans, "foretell.submit").span_id for trace_id, spans in traces.items()}
    units = [span for span in collector.spans() if set(span.links) == set(submits.items())]
    assert [unit.attributes["messaging.batch.message_count"] for unit in units] == [3]
    assert units[0].trace_id in submits
    assert {one(spans, "foretell.job").links for spans in traces.values()} == {((units[0].trace_id, units[0].span_id),)}
    assert {one(spans, "foretell.job").parent_id for spans in traces.values()} == set(submits.values())


def test_a_second_attempt_is_told_in_the_same_trace(
    traced: Service, http: Http, collector: Collector, folder: Path
) -> None:
    caller, gate = Caller(), folder / "gate"
    answer = http("POST", "/jobs", {"model": "gate", "instances": [str(gate)]}, traceparent=caller.header)
    until(lambda: http("GET", f"/jobs/{answer.json['id']}").json["status"] == "running", 60, "it runs")

    for process in children_of(traced, "online"):
        process.kill()
    killed = time.time_ns()
    gate.touch()

    job = one(collector.names(caller.trace_id, "foretell.job"), "foretell.job")
    assert (job.attributes["foretell.attempt"], job.attributes["foretell.job.status"]) == (2, "succeeded")
    # Of the process that took the place of the other, which may have told of its own load before it was killed.
    load = one([span for span in collector.spans(caller.trace_id) if span.start > killed], "foretell.load")
    assert load.attributes == {"foretell.model": "gate@1", "foretell.outcome": "loaded"}


def children_of(service: Service, queue: str) -> list[psutil.Process]:
    """The processes that do the work of a queue."""
    children = [child for one in service.members() if one.name() == f"worker-{queue}" for child in one.children()]
    assert children
    return children


def test_every_unit_of_a_file_is_in_the_trace_of_its_job(http: Http, collector: Collector) -> None:
    caller = Caller()

    job = send_file(http, b"text\nknown\nunknown\n", model="lookup", headers={"traceparent": caller.header}).json

    spans = collector.names(caller.trace_id, "foretell.plan", "foretell.chunk", "foretell.final")
    submit, chunk = one(spans, "foretell.submit"), one(spans, "foretell.chunk")
    units = [one(spans, f"foretell.{kind}") for kind in ("plan", "chunk", "final")]
    assert {unit.parent_id for unit in units} == {submit.span_id}
    assert {unit.attributes["foretell.job.id"] for unit in units} == {job["id"]}
    assert (chunk.attributes["foretell.rows"], chunk.attributes["foretell.rows.failed"]) == (2, 1)
    assert one(spans, "foretell.predict").parent_id == chunk.span_id
    assert {span.parent_id for span in spans if span.name == "foretell.commit"} == {chunk.span_id, units[2].span_id}


def test_every_unit_of_a_training_is_in_the_trace_of_its_job(traced: Service, http: Http, collector: Collector) -> None:
    caller, model = Caller(), line(traced)
    recipe = json.dumps({"param_grid": {"fit_intercept": [True, False]}, "folds": 2})

    answer = send_training(http, model, labelled(200), headers={"traceparent": caller.header}, recipe=recipe)

    spans = collector.names(caller.trace_id, "foretell.final")
    submit = one(spans, "foretell.submit")
    assert submit.attributes["foretell.job.id"] == answer.json["id"]
    units = [span for span in spans if span.parent_id == submit.span_id]
    assert sorted(unit.name for unit in units) == ["foretell.final", *4 * ["foretell.fit"], "foretell.plan"]
    assert {unit.attributes["foretell.job.kind"] for unit in units} == {"train"}


def test_a_webhook_carries_the_trace_of_its_job(http: Http, collector: Collector) -> None:
    caller, receiver = Caller(), Receiver()
    http("POST", "/webhooks/secret")
    body = {"model": "linear", "instances": [LINEAR], "webhook": {"url": receiver.url()}}

    http("POST", "/jobs", body, traceparent=caller.header)

    [got] = receiver.wait(1)
    receiver.stop()
    span = one(collector.names(caller.trace_id, "foretell.webhook"), "foretell.webhook")
    assert got.headers["traceparent"] == f"00-{caller.trace_id}-{span.span_id}-01"
    assert span.parent_id == one(collector.spans(caller.trace_id), "foretell.submit").span_id
    assert span.attributes["http.response.status_code"] == 200


def test_a_failed_job_is_an_error_by_its_code_and_quotes_nothing(http: Http, collector: Collector) -> None:
    caller, secret = Caller(), f"confidential{secrets.token_hex(8)}"

    http("POST", "/jobs", {"model": "lookup", "instances": [secret]}, Prefer="wait=30", traceparent=caller.header)

    job = one(collector.names(caller.trace_id, "foretell.job"), "foretell.job")
    assert job.failed
    assert (job.attributes["foretell.job.status"], job.attributes["error.type"]) == ("failed", "prediction_failed")
    assert secret not in str(collector.spans())


def test_a_retry_is_linked_to_the_job_that_it_repeats(http: Http, collector: Collector) -> None:
    first, second = Caller(), Caller()
    body = {"model": "lookup", "instances": ["unknown"]}
    job = http("POST", "/jobs", body, Prefer="wait=30", traceparent=first.header).json

    http("POST", f"/jobs/{job['id']}/retry", {}, traceparent=second.header)

    submit = one(collector.names(first.trace_id, "foretell.submit"), "foretell.submit")
    request = one(collector.names(second.trace_id, "POST /jobs/<job_id>/retry"), "POST /jobs/<job_id>/retry")
    assert request.links == ((first.trace_id, submit.span_id),)


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ],
)
def test_a_trace_that_is_not_understood_is_another_one(http: Http, collector: Collector, given: str) -> None:
    answer = http("POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, traceparent=given)

    assert answer.status == 202
    job_id = answer.json["id"]
    [submit] = of_job(collector.wait(lambda spans: bool(of_job(spans, job_id)), "its submit is told"), job_id)
    assert submit.trace_id not in given
    assert one(collector.names(submit.trace_id, "POST /jobs"), "POST /jobs").parent_id == ""


def of_job(spans: list[Told], job_id: str) -> list[Told]:
    """The submits of a job."""
    return [s for s in spans if s.name == "foretell.submit" and s.attributes["foretell.job.id"] == job_id]


def test_a_client_that_is_not_recorded_is_not(http: Http, collector: Collector) -> None:
    silent, told = Caller(), Caller()
    body: dict[str, Any] = {"model": "linear", "instances": [LINEAR]}
    unrecorded = f"{silent.header[:-2]}00"

    http("POST", "/jobs", body, Prefer="wait=30", traceparent=unrecorded)
    http("POST", "/jobs", body, Prefer="wait=30", traceparent=told.header)

    collector.names(told.trace_id, "POST /jobs", "foretell.commit")  # later, and by the same processes
    assert collector.spans(silent.trace_id) == []


def test_lines_of_the_log_have_the_ids_of_trace_request_and_job(traced: Service, http: Http) -> None:
    caller = Caller()
    # Jobs of other tests that still wait would be in the same micro-batch, and it in one of their traces.
    until(lambda: not http("GET", "/jobs?status=queued").json["jobs"], 60, "nothing else waits")

    request_id, body = f"r-{caller.span_id}", {"model": "linear", "instances": [LINEAR]}
    job_id = http("POST", "/jobs", body, X_Request_Id=request_id, traceparent=caller.header).json["id"]

    def line_of(event: str) -> dict[str, Any]:
        return next((one for one in traced.logged() if one["event"] == event and job_id in str(one)), {})

    accepted = until(lambda: line_of("job.accepted"), 60, "it is accepted")
    committed = until(lambda: line_of("unit.committed"), 60, "it is committed")
    assert (accepted["trace_id"], accepted["request_id"]) == (caller.trace_id, request_id)
    assert (committed["trace_id"], committed["trace_ids"]) == (caller.trace_id, [caller.trace_id])
    assert {len(line["span_id"]) for line in (accepted, committed)} == {16}


def test_what_monitors_ask_again_and_again_is_not_told(http: Http, collector: Collector) -> None:
    caller = Caller()

    for path in ("/healthz", "/readyz", "/metrics", "/models"):
        http("GET", path, traceparent=caller.header)

    assert [span.name for span in collector.names(caller.trace_id, "GET /models")] == ["GET /models"]
