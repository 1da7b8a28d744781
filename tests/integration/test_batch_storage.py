"""Batch jobs are the same on a local folder and on S3, whatever happens to the storage or to an upload meanwhile."""

import gzip
import http.client
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.keys import Keys
from shared.storage import S3_PART_BYTES
from tests.integration.batch_files import counts, service
from tests.integration.batch_runner import Runner
from tests.integration.conftest import BatchService, batch_service, environment_of_s3
from tests.models import RAISE, SLOW, register_moody
from tests.processes import Process, S3Server, clean_environment
from tests.wait import until

ROWS = [
    {
        "id": f"a-{number}",
        "x": {7: RAISE, 11: None}.get(number % 40, number % 50 / 4 + 20),
        "note": "né\nx" * (number % 3),
    }
    for number in range(2000)
]
HEAD = b"id,x,note\n"


def as_csv() -> bytes:
    lines = [f'{row["id"]},{"" if row["x"] is None else row["x"]},"{row["note"]}"\n' for row in ROWS]
    return HEAD + "".join(lines).encode()


def as_ndjson() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=700)
    return out.getvalue()


def compressed() -> bytes:
    return gzip.compress(as_csv(), mtime=0)


@pytest.fixture(scope="module")
def runners(s3_server: S3Server) -> Iterator[dict[str, Runner]]:
    """Two workers on each kind of storage."""
    values = {"slice_bytes": 4000, "slice_rows": 150}
    with (
        environment_of_s3(s3_server),
        service(register_moody, **values) as local,
        service(register_moody, storage=s3_server.url(uuid4().hex), **values) as s3,
    ):
        yield {"local": Runner(local), "s3": Runner(s3)}


@pytest.mark.parametrize("output", ["csv", "parquet"])
@pytest.mark.parametrize("made", [as_csv, as_ndjson, as_parquet, compressed], ids=["csv", "ndjson", "parquet", "gzip"])
def test_a_job_gives_the_same_bytes_on_either_storage(
    runners: dict[str, Runner], made: Callable[[], bytes], output: str
) -> None:
    data = made()

    local, s3 = (
        runner.run(data, seed=seed, key_column="id", include=("note",), output_format=output)
        for seed, runner in enumerate(runners.values())
    )

    assert counts(local) == (2000, 1900, 100, 0)
    assert (s3.result, s3.errors) == (local.result, local.errors)
    assert s3.manifest | {"job_id": ""} == local.manifest | {"job_id": ""}


def test_a_job_on_s3_leaves_its_input_and_outputs_and_after_its_removal_nothing(
    runners: dict[str, Runner], s3_server: S3Server
) -> None:
    runner = runners["s3"]
    prefix = str(runner.settings.storage).partition("bucket/")[2]

    done = runner.run(compressed())
    kept = stored(s3_server, f"{prefix}/jobs/{done.job.id}")
    runner.forget(done.job.id)

    assert kept == ["errors.jsonl", "input", "manifest.json", "result.csv"]
    assert stored(s3_server, f"{prefix}/jobs/{done.job.id}") == []


def stored(server: S3Server, prefix: str) -> list[str]:
    """The names of all files below a prefix."""
    found = [entry["path"] for page in obstore.list(server.store(), prefix) for entry in page]
    return sorted(path.removeprefix(f"{prefix}/") for path in found)


class MortalS3(S3Server):
    """An S3-compatible server that is started again after it was killed, on the same ports and files."""

    def start_again(self) -> None:
        """Start it, and wait until it takes files."""
        command: Any = self.popen.args
        self.popen = Process(command, clean_environment() | self.environment, self.log).popen
        until(self.takes_files, 60, "S3 answers again")


