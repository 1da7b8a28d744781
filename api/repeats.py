"""Requests that come again under their Idempotency-Key: answered as the first, whatever would refuse them now."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from flask import Request

from api.access import Caller
from api.forms import parts, small
from api.services import Services
from api.submission import Origin
from api.uploads import body_of
from shared.errors import Forbidden, IdempotencyKeyReused, ServiceError, StoreUnavailable

Made = TypeVar("Made")
# A form has no more: an artifact, its sample, and what is to be done with it.
MOST_PARTS: Final = 3


class Repeated(Exception):
    """A request was accepted before, and makes nothing new."""

    def __init__(self, job_id: str, caller: Caller) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.caller = caller


@dataclass(frozen=True, kw_only=True, slots=True)
class First:
    """What was accepted before under the key of a request that comes."""

    job_id: str
    digest: str  # of the request that was accepted
    origin: Origin  # of the one that comes

    def is_told_by(self, *told: bytes) -> bool:
        """Whether the request that comes, which is told from others by these parts, is the same."""
        known = self.origin.idempotency(*told)
        return known is not None and known[1] == self.digest

    def repeated(self, *told: bytes) -> Repeated:
        """What is to be raised for it.

        Raises:
            IdempotencyKeyReused: it is another one.
        """
        if not self.is_told_by(*told):
            raise IdempotencyKeyReused
        return Repeated(self.job_id, self.origin.caller)


def first_of(services: Services, origin: Origin) -> First | None:
    """What was accepted before under the key of a request; None: nothing.

    Raises:
        RequestFault: the key is empty or too long.
        StoreUnavailable
    """
    key = origin.idempotency()
    found = None if key is None else services.store.first(key[0])
    return None if found is None else First(job_id=found[0], digest=found[1], origin=origin)


def unless_repeated(services: Services, origin: Origin, body: bytes, make: Callable[[], Made]) -> Made:
    """What `make` gives; only where that refuses the request is its key looked up.

    Raises:
        Repeated: it was accepted before.
        RequestFault, StoreUnavailable, and whatever `make` raises
    """
    try:
        return make()
    except (Forbidden, StoreUnavailable):
        raise
    except ServiceError:
        first = first_of(services, origin)
        if first is not None and first.is_told_by(body):
            raise Repeated(first.job_id, origin.caller) from None
        raise


class Again:
    """A body with a file that may be the same once more: it is read, and nothing of it is stored."""

    def __init__(self, services: Services, first: First, most_bytes: int) -> None:
        """`most_bytes`: that a file may have.

        Raises:
            JobNotFound, JobGone: the job was removed meanwhile; it was done, and is not done twice.
            IdempotencyKeyReused: it was a job without a file.
            StoreUnavailable
        """
        self._services = services
        job = services.store.read(first.job_id, owner=first.origin.caller.owner, with_result=False)
        assert job is not None  # noqa: S101  # None only answers a known revision
        about = job.spec.batch or job.spec.train
        if about is None and job.spec.register is None:
            raise IdempotencyKeyReused
        self._most_bytes = most_bytes
        self._first_bytes = most_bytes if about is None or about.input.size_bytes is None else about.input.size_bytes

    def file(self, request: Request) -> bytes:
        """The sha256 of a body that is a file, in hexadecimal.

        Raises:
            IdempotencyKeyReused: it is longer than the first.
            RequestFault, LimitReached, StoreUnavailable, StoreFull: as api.uploads.body_of.
        """
        return self._sha256(body_of(self._services, request, self._most_bytes, is_repeat=True).blocks)

    def form(self, request: Request, options: str, beside: int) -> Mapping[str, bytes]:
        """Of each part of a form the sha256, but of the part `options` what it says; `beside` as in body_of.

        Raises:
            IdempotencyKeyReused: it has other parts than a form has, or a file is longer than the first.
            RequestFault, LimitReached, StoreUnavailable, StoreFull: as api.uploads.body_of.
        """
        found: dict[str, bytes] = {}
        blocks = body_of(self._services, request, self._most_bytes, beside=beside, is_repeat=True).blocks
        for part in parts(request, blocks):
            if part.name in found or len(found) == MOST_PARTS:
                raise IdempotencyKeyReused
            if part.name == options:
                found[part.name] = small(part, self._services.settings.max_body_bytes)
            else:
                found[part.name] = self._sha256(part.blocks)
        return found

    def _sha256(self, blocks: Iterator[bytes]) -> bytes:
        digest, came = hashlib.sha256(), 0
        for block in blocks:
            came += len(block)
            if came > self._first_bytes:
                raise IdempotencyKeyReused
            digest.update(block)
        return digest.hexdigest().encode()
