"""Ray Serve: requests of up to 10 ms are predicted together, by a replica for each core.

    python -m benchmarks.peers.ray_serve PORT

Follows "Dynamic Request Batching" (docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html) and "Performance
Tuning" (.../serve/advanced-guides/performance.html); what the latter sets in the environment is in peer_systems.py.
As `python -m benchmarks.online --only ray-serve ray-tasks 16 64 1-row linear-bench forest-bench --rounds 1` measures,
ray-serve did 1.3 to 1.5 times as many jobs with it, and ray-tasks as many.
"""

import os
import signal
import sys
from itertools import accumulate, chain, pairwise
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.artifacts import load_model

MAX_BATCH = 64
BATCH_SECONDS = 0.01


# Half a core each by Ray's account, so that proxy and controller have a place on two cores; it binds nobody to a core.
REPLICAS = {"num_replicas": 2, "max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 0.5}}


class Predictor:
    def __init__(self) -> None:
        self._model = load_model(os.environ["PEER_MODEL"])

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_SECONDS)
    async def predict(self, batch: list[list[Any]]) -> list[list[Any]]:
        predictions = self._model.predict(list(chain.from_iterable(batch))).tolist()
        return [predictions[start:end] for start, end in pairwise(accumulate(map(len, batch), initial=0))]

    async def __call__(self, request: Request) -> dict[str, list[Any]]:
        document = await request.json()
        return {"predictions": await self.predict(document["instances"])}


def start(port: int, application: Any) -> None:
    """Serve an application on loopback until SIGTERM."""
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "access_log": False})
    serve.run(application, route_prefix="/")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    start(int(sys.argv[1]), serve.deployment(**REPLICAS)(Predictor).bind())
