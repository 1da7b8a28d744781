"""Reading a job now, in a moment, or when it is done."""

import time
from collections.abc import Callable
from typing import Final

from api.looks import Look
from api.repeats import Repeated
from api.services import Services
from api.submission import Draft, queued, submit
from api.uploads import discard
from shared.api_keys import Scope
from shared.errors import LimitReached
from shared.job import Job

# Who may submit a job of a kind; those over rows and files are for jobs:write.
SCOPES: Final = {"train": Scope.TRAIN, "register": Scope.MODELS_WRITE}


def must_read(services: Services, job_id: str, owner: str) -> Job:
    """A snapshot of a job that is not compared with a known one.

    Raises:
        JobNotFound, JobGone, StoreUnavailable
    """
    job = services.store.read(job_id, owner=owner)
    assert job is not None  # noqa: S101  # None only answers a known revision
    return job


def submit_and_wait(
    services: Services, drafted: Callable[[], Draft], wait: float | None, *, must_wait: bool = False
) -> Job:
    """Accept a job and wait for it for up to `wait` seconds; the newest snapshot.

    `must_wait`: where there is no place to wait at, accept nothing, rather than give the job as it is.

    Raises:
        LimitReached: see `must_wait`.
        What `drafted` and api.submission.submit raise; but a job that was accepted before is answered as if it was now.
    """
    try:
        draft = drafted()
    except Repeated as repeated:
        return _first(services, repeated, wait, must_wait=must_wait)
    first, again = draft.first, draft.again
    if wait is None:
        services.waiters.expect(first)  # before it can end
        try:
            stored, accepted = submit(services, first, again)
        except BaseException:
            services.waiters.expected.forget((first.id,))
            raise
        if not accepted.created:
            services.waiters.expected.forget((first.id,))
            return must_read(services, accepted.id, first.spec.owner)
        if stored is not first:
            services.waiters.expect(stored)  # of another version, as an alias has moved
        return queued(stored, accepted)
    owner, most = first.spec.owner, first.limits.waiters
    with services.waiters.watch(first.id, owner=owner, most=most, spec=first.spec) as watch:
        if watch is None and must_wait and wait:
            if first.upload is not None:
                discard(services, first.upload)
            raise _no_place()
        stored, accepted = submit(services, first, again)
        job = None
        if accepted.created and watch is not None:
            watch.spec = stored.spec  # of another version, if an alias has moved
            job = watch.next(wait)
    if job is None and not accepted.created:
        job = _awaited(services, accepted.id, owner, most, None, wait, must_wait=must_wait)
    return must_read(services, accepted.id, first.spec.owner) if job is None else job


def _first(services: Services, repeated: Repeated, wait: float | None, *, must_wait: bool) -> Job:
    who, job = repeated.caller, must_read(services, repeated.job_id, repeated.caller.owner)
    who.need(SCOPES.get(job.spec.kind, Scope.JOBS_WRITE))
    if wait is not None:
        job = _awaited(services, job.id, who.owner, who.limits.waiters, None, wait, must_wait=must_wait) or job
    return job


def _no_place() -> LimitReached:
    message = (
        "No more clients may wait now; send it again in a moment, or with Prefer: respond-async to be given the job."
    )
    return LimitReached(message, limit="waiters")


def see(services: Services, look: Look) -> Job | None:
    """The job as it is, or as it is once `look` has waited; None if it is still the known one.

    Raises:
        JobNotFound, JobGone, NewerSchema, StoreUnavailable
    """
    expected, owner = services.waiters.expected, look.who.owner
    if look.known is None and (heard := expected.take(look.job_id, owner)) is not None:
        return heard
    job, wait = None, look.wait
    if not wait:
        job = services.store.read(look.job_id, owner=owner, known_revision=look.known)
        wait = look.patience(job, services.settings.poll_patience_seconds)
    if wait:
        job = _awaited(services, look.job_id, owner, look.who.limits.waiters, look.known, wait)
    if job is not None and job.done:
        expected.forget((job.id,))  # this was the first look at it
    return job


def _awaited(
    services: Services,
    job_id: str,
    owner: str,
    most: int,
    known: int | None,
    wait: float,
    *,
    must_wait: bool = False,
) -> Job | None:
    end = time.monotonic() + wait
    with services.waiters.watch(job_id, owner=owner, most=most, known=known) as watch:
        job = services.store.read(job_id, owner=owner, known_revision=known)
        if watch is not None and job is not None:
            watch.spec = job.spec
        if watch is None and must_wait and wait and job is not None and not job.done:
            raise _no_place()
        if watch is not None and (job is None or (known is None and not job.done)):
            job = watch.next(end - time.monotonic())
            if job is None:
                job = services.store.read(job_id, owner=owner, known_revision=known)
    return job
