"""The disk of the embedded Redis becomes full: what was acknowledged is done and kept, also by one that is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.disk import Disk
from tests.integration.conftest import Service
from tests.kept import short_folder
from tests.processes import Answer, free_port
from tests.wait import until

RESERVE_BYTES = 2 * 2**20
# So that it is used up by some hundreds of jobs.
METADATA = {"note": "x" * 4_000}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def whole_disk(folder: Path) -> Iterator[Disk]:
    """A disk for Redis alone."""
    try:
        made = Disk(folder / "var" / "redis", 64 * 2**20)
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
    made.start_janitor()
    made.start_api()
    until(lambda: whole_disk.used_bytes >= RESERVE_BYTES, 30, "room is kept")
    yield made
    made.stop()


@pytest.fixture
def disk(whole_disk: Disk) -> Iterator[Disk]:
    """It has room again for the next test."""
    yield whole_disk
    whole_disk.free()


def submit(service: Service) -> Answer:
    return service.http("POST", "/jobs", {"model": "moody", "instances": [[2.0]], "metadata": METADATA})


def filled(service: Service) -> tuple[list[str], Answer]:
    """The jobs that were accepted before the first refusal, and the refusal."""
    accepted: list[str] = []
    while (answer := submit(service)).status == 202:
        accepted.append(answer.json["id"])
        assert len(accepted) < 1000
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
