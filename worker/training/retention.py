"""Removes challengers that nothing points to; the newest of a model are kept, to be looked at."""

import contextlib
from typing import Final

import structlog

from shared.errors import ModelNotFound, ServiceError, VersionInUse
from shared.registry import Registry

log = structlog.get_logger()

# Versions that are removed at once; the next training goes on.
MOST_FORGOTTEN: Final = 100


def forget_oldest(registry: Registry, name: str, keep: int) -> None:
    """Delete the oldest versions that a training made and no alias points or ever pointed to; `keep` of them stay.

    What an unfinished job needs stays, and so does everything while Redis is away: the next training tries again.
    """
    try:
        pointed_to = registry.pointed_to(name)
        made = [manifest.version for manifest in registry.model(name).versions if manifest.recipe]
        unused = [version for version in made if version not in pointed_to]
        for version in unused[keep:][::-1][:MOST_FORGOTTEN]:
            with contextlib.suppress(VersionInUse, ModelNotFound):
                registry.delete(name, version)
                log.info("version.removed", model=name, version=version)
    except ServiceError as error:
        log.warning("retention.interrupted", model=name, code=error.code)
