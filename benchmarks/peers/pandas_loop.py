"""The loop that one would write with pandas: read a piece, predict, append; one process.

python -m benchmarks.peers.pandas_loop MODEL.joblib INPUT.csv RESULT.csv
"""

import json
import sys
import time
from pathlib import Path

import joblib
import pandas as pd

FEATURES = [f"x{number}" for number in range(1, 11)]
CHUNK_ROWS = 50_000


def main(model_file: str, source: str, result: str) -> None:
    model = joblib.load(model_file)
    started = time.perf_counter()
    Path(result).unlink(missing_ok=True)
    for frame in pd.read_csv(source, chunksize=CHUNK_ROWS):
        scored = pd.DataFrame({"id": frame["id"], "prediction": model.predict(frame[FEATURES].to_numpy())})
        scored.to_csv(result, mode="a", header=not Path(result).exists(), index=False)
    print(json.dumps({"work_ms": (time.perf_counter() - started) * 1000}))


if __name__ == "__main__":
    main(*sys.argv[1:])
