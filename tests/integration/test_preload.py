"""What a prediction process follows by itself, and what it says of itself, with a real Redis."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import orjson
import pyarrow as pa
import pytest
from sklearn.dummy import DummyRegressor

from shared.connection import Connections
from shared.keys import Keys
from shared.registry import ANY, PRODUCTION, Manifest, Move, Registry
from shared.residence import FRESH_SECONDS, Residence, Resident
from shared.settings import Settings
from shared.storage import artifact_key
from tests.models import registry_of
from tests.processes import RedisServer
from tests.wait import until
from worker import background
from worker.model_cache import LoadedModel, ModelCache, bytes_of
from worker.preload import Preloader
from worker.registration import register


@pytest.fixture
def connections(settings: Settings, redis_server: RedisServer) -> Connections:
    return Connections(settings.redis_address, timeout_seconds=5)


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """As another process has it."""
    return registry_of(settings)


@pytest.fixture
def residence(settings: Settings, connections: Connections) -> Residence:
    return Residence(connections, Keys(settings.redis_prefix))


@pytest.fixture
def cache(settings: Settings, redis_server: RedisServer) -> ModelCache:
    return ModelCache(registry_of(settings), 2**20)


@pytest.fixture
def preloader(settings: Settings, cache: ModelCache, residence: Residence) -> Preloader:
    return Preloader(cache, registry_of(settings), residence, "online")


def artifact(value: float) -> bytes:
    file = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value]), file)
    return file.getvalue()


def registered(registry: Registry, value: float, *, alias: str | None = PRODUCTION, name: str = "rooms") -> int:
    """The version of a model that predicts a constant."""
    sample = pa.table({"x": [1.0, 2.0]})
    return register(registry, name, artifact(value), format="joblib", sample=sample, alias=alias).version


def moved(registry: Registry, version: int) -> None:
    registry.move("rooms", Move(alias=PRODUCTION, version=version, expected=ANY, who="test", why=""))


def said(residence: Residence, name: str = "rooms") -> dict[str, Any] | None:
    (resident,) = residence.residents()
    return resident.of(name)


def test_a_process_says_which_versions_it_has(
    registry: Registry, cache: ModelCache, preloader: Preloader, residence: Residence
) -> None:
    registered(registry, 1.0)
    cache.get("rooms", 1)

    preloader.once()

    (resident,) = residence.residents()
    assert resident.of("rooms") == {
        "worker": resident.worker, "queue": "online", "versions": [1], "warnings": {}, "failed": {},
    }  # fmt: skip
    assert resident.of("another") is None


def test_the_version_that_production_moves_to_is_loaded_and_told_at_once(
    registry: Registry, cache: ModelCache, preloader: Preloader, residence: Residence
) -> None:
    registered(registry, 1.0)
    cache.get("rooms", 1)
    preloader.once()

    registered(registry, 2.0)
    preloader.once()

    assert ("rooms", 2) in cache
    told = said(residence)
    assert told is not None
    assert told["versions"] == [1, 2]


def test_a_model_that_this_process_never_predicted_is_not_loaded(
    registry: Registry, cache: ModelCache, preloader: Preloader
) -> None:
    registered(registry, 1.0)

    preloader.once()

    assert cache.loaded() == []


def test_a_version_that_only_another_alias_points_to_is_not_loaded(
    registry: Registry, cache: ModelCache, preloader: Preloader
) -> None:
    registered(registry, 1.0)
    cache.get("rooms", 1)

    registered(registry, 2.0, alias="candidate")
    preloader.once()

    assert ("rooms", 2) not in cache


def test_a_version_that_was_dropped_since_is_not_loaded_again(
    settings: Settings, registry: Registry, residence: Residence
) -> None:
    cache = ModelCache(registry_of(settings), 1)  # one version at a time
    preloader = Preloader(cache, registry_of(settings), residence, "online")
    registered(registry, 1.0)
    cache.get("rooms", 1)
    registered(registry, 2.0)
    preloader.once()
    cache.get("rooms", 1)  # a job that was accepted before

    preloader.once()

    assert [model.manifest.version for model in cache.loaded()] == [1]


def test_a_move_back_is_followed_too(registry: Registry, cache: ModelCache, preloader: Preloader) -> None:
    registered(registry, 1.0)
    registered(registry, 2.0)
    cache.get("rooms", 2)
    preloader.once()

    moved(registry, 1)
    preloader.once()

    assert ("rooms", 1) in cache


def test_a_version_that_cannot_be_loaded_is_told_and_disturbs_nothing(
    settings: Settings, registry: Registry, cache: ModelCache, preloader: Preloader, residence: Residence
) -> None:
    registered(registry, 1.0)
    model = cache.get("rooms", 1)
    version = registered(registry, 2.0)
    key = artifact_key("rooms", version, registry.manifest("rooms", version).artifact)
    registry._storage.put(key, b"other bytes")

    preloader.once()

    told = said(residence)
    assert told is not None
    assert told["versions"] == [1]
    assert "The artifact of rooms@2 has sha256" in told["failed"]["2"]
    assert cache.get("rooms", 1) is model


def test_a_failure_is_forgotten_once_production_moves_on(
    registry: Registry, cache: ModelCache, preloader: Preloader, residence: Residence
) -> None:
    registered(registry, 1.0)
    cache.get("rooms", 1)
    version = registered(registry, 2.0)
    registry._storage.put(artifact_key("rooms", version, registry.manifest("rooms", version).artifact), b"other bytes")
    preloader.once()

    registered(registry, 3.0)
    preloader.once()
    preloader.once()

    told = said(residence)
    assert told is not None
    assert (told["versions"], told["failed"]) == ([1, 3], {})


class SlowCache(ModelCache):
    """Takes as long to load a version as a test wants."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, 2**20)
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def get(self, name: str, version: int) -> LoadedModel:
        self.begun.set()
        self.go_on.wait()
        return super().get(name, version)


