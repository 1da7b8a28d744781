"""Files on a real connection: cut off, refused early, or whole."""

import base64
import hashlib
import http.client
import itertools
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.processes import Answer, Http
from tests.system.service import Service
from tests.wait import until

CSV = b"id,x1,x2,x3\n" + b"".join(b"%d,0.06,0.02,0.04\n" % row for row in range(1000))
RAW = "POST /jobs?model=linear&key=id HTTP/1.1\r\nContent-Type: text/csv"
FORM = "POST /jobs HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=XX"
JOB_PART = b'--XX\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"model": "linear", "key": "id"}\r\n'
FILE_PART = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n' + CSV + b"\r\n"


def begin(port: int, head: str) -> socket.socket:
    """A connection on which a request has begun."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(f"{head}\r\nHost: localhost\r\n\r\n".encode())
    return connection


def cut_off(port: int, head: str, body: bytes) -> Answer:
    """The answer to a request of which no more than this comes."""
    with begin(port, head) as connection:
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(response.status, dict(response.getheaders()), response.read())


def chunk(data: bytes, announced: int | None = None) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data) if announced is None else announced, data)


@pytest.fixture
def job_folders(service: Service) -> Iterator[Path]:
    """Where jobs keep their files; what a test leaves there must have gone when it ends."""
    folder = service.settings.data_dir / "storage" / "jobs"
    before = set(folder.glob("*"))
    yield folder
    until(lambda: set(folder.glob("*")) <= before, 30, "nothing is left of the upload")


@pytest.mark.parametrize(
    ("head", "body", "code"),
    [
        pytest.param(f"{RAW}\r\nContent-Length: {len(CSV) + 1}", CSV, "incomplete_body", id="length"),
        pytest.param(
            f"{RAW}\r\nTransfer-Encoding: chunked", chunk(CSV[:-500], len(CSV)), "length_required", id="chunked"
        ),
        pytest.param(
            f"{RAW}\r\nTransfer-Encoding: chunked\r\nRepr-Digest: sha-256=:"
            f"{base64.b64encode(hashlib.sha256(CSV).digest()).decode()}:",
            chunk(CSV[:-500], len(CSV)),
            "digest_mismatch",
            id="chunked-with-a-digest",
        ),
        pytest.param(
            f"{FORM}\r\nTransfer-Encoding: chunked", chunk(JOB_PART + FILE_PART), "incomplete_body", id="form"
        ),
        pytest.param(
            f"{FORM}\r\nTransfer-Encoding: chunked", chunk(FILE_PART), "incomplete_body", id="form-without-its-job"
        ),
    ],
)
def test_an_upload_that_is_cut_off_is_an_error_and_leaves_nothing(
    service: Service, job_folders: Path, head: str, body: bytes, code: str
) -> None:
    answer = cut_off(service.settings.port, head, body)

    assert answer.status in (400, 411), answer.body
    assert answer.json["code"] == code


def test_a_client_that_hangs_up_leaves_nothing(service: Service, job_folders: Path) -> None:
    with begin(service.settings.port, f"{RAW}\r\nContent-Length: 100000000") as connection:
        connection.sendall(CSV * 500)
        until(lambda: any(job_folders.glob("*/*")), 30, "the upload has begun")


def send_all(connection: socket.socket, blocks: Iterable[bytes]) -> None:
    for block in blocks:
        connection.sendall(block)


class Endless:
    """Rows that are made while they are sent; how many bytes were is known."""

    def __init__(self, head: bytes) -> None:
        self.sent = 0
        self._blocks = itertools.chain([head], itertools.repeat(CSV.partition(b"\n")[2] * 50))

    def upto(self, size: int) -> Iterable[bytes]:
        """Blocks until there are so many bytes."""
        for block in self._blocks:
            self.sent += len(block)
            if self.sent > size:
                return
            yield block


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        pytest.param("model=linear", b"id,x1,x2,y3\n", 422, id="missing-column"),
        pytest.param("model=nobody", b"id,x1,x2,x3\n", 404, id="unknown-model"),
    ],
)
def test_a_client_reads_why_its_file_is_refused_while_it_still_sends(
    service: Service, job_folders: Path, query: str, header: bytes, status: int
) -> None:
    size = 10**11
    body = Endless(header)
    head = f"POST /jobs?{query} HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: {size}"

    with begin(service.settings.port, head) as connection:
        with pytest.raises(OSError, match=r"[Bb]roken pipe|[Rr]eset"):
            send_all(connection, body.upto(size))
        response = http.client.HTTPResponse(connection)
        response.begin()

    assert response.status == status
    assert body.sent < size


def test_a_file_that_came_whole_by_itself_can_be_read_about_and_removed(http: Http) -> None:
    sent = http("POST", "/files?name=rows.csv", raw=CSV, Content_Type="text/csv")

    assert sent.status == 201, sent.body
    assert sent.json["sha256"] == hashlib.sha256(CSV).hexdigest()
    place = sent.headers["location"]
    assert http("GET", place).json == sent.json
    assert http("DELETE", place).status == 204
    assert http("GET", place).status == 404
