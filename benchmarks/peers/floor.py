"""The floor: a file scored by a script with no service around it, written as well as one can.

    python -m benchmarks.peers.floor MODEL.joblib INPUT.csv|INPUT.parquet RESULT.csv [--processes 2] [--kind numbers]

Every process reads its part of the file piece by piece into one buffer, copies the columns through one small matrix
that stays in the processor's cache (of text it makes a list, of mixed columns a DataFrame), and writes its part of the
result; the parts are then joined in order. The last line of the output is JSON with the milliseconds that each step
took, summed over the processes.
"""

import os

# Before NumPy is imported: one thread for each process, as there is one process for each core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.batch_rows import KINDS

# pyarrow's streaming reader, which reads ahead, took a tenth more CPU time and twice the memory than one call a block.
BLOCK_BYTES = 4 * 2**20
BATCH_ROWS = 65_536
MATRIX_ROWS = 20_000
Types = dict[str, pa.DataType]
Predict = Callable[[pa.RecordBatch], Any]
RESULT = pa.schema([("id", pa.string()), ("prediction", pa.float64())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("input", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kind", choices=list(KINDS), default="numbers")
    options = parser.parse_args()

    # Imported and loaded once, here; the children share it, and nothing but loading has been done before they fork.
    model = joblib.load(options.model)
    started = time.perf_counter()
    fork = multiprocessing.get_context("fork")
    spent, spent_by_child = fork.SimpleQueue(), []
    parts = [options.result, *(options.result.with_suffix(f".{n}") for n in range(1, options.processes))]
    children = [
        fork.Process(target=_score, args=(model, options, part, number, spent)) for number, part in enumerate(parts)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            raise SystemExit(f"a process ended with {child.exitcode}")
        spent_by_child.append(spent.get())

    joining = time.perf_counter()
    with options.result.open("ab") as result:
        for part in parts[1:]:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, result, 2**20)
            part.unlink()
    ended = time.perf_counter()
    steps = {name: sum(one[name] for one in spent_by_child) * 1000 for name in spent_by_child[0]}
    print(json.dumps({"work_ms": (ended - started) * 1000, "join_ms": (ended - joining) * 1000} | steps))


def _score(model: Any, asked: argparse.Namespace, part: Path, number: int, spent: Any) -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    types = KINDS[asked.kind].columns
    read = _csv_part if asked.input.suffix == ".csv" else _parquet_part
    predict = _predicting_matrix(model, list(types)) if asked.kind == "numbers" else _predicting(model, asked.kind)
    parse_seconds = predict_seconds = write_seconds = 0.0
    options = pyarrow.csv.WriteOptions(
        include_header=number == 0, quoting_style="none", quoting_header="none", batch_size=BATCH_ROWS
    )
    with pyarrow.csv.CSVWriter(part, RESULT, write_options=options) as writer:
        waiting_from = time.perf_counter()
        for batch in read(asked.input, types, number, asked.processes):
            parsed = time.perf_counter()
            prediction = predict(batch)
            predicted = time.perf_counter()
            writer.write_batch(pa.record_batch([batch.column("id"), pa.array(prediction)], schema=RESULT))
            written = time.perf_counter()
            parse_seconds += parsed - waiting_from
            predict_seconds += predicted - parsed
            write_seconds += written - predicted
            waiting_from = written
        parse_seconds += time.perf_counter() - waiting_from
    spent.put({"parse_ms": parse_seconds, "predict_ms": predict_seconds, "write_ms": write_seconds})


def _predicting_matrix(model: Any, names: list[str]) -> Predict:
    """Of numbers: a batch to (n_rows,) float64."""
    matrix = np.empty((MATRIX_ROWS, len(names)))

    def predict(batch: pa.RecordBatch) -> Any:
        columns = [batch.column(name).to_numpy() for name in names]
        prediction = np.empty(batch.num_rows)
        for start in range(0, batch.num_rows, MATRIX_ROWS):
            rows = min(MATRIX_ROWS, batch.num_rows - start)
            for position, column in enumerate(columns):
                matrix[:rows, position] = column[start : start + rows]
            prediction[start : start + rows] = model.predict(matrix[:rows])
        return prediction

    return predict


def _predicting(model: Any, kind: str) -> Predict:
    """Of other kinds: the same, by what their models take."""
    names, packed = list(KINDS[kind].columns), KINDS[kind].packed

    def predict(batch: pa.RecordBatch) -> Any:
        # As a whole: a pipeline costs more a call than what stays in the cache saves.
        return model.predict(packed(pa.Table.from_batches([batch]).select(names)))

    return predict


def _csv_part(source: Path, types: Types, number: int, processes: int) -> Iterator[pa.RecordBatch]:
    """The rows that begin in the process's share of the bytes; a line break always ends a row in this file."""
    with source.open("rb") as lines:
        names = lines.readline().decode().rstrip().split(",")
        size, header_bytes = source.stat().st_size, lines.tell()
        bounds = [header_bytes]
        for share in range(1, processes):
            lines.seek(header_bytes + (size - header_bytes) * share // processes)
            lines.readline()
            bounds.append(lines.tell())
        bounds.append(size)
    start, stop = bounds[number : number + 2]
    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES + 1, column_names=names)
    converting = pyarrow.csv.ConvertOptions(column_types={"id": pa.string()} | types, include_columns=["id", *types])
    buffer = bytearray(BLOCK_BYTES)
    block = memoryview(buffer)
    with source.open("rb", buffering=0) as file:
        while start < stop:
            file.seek(start)
            read = file.readinto(block[: stop - start])
            end = buffer.rfind(b"\n", 0, read) + 1
            rows = pyarrow.csv.read_csv(pa.BufferReader(block[:end]), reading, convert_options=converting)
            yield from rows.combine_chunks().to_batches()
            start += end


def _parquet_part(source: Path, types: Types, number: int, processes: int) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(source) as file:
        groups = file.metadata.num_row_groups
        own = list(range(groups * number // processes, groups * (number + 1) // processes))
        if own:
            columns = ["id", *types]
            yield from file.iter_batches(BATCH_ROWS, row_groups=own, columns=columns, use_threads=False)


if __name__ == "__main__":
    main()
