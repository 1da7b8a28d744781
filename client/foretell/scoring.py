"""A job over a file from its upload to its result."""

from collections.abc import Mapping
from typing import Any

from foretell.calls import job_path, submit_file
from foretell.download import Out, download, target_of
from foretell.flow import Flow
from foretell.predict import failed
from foretell.progress import Told
from foretell.retry import RetryPolicy
from foretell.source import Source
from foretell.waiting import Document, follow


def submit_batch(model: str, source: Source, options: Mapping[str, Any], key: str, told: Told) -> Flow[Document]:
    """A job over a file."""
    return (yield from submit_file("/jobs", {"model": model} | dict(options), source, key, told))


def predict_file(
    model: str, source: Source, options: Mapping[str, Any], key: str, *, out: Out, deadline: float | None,
    policy: RetryPolicy, told: Told,
) -> Flow[Document]:  # fmt: skip
    """The job, done, with its result in the file or stream `out`.

    Raises:
        JobFailed: it has no result, or that of a part of its rows only (`Job.download` fetches that).
    """
    job = yield from submit_batch(model, source, options, key, told)
    job = yield from follow(job, deadline, told)
    if job["status"] not in ("succeeded", "partially_succeeded"):
        raise failed(job)
    if out is not None:
        yield from download(job_path(job["id"], "/result"), target_of(out, job["id"]), policy, told)
    return job
