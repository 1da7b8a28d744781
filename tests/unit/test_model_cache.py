"""The models that a process keeps loaded."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import pytest

from shared.errors import ArtifactCorrupt, ModelNotFound
from shared.registry import Manifest, Registry
from tests.unit.estimators import ONE_NUMBER
from worker.formats import FORMATS, digest
from worker.model_cache import LoadedModel, ModelCache, bytes_of


class Shelf:
    """A registry in memory that notes which artifacts were fetched; sizes are what the manifests say."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.fetched: list[str] = []
        self.libraries: dict[str, str] = {}
        self.artifacts = {name: FORMATS["joblib"].dump(f"the estimator {name}") for name in sizes}
        self.registered = {name: digest(artifact) for name, artifact in self.artifacts.items()}

    def manifest(self, name: str, version: int) -> Manifest:
        if name not in self.sizes:
            raise ModelNotFound
        return Manifest(
            model=name,
            version=version,
            format="joblib",
            sha256=self.registered[name],
            size_bytes=self.sizes[name],
            signature=ONE_NUMBER,
            estimator="builtins.str",
            libraries=self.libraries,
            created_at="2026-01-31T12:00:00.000Z",
        )

    def artifact(self, manifest: Manifest, file: str | None = None) -> bytes:
        self.fetched.append(manifest.model)
        return self.artifacts[manifest.model]


def cache_of(shelf: Shelf, budget_bytes: int) -> ModelCache:
    return ModelCache(cast(Registry, shelf), budget_bytes)


def kept(cache: ModelCache, shelf: Shelf) -> set[str]:
    return {name for name in shelf.sizes if (name, 1) in cache}


def test_a_model_is_loaded_once() -> None:
    shelf = Shelf({"a": 10})
    cache = cache_of(shelf, 100)

    first, second = cache.get("a", 1), cache.get("a", 1)

    assert first is second
    assert first.estimator == "the estimator a"
    assert shelf.fetched == ["a"]


def test_versions_of_a_model_are_kept_apart() -> None:
    shelf = Shelf({"a": 10})
    cache = cache_of(shelf, 100)

    assert [cache.get("a", version).manifest.version for version in (1, 2)] == [1, 2]


def test_models_stay_as_long_as_their_bytes_fit() -> None:
    shelf = Shelf({"a": 40, "b": 60})
    cache = cache_of(shelf, 100)

    for name in ("a", "b", "a", "b"):
        cache.get(name, 1)

    assert shelf.fetched == ["a", "b"]


def test_what_was_used_longest_ago_goes_first() -> None:
    shelf = Shelf({"a": 40, "b": 40, "c": 40})
    cache = cache_of(shelf, 100)

    for name in ("a", "b", "a", "c"):
        cache.get(name, 1)

    assert kept(cache, shelf) == {"a", "c"}


def test_as_many_go_as_the_newest_needs() -> None:
    shelf = Shelf({"a": 30, "b": 30, "c": 30, "large": 70})
    cache = cache_of(shelf, 100)

    for name in ("a", "b", "c", "large"):
        cache.get(name, 1)

    assert kept(cache, shelf) == {"c", "large"}


def test_the_newest_stays_even_if_it_alone_is_larger_than_the_budget() -> None:
    shelf = Shelf({"a": 30, "huge": 1000})
    cache = cache_of(shelf, 100)

    for name in ("a", "huge", "huge"):
        cache.get(name, 1)

    assert kept(cache, shelf) == {"huge"}
    assert shelf.fetched == ["a", "huge"]


def test_a_model_that_went_is_loaded_again() -> None:
    shelf = Shelf({"a": 60, "b": 60})
    cache = cache_of(shelf, 100)

    for name in ("a", "b", "a"):
        cache.get(name, 1)

    assert shelf.fetched == ["a", "b", "a"]


