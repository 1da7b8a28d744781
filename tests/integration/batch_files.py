"""What tests of whole batch jobs share: a Redis with models, and files in every format."""

import csv
import gzip
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.settings import Settings
from shared.storage import job_prefix
from tests.integration.batch_runner import Finished, Runner
from tests.processes import RedisServer

Rows = Sequence[Sequence[Any]]


@contextmanager
def service(*registers: Callable[[Settings], object], **values: Any) -> Iterator[Settings]:
    """A Redis with models, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:
        settings = Settings.model_validate({"data_dir": Path(folder) / "var", "lease_seconds": 60} | values)
        redis = RedisServer(settings)
        try:
            for register in registers:
                register(settings)
            yield settings
        finally:
            redis.stop()


def csv_file(names: Sequence[str], rows: Rows, line_end: str = "\n", **dialect: Any) -> str:
    """A CSV file with a header."""
    out = io.StringIO()
    csv.writer(out, lineterminator=line_end, **dialect).writerows([names, *rows])
    return out.getvalue()


def numbered(count: int) -> bytes:
    """A CSV file whose ids are the numbers of its rows, with x up to 50 and none that asks for trouble."""
    return csv_file(["id", "x"], [[number, 20 + number % 30] for number in range(1, count + 1)]).encode()


def parquet_file(table: pa.Table | dict[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    pq.write_table(pa.table(table) if isinstance(table, dict) else table, out, **options)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    """One frame."""
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def unpacked(data: bytes, compression: str) -> bytes:
    """What gzip or zstd made smaller."""
    if compression == "none":
        return data
    if compression == "gzip":
        return gzip.decompress(data)
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


def result_rows(done: Finished) -> list[list[str]]:
    """The rows of a CSV result, with its header."""
    return list(csv.reader(io.StringIO(done.result.decode(), newline="")))


def result_table(done: Finished) -> pa.Table:
    """A Parquet result."""
    return pq.read_table(io.BytesIO(done.result))


def faults(done: Finished) -> list[tuple[int, Any, str | None, str]]:
    """Row, key, column and code of each bad row."""
    return [(error["row"], error["key"], error["column"], error["code"]) for error in done.errors]


def counts(done: Finished) -> tuple[int | None, int, int, int]:
    """Rows in all, succeeded, failed and skipped."""
    found = done.job.counts
    return found.total, found.succeeded, found.failed, found.skipped


def files_of(runner: Runner, job_id: str) -> list[str]:
    """What lies in storage of a job, with anything temporary."""
    folder = runner.settings.data_dir / "storage" / job_prefix(job_id)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
