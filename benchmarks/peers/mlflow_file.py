"""MLflow: a CSV file through a stored model as a Python function; one process.

    python -m benchmarks.peers.mlflow_file MODEL_FOLDER INPUT.csv RESULT.csv

Follows "Python Function (pyfunc)" (mlflow.org/docs/latest/ml/model): `load_model` and `predict` of a data frame. So
does `mlflow models predict`, which keeps neither ids nor a bound on memory; hence the pieces. The last line of the
output is JSON with the milliseconds from the model being loaded to the end.
"""

import json
import sys
import time
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

FEATURES = [f"x{number}" for number in range(1, 11)]
CHUNK_ROWS = 50_000


def main(model_folder: str, source: str, result: str) -> None:
    model = mlflow.pyfunc.load_model(model_folder)
    started = time.perf_counter()
    Path(result).unlink(missing_ok=True)
    for frame in pd.read_csv(source, chunksize=CHUNK_ROWS):
        scored = pd.DataFrame({"id": frame["id"], "prediction": model.predict(frame[FEATURES].to_numpy())})
        scored.to_csv(result, mode="a", header=not Path(result).exists(), index=False)
    print(json.dumps({"work_ms": (time.perf_counter() - started) * 1000}))


if __name__ == "__main__":
    main(*sys.argv[1:])
