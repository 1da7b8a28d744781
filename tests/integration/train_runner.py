"""Workers of the train queue in this process, which a test lets take their turns one unit at a time."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.base import BaseEstimator

from shared.batch import Input
from shared.connection import Connections
from shared.errors import StoreFull, StoreUnavailable
from shared.inputs import Inputs
from shared.job import Job, new_job_id
from shared.keys import Keys
from shared.queue import TRAIN
from shared.registry import Manifest, Registry
from shared.requests import TrainRequest, train_submission
from shared.settings import Settings
from shared.storage import Storage, artifact_key, input_key
from shared.store import JobStore
from tests.models import registry_of
from worker.formats import FORMATS
from worker.model_cache import ModelCache
from worker.registration import register
from worker.train import TrainWork
from worker.training.rows import loaded

SAMPLE_ROWS = 20


class Killed(BaseException):
    """The end of a process, for who runs in ours."""


class HeldUpRegistry(Registry):
    """The registry of one worker, to which something happens just before that worker registers a version."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix), Storage.of(settings)
        )
        self.compared: list[int | None] = []  # the champions of the versions that were to be registered
        self._between: Callable[[], object] = lambda: None
        self._times = 0
        self._lost: type[BaseException] | None = None
        self._refused = 0

    def hold_up(self, between: Callable[[], object], times: int = 1) -> None:
        """Have this happen before the next registrations."""
        self._between, self._times = between, times

    def lose_the_answer(self, error: type[BaseException] = StoreUnavailable) -> None:
        """Have the next registration succeed, and nobody learn it."""
        self._lost = error

    def refuse_numbers(self, times: int) -> None:
        """Have the next reservations find Redis full."""
        self._refused = times

    def reserve(self, name: str, token: str) -> int:
        """The number of a version."""
        if self._refused:
            self._refused -= 1
            raise StoreFull
        return super().reserve(name, token)

    def add(self, manifest: Manifest, *arguments: Any, **more: Any) -> Manifest:
        """Register a version."""
        self.compared.append(manifest.comparison.get("champion_version"))
        if len(self.compared) <= self._times:
            self._between()
        registered = super().add(manifest, *arguments, **more)
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost
        return registered


