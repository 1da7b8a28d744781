"""Webhooks from the end of a job to a receiver, by a real Celery worker over real connections."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.queue import WEBHOOKS
from shared.settings import Settings
from tests.integration.conftest import Service
from tests.integration.receivers import Receiver
from tests.models import FINE, RAISE, SLOW
from tests.processes import Process, free_port, start_worker
from tests.rabbitmq import chosen_broker
from tests.wait import until

MakeReceiver = Callable[..., Receiver]


class Sending(Service):
    """A service that sends webhooks to loopback, with one secret."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.start_worker()
        self.start_janitor()
        self.sender = self.start_worker(WEBHOOKS)
        self.start_api()
        self.secret: str = self.http("POST", "/webhooks/secret").json["secret"]

    def start_sender(self, **values: Any) -> None:
        """Start another sender in place of the one that was, with settings of its own."""
        self.sender.stop()
        settings = self.settings.model_copy(update=values)
        self.sender = self.keep(start_worker(settings, WEBHOOKS))

    def submit(self, url: str, value: float = FINE, **more: Any) -> str:
        """Submit a job with a webhook; its id."""
        return str(self.http.submit("moody", [[value]], webhook={"url": url}, **more)["id"])

    def delivery(self, job_id: str) -> Any:
        """The delivery of a job that is done, with its log."""
        return self.http("GET", f"/webhooks/deliveries/msg_{job_id}").json

    def ended(self, job_id: str, status: str) -> Any:
        """The delivery, once it has this status."""
        until(lambda: self.delivery(job_id).get("status") == status, what=f"the delivery is {status}")
        return self.delivery(job_id)


