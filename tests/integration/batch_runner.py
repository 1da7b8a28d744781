"""Batch jobs run by hand: real Redis and storage, and workers that are this process, in whatever order a test wants."""

import json
import random
from dataclasses import dataclass
from typing import Any

from shared.batch import BatchOptions, Input
from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.dialect import Dialect
from shared.files import Files
from shared.inputs import Inputs
from shared.job import Job, Spec, new_job_id
from shared.queue import BATCH
from shared.records import Submission
from shared.schedules import Schedules
from shared.settings import Settings
from shared.storage import Storage, input_key, job_prefix
from shared.store import JobStore
from tests.models import registry_of
from worker.batch import BatchWork
from worker.janitor import Janitor
from worker.model_cache import ModelCache


@dataclass(frozen=True)
class Finished:
    """A job that is done, and what it wrote."""

    job: Job
    files: dict[str, bytes]

    @property
    def result(self) -> bytes:
        """The result file."""
        return self.files["result"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The lines of the errors file."""
        return [json.loads(line) for line in self.files["errors"].splitlines()]

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        manifest: dict[str, Any] = json.loads(self.files["manifest"])
        return manifest


class Runner:
    """Some workers of a service with these settings."""

    def __init__(self, settings: Settings, workers: int = 2) -> None:
        self.settings = settings
        self.store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        self.storage = Storage.of(settings)
        self.registry = registry_of(settings)
        self.janitor = Janitor(
            self.store,
            BatchStore(self.store, settings),
            Files(self.store, settings),
            self.storage,
            self.registry,
            Schedules(self.store.connections, self.store.keys, self.storage),
            lambda _: None,
            settings,
        )
        models = ModelCache(self.registry, 2**30)
        self.works = [
            BatchWork(
                self.store,
                self.storage,
                Inputs(settings, self.storage),
                self.registry,
                models,
                lambda _: None,
                settings,
            )
            for _ in range(workers)
        ]

    def submit(
        self, data: bytes, model: str = "moody", *, dialect: Dialect | None = None, method: str = "predict",
        top_k: int | None = None, name: str = "", retry_of: str | None = None, given: Input | None = None,
        **options: Any,
    ) -> str:  # fmt: skip
        """A job on a file; its id."""
        manifest = self.registry.resolve(model).manifest
        job_id = new_job_id()
        if given is None:
            self.storage.put(input_key(job_id), data)
            given = Input(key=input_key(job_id), dialect=dialect or Dialect(), name=name)
        spec = Spec(
            requested=model, model=manifest.model, version=manifest.version, sha256=manifest.sha256, method=method,
            top_k=top_k, retry_of=retry_of, batch=BatchOptions(input=given, **options),
        )  # fmt: skip
        self.store.submit(Submission(id=job_id, spec=spec, alias=None, queue=BATCH, ttl_seconds=600))
        return job_id

    def step(self, worker: int = 0) -> str | None:
        """Let a worker do one unit; its kind, or None if there was nothing for it."""
        unit = self.works[worker].pull(f"w{worker}", linger_seconds=0, answered=False, lane="")
        if unit is None:
            return None
        self.works[worker].do(unit)
        return unit.kind

    def finish(self, job_id: str, seed: int = 0) -> Finished:
        """Let the workers take turns by chance until a job is done."""
        chance = random.Random(seed)
        while not (job := self.read(job_id)).done:
            self.step(chance.randrange(len(self.works)))
        self.janitor.remove_parts()
        return Finished(job, {kind: self.storage.get(about["key"]) for kind, about in job.outputs.items()})

    def run(self, data: bytes, *, seed: int = 0, **options: Any) -> Finished:
        """Submit a job and have it done."""
        return self.finish(self.submit(data, **options), seed)

    def read(self, job_id: str) -> Job:
        """The job as it is."""
        job = self.store.read(job_id)
        assert job is not None
        return job

    def forget(self, job_id: str) -> None:
        """Remove a job and its files."""
        self.store.delete(job_id)
        self.storage.delete(job_prefix(job_id))
