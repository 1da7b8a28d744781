"""Jobs and models as the JSON documents that clients read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from api.downloads import served_type
from api.headers import JsonResponse, json_response
from shared.aliases import AliasState
from shared.batch import BatchOptions, Input
from shared.delivery import delivery_id
from shared.files import StoredFile
from shared.job import Job, Status, timestamp
from shared.registry import Manifest, Model
from shared.residence import Resident
from shared.training import TrainOptions

MEDIA_TYPE: Final = "application/json"
# What the scripts call the stages of any job, in the words of a training.
TRAIN_PHASES: Final = {"validating": "loading", "scoring": "fitting", "finalising": "fitting"}


def eta_seconds(job: Job) -> float | None:
    """From the measured pace, of the lane or of a job over a file; None where nothing was measured."""
    if job.done:
        return 0.0
    if job.fits and job.fits[0] and job.started_at is not None:
        done, total = job.fits
        return round((datetime.now(UTC) - job.started_at).total_seconds() / done * (total - done), 3)
    if job.rows_per_second and job.counts.pending is not None:
        return round(job.counts.pending / job.rows_per_second, 3)
    if not job.jobs_per_second:
        return None
    return round((job.queue_position or 1) / job.jobs_per_second, 3)


def retry_after_seconds(job: Job) -> int:
    """When to look again, 1 to 30 s."""
    return min(30, max(1, round(eta_seconds(job) or 1)))


def fraction(job: Job) -> float:
    """The part of its rows that is done or given up, 0 to 1; 0 until rows are counted."""
    total, pending = job.counts.total, job.counts.pending
    if job.done:
        return 1.0
    if job.fits is not None:
        return job.fits[0] / (job.fits[1] + 1)
    return min(1.0, max(0.0, (total - pending) / total)) if total and pending is not None else 0.0


def rows_per_second(job: Job) -> float | None:
    """The measured pace in rows, of the lane or of a job over a file; None where nothing was measured."""
    pace = job.rows_per_second
    if pace is None and not job.done and job.jobs_per_second and job.counts.total:
        pace = job.jobs_per_second * job.counts.total
    return None if pace is None else round(pace, 3)


def phase(job: Job) -> str | None:
    """What a running job is at."""
    if job.kind == "batch":
        return job.phase
    return "scoring" if job.kind == "predict" else TRAIN_PHASES.get(job.phase or "", job.phase)


def job_document(job: Job) -> dict[str, Any]:
    """A job; the predictions are taken over as the bytes that they are."""
    spec, done = job.spec, job.done
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status.value,
        "done": done,
        "phase": phase(job) if job.status is Status.RUNNING else None,
        "revision": job.revision,
        "model": spec.pinned(),
        "method": spec.method,
        "top_k": spec.top_k,
        "priority": spec.priority,
        "counts": job.counts.to_dict(),
        "progress": {
            "fraction": fraction(job),
            "fits": None if job.fits is None else {"done": job.fits[0], "total": job.fits[1]},
            "rows_per_second": rows_per_second(job),
            "eta_seconds": eta_seconds(job),
        },
        "queue_position": job.queue_position,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "retry_of": spec.retry_of,
        "input": _input(spec.input) if spec.input else None,
        "options": _options(spec.batch) if spec.batch else None,
        "training": _training(spec.train) if spec.train else None,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "expires_at": timestamp(job.expires_at),
        "result": _result(job),
        "failure": None if job.failure is None else {**job.failure, "errors": list(job.errors)},
        "errors": list(job.errors),
        "warnings": list(job.warnings),
        "metadata": spec.metadata,
        "webhook": spec.webhook,
        "links": _links(job),
    }


def job_response(job: Job, status: int) -> JsonResponse:
    """A job with its ETag, and when to look again."""
    response = json_response(orjson.dumps(job_document(job)), status)
    response.add(("ETag", f'"{job.revision}"'))
    if not job.done:
        response.add(("Retry-After", str(retry_after_seconds(job))))
    return response


def _links(job: Job) -> dict[str, str]:
    base = f"/jobs/{job.id}"
    names, done = ["events"], job.done
    if not done:
        names.append("cancel")
    else:
        # The check of an artifact cannot be retried: see api/retry.py.
        names += [*(["retry"] if job.kind != "register" else []), *job.readable]
    links = {"self": base} | {name: f"{base}/{name}" for name in names}
    if done and job.spec.webhook:
        links["delivery"] = f"/webhooks/deliveries/{delivery_id(job.id)}"
    return links


def _result(job: Job) -> dict[str, Any] | None:
    """What there is of a result; of a job over a file that failed or was cancelled, what it had done."""
    link = f"/jobs/{job.id}/result"
    if output := job.outputs.get("result"):
        known = {name: output[name] for name in ("name", "rows", "bytes", "sha256")}
        return {"href": link, "media_type": served_type(output)} | known
    if job.registered is not None:
        return {"href": link} | job.registered
    if job.kind != "predict" or not job.complete:
        return None
    if job.predictions is not None:
        return {"predictions": orjson.Fragment(job.predictions)}
    place: dict[str, Any] = {"href": link, "media_type": MEDIA_TYPE, "rows": job.counts.total}
    if job.stored_bytes is not None:
        place["bytes"] = len(orjson.dumps(result_document(job, b"[]"))) - len(b"[]") + job.stored_bytes
    return place


def _input(given: Input) -> dict[str, Any]:
    return {
        "name": given.name,
        "file_id": given.file_id,
        "uri": given.uri,
        "format": given.format,
        "bytes": given.size_bytes,
        "sha256": given.sha256,
    }


def _options(batch: BatchOptions) -> dict[str, Any]:
    dialect = batch.input.dialect
    return {
        "key": batch.key_column,
        "include": "all" if batch.include_all else list(batch.include),
        "output_format": batch.output_format,
        "output_compression": batch.output_compression,
        "max_failed_rows": batch.max_failed_rows,
        "max_failed_fraction": batch.max_failed_fraction,
        "keep_failed_rows": batch.keep_failed_rows,
        "delimiter": dialect.delimiter,
        "quote": dialect.quote,
        "header": dialect.header,
        "encoding": dialect.encoding,
        "only": batch.retry_only,
    }


def _training(train: TrainOptions) -> dict[str, Any]:
    return {
        **{name: getattr(train, name) for name in ("target", "sample_weight", "group", "time", "held_out")},
        "combine": train.combine,
        "recipe": asdict(train.recipe),
        "gate": asdict(train.gate),
        "promote": train.promote,
    }


def file_document(file: StoredFile) -> dict[str, Any]:
    """A file that was uploaded by itself."""
    return {
        "id": file.id,
        "name": file.name,
        "format": file.format,
        "bytes": file.size_bytes,
        "sha256": file.sha256,
        "created_at": timestamp(file.created_at),
        "expires_at": timestamp(file.expires_at),
        "links": {"self": f"/files/{file.id}"},
    }


def result_document(job: Job, predictions: bytes) -> dict[str, Any]:
    """A result by itself, with the exact version that made it."""
    return {
        "job_id": job.id,
        "model": job.spec.pinned(),
        "counts": job.counts.to_dict(),
        "warnings": list(job.warnings),
        "errors": list(job.errors),
        "predictions": orjson.Fragment(predictions),
    }


def version_document(manifest: Manifest, *, own: bool = True) -> dict[str, Any]:
    """A version; if it is not the reader's `own`, without where its rows came from."""
    document = manifest.to_dict()
    if not own and "input" in document["data"]:
        where = {"name": "", "file_id": None, "uri": None}
        document["data"] = document["data"] | {"input": document["data"]["input"] | where}
    del document["schema"]  # of how it is kept
    here = f"/models/{document.pop('model')}"
    return document | {"links": {"self": f"{here}/versions/{manifest.version}", "model": here}}


