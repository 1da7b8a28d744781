"""LitServe: requests of up to 10 ms are predicted together, by a process for each core.

    python -m benchmarks.peers.litserve_api PORT

Follows "Batching" (lightning.ai/docs/litserve/features/batching) and the reference of `LitServer`:
`workers_per_device`, `fast_queue` above 100 requests a second, and a batch size and a time-out, of which the advice is
to try several. Tried beside other load, each as `python -m benchmarks.online --only litserve 16 64 1-row linear-bench
forest-bench --rounds 1` measures: with the queue, batches of 64 did 0.9 to 2.2 times the jobs of batches of 16, and as
many as batches of 32; 10 ms did more than 5 ms but for the linear model with 16 clients; and the queue with batches of
64 did 0.9 to 1.3 times the jobs of none with batches of 16.
"""

import os
import sys
from itertools import accumulate, chain, pairwise
from typing import Any

import litserve

from benchmarks.peers.artifacts import load_model

MAX_BATCH = 64
BATCH_SECONDS = 0.01


class Predictor(litserve.LitAPI):
    """A batch is a list of requests, each a list of rows."""

    def setup(self, _device: str) -> None:
        self._model = load_model(os.environ["PEER_MODEL"])

    def decode_request(self, request: dict[str, Any]) -> list[Any]:
        instances: list[Any] = request["instances"]
        return instances

    def batch(self, inputs: list[list[Any]]) -> list[list[Any]]:
        return inputs

    def predict(self, batch: list[list[Any]]) -> list[list[Any]]:
        predictions = self._model.predict(list(chain.from_iterable(batch))).tolist()
        return [predictions[start:end] for start, end in pairwise(accumulate(map(len, batch), initial=0))]

    def unbatch(self, output: list[list[Any]]) -> list[list[Any]]:
        return output

    def encode_response(self, output: list[Any]) -> dict[str, list[Any]]:
        return {"predictions": output}


if __name__ == "__main__":
    api = Predictor(max_batch_size=MAX_BATCH, batch_timeout=BATCH_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, timeout=60, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
