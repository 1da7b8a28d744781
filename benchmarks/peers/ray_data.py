"""Ray Data: a CSV file through a pool of actors that have the model loaded.

    python -m benchmarks.peers.ray_data MODEL.joblib INPUT.csv RESULT.csv

Follows "End-to-end: Offline Batch Inference" (docs.ray.io/en/latest/data/batch_inference.html): a class for
`map_batches`, an actor for each core. The order of rows is kept, and the result is written as one file. The last line
of the output is JSON with the milliseconds from both actors having their model to the end: Ray and actors take as long
to start for any file.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import pyarrow.csv
import ray

FEATURES = [f"x{number}" for number in range(1, 11)]
BATCH_ROWS = 50_000
START_SECONDS = 120


class Predictor:
    """Leaves a file in the folder when it has its model."""

    def __init__(self, model_file: str, ready: str) -> None:
        self._model = joblib.load(model_file)
        Path(ready, str(os.getpid())).touch()

    def __call__(self, batch: pa.Table) -> pa.Table:
        predictions = self._model.predict(batch.select(FEATURES).to_pandas().to_numpy())
        return pa.table({"id": batch["id"], "prediction": predictions})


def main(model_file: str, source: str, result: str) -> None:
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    # Nothing is read before, else a part of the work would count as start.
    context.wait_for_min_actors_s = START_SECONDS
    schema = pa.schema([("id", pa.string()), ("prediction", pa.float64())])
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
    with (
        tempfile.TemporaryDirectory() as ready,
        pyarrow.csv.CSVWriter(result, schema, write_options=options) as writer,
    ):
        scored = ray.data.read_csv(source).map_batches(
            Predictor,
            fn_constructor_args=(model_file, ready),
            batch_format="pyarrow",
            batch_size=BATCH_ROWS,
            compute=ray.data.ActorPoolStrategy(size=2),
            # Half a core by Ray's account, so that the reading task has a place too.
            num_cpus=0.5,
        )
        for batch in scored.iter_batches(batch_format="pyarrow", batch_size=None):
            writer.write_table(batch.cast(schema))
        started = max(file.stat().st_mtime for file in Path(ready).iterdir())
    took: dict[str, Any] = {"work_ms": (time.time() - started) * 1000}
    ray.shutdown()
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
