"""Sending webhooks: pull what is due, sign it, send it, write down what came of it."""

import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from standardwebhooks import Webhook

from shared import __version__
from shared.delivery import INTERRUPTED, NONE_LEFT, DeliveryStatus, Leased
from shared.errors import InvalidRequest, NewerSchema, StoreFull, StoreUnavailable
from shared.event import gone_event, job_event
from shared.meter import METER
from shared.networks import networks_of
from shared.queue import WEBHOOKS
from shared.receiver import Receiver
from shared.settings import Settings
from shared.store import JobStore
from shared.tracing import TRACING, Attributes
from shared.webhooks import LEASE_MARGIN_SECONDS, Webhooks
from worker.drain import until_written
from worker.exchange import Exchange, NotSent
from worker.stopping import Stopping

log = structlog.get_logger()

# HTTP's "Gone": the receiver wants no more of it.
GONE: Final = 410
# Of a pause, at most so much is added by chance, so that what failed together does not come again together.
JITTER: Final = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of an attempt."""

    status: int | None  # of the receiver's answer
    error: str | None  # why it does not count, for its owner; None: it is delivered
    inside: Mapping[str, str] = field(default_factory=dict)  # what more the log of the service says, and it alone

    @classmethod
    def of(cls, status: int) -> "Answer":
        """The receiver's answer."""
        if 200 <= status < 300:
            return cls(status=status, error=None)
        if 300 <= status < 400:
            return cls(status=status, error=f"The answer was {status}; redirects are not followed.")
        return cls(status=status, error=f"The answer was {status}.")