@contextlib.contextmanager
def sending_service(**values: Any) -> Iterator[Sending]:
    """Such a service with a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    quick = {"lease_seconds": 2, "janitor_seconds": 0.5, "workers": 1, "api_processes": 1, "log_format": "json"}
    place = {"port": free_port(), "data_dir": folder / "var", "webhook_networks": "127.0.0.1"}
    service = Sending(Settings.model_validate(quick | place | chosen_broker() | values))
    try:
        yield service
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sending() -> Iterator[Sending]:
    """One that gives up soon."""
    with sending_service(webhook_retry_seconds="0.2 0.2 0.2 0.2") as service:
        yield service


@pytest.fixture(scope="module")
def patient() -> Iterator[Sending]:
    """One that gives up late, but waits for no answer for long."""
    with sending_service(webhook_retry_seconds=" ".join(["0.2"] * 200), webhook_timeout_seconds=1) as service:
        yield service


@pytest.fixture
def make_receiver() -> Iterator[MakeReceiver]:
    made: list[Receiver] = []

    def make(*arguments: Any, **more: Any) -> Receiver:
        made.append(Receiver(*arguments, **more))
        return made[-1]

    yield make
    for receiver in made:
        receiver.stop()


def test_the_end_of_a_job_is_delivered_once_and_signed(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()

    job_id = sending.submit(receiver.url("/hook?a=b"), metadata={"ticket": "42"})

    (got,) = receiver.wait(1)
    event = got.verified(sending.secret)
    job = sending.http("GET", f"/jobs/{job_id}").json
    assert (got.path, got.id, event["type"]) == ("/hook?a=b", f"msg_{job_id}", "job.succeeded")
    assert event["timestamp"] == job["finished_at"]
    shown = {name: job[name] for name in ("id", "kind", "status", "model", "counts", "created_at", "finished_at")}
    assert {name: event["data"][name] for name in shown} == shown
    assert (event["data"]["metadata"], event["data"]["failure"]) == ({"ticket": "42"}, None)
    assert "predictions" not in got.body.decode()
    delivery = sending.ended(job_id, "delivered")
    assert [(entry["attempt"], entry["status"], entry["error"]) for entry in delivery["log"]] == [(1, 200, None)]
    assert delivery["payload"] == event
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("value", "type", "failure"),
    [(RAISE, "job.failed", None), (SLOW + 50, "job.failed", "deadline_exceeded")],
    ids=["a-row-that-fails", "a-deadline"],
)
def test_a_job_that_fails_is_told_of_too(
    sending: Sending, make_receiver: MakeReceiver, value: float, type: str, failure: str | None
) -> None:
    receiver = make_receiver()

    sending.submit(receiver.url(), value, deadline_seconds=1)

    (got,) = receiver.wait(1)
    event = got.verified(sending.secret)
    assert event["type"] == type
    assert failure in (None, event["data"]["failure"]["code"])


def test_a_cancelled_job_is_told_of_too(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    job_id = sending.submit(receiver.url(), SLOW + 20)

    sending.http("POST", f"/jobs/{job_id}/cancel")

    assert receiver.wait(1)[0].event["type"] == "job.cancelled"


def test_what_a_receiver_does_not_take_is_sent_again_with_the_same_bytes(
    sending: Sending, make_receiver: MakeReceiver
) -> None:
    receiver = make_receiver(lambda number: 200 if number == 3 else 500)

    job_id = sending.submit(receiver.url())

    got = receiver.wait(3)
    delivery = sending.ended(job_id, "delivered")
    assert [(entry["attempt"], entry["status"]) for entry in delivery["log"]] == [(3, 200), (2, 500), (1, 500)]
    assert len({(one.id, one.body) for one in got}) == 1
    assert [one.verified(sending.secret)["data"]["id"] for one in got] == [job_id] * 3


def test_a_receiver_that_never_takes_it_is_given_up(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(lambda number: 503)

    delivery = sending.ended(sending.submit(receiver.url()), "failed")

    assert (delivery["attempts"], len(receiver.got), delivery["next_attempt_at"]) == (5, 5, None)


def test_a_receiver_that_is_gone_is_asked_once(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(lambda number: 410)

    delivery = sending.ended(sending.submit(receiver.url()), "failed")

    assert (delivery["attempts"], len(receiver.got)) == (1, 1)


def test_a_redirect_is_not_followed(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(lambda number: 302)

    delivery = sending.ended(sending.submit(receiver.url()), "failed")

    assert [got.path for got in receiver.got] == ["/hook"] * 5
    assert "redirects are not followed" in delivery["log"][0]["error"]


def test_a_receiver_that_is_down_is_tried_until_it_is_up(patient: Sending, make_receiver: MakeReceiver) -> None:
    port = free_port()
    job_id = patient.submit(f"http://127.0.0.1:{port}/hook")
    until(lambda: patient.delivery(job_id).get("attempts", 0) >= 3, what="two attempts have failed")

    receiver = make_receiver(port=port)

    delivery = patient.ended(job_id, "delivered")
    assert len(receiver.got) == 1
    assert {entry["error"] for entry in delivery["log"][1:]} == {"Connection refused."}


@pytest.mark.parametrize(
    ("number", "words"),
    [pytest.param(signal.SIGKILL, "ended while it sent", id="kill -9"),
     pytest.param(signal.SIGTERM, "longer than 1 s", id="SIGTERM")],
)  # fmt: skip
def test_a_worker_that_ends_while_it_sends_loses_nothing(
    patient: Sending, make_receiver: MakeReceiver, number: signal.Signals, words: str
) -> None:
    receiver = make_receiver(lambda number: None if number == 1 else 200)
    job_id = patient.submit(receiver.url())
    receiver.wait(1)

    patient.sender.popen.send_signal(number)
    patient.sender.popen.wait(30)
    patient.start_sender()

    first, again = receiver.wait(2, 40)
    delivery = patient.ended(job_id, "delivered")
    assert (first.id, first.body) == (again.id, again.body)
    assert again.verified(patient.secret)["data"]["id"] == job_id
    assert [entry["attempt"] for entry in delivery["log"]] == [2, 1]
    assert words in delivery["log"][1]["error"]


def test_a_slow_receiver_delays_neither_jobs_nor_another(sending: Sending, make_receiver: MakeReceiver) -> None:
    slow, quick = make_receiver(lambda number: None), make_receiver()
    for _ in range(20):
        sending.submit(slow.url())
    slow.wait(2)

    job_ids = [sending.submit(quick.url().replace("127.0.0.1", "127.1")) for _ in range(5)]

    # Two are being sent to the slow one, which never answers, and eighteen wait for it.
    assert [job["status"] for job in sending.finished(job_ids)] == ["succeeded"] * 5
    assert {got.id for got in quick.wait(5)} == {f"msg_{job_id}" for job_id in job_ids}
    assert len(slow.got) == 2


def test_secrets_overlap_after_a_rotation(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver, first = make_receiver(), sending.secret
    second = sending.secret = sending.http("POST", "/webhooks/secret").json["secret"]

    sending.submit(receiver.url())

    (got,) = receiver.wait(1)
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    assert got.verified(first) == got.verified(second) == got.event


def test_a_job_that_is_deleted_before_it_was_told_of_is_told_of(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    sending.sender.stop()
    job_id = sending.submit(receiver.url())
    finished_at = sending.http.done(job_id)["finished_at"]
    assert sending.http("DELETE", f"/jobs/{job_id}").status == 204

    sending.start_sender()

    event = receiver.wait(1)[0].verified(sending.secret)
    assert event["type"] == "job.succeeded"
    known = {name: value for name, value in event["data"].items() if value}
    assert known == {"id": job_id, "status": "succeeded", "finished_at": finished_at}


def test_what_was_delivered_can_be_sent_once_more(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    job_id = sending.submit(receiver.url())
    sending.ended(job_id, "delivered")

    answer = sending.http("POST", f"/webhooks/deliveries/msg_{job_id}/redeliver")

    first, again = receiver.wait(2)
    assert (answer.status, answer.json["status"]) == (202, "waiting")
    assert (first.id, first.body) == (again.id, again.body)
    assert sending.ended(job_id, "delivered")["attempts"] == 1


def test_a_receiver_can_be_tried(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()

    answer = sending.http("POST", "/webhooks/test", {"url": receiver.url()})

    assert (answer.status, answer.json["job_id"]) == (202, None)
    (got,) = receiver.wait(1)
    assert got.verified(sending.secret)["type"] == "webhook.test"
    assert got.id == answer.json["id"]


def test_a_retry_tells_where_the_job_did(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    job_id = sending.submit(receiver.url(), RAISE)
    receiver.wait(1)

    retry = sending.http("POST", f"/jobs/{job_id}/retry", {"only": "all"}).json

    assert retry["webhook"] == {"url": receiver.url()}
    assert {got.id for got in receiver.wait(2)} == {f"msg_{job_id}", f"msg_{retry['id']}"}


def test_an_address_that_is_forbidden_by_now_is_not_called(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    sending.sender.stop()
    job_id = sending.submit(receiver.url())

    sending.start_sender(webhook_networks="")
    try:
        delivery = sending.ended(job_id, "failed")
    finally:
        sending.start_sender()

    assert receiver.got == []
    assert all(entry["error"].startswith("Refused: The address 127.0.0.1") for entry in delivery["log"])


def test_a_redis_that_was_killed_has_every_webhook(patient: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    patient.sender.stop()
    job_ids = [patient.submit(receiver.url()) for _ in range(5)]
    patient.finished(job_ids)

    patient.redis.kill()
    patient.restart_redis()
    patient.start_sender()

    assert {got.id for got in receiver.wait(5, 60)} == {f"msg_{job_id}" for job_id in job_ids}


@pytest.fixture
def shared_by_teams() -> Iterator[Sending]:
    """A service with keys, which nobody without one can use any more."""
    with sending_service() as service:
        yield service


def test_each_owner_has_its_own_webhooks(shared_by_teams: Sending, make_receiver: MakeReceiver) -> None:
    sending, receiver = shared_by_teams, make_receiver()
    keys = {"root": sending.http("POST", "/keys", {"name": "root", "scopes": ["admin"]}).json["key"]}

    def call(owner: str, method: str, path: str, body: Any = None) -> Any:
        return sending.http(method, path, body, Authorization=f"Bearer {keys[owner]}")

    for owner in ("team-a", "team-b"):
        wish = {"name": owner, "owner": owner, "scopes": ["jobs:read", "jobs:write"]}
        keys[owner] = call("root", "POST", "/keys", wish).json["key"]
    secrets = {owner: call(owner, "POST", "/webhooks/secret").json["secret"] for owner in ("team-a", "team-b")}
    job = {"model": "moody", "instances": [[FINE]], "webhook": {"url": receiver.url()}}

    job_id = call("team-a", "POST", "/jobs", job).json["id"]

    (got,) = receiver.wait(1)
    assert got.verified(secrets["team-a"])["data"]["id"] == job_id
    path = f"/webhooks/deliveries/msg_{job_id}"
    assert call("team-a", "GET", path).status == 200
    assert [call("team-b", method, path + more).status for method, more in (("GET", ""), ("POST", "/redeliver"))] == [
        404,
        404,
    ]
    assert call("team-b", "GET", "/webhooks/deliveries").json["deliveries"] == []
    assert len(call("team-a", "GET", "/webhooks/deliveries").json["deliveries"]) == 1


def libraries(worker: Process) -> set[str]:
    """The folders of the native libraries that a process has loaded."""
    paths = [entry.path for entry in psutil.Process(worker.pid).memory_maps()]
    return {path.partition("site-packages/")[2].partition("/")[0] for path in paths if "site-packages/" in path}


def test_the_process_that_sends_does_without_machine_learning(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    sending.submit(receiver.url())
    receiver.wait(1)

    loaded = libraries(sending.sender)

    assert loaded
    assert {"sklearn", "numpy", "scipy", "pyarrow"}.isdisjoint(loaded)
    assert "sklearn" in libraries(sending.processes[0])


def test_the_log_names_no_path_of_a_receiver(sending: Sending, make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(lambda number: 200 if number == 2 else 500)

    job_id = sending.submit(receiver.url("/hunter2"))

    sending.ended(job_id, "delivered")
    until(lambda: '"webhook.delivered"' in sending.sender.text(), what="it is logged")
    assert "webhook.not_delivered" in sending.sender.text()
    assert f"127.0.0.1:{receiver.port}" in sending.sender.text()
    assert "hunter2" not in sending.sender.text()
