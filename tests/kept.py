"""What a first start leaves behind, for services that are not to do all of it again."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.rows import LINEAR
from tests.system.service import Job, Service, quick_settings, register_estimators


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a service left behind that was started for the first time, did a job, and was stopped."""

    data_dir: Path
    job: Job
    models: list[dict[str, Any]]


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short name, since a unix socket's path may not be long."""
    path = Path(tempfile.mkdtemp(prefix="ft-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def kept() -> Iterator[Kept]:
    with short_folder() as folder:
        service = Service(quick_settings(folder / "var"))
        try:
            register_estimators(service.settings)
            job = service.http.done(service.http.submit("linear", [LINEAR])["id"])
            models = service.http("GET", "/models").json["models"]
        finally:
            service.stop()
        yield Kept(data_dir=folder / "var", job=job, models=models)


def started_again(kept: Kept, folder: Path, **values: Any) -> Service:
    """A second start, on a copy of the folder."""
    shutil.copytree(kept.data_dir, folder / "var", ignore=shutil.ignore_patterns("*.sock"))
    return Service(quick_settings(folder / "var", **values))
