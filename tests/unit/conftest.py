"""What all unit tests share: properties are not timed, since the machine may be busy, and each demo is trained once."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Plain tracebacks: the default draws the local variables of every frame, which takes seconds for a deep document.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])

# Of examples.demo.Demo; not imported, so that tests without scikit-learn start at once.
Train = Callable[[Any], tuple[Any, Any]]


@pytest.fixture(scope="session")
def train() -> Train:
    """The fitted estimator of a demo and its sample."""
    trained: dict[str, tuple[Any, Any]] = {}

    def once(demo: Any) -> tuple[Any, Any]:
        if demo.name not in trained:
            trained[demo.name] = demo.train()
        return trained[demo.name]

    return once