class TrainRunner:
    """Some workers of a service with these settings."""

    def __init__(self, settings: Settings, workers: int = 2) -> None:
        self.settings = settings
        self.store = JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)
        self.storage = Storage.of(settings)
        self.registry = registry_of(settings)
        self.registries = [HeldUpRegistry(settings) for _ in range(workers)]
        inputs = Inputs(settings, self.storage)
        self.works = [
            TrainWork(
                self.store, self.storage, inputs, registry, ModelCache(self.registry, 2**30), lambda _: None, settings
            )
            for registry in self.registries
        ]  # fmt: skip

    def register(self, name: str, estimator: BaseEstimator, sample: pa.Table, **more: Any) -> Manifest:
        """A fitted estimator as a new version, which production points to unless `alias` says otherwise."""
        format = more.pop("format", "skops")
        artifact = FORMATS[format].dump(estimator)
        sample = sample.slice(0, SAMPLE_ROWS)
        return register(self.registry, name, artifact, format=format, sample=sample, settings=self.settings, **more)

    def submit(self, name: str, rows: pa.Table | bytes, **request: Any) -> str:
        """A train job over these rows; its id."""
        job_id = new_job_id()
        data = rows if isinstance(rows, bytes) else csv_of(rows)
        self.storage.put(input_key(job_id), data)
        wanted = TrainRequest.model_validate({"kind": "train", "model": name} | request)
        given = Input(key=input_key(job_id), name="rows", size_bytes=len(data))
        job = train_submission(self.registry, wanted, name, given, job_id=job_id, ttl_seconds=600, request_id="test")
        self.store.submit(job)
        return job_id

    def step(self, worker: int = 0) -> str | None:
        """Let a worker do one unit; its kind, or None if there was nothing for it."""
        unit = self.works[worker].pull(f"w{worker}", linger_seconds=0, answered=False, lane="")
        if unit is None:
            return None
        self.works[worker].do(unit)
        return unit.kind

    def be_late(self, key: str, member: str | None = None) -> None:
        """Let the time of leases or deadlines be over, and a janitor see it."""
        client, where = self.store.connections.client, f"{self.store.keys.base}{key}"
        for one in [member] if member is not None else client.zrange(where, 0, -1):
            client.zadd(where, {one: 1})
        self.store.tick((TRAIN,))

    def read(self, job_id: str) -> Job:
        """The job as it is."""
        job = self.store.read(job_id)
        assert job is not None
        return job

    def finish(self, job_id: str, seed: int = 0, until: Callable[[Job], bool] = lambda job: job.done) -> Job:
        """Let the workers take turns by chance until the job is done."""
        chance = random.Random(seed)
        while not until(job := self.read(job_id)):
            self.step(chance.randrange(len(self.works)))
        return job

    def run(self, name: str, rows: pa.Table | bytes, **request: Any) -> Job:
        """Submit a training and have it done."""
        return self.finish(self.submit(name, rows, **request))

    def failed(self, name: str, rows: pa.Table | bytes, **request: Any) -> Job:
        """A training that must fail at its plan, before any fit; nothing is registered and production stays."""
        before = self.registry.model(name)
        job_id = self.submit(name, rows, **request)
        kinds = [self.step()]
        while not self.read(job_id).done:
            kinds.append(self.step())
        assert kinds in (["plan"], ["plan", "final"]), kinds
        assert self.registry.model(name) == before
        return self.read(job_id)

    def version(self, job: Job) -> Manifest:
        """What a training registered."""
        assert job.registered is not None, job.failure
        return self.registry.manifest(job.registered["model"], job.registered["version"])

    def manifest_of(self, job: Job) -> dict[str, Any]:
        """The manifest of a job."""
        manifest: dict[str, Any] = json.loads(self.storage.get(job.outputs["manifest"]["key"]))
        return manifest

    def errors_of(self, job: Job) -> list[dict[str, Any]]:
        """The lines of a job's errors file."""
        return [json.loads(line) for line in self.storage.get(job.outputs["errors"]["key"]).splitlines()]

    def sides_of(self, job: Job) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
        """The rows that a version was trained on and compared on, and (n_rows,) which are held out."""
        version = self.version(job)
        return loaded(self.storage.get(artifact_key(version.model, version.version, version.data["file"])))

    def production(self, name: str) -> int:
        """The version that production points to."""
        return self.registry.resolve(f"{name}@production", fresh=True).manifest.version


def labelled(bunch: Any) -> pa.Table:
    """A data set of scikit-learn as a table, with its target as the column `target`; loaded with as_frame=True."""
    table: pa.Table = pa.Table.from_pandas(bunch.frame, preserve_index=False)
    return table


def features_of(table: pa.Table, target: str = "target") -> pa.Table:
    """The rows without the target."""
    return table.drop_columns([target])


def arrays_of(table: pa.Table, target: str = "target") -> tuple[Any, Any]:
    """(n_rows, n_features) float64, and the target (n_rows,)."""
    return features_of(table, target).to_pandas().to_numpy(dtype=float), table.column(target).to_pandas().to_numpy()


def csv_of(table: pa.Table) -> bytes:
    """A table as a CSV file."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def encoded(table: pa.Table, format: str, compression: str | None = None) -> bytes:
    """A table as a file of a format, compressed by gzip or zstd if that is wanted."""
    if format == "parquet":
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
        data = bytes(sink.getvalue())
    elif format == "ndjson":
        data = b"".join(orjson.dumps(row, default=str) + b"\n" for row in table.to_pylist())
    else:
        data = csv_of(table)
    if compression is None:
        return data
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, compression) as stream:
        stream.write(data)
    return bytes(packed.getvalue())
