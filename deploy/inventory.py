"""What a snapshot of Redis holds, and the files in storage that it names."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from deploy.entries import pages
from shared.job import DONE
from shared.keys import Keys
from shared.manifest import Manifest
from shared.owner import DEFAULT_OWNER
from shared.records import load_spec
from shared.storage import artifact_key, file_key, input_key, result_key

# Made again from the input by the jobs that need them.
PASSING: Final = ("parts/", "unpacked/")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedFile:
    """A file that must be there."""

    key: str
    kind: str  # of whom it is: job, file or version
    id: str
    sha256: str | None = None  # None: it is not known
    size_bytes: int | None = None


@dataclass(kw_only=True, slots=True)
class Inventory:
    """The jobs, uploaded files and versions of a snapshot."""

    statuses: Counter[str] = field(default_factory=Counter)  # jobs that are there, by status
    owners: dict[str, str] = field(default_factory=dict)  # of jobs and files that are not the default owner's, by id
    jobs: set[str] = field(default_factory=set)  # those that may have files
    files: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)  # <model>/<version>
    named: list[NamedFile] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, client: Any, keys: Keys, now_millis: int) -> "Inventory":
        """What a snapshot holds that has not expired by then."""
        found = cls()
        for ids in _ids(client, f"{keys.base}job:"):
            found._add_jobs(client, keys, ids, now_millis)
        for ids in _ids(client, f"{keys.base}file:"):
            found._add_files(client, keys, ids, now_millis)
        for names in _ids(client, f"{keys.base}version:"):
            found._add_versions(client, keys, names)
        found._keys = {file.key for file in found.named}
        return found

    def wants(self, key: str) -> bool:
        """Whether a file in storage belongs to what the snapshot holds; copies of Redis and passing files do not."""
        if key in self._keys:
            return True
        kind, _, rest = key.partition("/")
        name, _, file = rest.partition("/")
        match kind:
            case "jobs":
                return name in self.jobs and not file.startswith(PASSING)
            case "files":
                return name in self.files
            case "models":
                return f"{name}/{file.partition('/')[0]}" in self.versions
            case _:
                return False

    def owner(self, id: str) -> str:
        """Whose job or file it is."""
        return self.owners.get(id, DEFAULT_OWNER)

    def _add_jobs(self, client: Any, keys: Keys, ids: list[str], now_millis: int) -> None:
        pipeline = client.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "status", "expires", "size", "kind", "attempt", "owner")
            pipeline.mget(f"{keys.base}spec:{job_id}", f"{keys.base}outcome:{job_id}")
        answers = iter(pipeline.execute())
        for job_id, record, (spec, outcome) in zip(ids, answers, answers, strict=True):
            status, expires, size, kind, attempt, owner = record
            if status is None or spec is None or (expires is not None and int(expires) <= now_millis):
                continue
            self.statuses[status.decode()] += 1
            if owner is not None:
                self.owners[job_id] = owner.decode()
            if size is None:
                continue
            self.jobs.add(job_id)
            if kind is None:
                self.named.append(
                    NamedFile(key=result_key(job_id, int(attempt)), kind="job", id=job_id, size_bytes=int(size))
                )
            else:
                self.named += _of_staged(job_id, spec, outcome, done=status.decode() in DONE)

    def _add_files(self, client: Any, keys: Keys, ids: list[str], now_millis: int) -> None:
        pipeline = client.pipeline(transaction=False)
        for file_id in ids:
            pipeline.hmget(keys.file(file_id), "file", "expires", "owner")
        for file_id, (raw, expires, owner) in zip(ids, pipeline.execute(), strict=True):
            if raw is None or int(expires) <= now_millis:
                continue
            if owner is not None:
                self.owners[file_id] = owner.decode()
            about = orjson.loads(raw)
            self.files.add(file_id)
            self.named.append(
                NamedFile(
                    key=file_key(file_id),
                    kind="file",
                    id=file_id,
                    sha256=about["sha256"],
                    size_bytes=about["size_bytes"],
                )
            )

    def _add_versions(self, client: Any, keys: Keys, names: list[str]) -> None:
        for name in names:
            raw = client.get(f"{keys.base}version:{name}")
            if raw is None:
                continue
            manifest = Manifest.from_json(raw)
            self.versions.add(f"{manifest.model}/{manifest.version}")
            self.named.append(
                NamedFile(
                    key=artifact_key(manifest.model, manifest.version, manifest.artifact),
                    kind="version",
                    id=name,
                    sha256=manifest.sha256,
                    size_bytes=manifest.size_bytes,
                )
            )


def _ids(client: Any, prefix: str) -> Iterator[list[str]]:
    for page in pages(client, f"{prefix}*"):
        yield [key.decode().removeprefix(prefix) for key in page]


def _of_staged(job_id: str, raw_spec: bytes, outcome: bytes | None, *, done: bool) -> list[NamedFile]:
    """What a job in stages has read, if that came with it, and written."""
    spec = load_spec(raw_spec)
    named = [
        NamedFile(key=about["key"], kind="job", id=job_id, sha256=about["sha256"], size_bytes=about["bytes"])
        for about in (orjson.loads(outcome).get("outputs", {}) if outcome else {}).values()
    ]
    given = spec.input
    if given is not None and given.key == input_key(job_id):
        named.append(NamedFile(key=given.key, kind="job", id=job_id, sha256=given.sha256, size_bytes=given.size_bytes))
    if spec.register is not None and not done:
        named.append(NamedFile(key=spec.register.key, kind="job", id=job_id))
        if spec.register.sample is not None and spec.register.sample.key is not None:
            named.append(NamedFile(key=spec.register.sample.key, kind="job", id=job_id))
    return named
