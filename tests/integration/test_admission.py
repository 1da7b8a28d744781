"""The check of an artifact: whatever is killed on the way, there is one version, and the job tells the truth of it."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import sklearn
from sklearn.linear_model import Ridge

from shared.batch import Input
from shared.errors import JobFinished, StoreUnavailable
from shared.inputs import Inputs
from shared.job import Job, Spec, Status, new_job_id
from shared.owner import DEFAULT_OWNER
from shared.queue import BATCH
from shared.records import BatchUnit, Submission
from shared.registry import PRODUCTION
from shared.settings import Settings
from shared.storage import parts_prefix
from shared.training import RegisterOptions
from tests.integration.batch_runner import Runner
from tests.integration.train_runner import HeldUpRegistry, Killed, csv_of
from tests.models import registry_of
from tests.processes import RedisServer
from tests.unit.test_registration import SAMPLE, X, Y
from worker.batch import BatchWork
from worker.formats import FORMATS
from worker.model_cache import ModelCache

MODEL = FORMATS["skops"].dump(Ridge().fit(X, Y))


def of_another_release(artifact: bytes) -> bytes:
    """A skops file as scikit-learn 1.5.0 would have written it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(artifact)) as read, zipfile.ZipFile(file, "w") as written:
        for name in read.namelist():
            data = read.read(name)
            if name == "schema.json":
                data = data.replace(sklearn.__version__.encode(), b"1.5.0")
            written.writestr(name, data)
    return file.getvalue()


class Checks:
    """Two workers of the batch queue, each with a registry of its own, and artifacts that are sent to them."""

    def __init__(self, settings: Settings) -> None:
        self.runner = Runner(settings, workers=0)
        self.store, self.storage = self.runner.store, self.runner.storage
        self.registry = registry_of(settings)
        self.registries = [HeldUpRegistry(settings) for _ in range(2)]
        inputs = Inputs(settings, self.storage)
        self.runner.works = [
            BatchWork(self.store, self.storage, inputs, one, ModelCache(one, 2**30), lambda _: None, settings)
            for one in self.registries
        ]

    def send(self, artifact: bytes = MODEL, *, alias: str | None = None, **spec: Any) -> str:
        """The job that checks an artifact of the model `m`; `spec` is said of it besides."""
        job_id = new_job_id()
        key, sample = (f"{parts_prefix(job_id)}/{part}" for part in ("artifact", "sample"))
        self.storage.put(key, artifact)
        self.storage.put(sample, csv_of(SAMPLE))
        options = RegisterOptions(format="skops", key=key, sample=Input(key=sample, format="csv"), alias=alias)
        about = Spec(requested="m", model="m", method="register", register=options, **spec)
        self.store.submit(Submission(id=job_id, spec=about, alias=None, queue=BATCH, ttl_seconds=600, total=0))
        return job_id

    def pull(self, worker: int = 0) -> BatchUnit | None:
        """What a worker gets to do, and does not do."""
        return self.runner.works[worker].pull(f"w{worker}", linger_seconds=0, answered=False, lane="")

    def step(self, worker: int = 0) -> str | None:
        """Let a worker do one unit; its kind."""
        return self.runner.step(worker)

    def be_late(self) -> None:
        """Let the time of every lease be over, and a janitor see it."""
        client, leases = self.store.connections.client, f"{self.store.keys.base}leases"
        for fence in client.zrange(leases, 0, -1):
            client.zadd(leases, {fence: 1})
        self.store.tick((BATCH,))

    def kill_once_registered(self, **more: Any) -> str:
        """A check whose worker was killed when the version was registered, and before it could say so."""
        job_id = self.send(**more)
        self.registries[0].lose_the_answer(Killed)
        with pytest.raises(Killed):
            self.step()
        self.storage.delete(parts_prefix(job_id))  # so that nobody can check it again
        self.be_late()
        return job_id

    def read(self, job_id: str, owner: str = DEFAULT_OWNER) -> Job:
        """The job as it is."""
        job = self.store.read(job_id, owner=owner)
        assert job is not None
        return job

    def moves(self, alias: str = PRODUCTION) -> list[tuple[int | None, int, str | None]]:
        """All moves of an alias, the newest first."""
        return [(move["from"], move["to"], move["job_id"]) for move in self.registry.history("m", alias)]

    def versions(self) -> list[int]:
        """All versions there are."""
        return sorted(manifest.version for manifest in self.registry.model("m").versions)


@pytest.fixture
def checks(settings: Settings, redis_server: RedisServer) -> Checks:
    checks = Checks(settings)
    client, keys = checks.store.connections.client, checks.store.keys
    client.delete(keys.model("m"))  # what tests of the job store need
    return checks


