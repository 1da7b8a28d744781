"""How large an artifact may be, and what it may hold."""

from dataclasses import dataclass
from typing import Final

from shared.settings import Settings

LIBRARIES_BYTES: Final = 512 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactLimits:
    """What is asked of every artifact that is loaded."""

    artifact_bytes: int
    unpacked_bytes: int
    trusted: tuple[str, ...]  # dotted names of types beside those that are trusted anyway

    @property
    def check_bytes(self) -> int:
        """What loading and trying an artifact may take: it and a copy, and what libraries take at their first use."""
        return 2 * self.unpacked_bytes + LIBRARIES_BYTES

    @classmethod
    def of(cls, settings: Settings) -> "ArtifactLimits":
        """Those of a service."""
        return cls(
            artifact_bytes=settings.max_artifact_bytes,
            unpacked_bytes=settings.max_unpacked_artifact_bytes,
            trusted=tuple(settings.trusted_types.split()),
        )


USUAL: Final = ArtifactLimits.of(Settings())
