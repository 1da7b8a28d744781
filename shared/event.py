"""What webhooks say: the events that they carry."""

from datetime import UTC, datetime
from typing import Any

from shared.delivery import TEST, Leased
from shared.job import Job, timestamp


def job_event(job: Job) -> dict[str, Any]:
    """The end of a job: what the job itself shows, without its predictions."""
    spec, failure, here = job.spec, job.failure, f"/jobs/{job.id}"
    return {
        "type": f"job.{job.status.value}",
        "timestamp": timestamp(job.finished_at),
        "data": {
            "id": job.id,
            "kind": job.kind,
            "status": job.status.value,
            "model": spec.pinned(),
            "counts": job.counts.to_dict(),
            "created_at": timestamp(job.created_at),
            "finished_at": timestamp(job.finished_at),
            "failure": None if failure is None else {"code": failure["code"], "message": failure["message"]},
            "metadata": spec.metadata,
            "links": {"self": here} | {name: f"{here}/{name}" for name in job.readable},
        },
    }


def gone_event(leased: Leased) -> dict[str, Any]:
    """The end of a job that was removed before anybody could be told: what is still known of it."""
    ended = timestamp(leased.created_at)
    nothing = dict.fromkeys(("kind", "model", "counts", "created_at", "failure"))
    data = {"id": leased.job_id, "status": leased.type.partition(".")[2], "finished_at": ended}
    return {"type": leased.type, "timestamp": ended, "data": data | nothing | {"metadata": {}, "links": {}}}


def trial_event() -> dict[str, Any]:
    """What is sent to try a receiver."""
    message = "Foretell can reach you. Verify the signature, and answer with a status from 200 to 299."
    return {"type": TEST, "timestamp": timestamp(datetime.now(UTC)), "data": {"message": message}}
