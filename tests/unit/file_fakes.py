"""A service over files: real storage in a folder, and in memory what Redis would hold of uploads, files and jobs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient

from api import files as file_routes
from api.services import Services
from shared.errors import ServiceError, UnknownFile
from shared.files import Files, StoredFile
from shared.records import Accepted, Submission
from shared.signature import Feature, Signature
from shared.storage import file_key
from tests.unit.fakes import CREATED_AT, Index, Jobs, make_app, make_services

AB = Signature(
    container="matrix",
    features=(Feature(name="a", type="number"), Feature(name="b", type="number")),
    methods=("predict",),
)
AC = replace(AB, features=(Feature(name="a", type="number"), Feature(name="c", type="number")))
CSV = b"id,a,b\n1,2,3\n4,5,6\n"


class NotedFiles:
    """What is noted about uploads and files."""

    def __init__(self) -> None:
        self.under_way: set[str] = set()
        self.kept: dict[str, StoredFile] = {}

    def announce(self, prefix: str) -> None:
        self.under_way.add(prefix)

    def keep(self, prefix: str) -> None:
        assert prefix in self.under_way

    def forget(self, prefix: str) -> None:
        self.under_way.discard(prefix)

    def add(self, file: StoredFile, upload: str, **_: Any) -> StoredFile:
        self.under_way.remove(upload)
        self.kept[file.id] = replace(file, expires_at=CREATED_AT + timedelta(days=7))
        return self.kept[file.id]

    def get(self, file_id: str, **_: Any) -> StoredFile:
        if file_id not in self.kept:
            raise UnknownFile
        return self.kept[file_id]

    def delete(self, file_id: str, **_: Any) -> None:
        self.get(file_id)
        del self.kept[file_id]


class FileJobs(Jobs):
    """A store that takes uploads over, unless it is told to answer otherwise."""

    def __init__(self, index: Index, noted: NotedFiles) -> None:
        super().__init__(index)
        self._noted = noted
        self.refusal: ServiceError | None = None
        self.answer: Callable[[Submission], Accepted] | None = None

    def submit(self, job: Submission) -> Accepted:
        if self.refusal is not None:
            raise self.refusal
        if self.answer is not None:
            return self.answer(job)
        accepted = super().submit(job)
        if job.upload is not None:
            self._noted.under_way.remove(job.upload)
        return accepted


class FileService:
    """The routes of jobs and files over a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.index = Index()
        self.index.publish(AB)
        self.noted = NotedFiles()
        self.store = FileJobs(self.index, self.noted)
        made = make_services(folder, self.index, self.store, **settings)
        self.services: Services = replace(made, files=cast(Files, self.noted))
        self.app: Flask = make_app(self.services)
        self.app.register_blueprint(file_routes.routes(self.services))
        self.app.config["MAX_CONTENT_LENGTH"] = self.services.settings.max_body_bytes
        self.client: FlaskClient = self.app.test_client()

    @property
    def job(self) -> Submission:
        """The only job that was submitted."""
        (job,) = self.store.submitted
        return job

    def stored(self) -> list[Path]:
        """Every file that lies in storage."""
        return [path for path in (self.folder / "storage").rglob("*") if path.is_file()]

    def is_clean(self) -> bool:
        """Whether nothing is left of any upload."""
        return not self.stored() and not self.noted.under_way and not self.store.submitted

    def keep(self, data: bytes, file_id: str = "f1", **fields: Any) -> StoredFile:
        """A file that was uploaded before."""
        self.services.storage.put(file_key(file_id), data)
        known: dict[str, Any] = {"name": "", "format": None, "size_bytes": len(data), "sha256": "ab"}
        file = StoredFile(id=file_id, created_at=CREATED_AT, **known | fields)
        self.noted.kept[file_id] = file
        return file
