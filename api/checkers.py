"""A row checker for each model version, made once."""

from shared.registry import Manifest
from shared.settings import Settings
from shared.signature import RowChecker


class Checkers:
    """Row checkers by version; versions never change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[tuple[str, int], RowChecker] = {}

    def of(self, manifest: Manifest) -> RowChecker:
        """The checker of a version."""
        key = (manifest.model, manifest.version)
        checker = self._made.get(key)
        if checker is None:
            checker = self._made[key] = RowChecker(
                manifest.signature,
                self._settings.max_instances,
                self._settings.max_text_length,
                self._settings.max_columns,
            )
        return checker
