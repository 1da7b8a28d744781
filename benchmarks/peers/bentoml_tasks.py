"""BentoML's tasks: submit, status and get, answered by the process that has the model.

Follows "Async task queues" (docs.bentoml.com/en/latest/get-started/async-task-queues.html). One worker, not one a core
as for endpoints: each has its queue in its own process, so that a second one, asked for a job of the first, knows
nothing of it. `threads` lets both cores predict, since scikit-learn leaves the interpreter's lock while trees predict.
"""

import os
from typing import Any

import bentoml

from benchmarks.peers.artifacts import load_model


@bentoml.service(workers=1, threads=2, metrics={"enabled": False})
class Tasks:
    def __init__(self) -> None:
        self._model = load_model(os.environ["PEER_MODEL"])

    @bentoml.task
    def predict(self, instances: list[Any]) -> list[Any]:
        predictions: list[Any] = self._model.predict(instances).tolist()
        return predictions
