"""Reading a job now, in a moment, or when it is done."""

import time
from collections.abc import Callable

from api.render import eta_seconds
from api.services import Services
from api.submission import queued, submit
from shared.job import Job
from shared.records import Submission


def must_read(services: Services, job_id: str) -> Job:
    """A snapshot of a job that is not compared with a known one.

    Raises:
        JobNotFound, JobGone, StoreUnavailable
    """
    job = services.store.read(job_id)
    assert job is not None  # noqa: S101  # None only answers a known revision
    return job


def submit_and_wait(services: Services, first: Submission, again: Callable[[], Submission], wait: float | None) -> Job:
    """Accept a job and wait for it for up to `wait` seconds; the newest snapshot."""
    if wait is None:
        stored, accepted = submit(services, first, again)
        return queued(stored, accepted) if accepted.created else must_read(services, accepted.id)
    with services.waiters.watch(first.id) as watch:
        stored, accepted = submit(services, first, again)
        job = watch.next(wait) if accepted.created and watch is not None else None
    if job is None and not accepted.created:
        job = await_job(services, accepted.id, None, wait)
    return must_read(services, accepted.id) if job is None else job


def poll(services: Services, job_id: str, known: int | None) -> Job | None:
    """The job as it is, or as it will be in a moment if it is about to be done; None if it is still the known one."""
    patience = services.settings.poll_patience_seconds
    if known is not None or not patience:
        return services.store.read(job_id, known_revision=known)
    with services.waiters.watch(job_id) as watch:
        # Read after the watch began, so that its end is not missed between the two.
        job = must_read(services, job_id)
        eta = eta_seconds(job)
        if job.done or watch is None or eta is None or eta > patience:
            return job
        return watch.next(patience) or job


def await_job(services: Services, job_id: str, known: int | None, wait: float) -> Job | None:
    """Wait for a change of the known revision, or without one until the job is done; None if nothing changed."""
    end = time.monotonic() + wait
    with services.waiters.watch(job_id, every_change=known is not None) as watch:
        job = services.store.read(job_id, known_revision=known)
        while watch is not None and (job is None or (known is None and not job.done)):
            news = watch.next(end - time.monotonic())
            if news is None:
                return services.store.read(job_id, known_revision=known)
            job = None if news.revision == known else news
    return job
