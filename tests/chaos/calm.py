"""What the service answers when nothing is broken: the measure of all that it answers later."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.client import Client
from tests.chaos.ledger import Job, Ledger, Submission
from tests.chaos.workload import Rows, Training, Workload
from tests.wait import until


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job, without what names the job itself."""

    status: str
    counts: Mapping[str, int]
    predictions: tuple[Any, ...] | None = None  # of a small job
    errors: bytes = b""
    result: bytes | None = None  # the file of a batch job
    version: int | None = None  # that a training made


def outcome(client: Client, submission: Submission, job: Job) -> Outcome:
    """What came of a job that is done.

    Raises:
        AssertionError: something of it cannot be read.
    """
    known: dict[str, Any] = {"status": job["status"], "counts": job["counts"]}
    match submission.work:
        case Rows():
            if job["result"] is not None:
                known["predictions"] = tuple(job["result"]["predictions"])
            known["errors"] = client.get(f"/jobs/{job['id']}/errors").body
        case Training():
            known["version"] = job["result"]["version"] if job["result"] else None
        case _:
            if job["result"] is not None:
                known["result"] = client.get(f"/jobs/{job['id']}/result").body
                digest = hashlib.sha256(known["result"]).hexdigest()
                assert digest == job["result"]["sha256"], f"the result of {job['id']} is not what its job says"
                known["errors"] = client.get(f"/jobs/{job['id']}/errors").body
    return Outcome(**known)


def calm_run(client: Client, ledger: Ledger, work: Workload) -> dict[str, Outcome]:
    """Everything once, undisturbed: its name, and what came of it. None of these jobs is left.

    Args:
        client: of the ledger.
        ledger: a fresh one.
        work: what is sent.

    Raises:
        AssertionError: one does not end, or cannot be removed.
    """
    submissions = [ledger.begin(f"calm-{each.name}", each, owner=client.owner) for each in work.all]
    for submission in submissions:
        client.submit(submission)
    for submission in submissions:
        until(lambda submission=submission: _seen_done(client, submission), 120, f"{submission.work.name} is done")  # type: ignore[misc]
    assert not ledger.findings, ledger.findings
    known = {submission.work.name: outcome(client, submission, submission.seen or {}) for submission in submissions}
    for submission in submissions:
        client.delete(submission.job_id)
    return known


def _seen_done(client: Client, submission: Submission) -> bool:
    client.read(submission)
    return submission.done
