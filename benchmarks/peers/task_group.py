"""Naive Celery: a file as a group of tasks, 10,000 rows each, that go through Redis as JSON and come back so.

    celery -A benchmarks.peers.task_group worker
    python -m benchmarks.peers.task_group MODEL INPUT.csv RESULT.csv

CELERY_BROKER_URL and CELERY_RESULT_BACKEND are read by Celery itself; the model is a name in PEER_MODELS.
"""

import csv
import json
import sys
import time
from pathlib import Path

from celery import Celery, group

from benchmarks.peers.artifacts import load_model

CHUNK_ROWS = 10_000

# Named, so that the script, which runs as __main__, and the worker mean the same task.
celery_app = Celery("task_group")


@celery_app.task(name="task_group.predict")
def predict(model: str, rows: list[list[float]]) -> list[float]:
    predictions: list[float] = load_model(model).predict(rows).tolist()
    return predictions


def main(model: str, source: str, result: str) -> None:
    import pandas as pd

    started = time.perf_counter()
    ids: list[str] = []
    tasks = []
    for frame in pd.read_csv(source, chunksize=CHUNK_ROWS):
        ids += frame.pop("id").tolist()
        tasks.append(predict.s(model, frame.to_numpy().tolist()))
    answers = group(tasks).apply_async().get()
    with Path(result).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "prediction"])
        writer.writerows(zip(ids, (value for answer in answers for value in answer), strict=True))
    print(json.dumps({"work_ms": (time.perf_counter() - started) * 1000}))


if __name__ == "__main__":
    main(*sys.argv[1:])