class Over(Exception):
    """The test is over."""


@pytest.fixture
def ending_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The threads of a preloader, which go on as long as their process, end with the test."""
    over, threads = threading.Event(), []

    def sleep(seconds: float) -> None:
        if over.wait(seconds):
            raise Over

    def start(name: str, target: Callable[..., None], turn: Callable[[], None]) -> None:
        def run() -> None:
            with contextlib.suppress(Over):
                target(turn)

        threads.append(background.start(name, run))

    monkeypatch.setattr("worker.preload.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("worker.preload.background", SimpleNamespace(start=start))
    yield
    over.set()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("ending_threads")
def test_a_process_is_heard_of_while_it_loads(
    settings: Settings, connections: Connections, registry: Registry, residence: Residence
) -> None:
    cache = SlowCache(registry_of(settings))
    registered(registry, 1.0)
    cache.get("rooms", 1)
    cache.go_on.clear()
    cache.begun.clear()
    registered(registry, 2.0)
    Preloader(cache, registry_of(settings), residence, "online").start()
    assert cache.begun.wait(30)
    connections.client.delete(Keys(settings.redis_prefix).loaded)

    (resident,) = until(residence.residents, what="the process says again what it has")
    cache.go_on.set()

    assert (resident.of("rooms") or {})["versions"] == [1]
    until(lambda: (said(residence) or {}).get("versions") == [1, 2], what="the version that was loaded is told")


def silent(connections: Connections, settings: Settings) -> str:
    """The key of what is loaded, with a process that has not been heard of lately."""
    key = Keys(settings.redis_prefix).loaded
    at = time.time() - FRESH_SECONDS - 1
    connections.client.hset(
        key, "gone:1", orjson.dumps({"at": at, "queue": "online", "models": {"rooms": {"1": []}}, "failed": {}})
    )
    return key


def test_a_process_that_is_silent_is_not_shown_and_soon_forgotten(
    settings: Settings, connections: Connections, residence: Residence
) -> None:
    key = silent(connections, settings)
    residence.tell(Resident(worker="here:1", queue="batch", models={"rooms": {"2": ["old"]}}))

    shown = [resident.worker for resident in residence.residents()]
    residence.forget_the_silent()

    assert shown == ["here:1"]
    assert connections.client.hkeys(key) == [b"here:1"]
    assert connections.client.ttl(key) > 0


@pytest.mark.parametrize("wrong_by", [-3600, 3600], ids=["slow", "fast"])
def test_the_clock_of_a_machine_does_not_say_whether_its_process_was_heard_of_lately(
    settings: Settings, connections: Connections, residence: Residence, monkeypatch: pytest.MonkeyPatch, wrong_by: int
) -> None:
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now + wrong_by)
        residence.tell(Resident(worker="there:1", queue="online", models={"rooms": {"1": []}}))
    silent(connections, settings)

    residence.forget_the_silent()

    assert [resident.worker for resident in residence.residents()] == ["there:1"]


def register_forest(registry: Registry, **more: Any) -> tuple[Any, Manifest]:
    """A forest of three columns, and its first version."""
    from sklearn.ensemble import RandomForestRegressor

    columns = np.random.default_rng(0).normal(size=(150, 3))
    sample = pa.table({name: columns[:, place] for place, name in enumerate("abc")})
    forest, file = RandomForestRegressor(20, random_state=0).fit(columns, columns[:, 0] * 2), io.BytesIO()
    joblib.dump(forest, file)
    return forest, register(registry, "rooms", file.getvalue(), format="joblib", sample=sample, **more)


def test_an_accelerated_version_is_registered_with_its_graph_and_loaded_with_it(
    settings: Settings, registry: Registry, cache: ModelCache
) -> None:
    estimator, manifest = register_forest(registry, accelerate="onnx")
    model = cache.get("rooms", 1)

    assert manifest.accelerated["used"], manifest.accelerated["reason"]
    graph = registry.artifact(manifest, manifest.accelerated["artifact"])
    assert len(graph) == manifest.accelerated["size_bytes"]
    assert type(model.estimator).__name__ == "Accelerated"
    rows = np.array([[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(model.estimator.predict(rows), estimator.predict(rows), rtol=1e-5)
    assert manifest.profile["rows"] == 150


def test_a_forest_is_loaded_with_its_exact_form_which_counts_in_the_budget(
    settings: Settings, registry: Registry, cache: ModelCache
) -> None:
    estimator, manifest = register_forest(registry)
    model = cache.get("rooms", 1)

    described = manifest.accelerated
    assert (described["wanted"], described["used"], described["form"]) == ("auto", True, "treelite"), described
    assert (type(model.estimator).__name__, model.warnings) == ("Accelerated", ())
    assert manifest.stored_bytes == manifest.size_bytes  # nothing else is stored
    assert bytes_of(manifest) == max(manifest.size_bytes, manifest.memory_bytes) + described["size_bytes"]
    rows = np.random.default_rng(1).normal(size=(40, 3))
    np.testing.assert_array_equal(model.estimator.predict(rows), estimator.predict(rows))


def test_a_forest_that_shall_not_be_accelerated_is_not(registry: Registry, cache: ModelCache) -> None:
    _, manifest = register_forest(registry, accelerate="off")

    assert manifest.accelerated == {}
    assert type(cache.get("rooms", 1).estimator).__name__ == "RandomForestRegressor"


def test_a_version_that_is_not_accelerated_says_why(registry: Registry, cache: ModelCache) -> None:
    sample = pa.table({"x": [1.0, 2.0]})

    manifest = register(registry, "rooms", artifact(1.0), format="joblib", sample=sample, accelerate="onnx")

    assert not manifest.accelerated["used"]
    assert "cannot be converted" in manifest.accelerated["reason"]
    assert type(cache.get("rooms", 1).estimator).__name__ == "DummyRegressor"
    assert manifest.profile == {}
