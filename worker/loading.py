"""`python -m worker.loading NAME@VERSION ...`: whether versions can be loaded here, a line of JSON for each.

A process of its own, since an artifact may end it or take for ever: `python -m deploy doctor` watches over it.
"""

import contextlib
import sys
from typing import Any

import orjson

from shared.connection import Connections
from shared.errors import ServiceError
from shared.keys import Keys
from shared.registry import Registry
from shared.settings import load_settings
from shared.storage import Storage
from worker.formats.limits import ArtifactLimits
from worker.model_cache import ModelCache


def main() -> int:
    """Load one version after the other, and keep only the last one."""
    settings = load_settings()
    connections = Connections(settings.redis_address, timeout_seconds=5)
    registry = Registry(connections, Keys(settings.redis_prefix), Storage.of(settings))
    models = ModelCache(registry, 1, ArtifactLimits.of(settings))
    for reference in sys.argv[1:]:
        name, _, version = reference.rpartition("@")
        with contextlib.redirect_stdout(sys.stderr):  # what libraries say is no answer
            found = outcome(models, name, int(version))
        sys.stdout.buffer.write(orjson.dumps({"version": reference, **found}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    return 0


def outcome(models: ModelCache, name: str, version: int) -> dict[str, Any]:
    """What comes of loading a version: {warnings}, or {error}."""
    try:
        return {"warnings": models.get(name, version).warnings}
    except ServiceError as error:
        return {"error": error.message}
    except MemoryError:
        return {"error": "it needs more memory than there is"}


if __name__ == "__main__":
    sys.exit(main())
