"""A webhook on its way: what is sent, how far it is, and what came of each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from shared.job import from_millis, new_job_id

TEST: Final = "webhook.test"
INTERRUPTED: Final = "The process ended while it sent this; whether it arrived is not known."
NONE_LEFT: Final = "It was not tried again: by the settings of now it has had all its attempts."


class DeliveryStatus(StrEnum):
    """How far a delivery is; the last two are final, unless it is sent once more on request."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try at a delivery."""

    attempt: int  # 1 is the first; 0: none was made, for the reason in error
    at: datetime
    status: int | None = None  # of the receiver's answer
    error: str | None = None  # why it does not count, in plain words
    milliseconds: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as its owner sees it."""

    id: str  # the header webhook-id
    type: str  # job.succeeded, ..., webhook.test
    url: str
    status: DeliveryStatus
    attempts: int
    created_at: datetime
    job_id: str | None = None
    next_attempt_at: datetime | None = None
    ended_at: datetime | None = None
    payload: bytes | None = None  # once it was tried
    log: tuple[Attempt, ...] = ()  # newest first, 20 at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased:
    """A delivery that this thread may send until its lease is over."""

    id: str
    fence: str
    attempt: int  # 1 is the first; 0: none is left, by the settings of now
    lost: bool  # its last attempt was begun by a process that ended: it must not be sent any more
    at_millis: int  # when it was leased
    ring: bool  # a doorbell must be published
    owner: str
    host: str  # of the url, with its port
    type: str
    url: str
    created_at: datetime
    job_id: str | None
    payload: bytes | None  # None: nobody has tried it yet
    secrets: tuple[str, ...]  # the newest first
    traceparent: str | None = None  # the span that submitted its job


def new_delivery_id() -> str:
    """An id of a delivery that belongs to no job; that of a job's end is made of the job's, which nobody guesses."""
    return delivery_id(new_job_id())


def delivery_id(job_id: str) -> str:
    """The delivery that tells of a job's end."""
    return f"msg_{job_id}"


def load_leased(reply: Sequence[Any]) -> Leased:
    """What delivery_pull.lua gave."""
    raw_id, fence, attempt, lost, now, ring, about, secrets = reply
    owner, host, type_, job_id, url, payload, created, traceparent = about
    return Leased(
        id=raw_id.decode(),
        fence=fence.decode(),
        attempt=attempt,
        lost=lost == 1,
        at_millis=now,
        ring=ring == 1,
        owner=owner.decode(),
        host=host.decode(),
        type=type_.decode(),
        url=url.decode(),
        created_at=_moment(created),
        job_id=_text(job_id),
        payload=payload,
        secrets=tuple(secret.decode() for secret in secrets),
        traceparent=_text(traceparent),
    )


def load_delivery(entry: Sequence[Any]) -> Delivery:
    """What deliveries.lua or delivery.lua gave."""
    raw_id, (type_, job_id, url, status, attempts, created, ended, *_), due, *more = entry
    payload, raw_log, sending = more or (None, (), 0)
    log = [orjson.loads(raw) for raw in raw_log]
    return Delivery(
        id=raw_id.decode(),
        type=type_.decode(),
        url=url.decode(),
        status=DeliveryStatus(status.decode()),
        attempts=int(attempts),
        created_at=_moment(created),
        job_id=_text(job_id),
        next_attempt_at=from_millis(due),
        ended_at=from_millis(ended),
        payload=payload,
        log=tuple(_attempt(about, under_way=sending == 1 and not index) for index, about in enumerate(log)),
    )


def _attempt(about: dict[str, Any], *, under_way: bool) -> Attempt:
    error = about.get("error")
    if "milliseconds" not in about and not under_way:
        error = INTERRUPTED
    return Attempt(
        attempt=about["attempt"],
        at=_moment(about["at"]),
        status=about.get("status"),
        error=error,
        milliseconds=about.get("milliseconds"),
    )


def _moment(millis: Any) -> datetime:
    moment = from_millis(millis)
    assert moment is not None  # noqa: S101  # the scripts write it with the record
    return moment


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()
