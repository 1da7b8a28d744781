"""The disk of the embedded Redis becomes full: what was acknowledged is done and kept, also by one that is killed."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.queue import CONTROL
from shared.settings import Settings
from tests.disk import Disk
from tests.integration.conftest import Service
from tests.kept import short_folder
from tests.processes import Answer, free_port
from tests.wait import until
from worker import append_file
from worker.append_file import AppendFile

RESERVE_BYTES = 16 * 2**20
# So that a quarter of it is used up by some hundreds of jobs.
METADATA = {"note": "x" * 4_000}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def whole_disk(folder: Path) -> Iterator[Disk]:
    """A disk for Redis alone."""
    try:
        made = Disk(folder / "var" / "redis", 128 * 2**20)
    except OSError as error:
        pytest.skip(f"only root may mount a small disk: {error}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(folder: Path, whole_disk: Disk) -> Iterator[Service]:
    settings = Settings.model_validate({
        "data_dir": folder / "var", "port": free_port(), "api_processes": 1, "workers": 1, "janitor_seconds": 0.2,
        "redis_disk_reserve_mb": RESERVE_BYTES // 2**20, "log_format": "json",
    })  # fmt: skip
    made = Service(settings)
    made.start_worker()
    made.start_api()
    made.start_janitor()
    until(lambda: whole_disk.used_bytes >= RESERVE_BYTES, 30, "room is kept")
    yield made
    made.stop()


@pytest.fixture
def disk(whole_disk: Disk, service: Service) -> Iterator[Disk]:
    """The disk, with room."""
    until(lambda: submit(service).status == 202, 30, "there is room again")
    yield whole_disk
    whole_disk.free()


def submit(service: Service) -> Answer:
    return service.http("POST", "/jobs", {"model": "moody", "instances": [[2.0]], "metadata": METADATA})


def filled(service: Service) -> tuple[list[str], Answer]:
    """The jobs that were accepted before the first refusal, and the refusal."""
    accepted: list[str] = []
    while (answer := submit(service)).status == 202:
        accepted.append(answer.json["id"])
        assert len(accepted) < 20_000  # or nothing is ever refused
    return accepted, answer


def test_nothing_that_was_accepted_is_lost_when_redis_is_killed_with_its_disk_full(
    service: Service, disk: Disk
) -> None:
    disk.fill()

    accepted, refused = filled(service)
    ready = service.http("GET", "/readyz").json["checks"]["redis"]
    done = service.finished(accepted)
    service.redis.kill()
    service.restart_redis()

    assert len(accepted) > 10, refused.body
    assert (refused.status, refused.json["code"]) == (503, "store_full")
    assert "disk" in refused.json["detail"]
    assert (ready["ready"], ready["reason"]) == (False, refused.json["detail"])
    assert {job["status"] for job in done} == {"succeeded"}
    assert [service.http("GET", f"/jobs/{job_id}").json for job_id in accepted] == done


def test_jobs_are_taken_again_once_there_is_room(service: Service, disk: Disk) -> None:
    disk.fill()
    filled(service)

    disk.free()
    until(lambda: submit(service).status == 202, 30, "one is accepted")
    answer = submit(service)

    assert service.http.done(answer.json["id"])["status"] == "succeeded"


def test_redis_is_held_back_before_its_own_room_is_used_up(service: Service, disk: Disk) -> None:
    client = service.redis.client
    disk.fill()
    written = 0

    def write_more() -> None:
        nonlocal written
        while written < 10_000:
            client.set(f"more:{written}", b"x" * 16_000)
            written += 1
            time.sleep(0.005)

    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        write_more()
    refused = submit(service)
    service.redis.kill()
    service.restart_redis()
    kept = len(client.keys("more:*"))
    disk.free()
    until(lambda: submit(service).status == 202, 30, "one is accepted")
    client.delete(*client.keys("more:*"))

    assert written > 100
    assert kept == written
    assert refused.status == 503


def test_a_control_worker_that_is_killed_while_redis_is_held_back_lets_it_go_when_it_is_back(
    service: Service, disk: Disk
) -> None:
    control = next(process for process in service.processes if "worker-control" in process.log.name)
    disk.fill()
    until(lambda: refuses(service), 30, "Redis is held back")
    control.kill()

    disk.free()
    service.processes.remove(control)
    service.start_worker(CONTROL)

    until(lambda: submit(service).status == 202, 30, "one is accepted")
    service.redis.client.delete("more")


def refuses(service: Service) -> bool:
    """Whether Redis does not take one more write."""
    try:
        service.redis.client.append("more", b"x" * 100_000)
    except redis.ResponseError as error:
        return "NOREPLICAS" in str(error)
    return False


def ahead_bytes(service: Service) -> int:
    """The room that is kept beyond the end of the newest file."""
    files = list((service.settings.data_dir / "redis").glob("*/*.incr.aof"))
    about = max(files, key=lambda file: file.stat().st_mtime).stat()
    return about.st_blocks * 512 - about.st_size


def rewritten(service: Service) -> int:
    """Where the file stands that Redis appends to, among all that it has begun."""
    (manifest,) = (service.settings.data_dir / "redis").glob("*/*.manifest")
    return max(int(number) for number in re.findall(r"seq (\d+) type i", manifest.read_text()))


def test_a_rewrite_that_fails_for_want_of_room_leaves_the_new_file_its_own(
    service: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, redis_folder = service.redis.client, service.settings.data_dir / "redis"
    some = service.finished([submit(service).json["id"] for _ in range(50)])
    # More than the room that the file before gives back.
    client.set("more", os.urandom(2 * RESERVE_BYTES))
    until(lambda: ahead_bytes(service) >= RESERVE_BYTES * 3 // 4, 30, "there is room again")
    before = rewritten(service)
    disk.fill(left_bytes=RESERVE_BYTES + 64 * 2**10)
    monkeypatch.setattr(append_file, "REWRITE_BYTES", 0)
    monkeypatch.setattr(append_file, "free_bytes", lambda _: 2**40)

    AppendFile(redis_folder, RESERVE_BYTES, client).rewrite_if_due()
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 30, "the rewrite has ended")
    failed = client.info("persistence")["aof_last_bgrewrite_status"]
    accepted, _ = filled(service)
    done = service.finished(accepted)
    service.redis.kill()
    service.restart_redis()

    assert (failed, rewritten(service)) == ("err", before + 1)
    assert len(accepted) > 10
    assert [service.http("GET", f"/jobs/{job['id']}").json for job in some + done] == some + done
    client.delete("more")
