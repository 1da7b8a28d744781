"""What must hold at the end: each check compares what clients know with what the service says."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.chaos.calm import Outcome
from tests.chaos.ledger import Finding, Job, Submission
from tests.chaos.workload import File, Rows, Training

# The same row may differ in the last digit when it is predicted together with others (docs/models.md).
TOLERANCE: Final = 1e-9


def check_ends(submissions: Sequence[Submission]) -> Iterator[Finding]:
    """Every job that was acknowledged is done."""
    for submission in submissions:
        if not submission.done:
            status = submission.seen["status"] if submission.seen else "never seen"
            yield Finding(
                promise="every acknowledged job ends",
                what=f"{submission.work.name}, job {submission.job_id}, is {status}",
            )


def check_list(submissions: Sequence[Submission], listed: Sequence[str], *, unanswered: int) -> Iterator[Finding]:
    """The list has every acknowledged job once, and no other; but for those whose acknowledgement never came."""
    known = {job_id for submission in submissions for job_id in submission.job_ids}
    for job_id in sorted(known - set(listed)):
        yield Finding(promise="accepted means kept", what=f"job {job_id} is not in the list")
    strangers = sorted(set(listed) - known)
    if len(strangers) > unanswered:
        what = f"{len(strangers)} jobs nobody knows, with {unanswered} requests unanswered: {strangers[:5]}"
        yield Finding(promise="one key, one job", what=what)
    if len(listed) != len(set(listed)):
        yield Finding(promise="one key, one job", what="a job is in the list twice")


def check_outcome(
    submission: Submission, job: Job, came: Outcome, calm: Outcome, *, excuses: frozenset[str]
) -> Iterator[Finding]:
    """A job ended as in a calm run: or cancelled, if a client wanted it; or failed for what was done to it.

    Args:
        submission: what was sent.
        job: how the service shows it at the end.
        came: what came of it.
        calm: what came of the same in a calm run.
        excuses: codes of failures that the faults explain, of jobs with files.
    """
    name = f"{submission.work.name}, job {job['id']}"
    yield from _check_rows(name, submission, came)
    if submission.cancel_promised and came.status != "cancelled":
        yield Finding(promise="cancelled stays cancelled", what=f"{name} is {came.status}")
    if came.status == "cancelled":
        if not submission.cancel_tried:
            yield Finding(promise="results are those of a calm run", what=f"{name} is cancelled, and nobody wanted it")
        yield from _check_part(name, came, calm)
        return
    if came.status == "failed" and not isinstance(submission.work, Rows) and job["failure"]["code"] in excuses:
        yield from _check_part(name, came, calm)
        return
    if came.status != calm.status or came.counts != calm.counts:
        what = f"{name}: {came.status} {came.counts} {job['failure']}, calm {calm.status} {calm.counts}"
        yield Finding(promise="results are those of a calm run", what=what)
    elif came.result != calm.result or came.errors != calm.errors:
        yield Finding(promise="results are those of a calm run", what=f"{name}: its files have other bytes")
    elif not _close(came.predictions, calm.predictions):
        what = f"{name}: {came.predictions}, calm {calm.predictions}"
        yield Finding(promise="results are those of a calm run", what=what)
    # Each time it runs are two steps: it is pulled, and written or given back. To be written twice is a step more.
    # There may be more runs than attempts: a worker that stops gives units back without one.
    steps = job["revision"] - 1
    if isinstance(submission.work, Rows) and not submission.cancel_tried and (steps % 2 or steps < 2 * job["attempt"]):
        what = f"{name}: revision {job['revision']} after {job['attempt']} attempts"
        yield Finding(promise="one result each", what=what)


def check_versions(outcomes: Sequence[Outcome], *, before: Sequence[int], after: Sequence[int]) -> Iterator[Finding]:
    """Each training that succeeded made one version, and nobody else made any."""
    made = [outcome.version for outcome in outcomes if outcome.status == "succeeded"]
    new = set(after) - set(before)
    if None in made or len(set(made)) != len(made) or set(made) != new:
        yield Finding(promise="one version a training", what=f"trainings made {made}, new are {sorted(new)}")


def _check_rows(name: str, submission: Submission, came: Outcome) -> Iterator[Finding]:
    counts: Mapping[str, Any] = came.counts
    promise = "row accounting is exact"
    if counts["pending"] != 0 or counts["total"] != counts["succeeded"] + counts["failed"] + counts["skipped"]:
        yield Finding(promise=promise, what=f"{name}: {counts}")
    sent = len(submission.work.instances) if isinstance(submission.work, Rows) else submission.work.rows
    # Of a file that was not read to its end, only the rows that were seen count.
    read_whole = came.status in ("succeeded", "partially_succeeded") or isinstance(submission.work, Rows)
    if read_whole and not isinstance(submission.work, Training) and counts["total"] != sent:
        yield Finding(promise=promise, what=f"{name}: {counts['total']} rows, {sent} were sent")
    has_errors = came.result is not None or isinstance(submission.work, Rows)
    if has_errors and came.errors.count(b"\n") != counts["failed"]:
        yield Finding(promise=promise, what=f"{name}: {counts['failed']} rows failed, its errors: {came.errors!r:.300}")


def _check_part(name: str, came: Outcome, calm: Outcome) -> Iterator[Finding]:
    """The result of a job that ended early is what a calm run gives, with rows left out."""
    if came.result is None:
        return
    lines, rest = came.result.split(b"\n"), iter((calm.result or b"").split(b"\n"))
    if not all(line in rest for line in lines):  # `in` takes from the iterator: they come in the same order
        yield Finding(promise="results are those of a calm run", what=f"{name}: its part of the result differs")


def _close(came: Sequence[Any] | None, calm: Sequence[Any] | None) -> bool:
    if came is None or calm is None or len(came) != len(calm):
        return came is calm
    return all(
        one == other
        or (isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=TOLERANCE))
        for one, other in zip(came, calm, strict=True)
    )


def rows_of(submission: Submission) -> int:
    """How many rows were sent."""
    match submission.work:
        case Rows() as work:
            return len(work.instances)
        case File() | Training() as work:
            return work.rows
