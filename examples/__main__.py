"""`python -m examples`: trains and registers the demo models that are not registered yet."""

import sys

from shared.connection import Connections, check_server
from shared.errors import ServiceError
from shared.keys import Keys
from shared.registry import Registry
from shared.settings import load_settings
from shared.storage import Storage


def main() -> int:
    """Register what is missing; 0 if all are there in the end."""
    try:
        settings = load_settings()
        check_server(settings.redis_address, timeout_seconds=5)
        registry = Registry(
            Connections(settings.redis_address, timeout_seconds=5),
            Keys(settings.redis_prefix),
            Storage.of(settings),
        )
        there = set(registry.names())
        # Imported late: with all models there, a start need not load scikit-learn.
        if not there >= {"linear", "support", "recommend", "home"}:
            register_missing(registry, there)
    except ServiceError as error:
        print(f"foretell: demo models: {error}", file=sys.stderr)
        return 1
    return 0


def register_missing(registry: Registry, there: set[str]) -> None:
    """Train and register the demo models whose names are not there.

    Raises:
        ServiceError
    """
    from examples.demo import demos
    from worker.formats import FORMATS
    from worker.registration import register

    for demo in demos():
        if demo.name not in there:
            estimator, sample = demo.train()
            register(
                registry,
                demo.name,
                FORMATS["skops"].dump(estimator),
                format="skops",
                sample=sample,
                description=demo.description,
                who="python -m examples",
                why="demo model",
            )


if __name__ == "__main__":
    sys.exit(main())
