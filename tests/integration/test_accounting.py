"""What owners are counted to have, with real processes that are killed: it is what lies there, and ends at nothing."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from shared.keys import Keys
from shared.queue import ONLINE
from tests.integration.conftest import BatchService, batch_service
from tests.models import RAISE, SLOW
from tests.processes import Answer
from tests.wait import until

ROWS = b"id,x\n" + b"".join(b"r%d,1\n" % number for number in range(50))
BAD = ROWS + b"bad,%g\n" % RAISE
SLOW_ROWS = b"id,x\n" + b"".join(b"r%d,%g\n" % (number, SLOW + 0.3) for number in range(40))
TYPE: dict[str, Any] = {"Content_Type": "text/csv"}


@pytest.fixture
def crowded() -> Iterator[BatchService]:
    """A service whose results lie in storage, however small they are."""
    with batch_service(inline_result_bytes=1, slice_bytes=200, max_attempts=10, owner_stored_bytes=10**9) as service:
        service.start_worker(ONLINE)
        yield service


def used(service: BatchService) -> dict[str, Any]:
    """What the owner uses, as it is told."""
    found: dict[str, Any] = service.http("GET", "/limits").json["used"]
    return found


def stored(service: BatchService, but: str = "") -> int:
    """Bytes of all files and jobs in storage, but for those below a folder."""
    root = service.settings.data_dir / "storage"
    found = 0
    for folder in ("files", "jobs"):
        for place, _, names in os.walk(root / folder):
            if not but or but not in place:
                found += sum(size_of(Path(place, name)) for name in names)
    return found


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it goes while we look
        return 0


def half_sent(service: BatchService) -> socket.socket:
    """An upload of which a part has come."""
    connection = socket.create_connection(("127.0.0.1", service.settings.port))
    head = "POST /files HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 4000000\r\n\r\n"
    connection.sendall(head.encode() + b"x\n" * 700_000)
    keys = Keys(service.settings.redis_prefix)
    until(lambda: service.redis.client.zcard(keys.uploads) == 1, what="the upload is announced")
    return connection


def accepted(answer: Answer) -> str:
    assert answer.status in (200, 201, 202), answer.body
    return str(answer.json["id"])


def crowd(service: BatchService) -> tuple[list[str], list[str]]:
    """Jobs that end in every way, while workers are killed, and files; the ids of both."""
    http = service.http
    files = [accepted(http("POST", "/files", raw=ROWS, **TYPE)) for _ in range(2)]
    jobs = [service.send(ROWS), service.send(BAD), service.send(BAD, max_failed_rows=0), service.send(SLOW_ROWS)]
    jobs += [accepted(http("POST", "/jobs", {"model": "moody", "input": {"file_id": file_id}})) for file_id in files]
    jobs += [http.submit("moody", [[1.0]] * 100)["id"] for _ in range(2)]
    cancelled = service.send(SLOW_ROWS)
    until(lambda: service.scored(jobs[3]) > 0, 60, "a slow file is scored")
    service.kill_worker()
    http("POST", f"/jobs/{cancelled}/cancel")
    service.finished([*jobs, cancelled])
    retried = accepted(http("POST", f"/jobs/{jobs[1]}/retry", {"only": "failed"}))
    wrong = http("POST", "/models/own/versions", raw=b"\x08nonsense", Content_Type="application/onnx")
    assert wrong.status == 422, wrong.body
    service.finished([retried])
    return [*jobs, cancelled, retried, wrong.json["job_id"]], files


def test_what_is_counted_is_what_lies_there_and_ends_at_nothing(crowded: BatchService) -> None:
    with half_sent(crowded):
        (lost,) = [name.decode() for name in crowded.redis.client.zrange(Keys("foretell").uploads, 0, -1)]
        crowded.kill_api()
    until(lambda: crowded.http("GET", "/jobs").status == 200, what="the API is back")

    jobs, files = crowd(crowded)

    until(lambda: used(crowded)["stored_bytes"] == stored(crowded, lost), 60, "what is counted is what lies there")
    assert used(crowded)["stored_bytes"] > 0
    assert (used(crowded)["waiting_jobs"], used(crowded)["waiting_rows"], used(crowded)["uploads"]) == (0, 0, 0)
    for path in [f"/jobs/{job_id}" for job_id in jobs] + [f"/files/{file_id}" for file_id in files]:
        assert crowded.http("DELETE", path).status == 204
    assert used(crowded)["stored_bytes"] == 0
    until(lambda: stored(crowded, lost) == 0, 60, "nothing lies there any more")
    assert not crowded.redis.client.keys("*:held*")


def test_what_expires_is_not_counted_any_more(make_batch: Callable[..., BatchService]) -> None:
    service = make_batch(inline_result_bytes=1, file_ttl_seconds=1, tombstone_seconds=1, owner_stored_bytes=10**9)
    service.start_worker(ONLINE)
    accepted(service.http("POST", "/files", raw=ROWS, **TYPE))
    job_ids = [service.send(ROWS, result_ttl_seconds=1), service.send(BAD, result_ttl_seconds=1)]
    job_ids.append(service.http.submit("moody", [[1.0]] * 100, result_ttl_seconds=1)["id"])

    def gone() -> bool:
        return all(service.http("GET", f"/jobs/{job_id}").status in (404, 410) for job_id in job_ids)

    until(gone, 60, "the jobs are gone")
    until(lambda: used(service)["stored_bytes"] == 0, 60, "nothing is counted")
    until(lambda: stored(service) == 0, 60, "nothing lies there")
    assert (used(service)["waiting_jobs"], used(service)["waiting_rows"]) == (0, 0)
    assert not service.redis.client.keys("*:held*")


def test_a_file_that_is_too_large_for_the_day_is_cut_off_on_its_way(make_batch: Callable[..., BatchService]) -> None:
    service = make_batch(owner_upload_bytes_per_day=1_000_000)
    accepted(service.http("POST", "/files", raw=b"x\n" * 300_000, **TYPE))

    def blocks() -> Iterator[bytes]:
        yield b"PAR1"
        for _ in range(80):
            yield b"\0" * 10_000

    # http.client sends an iterator in chunks, without a Content-Length.
    body = cast(bytes, blocks())
    answer = service.http("POST", "/files", raw=body, Content_Type="application/vnd.apache.parquet")

    assert (answer.status, answer.json["errors"][0]["code"]) == (429, "upload_bytes_per_day")
    assert answer.headers["ratelimit"].startswith('"upload-bytes";r=0;')
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert stored(service) == 600_000
    assert used(service)["upload_bytes_per_day"] == 1_000_000


@pytest.fixture
def make_batch() -> Iterator[Callable[..., BatchService]]:
    """A service for files, with settings of one's own."""
    with contextlib.ExitStack() as stack:
        yield lambda **values: stack.enter_context(batch_service(**values))
