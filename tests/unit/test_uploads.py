"""A file on its way into storage: all of it arrives, or nothing of it stays."""

import base64
import csv
import gzip
import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask, Request, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, TestResponse

from api.forms import parts
from api.media import header_line
from api.uploads import HEAD_BYTES
from shared.dialect import Dialect
from shared.errors import QueueFull, StorageFull, StoreUnavailable, UploadLost
from shared.records import Accepted
from shared.requests import base_name
from shared.storage import input_key
from tests.unit.fakes import NoKeys
from tests.unit.file_fakes import CSV, FileService

PARQUET = b"PAR1" + b"\x00" * 20 + b"PAR1"
TYPE = {"Content-Type": "text/csv"}
SHA256 = base64.b64encode(hashlib.sha256(CSV).digest()).decode()
SHA512 = base64.b64encode(hashlib.sha512(CSV).digest()).decode()
MD5 = base64.b64encode(hashlib.md5(CSV).digest()).decode()  # noqa: S324  # as RFC 1864 wants it
OTHER = base64.b64encode(hashlib.sha256(b"other").digest()).decode()


class Counted(io.RawIOBase):
    """A body of which it is known how much was read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = next(self._blocks, b"")[: len(buffer)]
        buffer[: len(block)] = block
        self.given += len(block)
        return len(block)


def sent(service: FileService, stream: Any, path: str = "/jobs?model=m", **environ: str) -> TestResponse:
    """Send a file as a web server hands it on: the stream ends, whatever Content-Length says."""
    given = {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_TYPE": "text/csv"}
    return service.client.post(path, environ_overrides=given | environ)


def chunked(service: FileService, body: bytes, **environ: str) -> TestResponse:
    """Send a file without saying how long it is."""
    return sent(service, io.BytesIO(body), HTTP_TRANSFER_ENCODING="chunked", **environ)


def code(answer: TestResponse) -> tuple[int, str]:
    """The status and the code of an error."""
    document = answer.json
    assert document is not None
    errors = document["errors"]
    return answer.status_code, errors[0]["code"] if errors else document["code"]


@pytest.fixture
def service(tmp_path: Path) -> FileService:
    return FileService(tmp_path)


def test_a_file_becomes_a_job_that_knows_its_size_and_digest(service: FileService) -> None:
    answer = service.client.post("/jobs?model=m&key=id", data=CSV, headers=TYPE)

    assert answer.status_code == 202, answer.text
    job = service.job
    assert job.spec.batch is not None
    given = job.spec.batch.input
    assert (given.key, given.size_bytes, given.format) == (input_key(job.id), len(CSV), "csv")
    assert given.sha256 == hashlib.sha256(CSV).hexdigest()
    assert service.services.storage.get(input_key(job.id)) == CSV
    assert (job.queue, job.total, service.noted.under_way) == ("batch", None, set())


@pytest.mark.parametrize("order", [("job", "file"), ("file", "job")], ids=["job-first", "file-first"])
def test_the_parts_of_a_form_may_come_in_either_order(service: FileService, order: tuple[str, str]) -> None:
    fields = {"job": '{"model": "m", "key": "id"}', "file": (io.BytesIO(CSV), "../up/rows.csv")}

    answer = service.client.post("/jobs", data={name: fields[name] for name in order})

    assert answer.status_code == 202, answer.text
    assert service.job.spec.batch is not None
    given = service.job.spec.batch.input
    assert (given.name, given.format, given.size_bytes) == ("rows.csv", "csv", len(CSV))
    assert (service.job.spec.batch.key_column, given.sha256) == ("id", hashlib.sha256(CSV).hexdigest())


@pytest.mark.parametrize("order", [("job", "file"), ("file", "job")], ids=["job-first", "file-first"])
def test_a_form_whose_file_lacks_a_column_leaves_nothing(service: FileService, order: tuple[str, str]) -> None:
    fields = {"job": '{"model": "m"}', "file": (io.BytesIO(b"a,bee\n1,2\n"), "rows.csv")}

    answer = service.client.post("/jobs", data={name: fields[name] for name in order})

    assert code(answer) == (422, "missing_column")
    assert service.is_clean()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Repr-Digest": f"sha-256=:{SHA256}:"}, 202, id="sha-256"),
        pytest.param({"Content-Digest": f"md5=:x:, sha-512=:{SHA512}:;p=1"}, 202, id="beside-an-unknown-one"),
        pytest.param({"Content-MD5": MD5}, 202, id="md5"),
        pytest.param({"Repr-Digest": "unixsum=:AAA:"}, 202, id="unknown-only"),
        pytest.param({"Repr-Digest": f"sha-256=:{OTHER}:"}, (400, "digest_mismatch"), id="another-sha-256"),
        pytest.param(
            {"Repr-Digest": f"sha-256=:{SHA256}:", "Content-Digest": f"sha-256=:{OTHER}:"},
            (400, "digest_mismatch"),
            id="one-of-two",
        ),
        pytest.param(
            {"Content-MD5": MD5[::-1].replace("=", "A")[:-2] + "=="}, (400, "digest_mismatch"), id="another-md5"
        ),
        pytest.param({"Repr-Digest": f"sha-256={SHA256}"}, (400, "bad_digest"), id="no-colons"),
        pytest.param({"Repr-Digest": "sha-256=:AAAA:"}, (400, "bad_digest"), id="too-short"),
        pytest.param({"Content-MD5": "ä"}, (400, "bad_digest"), id="no-base64"),
    ],
)
def test_a_file_is_compared_with_the_digests_that_were_announced(
    service: FileService, headers: dict[str, str], status: int | tuple[int, str]
) -> None:
    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE | headers)

    if status == 202:
        assert answer.status_code == 202, answer.text
    else:
        assert code(answer) == status
        assert service.is_clean()


@pytest.mark.parametrize("length", [len(CSV) + 1, len(CSV) - 1], ids=["more-announced", "less-announced"])
def test_a_file_of_another_length_than_announced_leaves_nothing(service: FileService, length: int) -> None:
    answer = sent(service, io.BytesIO(CSV), CONTENT_LENGTH=str(length))

    assert code(answer) == (400, "incomplete_body")
    assert service.is_clean()


def test_a_file_that_nobody_could_see_cut_off_needs_a_length(service: FileService) -> None:
    answer = chunked(service, CSV)

    assert code(answer) == (411, "length_required")
    assert service.is_clean()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(CSV, {"HTTP_REPR_DIGEST": f"sha-256=:{SHA256}:"}, id="digest"),
        pytest.param(gzip.compress(CSV), {}, id="gzip"),
        pytest.param(gzip.compress(CSV), {"HTTP_CONTENT_ENCODING": "gzip"}, id="gzip-as-encoding"),
        pytest.param(b"\x28\xb5\x2f\xfd rest", {}, id="zstd"),
        pytest.param(PARQUET, {}, id="parquet"),
    ],
)
def test_a_file_whose_end_can_be_told_needs_no_length(
    service: FileService, body: bytes, headers: dict[str, str]
) -> None:
    answer = chunked(service, body, **headers)

    assert answer.status_code == 202, answer.text
    assert service.services.storage.get(input_key(service.job.id)) == body


@pytest.mark.parametrize("body", [PARQUET[:-1], PARQUET[:6], b"PAR1"], ids=["a-byte-short", "no-footer", "magic-only"])
def test_a_parquet_file_that_was_cut_off_leaves_nothing(service: FileService, body: bytes) -> None:
    answer = chunked(service, body)

    assert code(answer) == (400, "incomplete_body")
    assert service.is_clean()


def test_the_limit_of_other_bodies_does_not_bound_a_file(tmp_path: Path) -> None:
    service = FileService(tmp_path, max_body_bytes=len(CSV) - 1)

    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert answer.status_code == 202, answer.text


def test_a_file_that_is_announced_too_large_is_not_read(tmp_path: Path) -> None:
    service = FileService(tmp_path, max_upload_bytes=100)

    answer = sent(service, io.BytesIO(b"never read"), CONTENT_LENGTH="101")

    assert code(answer) == (413, "body_too_large")
    assert answer.headers["Connection"] == "close"
    assert service.is_clean()


def test_a_file_that_turns_out_too_large_leaves_nothing(tmp_path: Path) -> None:
    service = FileService(tmp_path, max_upload_bytes=100)

    answer = chunked(service, b"\x1f\x8b" + b"x" * 99)

    assert code(answer) == (413, "body_too_large")
    assert service.is_clean()


def test_a_missing_column_is_told_before_the_rest_of_the_file_comes(service: FileService) -> None:
    row = b"1,2,3\n" * 10_000
    body = Counted(iter([b"id,a,c\n", *[row] * 1000]))
    length = 7 + 1000 * len(row)

    answer = sent(service, body, "/jobs?model=m", CONTENT_LENGTH=str(length))

    begun = b"".join(itertools.islice(answer.iter_encoded(), 1))
    assert body.given < HEAD_BYTES
    assert (answer.status_code, orjson.loads(begun)["errors"][0]["code"]) == (422, "missing_column")
    assert answer.headers["Connection"] == "close"
    assert service.is_clean()


def test_an_answer_after_the_whole_body_keeps_the_connection(service: FileService) -> None:
    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert "Connection" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({"Content-Encoding": "br"}, CSV, (415, "unsupported_encoding"), id="unknown-encoding"),
        pytest.param({"Content-Encoding": "gzip"}, CSV, (400, "bad_content_encoding"), id="encoding-that-is-not-true"),
        pytest.param(
            {"Content-Type": "application/x-www-form-urlencoded"}, CSV, (415, "unsupported_media_type"), id="curl"
        ),
        pytest.param({"Content-Type": "text/html"}, CSV, (415, "unsupported_media_type"), id="another-type"),
        pytest.param({}, b"", (422, "empty_file"), id="empty"),
        pytest.param({}, b"\n\n", (422, "no_header"), id="blank-lines"),
        pytest.param({}, b"\xff\n", (422, "bad_encoding"), id="not-utf-8"),
        pytest.param({}, b"a,b,a\n", (422, "duplicate_column"), id="a-column-twice"),
        pytest.param({"Content-Type": "application/octet-stream"}, CSV, (422, "missing"), id="no-format"),
        pytest.param({"Idempotency-Key": "k" * 256}, CSV, (400, "bad_idempotency_key"), id="long-key"),
    ],
)
def test_what_is_not_taken_leaves_nothing(
    service: FileService, headers: dict[str, str], body: bytes, status: tuple[int, str]
) -> None:
    answer = service.client.post("/jobs?model=m", data=body, headers=TYPE | headers)

    assert code(answer) == status
    assert service.is_clean()


def test_the_media_type_may_say_the_encoding_and_that_there_is_no_header(service: FileService) -> None:
    headers = {"Content-Type": "text/csv; charset=latin-1; header=absent"}

    answer = service.client.post("/jobs?model=m", data=b"1,\xe4\n", headers=headers)

    assert answer.status_code == 202, answer.text
    assert service.job.spec.batch is not None
    assert service.job.spec.batch.input.dialect == Dialect(encoding="latin-1", header=False)


def form(*fields: tuple[str, str, bytes], boundary: bytes = b"XX") -> bytes:
    """The body of a multipart form: name, file name, content of each part."""
    head = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (boundary, name.encode(), file.encode(), data) for name, file, data in fields) + (
        b"--%s--\r\n" % boundary
    )


JOB = ("job", "", b'{"model": "m"}')
FILE = ("file", "rows.csv", CSV)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(form(JOB, FILE)[:-8], (400, "incomplete_body"), id="cut-off-in-the-last-boundary"),
        pytest.param(form(FILE, JOB)[:60], (400, "incomplete_body"), id="cut-off-in-the-file"),
        pytest.param(form(JOB), (422, "missing_part"), id="no-file"),
        pytest.param(form(FILE), (422, "missing_part"), id="no-job"),
        pytest.param(form(), (422, "missing_part"), id="nothing"),
        pytest.param(form(JOB, FILE, FILE), (422, "duplicate_part"), id="two-files"),
        pytest.param(form(JOB, ("other", "", b"x"), FILE), (422, "unknown_part"), id="another-part"),
        pytest.param(form(FILE, ("job", "", b"{")), (400, "malformed_json"), id="malformed-job"),
        pytest.param(form(FILE, ("job", "", b"[]")), (422, "invalid_request"), id="job-that-is-no-object"),
        pytest.param(
            form(FILE, ("job", "", b'{"model": "m", "input": {"uri": "x"}}')), (422, "two_files"), id="uri-too"
        ),
        pytest.param(form(FILE, ("job", "", b'{"model": "m", "kind": "predict"}')), (422, "kind_mismatch"), id="kind"),
        pytest.param(form(JOB, ("file", "rows.csv", b"")), (422, "empty_file"), id="empty-file"),
        pytest.param(b"--XX\r\n" + b"h" * 2_000_000, (400, "malformed_form"), id="endless-header"),
        pytest.param(b"--XX\r\nX: y\r\n\r\nz\r\n--XX--\r\n", (400, "malformed_form"), id="part-without-a-name"),
    ],
)
def test_a_form_that_is_not_as_it_should_be_leaves_nothing(
    service: FileService, body: bytes, status: tuple[int, str]
) -> None:
    answer = service.client.post("/jobs", data=body, content_type="multipart/form-data; boundary=XX")

    assert code(answer) == status
    assert service.is_clean()


def test_a_job_part_that_is_too_large_is_a_413(tmp_path: Path) -> None:
    service = FileService(tmp_path, max_body_bytes=100)
    body = form(FILE, ("job", "", b" " * 101))

    answer = service.client.post("/jobs", data=body, content_type="multipart/form-data; boundary=XX")

    assert code(answer) == (413, "body_too_large")
    assert service.is_clean()


def test_a_full_storage_is_a_507_that_leaves_nothing(service: FileService, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = service.services.storage
    real = type(storage).writer

    def full(key: str) -> Any:
        """A writer on a disk that is full after the first block."""
        context = real(storage, key)
        writer = context.__enter__()
        writer.write(b"begun")

        class Full:
            def __enter__(self) -> Any:
                return self

            def write(self, _: bytes) -> None:
                raise StorageFull

            def __exit__(self, *error: Any) -> bool | None:
                return context.__exit__(*error)

        return Full()

    monkeypatch.setattr(storage, "writer", full)

    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert code(answer) == (507, "storage_full")
    assert service.is_clean()


@pytest.mark.parametrize("refusal", [QueueFull(), UploadLost()], ids=["queue-full", "upload-lost"])
def test_a_file_whose_job_is_refused_is_removed(service: FileService, refusal: Any) -> None:
    service.store.refusal = refusal

    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert answer.status_code in (429, 503)
    assert service.is_clean()


def test_a_file_whose_job_may_have_been_accepted_is_left_to_the_janitor(service: FileService) -> None:
    service.store.refusal = StoreUnavailable()

    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert answer.status_code == 503
    assert len(service.stored()) == len(service.noted.under_way) == 1


def test_a_file_that_came_again_under_the_same_key_is_removed(service: FileService) -> None:
    service.store.answer = lambda job: Accepted(id="earlier", created=False)

    service.client.post("/jobs?model=m", data=CSV, headers=TYPE | {"Idempotency-Key": "k"})

    assert service.is_clean()


def test_a_file_stays_when_only_the_answer_to_its_job_was_lost(service: FileService) -> None:
    service.store.answer = lambda job: Accepted(id=job.id, created=False)

    service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert len(service.stored()) == 1


@pytest.mark.parametrize(
    ("path", "other", "same"),
    [
        pytest.param("/jobs?model=m", CSV, True, id="same-request"),
        pytest.param("/jobs?model=m", CSV + b"7,8,9\n", False, id="another-file"),
        pytest.param("/jobs?model=m&key=id", CSV, False, id="other-options"),
    ],
)
def test_a_request_with_a_file_is_told_from_another_with_the_same_key(
    service: FileService, path: str, other: bytes, same: bool
) -> None:
    for target, body in (("/jobs?model=m", CSV), (path, other)):
        service.client.post(target, data=body, headers=TYPE | {"Idempotency-Key": "k"})

    first, second = (job.idempotency for job in service.store.submitted)
    assert first is not None
    assert (first == second) is same


@pytest.mark.parametrize("path", ["/jobs?model=m&validate_only=true", "/jobs?validate_only=true"], ids=["raw", "form"])
def test_a_file_that_is_only_checked_is_not_kept(service: FileService, path: str) -> None:
    body, media_type = (CSV, "text/csv") if "model" in path else (form(FILE, JOB), "multipart/form-data; boundary=XX")

    answer = service.client.post(path, data=body, content_type=media_type)

    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert (answer.json["valid"], answer.json["rows"]) == (True, None)
    assert service.is_clean()


def test_only_the_head_of_a_file_that_is_only_checked_is_read(service: FileService) -> None:
    body = Counted(iter([CSV, *[b"7,8,9\n" * 10_000] * 1000]))

    answer = sent(service, body, "/jobs?model=m&validate_only=true", CONTENT_LENGTH=str(10**9))

    assert answer.status_code == 200
    assert body.given < HEAD_BYTES
    assert answer.headers["Connection"] == "close"


def test_a_client_that_waits_to_be_told_to_send_is_not_waited_for(service: FileService) -> None:
    body = Counted(iter([CSV] * 10))

    answer = sent(service, body, "/jobs?model=nobody", CONTENT_LENGTH="9", HTTP_EXPECT="100-continue")

    assert (answer.status_code, answer.headers["Connection"]) == (404, "close")
    assert answer.data
    assert body.given == 0


def test_a_file_for_an_unknown_model_is_read_only_so_that_its_sender_sees_the_answer(service: FileService) -> None:
    body = Counted(iter([CSV] * 10))

    answer = sent(service, body, "/jobs?model=nobody", CONTENT_LENGTH="9")

    begun = b"".join(itertools.islice(answer.iter_encoded(), 1))
    assert (answer.status_code, orjson.loads(begun)["code"], body.given) == (404, "model_not_found", 0)
    answer.close()


@given(
    contents=st.lists(
        st.binary(max_size=40) | st.sampled_from([b"\r\n", b"\r\n--X", b"--XX", b"\n", b"\r"]), max_size=4
    ),
    step=st.integers(1, 30),
)
def test_the_parts_of_a_form_are_the_same_however_they_come(contents: list[bytes], step: int) -> None:
    boundary = b"a9f3c1e7"
    body = form(*[(f"p{index}", "f", data) for index, data in enumerate(contents)], boundary=boundary)
    environ = EnvironBuilder().get_environ() | {"CONTENT_TYPE": f"multipart/form-data; boundary={boundary.decode()}"}

    with Flask("test").request_context(environ):
        blocks = (body[at : at + step] for at in range(0, len(body), step))
        came = [(part.name, b"".join(part.blocks)) for part in parts(request._get_current_object(), blocks)]  # type: ignore[attr-defined]

    assert came == [(f"p{index}", data) for index, data in enumerate(contents)]


NAMES = st.lists(
    st.text(st.sampled_from('ab,"\r\n;ä '), max_size=4).map(lambda name: f"n{name}"), min_size=1, max_size=4
)


@given(names=NAMES, line_break=st.sampled_from(["\n", "\r\n"]), cut=st.integers(0, 60), mark=st.booleans())
def test_a_header_is_found_wherever_the_bytes_are_cut(names: list[str], line_break: str, cut: int, mark: bool) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator=line_break, quoting=csv.QUOTE_ALL).writerow(names)
    header = written.getvalue().encode()
    head = b"\xef\xbb\xbf" * mark + header + b'1,"2'

    line = header_line(head[:cut], Dialect(), whole=False)

    assert header_line(head, Dialect(), whole=False) == header
    assert line is None or line.rstrip(b"\r\n") == header.rstrip(b"\r\n")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        pytest.param("rows.csv", "rows.csv", id="plain"),
        pytest.param("/etc/passwd", "passwd", id="unix-folders"),
        pytest.param("C:\\data\\rows.csv", "rows.csv", id="windows-folders"),
        pytest.param("..", "..", id="dots"),
        pytest.param("a\r\nb\x00\x1b[31m.csv", "ab[31m.csv", id="control-characters"),
        pytest.param("ä" * 300, "ä" * 255, id="long"),
        pytest.param(None, "", id="none"),
    ],
)
def test_a_file_name_is_kept_without_folders_and_control_characters(given: str | None, shown: str) -> None:
    assert base_name(given) == shown


def test_a_request_without_a_boundary_is_no_form() -> None:
    environ = {"CONTENT_TYPE": "multipart/form-data"}

    with pytest.raises(Exception, match="boundary"):
        parts(Request(environ), iter(()))


def test_nothing_is_read_of_a_body_that_comes_from_nobody_known(
    service: FileService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoKeys, "exist", lambda _: True)
    body = Counted(iter([CSV] * 10))

    answer = sent(service, body, HTTP_TRANSFER_ENCODING="chunked")

    assert code(answer) == (401, "unauthorized")
    assert answer.headers["Connection"] == "close"
    assert body.given == 0
