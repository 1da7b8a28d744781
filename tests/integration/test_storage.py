"""File storage keeps the same promises in a local folder and on an S3-compatible server."""

import random
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.batch import Input
from shared.errors import FileMissing, InvalidRequest, StorageFailed, StorageFull
from shared.inputs import Inputs
from shared.settings import Settings
from shared.storage import PIECE_BYTES, S3_PART_BYTES, Storage
from tests.processes import Process, S3Server, clean_environment, free_port
from tests.wait import until

MIB = 2**20


@pytest.fixture
def at_s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, as the place that the environment names."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty one of either kind."""
    if request.param == "local":
        return Storage((tmp_path / "files").as_uri())
    return Storage(request.getfixturevalue("at_s3").url(uuid4().hex))


def write(storage: Storage, key: str, *pieces: bytes, last: Callable[[], Any] = lambda: None) -> None:
    """Write the pieces, then do one thing more before the file is complete."""
    with storage.writer(key) as writer:
        for piece in pieces:
            writer.write(piece)
        last()


def give_up() -> None:
    raise RuntimeError("enough")


def test_what_was_put_is_read_back(storage: Storage) -> None:
    storage.put("a/b", memoryview(b"one"))

    assert storage.get("a/b") == b"one"
    assert storage.size("a/b") == 3
    assert storage.exists("a/b")


@pytest.mark.parametrize("size_bytes", [0, PIECE_BYTES, 3 * PIECE_BYTES + 7])
def test_what_is_written_in_pieces_is_whole(storage: Storage, size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)

    storage.put("put", data)
    write(storage, "written", data, data)

    assert storage.get("put") == data
    assert storage.get("written") == 2 * data


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    write(storage, "a/b")

    assert storage.get("a/b") == b""
    assert list(storage.blocks("a/b")) == []
    assert storage.reader("a/b").read() == b""


def test_pieces_are_written_in_their_order_also_past_the_size_of_a_part(storage: Storage) -> None:
    pieces = [bytes([number]) * (MIB + number) for number in range(30)]

    write(storage, "a/b", *pieces)

    assert storage.get("a/b") == b"".join(pieces)


def test_a_buffer_that_is_used_again_after_it_was_written_spoils_nothing(storage: Storage) -> None:
    buffer = bytearray(MIB)

    with storage.writer("a") as writer:
        for letter in b"abc":
            buffer[:] = bytes([letter]) * MIB
            writer.write(buffer)

    assert storage.get("a") == b"a" * MIB + b"b" * MIB + b"c" * MIB


def test_arrows_own_buffers_can_be_written(storage: Storage) -> None:
    write(storage, "a", memoryview(pa.py_buffer(b"abc")))  # type: ignore[arg-type]

    assert storage.get("a") == b"abc"


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(0, 3, b"012", id="beginning"),
        pytest.param(3, 7, b"3456", id="middle"),
        pytest.param(7, 10, b"789", id="end"),
        pytest.param(7, 99, b"789", id="past-the-end"),
        pytest.param(4, 4, b"", id="nothing"),
    ],
)
def test_a_range_is_read_alone(storage: Storage, start: int, stop: int, expected: bytes) -> None:
    storage.put("a", b"0123456789")

    found = storage.get_range("a", start, stop)

    assert bytes(found) == expected
    assert pa.py_buffer(found).equals(pa.py_buffer(expected))


def test_a_range_that_begins_past_the_end_is_a_failure(storage: Storage) -> None:
    storage.put("a", b"0123456789")

    with pytest.raises(StorageFailed):
        storage.get_range("a", 10, 12)


@pytest.mark.parametrize("block_bytes", [1, 7, 10 * MIB], ids=["bytes", "odd", "larger-than-the-file"])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (3, 20), (3, 99), (5, 5)])
def test_blocks_are_the_file(storage: Storage, start: int, stop: int | None, block_bytes: int) -> None:
    data = bytes(range(24))
    storage.put("a", data)

    blocks = list(storage.blocks("a", start, stop, block_bytes=block_bytes))

    assert b"".join(blocks) == data[start:stop]
    assert all(len(block) == block_bytes for block in blocks[:-1])


