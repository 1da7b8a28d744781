"""What scripts announce of jobs (prelude.lua, `announce`), on one channel that all API processes hear."""

from collections.abc import Mapping, Sequence
from typing import Final

from shared.frozen import frozen
from shared.job import Job, Spec
from shared.records import load_job

# The form in which commit.lua tells how jobs ended; another one, here and there, once that is told otherwise.
FORM: Final = b"1"
# What it does not tell of a record: kind and phase, which only jobs in stages have, queue and owner.
NOT_TOLD: Final = [None, None, None, None]


@frozen
class Announcement:
    """News of some jobs."""

    kind: str  # d: they are done, r: they changed otherwise, g: they were deleted
    job_ids: Sequence[str]
    ends: Mapping[str, bytes]  # how they ended, for `load_end`; nothing where that is not told


def load_announcement(message: bytes) -> Announcement:
    """The one parser of an announcement; of one of another release the kind and the ids are known at least."""
    head, _, rest = message.partition(b"\n")
    kind, *job_ids = head.decode().split()
    lengths, _, told = rest.partition(b"\n")
    ends, at = {}, 0
    if lengths.startswith(FORM + b" "):
        for job_id, length in zip(job_ids, map(int, lengths.split()[1:]), strict=True):
            ends[job_id] = told[at : at + length]
            at += length
    return Announcement(kind=kind, job_ids=job_ids, ends=ends)


def load_end(end: bytes, spec: Spec) -> Job:
    """The one parser of how a job ended, from what commit.lua tells of it, for who has its spec."""
    line_end = end.index(b"\n")
    job_id, *record, outcome_bytes = end[:line_end].split(b" ")
    result_at = line_end + 1 + int(outcome_bytes)
    fields = [None if value == b"-" else value for value in record]
    return load_job((job_id, fields + NOT_TOLD, None, end[line_end + 1 : result_at], end[result_at:], None, None), spec)