def model_document(model: Model, residents: Sequence[Resident] | None = None, *, own: bool = True) -> dict[str, Any]:
    """A model with its versions, newest first, and if `residents` are given with where they are loaded.

    The training profiles of versions are large, and only in a version by itself.
    """
    versions = [version_document(manifest, own=own) for manifest in model.versions]
    for version in versions:
        del version["profile"]
    here = f"/models/{model.name}"
    links = {"self": here, "schedule": f"{here}/schedule", "drift": f"{here}/drift"}
    document: dict[str, Any] = {"name": model.name, "owner": model.owner}
    document |= {"aliases": model.aliases, "versions": versions, "links": links}
    if residents is not None:
        document["loaded"] = [told for resident in residents if (told := resident.of(model.name))]
    return document


def alias_document(name: str, state: AliasState) -> dict[str, Any]:
    """Where an alias of a model points."""
    here = f"/models/{name}"
    return {
        "model": name,
        "alias": state.alias,
        "version": state.version,
        "revision": state.revision,
        "moved_at": timestamp(state.moved_at),
        "links": {"self": f"{here}/aliases/{state.alias}", "version": f"{here}/versions/{state.version}"},
    }


def move_document(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A move of an alias; the HTTP request that asked for it stands beside its other details."""
    details = dict(entry["details"])
    request_id = details.pop("request_id", None)
    at = datetime.fromtimestamp(entry["at"] / 1000, UTC)
    return {**entry, "at": timestamp(at), "request_id": request_id, "details": details}
