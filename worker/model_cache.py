"""The models that this process keeps loaded, within a byte budget."""

import threading
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, Final

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from shared.errors import StorageFailed, StoreUnavailable
from shared.meter import METER, micros
from shared.registry import Manifest, Registry
from shared.tracing import TRACING
from worker.accelerated import with_form
from worker.formats import load_verified
from worker.formats.limits import USUAL, ArtifactLimits

log = structlog.get_logger()

# How long a model whose bytes or manifest cannot be read for the moment is tried again.
LOAD_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An estimator ready to predict."""

    manifest: Manifest
    estimator: Any
    warnings: tuple[str, ...] = ()


class ModelCache:
    """Loads a version once; drops what was used longest ago when the unpacked artifacts exceed the budget.

    The newest always stays, even if it alone is larger. A version is dropped for another of the same model only once
    that one is loaded, so that no job of either waits in between. For any number of threads.
    """

    def __init__(self, registry: Registry, budget_bytes: int, limits: ArtifactLimits = USUAL) -> None:
        self._registry = registry
        self._budget_bytes = budget_bytes
        self._limits = limits
        self._models: OrderedDict[tuple[str, int], LoadedModel] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)

    def get(self, name: str, version: int) -> LoadedModel:
        """The model, loaded if it is not yet.

        Raises:
            ModelNotFound, ModelUnusable, StorageFailed, StoreUnavailable
        """
        key = (name, version)
        if (model := self._found(key)) is not None:
            return model
        with self._lock:
            loading = self._loading[key]
        with loading:
            if (model := self._found(key)) is None:  # another thread may have loaded it meanwhile
                model = self._measured(key)
        return model

    def patiently(self, name: str, version: int) -> LoadedModel:
        """The model; while storage or Redis is away it is tried again for a moment.

        Raises:
            ModelNotFound, ModelUnusable, StorageFailed, StoreUnavailable
        """
        if (model := self._found((name, version))) is not None:
            METER.add("model_cache_hits_total")
            return model
        attempts = Retrying(
            retry=retry_if_exception_type((StorageFailed, StoreUnavailable)),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(LOAD_SECONDS),
            reraise=True,
        )
        return attempts(self.get, name, version)

    def loaded(self) -> list[LoadedModel]:
        """What is loaded now, in the order of last use."""
        with self._lock:
            return list(self._models.values())

    def _found(self, key: tuple[str, int]) -> LoadedModel | None:
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
            return model

    def _measured(self, key: tuple[str, int]) -> LoadedModel:
        began, outcome = time.perf_counter(), "failed"
        try:
            model = self._load(key)
            outcome = "loaded"
            METER.add("model_load_bytes_total", bytes_of(model.manifest))
        finally:
            METER.add(f"model_loads_total {outcome}")
            ended = time.perf_counter()
            METER.observe(("model_load_seconds", "", (micros(ended - began),)))
            if TRACING.on:
                about = {"foretell.model": f"{key[0]}@{key[1]}", "foretell.outcome": outcome}
                TRACING.note("foretell.load", about, began, ended)
        return model

    def _load(self, key: tuple[str, int]) -> LoadedModel:
        manifest = self._registry.manifest(*key)
        with self._lock:
            self._make_room(bytes_of(manifest), spared=key[0])
        loaded = load_verified(manifest, self._registry.artifact(manifest), self._limits)
        estimator, told = loaded.estimator, loaded.warnings
        if manifest.accelerated.get("used"):
            estimator, more = with_form(manifest, estimator, lambda file: self._registry.artifact(manifest, file))
            told = (*told, *more)
        model = LoadedModel(manifest, estimator, told)
        if told:
            log.warning("model.loaded_with_warnings", model=key[0], version=key[1], warnings=list(told))
        with self._lock:
            self._make_room(bytes_of(manifest), spared=None)
            self._models[key] = model
        return model

    def _make_room(self, size_bytes: int, *, spared: str | None) -> None:
        """Drop what was used longest ago, but no version of the model that is spared."""
        used = sum(bytes_of(model.manifest) for model in self._models.values())
        for key in list(self._models):
            if used + size_bytes <= self._budget_bytes:
                return
            if key[0] != spared:
                used -= bytes_of(self._models.pop(key).manifest)
                METER.add("model_cache_drops_total")

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._models


def bytes_of(manifest: Manifest) -> int:
    """What counts: the artifact, unpacked where that is known, and its accelerated form where that is used."""
    form = manifest.accelerated["size_bytes"] if manifest.accelerated.get("used") else 0
    return max(manifest.size_bytes, manifest.memory_bytes) + int(form)
