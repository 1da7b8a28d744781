"""LitServe: requests of up to 10 ms are predicted together, by a process for each core.

    python -m benchmarks.peers.litserve_api PORT

Follows "Batching" (lightning.ai/docs/litserve/features/batching) and the reference of `LitServer`:
`workers_per_device`, `fast_queue` above 100 requests a second, and a batch size and a time-out, of which the advice is
to try several. Batches of 16, 32 and 64 with the queue and 10 ms, of 64 with 5 ms, and of 16 without the queue were
tried, each as `python -m benchmarks.online --only litserve 16 64 1-row linear-bench forest-bench --rounds 1` measures.
5 ms was mostly slower, and none of the others was clearly faster. So the queue is as advised, and the batch as large as
that of other peers.
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