class Sender:
    """What a worker does between two doorbells; used by several threads at once."""

    def __init__(
        self, webhooks: Webhooks, store: JobStore, call: Callable[[str], None], settings: Settings, stopping: Stopping,
        exchange: Exchange | None = None,
    ) -> None:  # fmt: skip
        self._webhooks = webhooks
        self._store = store
        self._call = call
        self._settings = settings
        self._stopping = stopping
        self._exchange = exchange or Exchange(
            allowed=networks_of(settings.webhook_networks),
            timeout_seconds=settings.webhook_timeout_seconds,
            tls=ssl.create_default_context(),
        )

    def deliver(self) -> None:
        """Answer a doorbell: send until nothing is due.

        Raises:
            StoreUnavailable, StoreFull: Redis is away; the janitor rings again when it is back.
        """
        end, answered = time.monotonic() + self._settings.drain_seconds, True
        while not self._stopping.begun and time.monotonic() < end:
            leased = self._webhooks.pull(answered=answered)
            if leased is None:
                return
            answered = False
            if leased.ring:
                self._call(WEBHOOKS)
            self._send(leased)
        # Time for Celery to look after this thread, or for the process to end; whoever is free goes on.
        if self._webhooks.due():
            self._call(WEBHOOKS)

    def _send(self, leased: Leased) -> None:
        began = time.monotonic()
        answer = self._traced(leased) if TRACING.on else self._tried(leased)
        if answer is None:
            return  # another attempt has it by now
        milliseconds = round((time.monotonic() - began) * 1000)
        entry = {"attempt": leased.attempt, "at": leased.at_millis, "milliseconds": milliseconds}
        entry |= {name: value for name in ("status", "error") if (value := getattr(answer, name)) is not None}
        status, pause_seconds = self._outcome(leased, answer)
        until_written(
            lambda: self._webhooks.commit(leased, status, entry, pause_seconds=pause_seconds), LEASE_MARGIN_SECONDS
        )
        METER.add(f"webhook_attempts_total {status.value}")
        METER.observe(("webhook_seconds", "", (1000 * milliseconds,)))
        self._log(leased, status, entry | dict(answer.inside))

    def _traced(self, leased: Leased) -> Answer | None:
        """The same within a span of the job's trace."""
        about: Attributes = {
            "http.request.method": "POST",
            "server.address": leased.host,
            "foretell.webhook.type": leased.type,
            "foretell.webhook.id": leased.id,
            "foretell.job.id": leased.job_id or "",
            "foretell.attempt": leased.attempt,
        }
        context = TRACING.below(TRACING.remote(leased.traceparent))
        with TRACING.inside(TRACING.start("foretell.webhook", about, kind="CLIENT", context=context)):
            answer = self._tried(leased)
            if answer is not None and answer.status is not None:
                TRACING.mark({"http.response.status_code": answer.status})
            if answer is not None and answer.error is not None:
                TRACING.fail(str(answer.status or "not_sent"))
            return answer

    def _tried(self, leased: Leased) -> Answer | None:
        if leased.lost:
            return Answer(status=None, error=INTERRUPTED)
        if not leased.attempt:
            return Answer(status=None, error=NONE_LEFT)
        if not leased.secrets:
            return Answer(status=None, error="There is no secret to sign it with; make one with POST /webhooks/secret.")
        try:
            payload = leased.payload or self._webhooks.freeze(leased, self._payload(leased))
            if payload is None:
                return None
            receiver = Receiver.parse(leased.url, self._exchange.allowed)
            headers = signed(leased, payload, datetime.now(UTC)) | trace_headers(leased)
            return Answer.of(self._exchange.post(receiver, payload, headers, owner=leased.owner))
        except InvalidRequest as error:
            return Answer(status=None, error=f"Refused: {error.message}")
        except NotSent as error:
            return Answer(status=None, error=str(error), inside=error.inside)
        except (StoreUnavailable, StoreFull):
            raise
        except NewerSchema as error:  # a worker of that version sends it at another attempt
            return Answer(status=None, error=error.message)
        except Exception as error:
            log.exception("webhook.crashed", delivery_id=leased.id, error=type(error).__name__)
            return Answer(status=None, error="A fault of the service itself; its log has the details.")

    def _payload(self, leased: Leased) -> bytes:
        assert leased.job_id is not None  # noqa: S101  # what belongs to no job has its payload from the start
        job = self._store.read_many([leased.job_id])[leased.job_id]
        return orjson.dumps(gone_event(leased) if job is None else job_event(job))

    def _outcome(self, leased: Leased, answer: Answer) -> tuple[DeliveryStatus, float]:
        """What becomes of the delivery, and when it is tried again."""
        if answer.error is None:
            return DeliveryStatus.DELIVERED, 0
        pauses = self._settings.webhook_pauses
        if leased.lost or answer.status == GONE or not 1 <= leased.attempt <= len(pauses):
            return DeliveryStatus.FAILED, 0
        return DeliveryStatus.WAITING, lengthened(pauses[leased.attempt - 1])

    def _log(self, leased: Leased, status: DeliveryStatus, entry: Mapping[str, Any]) -> None:
        # Neither path nor query of the url: receivers may have secrets there.
        about = {name: getattr(leased, name) for name in ("job_id", "owner", "host", "type")}
        about |= {"delivery_id": leased.id} | {name: value for name, value in entry.items() if name != "at"}
        if status is DeliveryStatus.DELIVERED:
            log.info("webhook.delivered", **about)
        else:
            log.warning("webhook.not_delivered", again=status is DeliveryStatus.WAITING, **about)


def trace_headers(leased: Leased) -> dict[str, str]:
    """The trace that its job belongs to, for a receiver that takes part in it (W3C Trace Context)."""
    parent, state = (TRACING.carried() if TRACING.on else None) or (leased.traceparent, None)
    return {name: value for name, value in (("traceparent", parent), ("tracestate", state)) if value}


def signed(leased: Leased, payload: bytes, moment: datetime) -> dict[str, str]:
    """The headers of an attempt, as Standard Webhooks has them; a signature for each secret that is valid."""
    text = payload.decode()
    signatures = [Webhook(secret).sign(leased.id, moment, text) for secret in leased.secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Foretell/{__version__}",
        "webhook-id": leased.id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def lengthened(pause_seconds: float) -> float:
    """A pause, somewhat longer by chance."""
    return pause_seconds * (1 + random.uniform(0, JITTER))  # noqa: S311  # it keeps nobody out
