"""Memory does not depend on the size of a file, and a worker that has too little of it says so."""

import hashlib
import http.client
import itertools
import resource
import sys
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.conftest import BatchService, batch_service
from tests.processes import Process
from tests.wait import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits another process's memory")

MIB = 2**20
# A thread's stack counts as its memory, also while it is not used.
FEW_THREADS = {
    "api_threads": 12, "max_waiting_threads": 2, "max_event_streams": 2, "max_bodies": 2, "max_uploads": 2,
    "max_downloads": 2,
}  # fmt: skip
HEAD = b"id,note,x\n"
NOTE = b"n" * 500
BLOCK_ROWS = 2000
BLOCK = b"".join(b"%d,%s,%d.5\n" % (row, NOTE, 20 + row % 30) for row in range(BLOCK_ROWS))
SCORED_BLOCK = b"".join(b"%d,%s,%d.0\n" % (row, NOTE, 41 + row % 30 * 2) for row in range(BLOCK_ROWS))


def limit(process: Process, size_bytes: int) -> None:
    """Let a process, and all that it starts, have no more memory for its data than this."""
    limits = (size_bytes, resource.RLIM_INFINITY)
    # Before its children are looked for: one that it starts in between has the limit from it.
    resource.prlimit(process.pid, resource.RLIMIT_DATA, limits)
    for child in process.children():
        with suppress(ProcessLookupError):  # it has ended for want of memory
            resource.prlimit(child.pid, resource.RLIMIT_DATA, limits)


def send_blocks(service: BatchService, count: int, **query: str) -> str:
    """Submit a job over a file of so many blocks, made while it is sent; its id."""
    options = "".join(f"&{name}={value}" for name, value in query.items())
    connection = http.client.HTTPConnection("127.0.0.1", service.settings.port, timeout=60)
    headers = {"Content-Type": "text/csv", "Content-Length": str(len(HEAD) + count * len(BLOCK))}
    body = itertools.chain([HEAD], itertools.repeat(BLOCK, count))
    connection.request("POST", f"/jobs?model=moody&key=id{options}", body, headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 202, answer
    return response.headers["Location"].rpartition("/")[2]


def digest_of(service: BatchService, path: str) -> str:
    """The sha256 of what is downloaded, which need not fit into memory."""
    connection = http.client.HTTPConnection("127.0.0.1", service.settings.port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    digest = hashlib.sha256()
    while block := response.read(MIB):
        digest.update(block)
    connection.close()
    return digest.hexdigest()


def test_a_file_that_is_larger_than_the_memory_of_every_process_is_scored() -> None:
    # A worker needs up to 250 MiB of it; what the allocators reserve beside that differs from run to run.
    api_bytes, worker_bytes, size_bytes = 256 * MIB, 600 * MIB, 750 * MIB
    count = size_bytes // len(BLOCK) + 1
    expected = hashlib.sha256(b"id,note,prediction\n")
    for _ in range(count):
        expected.update(SCORED_BLOCK)

    with batch_service(slice_bytes=MIB, **FEW_THREADS) as service:
        for process in (service.redis, *service.processes):
            limit(process, worker_bytes if process is service.worker else api_bytes)
        job = service.http.done(send_blocks(service, count, include="note"), 90)
        found = digest_of(service, f"/jobs/{job['id']}/result")

    assert job["status"] == "succeeded", job["failure"]
    assert job["counts"]["succeeded"] == count * BLOCK_ROWS
    assert job["result"]["bytes"] > worker_bytes
    assert found == job["result"]["sha256"] == expected.hexdigest()


def test_a_job_that_needs_more_memory_than_a_worker_has_fails_and_others_go_on() -> None:
    # Native libraries end their process, or are stuck for ever, when they get no memory.
    with batch_service(slice_bytes=64 * MIB, unit_timeout_seconds=5, **FEW_THREADS) as service:
        limit(service.worker, 350 * MIB)
        before = {child.pid for child in service.worker.children()}
        large: dict[str, Any] = service.http.done(send_blocks(service, 130 * MIB // len(BLOCK)))
        limit(service.worker, resource.RLIM_INFINITY)
        # None that had no memory goes on: Python itself may be in disorder then.
        until(lambda: {child.pid for child in service.worker.children()} - before, what="another process has begun")
        small: dict[str, Any] = service.http.done(service.send(HEAD + b"a,,21\n"))

    assert large["status"] == "failed"
    assert large["failure"]["code"] in ("out_of_memory", "worker_lost")
    assert (small["status"], small["counts"]["succeeded"]) == ("succeeded", 1), small["failure"]
