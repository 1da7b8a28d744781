"""Loads the version that production points to now, before the first job asks for it, and says what is loaded."""

import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import structlog

from shared.errors import ModelNotFound, ModelUnusable, NewerSchema, ServiceError, StoreUnavailable
from shared.registry import PRODUCTION, Registry
from shared.residence import FRESH_SECONDS, PAUSE_SECONDS, Residence, Resident
from worker import background
from worker.model_cache import ModelCache

log = structlog.get_logger()

# Rounds between two in which what silent processes said is removed.
TIDY_ROUNDS: Final = 3 * FRESH_SECONDS // PAUSE_SECONDS


class Preloader:
    """Follows the models of which this process has a version loaded, and says what it has."""

    def __init__(self, models: ModelCache, registry: Registry, residence: Residence, queue: str) -> None:
        self._models = models
        self._registry = registry
        self._residence = residence
        self._queue = queue
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._followed: dict[str, int] = {}  # model -> the version of production that was seen last
        self._failed: dict[tuple[str, int], str] = {}
        self._rounds = 0

    def start(self) -> None:
        """Go on for as long as the process lives, in two threads: to load a version may take minutes."""
        for name, turn in (("preload", self.once), ("resident", self.tell)):
            background.start(name, _for_ever, turn)

    def once(self) -> None:
        """Load what production has moved to, and say what is loaded if that changed anything.

        Raises:
            StoreUnavailable
        """
        before = {(model.manifest.model, model.manifest.version) for model in self._models.loaded()}
        changed = [name for name in sorted({name for name, _ in before}) if self._follow(name, before)]
        if changed:
            self._say()

    def tell(self) -> None:
        """Say what is loaded, and now and then remove what others said who are silent.

        Raises:
            StoreUnavailable
        """
        self._say()
        self._rounds += 1
        if self._rounds % TIDY_ROUNDS == 0:
            self._residence.forget_the_silent()

    def _follow(self, name: str, loaded: set[tuple[str, int]]) -> bool:
        """Load what production points to, once for each of its moves: what is dropped since is not loaded again."""
        try:
            version = self._registry.resolve(f"{name}@{PRODUCTION}", fresh=True).manifest.version
        except (ModelNotFound, NewerSchema):
            return False
        if self._followed.get(name) == version:
            return False
        if (name, version) not in loaded:
            try:
                self._models.get(name, version)
            except (ServiceError, MemoryError) as error:
                return self._failure(name, version, error)
            log.info("model.preloaded", model=name, version=version)
        self._followed[name] = version
        self._failed = self._without(name)
        return True

    def _failure(self, name: str, version: int, error: ServiceError | MemoryError) -> bool:
        """Note a failure; what was away for the moment is tried again in the next round."""
        reason = error.message if isinstance(error, ServiceError) else "The model needs more memory than there is."
        if isinstance(error, (ModelUnusable, ModelNotFound, MemoryError)):
            self._followed[name] = version
        new = self._failed.get((name, version)) != reason
        self._failed = self._without(name) | {(name, version): reason}
        if new:
            log.warning("model.not_preloaded", model=name, version=version, reason=reason)
        return new

    def _without(self, name: str) -> dict[tuple[str, int], str]:
        """The failures of other models: only the version that production points to now is of interest."""
        return {key: reason for key, reason in self._failed.items() if key[0] != name}

    def _say(self) -> None:
        models: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
        for model in self._models.loaded():
            models[model.manifest.model][str(model.manifest.version)] = list(model.warnings)
        failed: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for (name, version), reason in self._failed.items():
            failed[name][str(version)] = reason
        self._residence.tell(Resident(worker=self._worker, queue=self._queue, models=models, failed=failed))


def _for_ever(turn: Callable[[], None]) -> None:
    while True:
        try:
            turn()
        except StoreUnavailable:
            log.debug("preload.interrupted")
        except Exception:
            log.exception("preload.crashed")
        time.sleep(PAUSE_SECONDS)