def test_blocks_of_a_large_file_are_the_file(storage: Storage) -> None:
    data = bytes(range(256)) * (80 * MIB // 1024)
    storage.put("a", data)

    blocks = list(storage.blocks("a", 5, block_bytes=3 * MIB + 1))

    assert b"".join(blocks) == data[5:]


def test_who_reads_blocks_may_stop_early(storage: Storage) -> None:
    storage.put("a", bytes(3 * MIB))

    first = next(storage.blocks("a"))

    assert first == bytes(MIB)


def test_a_file_that_is_replaced_while_it_is_read_is_never_mixed_with_its_successor(storage: Storage) -> None:
    storage.put("a", b"a" * 30 * MIB)
    blocks = storage.blocks("a")
    next(blocks)

    storage.put("a", b"b" * 30 * MIB)

    with pytest.raises(StorageFailed):
        list(blocks)


def test_a_parquet_file_is_read_through_the_reader(storage: Storage) -> None:
    table = pa.table({"number": list(range(1000)), "text": [str(number) for number in range(1000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100)
    storage.put("a", memoryview(sink.getvalue()))

    file = pq.ParquetFile(pa.PythonFile(storage.reader("a"), mode="r"))

    assert file.num_row_groups == 10
    assert file.read_row_group(7).equals(table.slice(700, 100))


def test_a_reader_seeks_from_the_beginning_from_here_and_from_the_end(storage: Storage) -> None:
    storage.put("a", b"0123456789")
    reader = storage.reader("a")

    assert (reader.seek(4), reader.read(2)) == (4, b"45")
    assert (reader.seek(1, 1), reader.read(1)) == (7, b"7")
    assert (reader.seek(-1, 2), reader.read()) == (9, b"9")
    assert (reader.seek(20), reader.read(1)) == (20, b"")


@pytest.mark.parametrize("pieces", [0, 1, 40], ids=["nothing", "less-than-a-part", "several-parts"])
def test_an_aborted_writer_leaves_what_was_there_before(storage: Storage, pieces: int) -> None:
    storage.put("a/old", b"old")

    for key in ("a/new", "a/old"):
        with pytest.raises(RuntimeError, match="enough"):
            write(storage, key, *[bytes(MIB)] * pieces, last=give_up)

    assert not storage.exists("a/new")
    assert storage.get("a/old") == b"old"


def test_nobody_sees_a_file_before_it_is_complete(storage: Storage) -> None:
    with storage.writer("a") as writer:
        writer.write(bytes(30 * MIB))
        seen = storage.exists("a")

    assert not seen
    assert storage.size("a") == 30 * MIB


def test_whoever_reads_while_a_file_is_overwritten_sees_one_version_whole(storage: Storage) -> None:
    versions = [bytes([letter]) * 2 * MIB for letter in b"abcdefgh"]
    storage.put("a", versions[0])
    done = threading.Event()

    def overwrite() -> None:
        for version in versions:
            write(storage, "a", version[:MIB], version[MIB:])
        done.set()

    thread = threading.Thread(target=overwrite)
    thread.start()
    seen = []
    while not done.is_set():
        seen.append(storage.get("a"))
    thread.join()

    assert set(seen) <= set(versions)
    assert storage.get("a") == versions[-1]


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda storage: storage.get("a/b"), id="get"),
        pytest.param(lambda storage: storage.get_range("a/b", 0, 1), id="get_range"),
        pytest.param(lambda storage: storage.size("a/b"), id="size"),
        pytest.param(lambda storage: storage.blocks("a/b"), id="blocks"),
        pytest.param(lambda storage: storage.reader("a/b"), id="reader"),
    ],
)
def test_a_file_that_is_not_there_is_missing(storage: Storage, read: Callable[[Storage], Any]) -> None:
    storage.put("a/bc", b"another")

    with pytest.raises(FileMissing, match="a/b"):
        read(storage)

    assert not storage.exists("a/b")


def test_a_prefix_is_deleted_with_everything_below_it_and_nothing_beside_it(storage: Storage) -> None:
    for key in ("a/b/1", "a/b/c/2", "a/bc", "a/d/b/1", *(f"a/b/many/{number}" for number in range(30))):
        storage.put(key, b"x")

    storage.delete("a/b")

    there = [key for key in ("a/b/1", "a/b/c/2", "a/b/many/7", "a/bc", "a/d/b/1") if storage.exists(key)]
    assert there == ["a/bc", "a/d/b/1"]


def test_a_single_file_is_deleted_by_its_key(storage: Storage) -> None:
    storage.put("a/b", b"x")

    storage.delete("a/b")

    assert not storage.exists("a/b")


def test_to_delete_what_is_not_there_is_no_failure(storage: Storage) -> None:
    storage.delete("a/b")

    storage.check()


@pytest.mark.parametrize("prefix", ["", "/", "a//b", "../a", "a/../b", "a/"])
def test_what_is_no_key_is_never_deleted(storage: Storage, prefix: str) -> None:
    storage.put("a/b", b"x")

    with pytest.raises(ValueError, match="no key"):
        storage.delete(prefix)

    assert storage.exists("a/b")


def test_an_aborted_upload_in_parts_is_given_up_on_the_server(at_s3: S3Server) -> None:
    storage = Storage(at_s3.url(uuid4().hex))
    begun: list[str] = []

    def see_and_give_up() -> None:
        begun.extend(at_s3.unfinished())
        give_up()

    with pytest.raises(RuntimeError, match="enough"):
        write(storage, "a", bytes(3 * S3_PART_BYTES), last=see_and_give_up)

    assert len(begun) == 1
    assert at_s3.unfinished() == []


def test_wrong_credentials_are_a_failure_and_no_missing_file(at_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage = Storage(at_s3.url("x"))

    with pytest.raises(StorageFailed) as caught:
        storage.exists("a")

    assert type(caught.value) is StorageFailed


def test_a_server_that_is_away_is_a_failure(at_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    storage = Storage(at_s3.url("x"))

    with pytest.raises(StorageFailed):
        storage.check()
    with pytest.raises(StorageFailed), storage.writer("a") as writer:
        writer.write(b"x")


@pytest.fixture(
    params=[
        pytest.param((507, "InsufficientStorage"), id="507"),
        pytest.param((507, "XMinioStorageFull"), id="minio"),
        pytest.param((400, "XMinioAdminBucketQuotaExceeded"), id="minio-quota"),
        pytest.param((403, "QuotaExceeded"), id="ceph-quota"),
    ]
)
def full_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket whose server refuses every file as a full one does."""
    status, code = request.param

    class Full(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<Error><Code>{code}</Code><Message>No room.</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield "s3://bucket/files"
        server.shutdown()
        thread.join()


def test_a_server_that_is_full_is_told_from_one_that_fails(full_server: str) -> None:
    storage = Storage(full_server)

    with pytest.raises(StorageFull):
        storage.put("a", b"x")


def test_a_writer_that_is_killed_leaves_nothing_visible_and_nothing_after_a_delete(tmp_path: Path) -> None:
    files = tmp_path / "files"
    script = (
        "import sys, time\n"
        "from shared.storage import Storage\n"
        "with Storage(sys.argv[1]).writer('jobs/1/input') as writer:\n"
        "    while True:\n"
        "        writer.write(bytes(2**20))\n"
        "        time.sleep(0.01)\n"
    )
    process = Process([sys.executable, "-c", script, files.as_uri()], clean_environment(), tmp_path / "log")
    until(lambda: list(files.rglob("*#1")), what="a part is on the disk")
    process.kill()
    storage = Storage(files.as_uri())
    assert not storage.exists("jobs/1/input")

    storage.delete("jobs/1/input")

    assert list(files.rglob("*")) == []


def test_a_job_reads_what_lies_below_an_allowed_part_of_a_bucket(at_s3: S3Server, tmp_path: Path) -> None:
    place = uuid4().hex
    Storage(at_s3.url(place)).put("in/a.csv", b"x\n1\n")
    own = Storage(tmp_path.as_uri())
    inputs = Inputs(Settings(input_prefixes=at_s3.url(f"{place}/in/")), own)

    storage, key = inputs.open(Input(uri=at_s3.url(f"{place}/in/a.csv")))

    assert storage.get(key) == b"x\n1\n"
    assert inputs.check(at_s3.url(f"{place}/in/a.csv")) == 4


def test_a_file_that_is_not_in_the_bucket_is_not_found(at_s3: S3Server, tmp_path: Path) -> None:
    inputs = Inputs(Settings(input_prefixes=at_s3.url("in")), Storage(tmp_path.as_uri()))

    with pytest.raises(InvalidRequest) as caught:
        inputs.check(at_s3.url("in/nothing.csv"))

    assert caught.value.errors[0]["code"] == "uri_not_found"


def test_a_list_holds_every_file_below_a_folder_and_no_other(storage: Storage) -> None:
    for key in ("models/a/1/artifact", "models/a/aliases.json", "models/ab/aliases.json", "other/a"):
        storage.put(key, b"bytes")

    assert sorted(storage.list("models/a")) == ["models/a/1/artifact", "models/a/aliases.json"]
    assert len(list(storage.list("models"))) == 3
    assert list(storage.list("nothing")) == []
