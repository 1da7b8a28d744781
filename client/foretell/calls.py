"""What each call sends and what its answer means, for both kinds of client."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from foretell.errors import AliasConflict, ServiceFault
from foretell.flow import Flow, Give, send, work
from foretell.form import Form, Part, format_of
from foretell.options import written
from foretell.predict import refused
from foretell.progress import Progress, Told, nobody
from foretell.source import Reference, Source
from foretell.table import Table
from foretell.waiting import Document, wait

PRODUCTION: Final = "production"
PAGE: Final = 200
CHECK_SECONDS: Final = 25  # waited for the check of an artifact at once; then it is waited for as for any job
FileOrTable = Path | Table


def under(name: str) -> str:
    """The path of a model."""
    return f"/models/{quote(name, safe='')}"


def job_path(job_id: str, below: str = "") -> str:
    """The path of a job, or of what is below it."""
    return f"/jobs/{quote(job_id, safe='')}{below}"


def read_json(path: str, **more: Any) -> Flow[Any]:
    """What lies at a path."""
    answer = yield from send("GET", path, **more)
    return answer.json


def delete(path: str) -> Flow[None]:
    """Remove what lies at a path."""
    yield from send("DELETE", path)


def jobs(filters: Mapping[str, Any], limit: int | None) -> Flow[None]:
    """Give jobs, newest first, up to so many."""
    given, query = 0, {name: value for name, value in filters.items() if value is not None}
    while True:
        query["limit"] = min(PAGE, limit - given) if limit is not None else PAGE
        page = yield from read_json("/jobs", query=query)
        for job in page["jobs"]:
            yield Give(job)
            given += 1
        if page["next"] is None or (limit is not None and given >= limit):
            return
        query["cursor"] = page["next"]


def cancel(job_id: str) -> Flow[Document]:
    """The job, which is cancelled or will be."""
    answer = yield from send("POST", job_path(job_id, "/cancel"))
    return answer.json  # type: ignore[no-any-return]


def retry(job_id: str, only: str, key: str) -> Flow[Document]:
    """The new job."""
    headers = {"Idempotency-Key": key}
    answer = yield from send("POST", job_path(job_id, "/retry"), json={"only": only}, headers=headers)
    return answer.json  # type: ignore[no-any-return]


def errors(job_id: str) -> Flow[list[Document]]:
    """An entry for each failed row."""
    answer = yield from send("GET", job_path(job_id, "/errors"))
    return [json.loads(line) for line in answer.content.splitlines() if line.strip()]


def upload(file: FileOrTable, told: Told = nobody) -> Flow[Document]:
    """A file that jobs can read."""
    part = yield from _file_part(file, "file")
    format, _ = format_of(part.file_name or "")
    answer = yield from send("POST", "/files", body=_form([part], told), query={"format": format} if format else {})
    return answer.json  # type: ignore[no-any-return]


def submit_file(path: str, options: Mapping[str, Any], source: Source, key: str, told: Told = nobody) -> Flow[Document]:
    """A job over a file that comes along, or that lies somewhere already; `path` is /jobs, or that of a retraining."""
    headers = {"Idempotency-Key": key}
    if isinstance(source, Reference):
        said = written(dict(options) | {"input": source.written()})
        answer = yield from send("POST", path, json=said, headers=headers)
    else:
        file = yield from _file_part(source, "file")
        # The options first, so that the service looks at the header while the rest comes.
        body = _form([_json_part("job", written(options)), file], told)
        answer = yield from send("POST", path, body=body, headers=headers)
    return answer.json  # type: ignore[no-any-return]


def _form(parts: list[Part], told: Told) -> Form:
    total = sum(part.size_bytes for part in parts)
    return Form(parts, lambda sent: told(Progress(stage="upload", done=min(sent, total), total=total)))


def _json_part(name: str, value: Any) -> Part:
    return Part(name=name, content=json.dumps(value, allow_nan=False).encode(), media_type="application/json")


def _file_part(source: FileOrTable, name: str) -> Flow[Part]:
    if isinstance(source, Table):
        return Part(name=name, content=source.content, media_type=source.media_type, file_name=source.file_name)
    yield from work(lambda: _check_readable(source))
    return Part(name=name, content=source, media_type="application/octet-stream", file_name=source.name)


def _check_readable(path: Path) -> None:
    with path.open("rb"):
        pass


def push(
    name: str, artifact: Path | bytes, sample: FileOrTable | None, options: Mapping[str, Any], key: str,
    told: Told = nobody,
) -> Flow[Document]:  # fmt: skip
    """The version that an artifact has become.

    Raises:
        UnsafeArtifact, ModelUnusable, InvalidRequest, JobFailed
    """
    parts = [_json_part("options", {name: value for name, value in options.items() if value is not None})]
    if sample is not None:
        parts.append((yield from _file_part(sample, "sample")))
    if isinstance(artifact, bytes):
        file_name, media_type = f"{name}.skops", "application/octet-stream"
        parts.append(Part(name="artifact", content=artifact, media_type=media_type, file_name=file_name))
    else:
        parts.append((yield from _file_part(artifact, "artifact")))
    headers = {"Idempotency-Key": key, "Prefer": f"wait={CHECK_SECONDS}"}
    answer = yield from send(
        "POST", f"{under(name)}/versions", body=_form(parts, told), headers=headers, patience_seconds=CHECK_SECONDS
    )
    if answer.status == 201:
        return answer.json  # type: ignore[no-any-return]
    job = yield from wait(answer.json, None)
    if job["status"] != "succeeded":
        raise refused(job)
    return (yield from read_json(f"{under(name)}/versions/{job['result']['version']}"))  # type: ignore[no-any-return]


def promote(name: str, version: int, alias: str, why: str) -> Flow[Document]:
    """Where the alias points now."""
    answer = yield from send(
        "PUT", f"{under(name)}/aliases/{quote(alias, safe='')}", json={"version": version, "why": why}
    )
    return answer.json  # type: ignore[no-any-return]


def rollback(name: str, why: str) -> Flow[Document]:
    """Where production points now; done once, however often it has to be sent."""
    place, request_id = f"{under(name)}/aliases/{PRODUCTION}", uuid.uuid4().hex
    before = yield from send("GET", place)
    # Sent again after a move of its own, the service refuses it, since the revision is another one.
    headers = {"If-Match": before.headers["etag"], "X-Request-Id": request_id}
    try:
        answer = yield from send("POST", f"{under(name)}/rollback", json={"why": why}, headers=headers)
    except AliasConflict:
        now = yield from read_json(place)
        if not any(move["request_id"] == request_id for move in now["history"]):
            raise
        return {name: value for name, value in now.items() if name != "history"}
    return answer.json  # type: ignore[no-any-return]


def put_schedule(name: str, schedule: Mapping[str, Any], source: Reference) -> Flow[Document]:
    """The schedule."""
    said = written(dict(schedule) | {"input": source.written()})
    answer = yield from send("PUT", f"{under(name)}/schedule", json=said)
    return answer.json  # type: ignore[no-any-return]


def create_key(wish: Mapping[str, Any]) -> Flow[Document]:
    """The key with its secret; never sent again once it may have arrived, since each time makes another one."""
    said = {name: value for name, value in wish.items() if value is not None}
    answer = yield from send("POST", "/keys", json=said, repeatable=False)
    return answer.json  # type: ignore[no-any-return]


def rotate_key(key_id: str, overlap_seconds: int | None) -> Flow[Document]:
    """The key with its new secret."""
    said = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
    answer = yield from send("POST", f"/keys/{quote(key_id, safe='')}/rotate", json=said, repeatable=False)
    return answer.json  # type: ignore[no-any-return]


def readiness() -> Flow[Document]:
    """What `/readyz` says, also where it says that something is missing."""
    try:
        return (yield from read_json("/readyz", insist=False))  # type: ignore[no-any-return]
    except ServiceFault as error:
        if error.code not in ("not_ready", "stopping"):
            raise
        return error.document
