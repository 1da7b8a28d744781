"""Jobs and models as the JSON documents that clients read."""

from datetime import datetime
from typing import Any, Final

import orjson

from shared.job import Job, Spec, Status
from shared.registry import Manifest, Model

MEDIA_TYPE: Final = "application/json"


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def pinned(spec: Spec) -> dict[str, Any]:
    """The model of a job."""
    return {"requested": spec.requested, "name": spec.model, "version": spec.version, "sha256": spec.sha256}


def counts(job: Job) -> dict[str, int]:
    """The rows of a job."""
    c = job.counts
    return {"total": c.total, "pending": c.pending, "succeeded": c.succeeded, "failed": c.failed, "skipped": c.skipped}


def eta_seconds(job: Job) -> float | None:
    """From the measured pace of the lane; None where nothing was measured."""
    if job.done:
        return 0.0
    if not job.jobs_per_second:
        return None
    return round((job.queue_position or 1) / job.jobs_per_second, 3)


def retry_after_seconds(job: Job) -> int:
    """When to look again, 1 to 30 s."""
    return min(30, max(1, round(eta_seconds(job) or 1)))


def job_document(job: Job) -> dict[str, Any]:
    """A job; the predictions are taken over as the bytes that they are."""
    spec, base = job.spec, f"/jobs/{job.id}"
    links = {"self": base, "events": f"{base}/events"}
    result: dict[str, Any] | None = None
    if job.done:
        links["retry"] = f"{base}/retry"
        links["errors"] = f"{base}/errors"
        if job.status in (Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED):
            links["result"] = f"{base}/result"
            result = _result(job, links["result"])
    else:
        links["cancel"] = f"{base}/cancel"
    total = job.counts.total
    return {
        "id": job.id,
        "kind": "predict",
        "status": job.status.value,
        "done": job.done,
        "phase": "scoring" if job.status is Status.RUNNING else None,
        "revision": job.revision,
        "model": pinned(spec),
        "method": spec.method,
        "top_k": spec.top_k,
        "priority": spec.priority,
        "counts": counts(job),
        "progress": {
            "fraction": (total - job.counts.pending) / total,
            "rows_per_second": None if job.done or not job.jobs_per_second else round(job.jobs_per_second * total, 3),
            "eta_seconds": eta_seconds(job),
        },
        "queue_position": job.queue_position,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "retry_of": spec.retry_of,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "expires_at": timestamp(job.expires_at),
        "result": result,
        "failure": None if job.failure is None else {**job.failure, "errors": list(job.errors)},
        "errors": list(job.errors),
        "warnings": list(job.warnings),
        "metadata": spec.metadata,
        "links": links,
    }


def _result(job: Job, link: str) -> dict[str, Any]:
    if job.predictions is not None:
        return {"predictions": orjson.Fragment(job.predictions)}
    place: dict[str, Any] = {"href": link, "media_type": MEDIA_TYPE, "rows": job.counts.total}
    if job.stored_bytes is not None:
        place["bytes"] = len(orjson.dumps(result_document(job, b"[]"))) - len(b"[]") + job.stored_bytes
    return place


def result_document(job: Job, predictions: bytes) -> dict[str, Any]:
    """A result by itself, with the exact version that made it."""
    return {
        "job_id": job.id,
        "model": pinned(job.spec),
        "counts": counts(job),
        "warnings": list(job.warnings),
        "errors": list(job.errors),
        "predictions": orjson.Fragment(predictions),
    }


def version_document(manifest: Manifest) -> dict[str, Any]:
    """A version."""
    document = manifest.to_dict()
    del document["model"]
    return document


def model_document(model: Model) -> dict[str, Any]:
    """A model with its versions, newest first."""
    return {
        "name": model.name,
        "aliases": model.aliases,
        "versions": [version_document(manifest) for manifest in model.versions],
        "links": {"self": f"/models/{model.name}"},
    }