def result_of(job: Job) -> tuple[Any, ...]:
    assert job.registered is not None, job.failure
    return tuple(job.registered[name] for name in ("version", "alias", "promoted"))


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        pytest.param(None, (1, PRODUCTION, True), id="first"),
        pytest.param("canary", (1, "canary", False), id="another-alias"),
    ],
)
def test_a_check_that_was_killed_once_its_version_was_registered_only_ends(
    checks: Checks, alias: str | None, expected: tuple[Any, ...]
) -> None:
    job_id = checks.kill_once_registered(alias=alias)

    assert checks.step(1) == "plan"

    job = checks.read(job_id)
    assert (job.status, result_of(job)) == (Status.SUCCEEDED, expected)
    assert checks.versions() == [1]
    assert checks.moves(alias or PRODUCTION) == [(None, 1, job_id)]


def test_a_check_that_is_killed_at_every_attempt_after_that_succeeds_all_the_same(
    checks: Checks, settings: Settings
) -> None:
    job_id = checks.kill_once_registered()

    for _ in range(settings.max_attempts + 1):
        assert checks.pull() is not None
        checks.be_late()
    checks.step()

    job = checks.read(job_id)
    assert (job.status, result_of(job)) == (Status.SUCCEEDED, (1, PRODUCTION, True))


def test_a_check_whose_version_is_registered_can_be_cancelled_no_more(checks: Checks) -> None:
    job_id = checks.kill_once_registered()
    unit = checks.pull()
    assert unit is not None

    checks.runner.works[0]._batches.tell_phase(unit, "loading")
    with pytest.raises(JobFinished):
        checks.store.cancel(job_id)
    checks.runner.works[0].do(unit)

    assert checks.read(job_id).status == Status.SUCCEEDED
    assert checks.moves() == [(None, 1, job_id)]


def test_of_two_first_uploads_at_once_one_is_promoted_and_both_say_so(checks: Checks) -> None:
    slow, quick = checks.send(), checks.send()
    checks.registries[0].hold_up(lambda: checks.step(1))

    checks.step(0)

    assert result_of(checks.read(slow))[1:] == (None, False)
    assert result_of(checks.read(quick))[1:] == (PRODUCTION, True)
    assert checks.versions() == [1, 2]
    assert [move[2] for move in checks.moves()] == [quick]


def test_a_second_upload_is_promoted_only_if_that_is_wanted(checks: Checks) -> None:
    jobs = [checks.send(), checks.send(), checks.send(alias=PRODUCTION)]
    for _ in jobs:
        checks.step()

    assert [result_of(checks.read(job_id)) for job_id in jobs] == [
        (1, PRODUCTION, True),
        (2, None, False),
        (3, PRODUCTION, True),
    ]


@pytest.mark.parametrize(
    "refuse",
    [
        pytest.param(lambda registry: registry.refuse_numbers(2), id="its-number"),
        pytest.param(lambda registry: registry.lose_the_answer(StoreUnavailable), id="its-version"),
    ],
)
def test_a_redis_that_is_away_for_a_moment_changes_nothing(
    checks: Checks, refuse: Callable[[HeldUpRegistry], None]
) -> None:
    job_id = checks.send()
    refuse(checks.registries[0])

    checks.step()

    assert result_of(checks.read(job_id)) == (1, PRODUCTION, True)
    assert checks.moves() == [(None, 1, job_id)]


def lost_at_every_attempt(checks: Checks, job_id: str) -> None:
    for _ in range(checks.runner.settings.max_attempts):
        assert checks.pull() is not None
        checks.be_late()


def test_a_check_that_is_lost_at_every_attempt_fails(checks: Checks) -> None:
    job_id = checks.send()
    lost_at_every_attempt(checks, job_id)

    assert checks.step() == "final"

    job = checks.read(job_id)
    assert (job.status, (job.failure or {})["code"]) == (Status.FAILED, "worker_lost")
    assert checks.registry.names() == []


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "under-way"])
def test_a_check_that_is_cancelled_at_the_last_moment_is_cancelled(checks: Checks, lost: bool) -> None:
    job_id = checks.send()
    if lost:
        lost_at_every_attempt(checks, job_id)
    unit = checks.pull()
    assert unit is not None

    checks.store.cancel(job_id)
    checks.runner.works[0].do(unit)
    while checks.step() is not None:
        pass

    assert (checks.read(job_id).status, checks.read(job_id).failure) == (Status.CANCELLED, None)
    assert checks.registry.names() == []


def test_what_goes_wrong_once_a_version_is_registered_does_not_fail_its_check(checks: Checks) -> None:
    job_id = checks.kill_once_registered()
    unit = checks.pull()
    assert unit is not None

    checks.runner.works[0]._batches.fail(unit, "internal", "Something went wrong.")

    assert (checks.read(job_id).status, checks.read(job_id).phase) == (Status.RUNNING, "registering")
    assert checks.pull(1) is None, "it is tried again at once, and again, and again"
    checks.be_late()
    checks.step()
    assert checks.read(job_id).status == Status.SUCCEEDED


def test_what_was_warned_of_stands_in_the_job_and_in_the_version(checks: Checks) -> None:
    job_id = checks.send(of_another_release(MODEL))

    checks.step()

    job = checks.read(job_id)
    (warning,) = job.warnings
    assert "fitted with scikit-learn 1.5.0" in warning
    assert result_of(job)[0] == 1
    assert checks.registry.manifest("m", 1).warnings == (warning,)
