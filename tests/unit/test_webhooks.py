"""What a webhook says, how it is signed, and when it is tried again; without Redis and without a network."""

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.delivery import INTERRUPTED, NONE_LEFT, DeliveryStatus, Leased, load_delivery
from shared.errors import InvalidRequest
from shared.event import gone_event, job_event
from shared.job import Counts, Job, Spec, Status
from shared.receiver import Receiver
from shared.settings import Settings
from shared.store import JobStore
from shared.webhooks import Webhooks
from tests.conftest import CaptureLogs
from tests.unit.fakes import make_job
from worker.exchange import Exchange, NotSent
from worker.stopping import Stopping
from worker.webhooks import JITTER, Sender, lengthened, signed

FIRST = "whsec_" + base64.b64encode(b"1" * 32).decode()
SECOND = "whsec_" + base64.b64encode(b"2" * 32).decode()
MADE = datetime(2026, 1, 31, 12, 0, 0, 123_000, UTC)
LEASED = Leased(
    id="msg_j1",
    fence="1",
    attempt=1,
    lost=False,
    at_millis=1_769_860_800_123,
    ring=False,
    owner="team-a",
    host="example.com",
    type="job.succeeded",
    url="https://example.com/hook?token=hunter2",
    created_at=MADE,
    job_id="j1",
    payload=b'{"a":1}',
    secrets=(FIRST,),
)


def finished(status: Status = Status.SUCCEEDED, **fields: Any) -> Job:
    return make_job(status=status, finished_at=MADE, counts=Counts(total=3, succeeded=2, failed=1), **fields)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([(FIRST,), (SECOND, FIRST)]))
def test_a_signature_is_what_the_public_library_verifies(text: str, secrets: tuple[str, ...]) -> None:
    payload = orjson.dumps({"text": text})

    headers = signed(replace(LEASED, secrets=secrets), payload, datetime.now(UTC))

    assert [Webhook(secret).verify(payload, headers) for secret in secrets] == [{"text": text}] * len(secrets)
    assert len(headers["webhook-signature"].split(" ")) == len(secrets)


def test_a_signature_is_the_one_that_the_specification_describes() -> None:
    headers = signed(LEASED, b'{"a":1}', MADE)

    key = base64.b64decode(FIRST.removeprefix("whsec_"))
    expected = hmac.new(key, b'msg_j1.1769860800.{"a":1}', hashlib.sha256).digest()
    assert headers["webhook-id"] == "msg_j1"
    assert headers["webhook-timestamp"] == "1769860800"
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


@pytest.mark.parametrize("change", ["payload", "id", "timestamp", "secret"])
def test_a_signature_holds_for_nothing_else(change: str) -> None:
    payload, secret = b'{"a":1}', FIRST
    headers = signed(LEASED, payload, datetime.now(UTC))

    match change:
        case "payload":
            payload = b'{"a":2}'
        case "id":
            headers["webhook-id"] = "msg_j2"
        case "timestamp":
            headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) + 1)
        case "secret":
            secret = SECOND

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(payload, headers)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_an_event_is_named_after_the_status(status: Status) -> None:
    event = job_event(finished(status))

    assert (event["type"], event["data"]["status"]) == (f"job.{status}", status.value)
    assert event["timestamp"] == event["data"]["finished_at"] == "2026-01-31T12:00:00.123Z"


def test_an_event_says_what_a_receiver_needs_and_no_prediction() -> None:
    spec = Spec(requested="m", model="m", version=3, sha256="ab", method="predict", metadata={"ticket": "42"})

    data = job_event(finished(spec=spec, predictions=b"[1,2,3]"))["data"]

    assert data["model"] == {"requested": "m", "name": "m", "version": 3, "sha256": "ab"}
    assert data["counts"] == {"total": 3, "pending": 0, "succeeded": 2, "failed": 1, "skipped": 0}
    assert (data["id"], data["kind"], data["metadata"], data["failure"]) == ("j1", "predict", {"ticket": "42"}, None)
    assert data["links"] == {"self": "/jobs/j1", "errors": "/jobs/j1/errors", "result": "/jobs/j1/result"}
    assert "predictions" not in str(data)


def test_an_event_of_a_failed_job_says_why_and_links_no_result() -> None:
    failure = {"code": "worker_lost", "message": "It ended.", "errors": [{"row": 1}]}

    data = job_event(finished(Status.FAILED, failure=failure))["data"]

    assert data["failure"] == {"code": "worker_lost", "message": "It ended."}
    assert "result" not in data["links"]


def test_the_event_of_a_job_that_is_gone_has_the_same_fields() -> None:
    there, gone = job_event(finished()), gone_event(LEASED)

    assert set(gone["data"]) == set(there["data"])
    assert {name: value for name, value in gone["data"].items() if value} == {
        "id": "j1",
        "status": "succeeded",
        "finished_at": "2026-01-31T12:00:00.123Z",
    }


class Outbox:
    """Gives out one delivery, and keeps what came of it."""

    def __init__(self, leased: Leased) -> None:
        self.leased: Leased | None = leased
        self.committed: list[tuple[DeliveryStatus, dict[str, Any], float]] = []

    def pull(self, **_: Any) -> Leased | None:
        leased, self.leased = self.leased, None
        return leased

    def commit(self, _: Leased, status: DeliveryStatus, entry: dict[str, Any], *, pause_seconds: float) -> bool:
        self.committed.append((status, entry, pause_seconds))
        return True


