"""What the parts of a job and of a row cost alone, in a loop with nothing around them: the least that they can cost."""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import threadpoolctl

from benchmarks.batch_rows import NUMBERS, matrix_of
from shared.connection import Connections
from worker.warned import quiet

# The least of many short rounds counts, since whatever else runs only adds.
ROUND_SECONDS: Final = 0.005
ROUNDS: Final = 60
BATCH_JOBS: Final = 16
BLOCK_BYTES: Final = 8 * 2**20  # a slice of the service
KEY_SECONDS: Final = 60


def of_a_job(
    model: Path, body: bytes, answer: bytes, rows: Sequence[Any], connections: Connections
) -> dict[str, float]:
    """Microseconds a job of each part.

    Args:
        model: the fitted model, a joblib file.
        body: a request, as it was sent.
        answer: its answer, as it was received.
        rows: at least 16, (n_rows, n_features).
        connections: to the Redis of the service.
    """
    estimator, document = joblib.load(model), orjson.loads(answer)
    single, several = np.asarray(rows[:1]), np.asarray(rows[:BATCH_JOBS])
    payload = orjson.dumps(rows[0])

    def round_trip() -> None:
        with connections.client.pipeline(transaction=False) as pipeline:
            pipeline.set("benchmark", payload, ex=KEY_SECONDS)
            pipeline.get("benchmark")
            pipeline.execute()

    with quiet(), threadpoolctl.threadpool_limits(1):
        return {
            "parse the body (orjson)": micros(lambda: orjson.loads(body)),
            "a round trip to Redis (SET and GET of the rows)": micros(round_trip),
            "predict 1 row": micros(lambda: estimator.predict(single)),
            f"predict a row of {BATCH_JOBS}": micros(lambda: estimator.predict(several)) / BATCH_JOBS,
            "render the answer (orjson)": micros(lambda: orjson.dumps(document)),
        }


def least_us(alone: dict[str, float]) -> float:
    """What a job costs that is parsed, kept, predicted with others and answered, and nothing else."""
    return sum(us for part, us in alone.items() if part != "predict 1 row")


def of_a_row(model: Path, source: Path, folder: Path, rows: int) -> dict[str, float]:
    """Nanoseconds of CPU time a row of each part, over the same bytes, by one thread.

    Args:
        model: the fitted model, a joblib file.
        source: a CSV file with an id and ten floats a row (batch_rows.py).
        folder: where a result may be written.
        rows: of the file.
    """
    estimator, clock = joblib.load(model), dict.fromkeys(("read", "parse", "predict", "write"), 0.0)
    types = {"id": pa.string()} | NUMBERS
    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES + 1, column_names=list(types))
    converting = pyarrow.csv.ConvertOptions(column_types=types)
    result = folder / "alone.csv"
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    schema = pa.schema([("id", pa.string()), ("prediction", pa.float64())])
    with (
        threadpoolctl.threadpool_limits(1),
        source.open("rb") as file,
        result.open("wb") as sink,
        pyarrow.csv.CSVWriter(sink, schema, write_options=options) as writer,
    ):
        file.readline()
        while True:
            with _timed(clock, "read"):
                block = file.read(BLOCK_BYTES) + file.readline()
            if not block:
                break
            with _timed(clock, "parse"):
                table = pyarrow.csv.read_csv(io.BytesIO(block), reading, convert_options=converting)
            with _timed(clock, "predict"):
                predictions = estimator.predict(matrix_of(table.select(list(NUMBERS))))
            with _timed(clock, "write"):
                writer.write_table(pa.table([table.column("id"), pa.array(predictions)], schema=schema))
        with _timed(clock, "write"):
            sink.flush()
            os.fsync(sink.fileno())
    result.unlink()
    return {part: seconds / rows * 1e9 for part, seconds in clock.items()}


@contextmanager
def _timed(clock: dict[str, float], part: str) -> Iterator[None]:
    began = time.thread_time()
    yield
    clock[part] += time.thread_time() - began


def micros(call: Callable[[], Any]) -> float:
    """Microseconds of a call: the least of the rounds, each so long that the clock counts for nothing."""
    call()
    least = float("inf")
    for _ in range(ROUNDS):
        calls, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < ROUND_SECONDS:
            call()
            calls += 1
        least = min(least, spent / max(1, calls) * 1e6)
    return least