def test_a_corrupt_artifact_is_not_kept() -> None:
    shelf = Shelf({"a": 10})
    whole, shelf.artifacts["a"] = shelf.artifacts["a"], b"other bytes"
    cache = cache_of(shelf, 100)

    with pytest.raises(ArtifactCorrupt):
        cache.get("a", 1)
    shelf.artifacts["a"] = whole

    assert cache.get("a", 1).estimator == "the estimator a"


def test_an_unknown_model_costs_no_other_its_place() -> None:
    shelf = Shelf({"a": 100})
    cache = cache_of(shelf, 100)
    cache.get("a", 1)

    with pytest.raises(ModelNotFound):
        cache.get("b", 1)

    assert kept(cache, shelf) == {"a"}


class Watching(Shelf):
    """Notes which versions the cache has while it loads another."""

    cache: ModelCache
    seen: list[set[tuple[str, int]]]

    def artifact(self, manifest: Manifest, file: str | None = None) -> bytes:
        self.seen = [*getattr(self, "seen", []), {(m.manifest.model, m.manifest.version) for m in self.cache.loaded()}]
        return super().artifact(manifest)


def watched(sizes: Mapping[str, int], budget_bytes: int) -> tuple[Watching, ModelCache]:
    shelf = Watching(sizes)
    shelf.cache = cache_of(shelf, budget_bytes)
    return shelf, shelf.cache


def versions(cache: ModelCache) -> set[tuple[str, int]]:
    return {(model.manifest.model, model.manifest.version) for model in cache.loaded()}


def test_a_new_version_is_loaded_before_the_old_one_is_dropped() -> None:
    shelf, cache = watched({"a": 60}, 100)
    cache.get("a", 1)

    cache.get("a", 2)

    assert shelf.seen[-1] == {("a", 1)}
    assert versions(cache) == {("a", 2)}


def test_other_models_go_before_an_old_version_of_the_same() -> None:
    shelf, cache = watched({"a": 40, "b": 40}, 100)
    for name, version in (("a", 1), ("b", 1), ("a", 2)):
        cache.get(name, version)

    assert shelf.seen[-1] == {("a", 1)}
    assert versions(cache) == {("a", 1), ("a", 2)}


def test_old_versions_stay_as_long_as_their_bytes_fit() -> None:
    _, cache = watched({"a": 30}, 100)
    for version in (1, 2, 3, 4):
        cache.get("a", version)

    assert versions(cache) == {("a", 2), ("a", 3), ("a", 4)}


def test_an_accelerated_form_counts_too() -> None:
    shelf = Shelf({"a": 30})
    plain = shelf.manifest("a", 1)

    assert bytes_of(plain) == 30
    assert bytes_of(replace(plain, accelerated={"used": True, "size_bytes": 12})) == 42
    assert bytes_of(replace(plain, accelerated={"used": False, "reason": "slow"})) == 30


def test_an_artifact_counts_as_what_it_unpacks_to() -> None:
    plain = Shelf({"a": 30}).manifest("a", 1)

    assert bytes_of(replace(plain, memory_bytes=500)) == 500
    assert bytes_of(replace(plain, memory_bytes=500, accelerated={"used": True, "size_bytes": 12})) == 512


def test_threads_that_want_a_version_at_once_load_it_once() -> None:
    shelf = Shelf({"a": 10, "b": 10})
    cache = cache_of(shelf, 100)
    start = threading.Barrier(8)

    def get(number: int) -> LoadedModel:
        start.wait(timeout=60)
        return cache.get("ab"[number % 2], 1)

    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(get, range(8)))

    assert sorted(shelf.fetched) == ["a", "b"]
    assert len({id(model) for model in models}) == 2


def test_what_was_warned_of_stays_with_the_model() -> None:
    shelf = Shelf({"a": 10})
    shelf.libraries = {"joblib": "0.1"}

    (told,) = cache_of(shelf, 100).get("a", 1).warnings

    assert "joblib 0.1" in told