class Scripted(Exchange):
    """Answers as it is told."""

    answer: int | Exception

    def post(self, receiver: Receiver, body: bytes, headers: Any, *, owner: str) -> int:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def sent(
    answer: int | Exception, leased: Leased = LEASED, **values: Any
) -> tuple[DeliveryStatus, dict[str, Any], float]:
    """What is written about an attempt that is answered so."""
    exchange = Scripted(allowed=(), timeout_seconds=1, tls=cast(Any, None))
    object.__setattr__(exchange, "answer", answer)
    outbox, settings = Outbox(leased), Settings(**values)
    Sender(cast(Webhooks, outbox), cast(JobStore, None), lambda _: None, settings, Stopping(), exchange).deliver()
    (committed,) = outbox.committed
    return committed


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_delivery(status: int) -> None:
    outcome, entry, _ = sent(status)

    assert (outcome, entry["status"], "error" in entry) == (DeliveryStatus.DELIVERED, status, False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(301, "redirects are not followed", id="redirect"),
        pytest.param(404, "The answer was 404", id="404"),
        pytest.param(500, "The answer was 500", id="500"),
        pytest.param(100, "The answer was 100", id="100"),
        pytest.param(NotSent("Connection refused."), "Connection refused", id="not-sent"),
        pytest.param(InvalidRequest("No."), "Refused: No.", id="no-longer-allowed"),
        pytest.param(RuntimeError("hunter2"), "fault of the service", id="crash"),
    ],
)
def test_anything_else_is_tried_again_after_the_first_pause(answer: int | Exception, words: str) -> None:
    outcome, entry, pause_seconds = sent(answer)

    assert outcome is DeliveryStatus.WAITING
    assert words in entry["error"]
    assert "hunter2" not in entry["error"]
    assert 5 <= pause_seconds <= 5 * (1 + JITTER)


def test_a_receiver_that_is_gone_is_left_alone_at_once() -> None:
    outcome, entry, _ = sent(410)

    assert (outcome, entry["status"]) == (DeliveryStatus.FAILED, 410)


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [(1, DeliveryStatus.WAITING), (2, DeliveryStatus.WAITING), (3, DeliveryStatus.FAILED)],
)
def test_after_the_last_pause_it_has_failed(attempt: int, outcome: DeliveryStatus) -> None:
    assert sent(500, replace(LEASED, attempt=attempt), webhook_retry_seconds="1 2")[0] is outcome


def test_one_whose_last_process_ended_is_not_sent_again() -> None:
    outcome, entry, _ = sent(RuntimeError("it was sent"), replace(LEASED, attempt=10, lost=True))

    assert (outcome, entry["error"]) == (DeliveryStatus.FAILED, INTERRUPTED)


def test_one_that_has_no_attempt_left_is_not_sent_and_nobody_says_that_a_process_ended() -> None:
    outcome, entry, _ = sent(RuntimeError("it was sent"), replace(LEASED, attempt=0))

    assert (outcome, entry["attempt"], entry["error"]) == (DeliveryStatus.FAILED, 0, NONE_LEFT)


def test_the_address_of_what_was_refused_is_in_the_log_of_the_service_alone(capture_logs: CaptureLogs) -> None:
    refused = NotSent("Refused.", address="10.3.4.5", reason="private")

    with capture_logs() as logs:
        _, entry, _ = sent(refused)

    assert "10.3.4.5" not in str(entry)
    (logged,) = [line for line in logs if line["event"] == "webhook.not_delivered"]
    assert (logged["address"], logged["reason"], logged["error"]) == ("10.3.4.5", "private", "Refused.")


def test_without_a_secret_nothing_is_sent() -> None:
    outcome, entry, _ = sent(RuntimeError("it was sent"), replace(LEASED, secrets=()))

    assert outcome is DeliveryStatus.WAITING
    assert "POST /webhooks/secret" in entry["error"]


def test_the_pauses_are_from_seconds_to_a_day() -> None:
    pauses = Settings().webhook_pauses

    assert (pauses[0], pauses[-1], len(pauses)) == (5, 86_400, 9)
    assert list(pauses) == sorted(pauses)


@given(st.floats(0, 86_400))
def test_chance_makes_a_pause_longer_by_a_fifth_at_most(pause: float) -> None:
    assert pause <= lengthened(pause) <= pause * 1.2 + 1e-6


def test_pauses_that_failed_together_do_not_end_together() -> None:
    assert len({lengthened(30) for _ in range(20)}) > 10


def entry_of(*log: dict[str, Any], sending: int = 0) -> list[Any]:
    fields = [b"job.failed", b"j1", b"https://e/", b"waiting", b"2", b"1769860800123", None]
    return [b"msg_j1", fields, b"1769860805123", None, [orjson.dumps(entry) for entry in log], sending]


def test_an_attempt_whose_process_ended_says_so() -> None:
    begun = {"attempt": 2, "at": 1_769_860_801_000}

    told, under_way = load_delivery(entry_of(begun)), load_delivery(entry_of(begun, sending=1))

    assert [attempt.error for attempt in told.log] == [INTERRUPTED]
    assert [attempt.error for attempt in under_way.log] == [None]
    assert told.next_attempt_at == datetime(2026, 1, 31, 12, 0, 5, 123_000, UTC)
    assert told.log[0].at - told.created_at == timedelta(milliseconds=877)