@pytest.fixture(scope="module")
def s3() -> Iterator[MortalS3]:
    folder = Path(tempfile.mkdtemp(prefix="ft-s3-"))
    server = MortalS3(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def at_s3(s3: MortalS3) -> Iterator[BatchService]:
    """A service on a server of its own."""
    with environment_of_s3(s3), batch_service(storage=s3.url("service"), slice_bytes=2000) as found:
        yield found


def slow_rows(count: int) -> bytes:
    """Rows of which every slice takes a moment."""
    return HEAD + b"".join(
        b"a-%05d,%s,\n" % (number, repr(SLOW + 0.03 if number % 60 == 0 else number % 5).encode())
        for number in range(count)
    )


def test_a_job_goes_on_after_its_storage_was_killed(at_s3: BatchService, s3: MortalS3) -> None:
    data = slow_rows(6000)
    undisturbed = at_s3.send(data)
    at_s3.http.done(undisturbed)

    disturbed = at_s3.send(data)
    until(lambda: at_s3.scored(disturbed) > 1000, what="some rows are scored")
    s3.kill()
    refused = at_s3.http("POST", "/jobs?model=moody", raw=data, Content_Type="text/csv")
    s3.start_again()
    job = at_s3.http.done(disturbed, 90)

    assert (refused.status, refused.json["code"]) == (503, "storage_failed")
    assert (job["status"], job["counts"]["total"]) == ("succeeded", 6000)
    assert at_s3.outputs(disturbed) == at_s3.outputs(undisturbed)


def test_an_upload_to_s3_that_breaks_off_leaves_nothing(at_s3: BatchService, s3: MortalS3) -> None:
    before = stored(s3, "service/jobs")

    with uploading(at_s3, 10**9) as connection:
        send(connection, slow_rows(10), 2 * S3_PART_BYTES)
        until(s3.unfinished, what="parts of the file have come")

    until(lambda: not s3.unfinished(), what="the parts are removed")
    assert stored(s3, "service/jobs") == before


class uploading:  # noqa: N801  # it is used as a function is
    """A request for a job whose file of so many bytes is on its way."""

    def __init__(self, service: BatchService, size_bytes: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.settings.port, timeout=30)
        self._connection.putrequest("POST", "/jobs?model=moody")
        self._connection.putheader("Content-Type", "text/csv")
        self._connection.putheader("Content-Length", str(size_bytes))
        self._connection.endheaders()

    def __enter__(self) -> http.client.HTTPConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def send(connection: http.client.HTTPConnection, head: bytes, size_bytes: int) -> None:
    """Send the beginning of a file and some rows more than so many bytes."""
    connection.send(head)
    for _ in range(size_bytes // 2**20 + 1):
        connection.send(b"a-1,1,\n" * (2**20 // 7))


@pytest.fixture(scope="module")
def local() -> Iterator[BatchService]:
    """A service on a local folder."""
    with batch_service(file_ttl_seconds=2) as found:
        yield found


def files_of(service: BatchService, folder: str) -> list[Path]:
    """What lies in a folder of the storage, whoever still writes to it."""
    # Unlike rglob it does not mind that folders vanish meanwhile.
    walk = os.walk(service.settings.data_dir / "storage" / folder)
    return [Path(place, name) for place, _, names in walk for name in names]


def test_what_a_killed_api_had_received_is_removed_once_nobody_goes_on_with_it(local: BatchService) -> None:
    before = set(files_of(local, "jobs"))
    with uploading(local, 10**9) as connection:
        send(connection, slow_rows(10), 2**24)
        until(lambda: set(files_of(local, "jobs")) - before, what="the upload lies in storage")
        local.kill_api()
    redis, keys = local.redis.client, Keys(local.settings.redis_prefix)

    left = set(files_of(local, "jobs")) - before
    announced = redis.zrange(keys.uploads, 0, -1)
    # As if upload_idle_seconds were over.
    for prefix in announced:
        redis.zadd(keys.uploads, {prefix: 1})

    assert left
    assert [str(path) for path in left if announced[0].decode() in str(path)]
    until(lambda: set(files_of(local, "jobs")) <= before, what="it is removed")
    until(lambda: not redis.zcard(keys.uploads), what="it is forgotten")


def test_a_file_is_removed_when_its_time_is_over(local: BatchService) -> None:
    place = local.http("POST", "/files?name=rows.csv", raw=HEAD, Content_Type="text/csv").json["links"]["self"]
    there = files_of(local, place.strip("/"))

    until(lambda: local.http("GET", place).status == 404 and not files_of(local, place.strip("/")), what="it is gone")

    assert [path.name for path in there] == ["data"]


def test_a_file_is_kept_beyond_its_time_while_a_job_reads_it(local: BatchService) -> None:
    http, redis, keys = local.http, local.redis.client, Keys(local.settings.redis_prefix)
    sent = http("POST", "/files?name=rows.csv", raw=HEAD + b"a,103,\n", Content_Type="text/csv").json
    place = sent["links"]["self"]

    job = http("POST", "/jobs", {"model": "moody", "input": {"file_id": sent["id"]}}).json
    refused = http("DELETE", place)
    done = http.done(job["id"])
    kept = http("GET", place).json
    # As if the time that it was given then were over too.
    redis.hset(keys.file(sent["id"]), "expires", 1)
    redis.zadd(keys.files, {sent["id"]: 1})

    assert (refused.status, refused.json["code"]) == (409, "file_in_use")
    assert (done["status"], done["counts"]["succeeded"]) == ("succeeded", 1)
    assert sent["expires_at"] < done["finished_at"] < kept["expires_at"]
    until(lambda: not files_of(local, place.strip("/")), what="it is gone")
    assert http("GET", place).status == 404
