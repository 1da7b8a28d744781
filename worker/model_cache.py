"""The models that this process keeps loaded, within a byte budget."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from shared.errors import StorageFailed, StoreUnavailable
from shared.registry import Manifest, Registry
from worker.formats import load_verified

# How long a model whose bytes or manifest cannot be read for the moment is tried again.
LOAD_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An estimator ready to predict."""

    manifest: Manifest
    estimator: Any


class ModelCache:
    """Loads a version once; drops what was used longest ago when the artifacts' bytes exceed the budget.

    The newest always stays, even if it alone is larger. Not for several threads.
    """

    def __init__(self, registry: Registry, budget_bytes: int) -> None:
        self._registry = registry
        self._budget_bytes = budget_bytes
        self._models: OrderedDict[tuple[str, int], LoadedModel] = OrderedDict()

    def get(self, name: str, version: int) -> LoadedModel:
        """The model, loaded if it is not yet.

        Raises:
            ModelNotFound, ModelUnusable, StorageFailed, StoreUnavailable
        """
        key = (name, version)
        model = self._models.get(key)
        if model is not None:
            self._models.move_to_end(key)
            return model
        manifest = self._registry.manifest(name, version)
        self._make_room(manifest.size_bytes)
        model = LoadedModel(manifest, load_verified(manifest, self._registry.artifact(manifest)))
        self._models[key] = model
        return model

    def patiently(self, name: str, version: int) -> LoadedModel:
        """The model; while storage or Redis is away it is tried again for a moment.

        Raises:
            ModelNotFound, ModelUnusable, StorageFailed, StoreUnavailable
        """
        attempts = Retrying(
            retry=retry_if_exception_type((StorageFailed, StoreUnavailable)),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(LOAD_SECONDS),
            reraise=True,
        )
        return attempts(self.get, name, version)

    def _make_room(self, size_bytes: int) -> None:
        used = sum(model.manifest.size_bytes for model in self._models.values())
        while self._models and used + size_bytes > self._budget_bytes:
            _, dropped = self._models.popitem(last=False)
            used -= dropped.manifest.size_bytes

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._models
