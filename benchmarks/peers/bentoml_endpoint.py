"""BentoML's endpoints: one with adaptive batching, one without.

Follows "Workers" (docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html: one a core, for models that
hold the interpreter's lock) and "Adaptive batching" (docs.bentoml.com/en/latest/get-started/adaptive-batching.html).
"""

import os
from typing import Any

import bentoml

from benchmarks.peers.artifacts import load_model


def _model() -> Any:
    return load_model(os.environ["PEER_MODEL"])


@bentoml.service(workers=2, metrics={"enabled": False})
class Plain:
    def __init__(self) -> None:
        self._model = _model()

    @bentoml.api
    def predict(self, instances: list[Any]) -> list[Any]:
        predictions: list[Any] = self._model.predict(instances).tolist()
        return predictions


@bentoml.service(workers=2, metrics={"enabled": False})
class Batching:
    def __init__(self) -> None:
        self._model = _model()

    # Rows of several requests count together; the latency is a goal, past which BentoML answers 503.
    @bentoml.api(batchable=True, max_batch_size=1_000, max_latency_ms=10_000)
    def predict(self, instances: list[Any]) -> list[Any]:
        predictions: list[Any] = self._model.predict(instances).tolist()
        return predictions
