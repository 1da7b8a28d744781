"""Whatever is killed while a file is scored, its outputs are the same bytes."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from shared.queue import BATCH
from tests.integration.conftest import Service
from tests.models import RAISE, SLOW
from tests.processes import Answer
from tests.wait import until

# Every slice has a row that takes 30 ms, one that cannot be parsed, one that the model refuses, and quoted line breaks.
SLICE_BYTES = 2000


def rows(count: int) -> bytes:
    """A CSV file with a little of everything."""
    chance = random.Random(1)
    lines = ["id,x,note"]
    for number in range(count):
        value: Any = round(chance.uniform(-5, 5), 4)
        value = {10: SLOW + 0.03, 20: RAISE, 30: "?"}.get(number % 60, value)
        note = '"two\nlines, ""quoted"""' if number % 7 == 0 else f"note {number}"
        lines.append(f"a-{number:05d},{value},{note}")
    return "\n".join(lines).encode()


FILE = rows(8000)


def submit(service: Service, data: bytes = FILE, **query: str) -> str:
    options = "".join(f"&{name}={value}" for name, value in query.items())
    answer = service.http("POST", f"/jobs?model=moody&key=id&include=note{options}", raw=data, Content_Type="text/csv")
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def outputs(service: Service, job_id: str) -> dict[str, Any]:
    """Everything that a job gives but what names the job itself."""
    files = {name: service.http("GET", f"/jobs/{job_id}/{name}") for name in ("result", "errors", "manifest")}
    assert {answer.status for answer in files.values()} == {200}
    return {
        "result": files["result"].body,
        "errors": files["errors"].body,
        "manifest": {**files["manifest"].json, "job_id": ""},
    }


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A service whose units may be lost often."""
    service = make_service(slice_bytes=SLICE_BYTES, max_attempts=50)
    service.start_worker(BATCH)
    service.start_janitor()
    service.start_api()
    return service


def scored(service: Service, job_id: str) -> int:
    """Rows that are done so far."""
    counts = service.http("GET", f"/jobs/{job_id}").json["counts"]
    return int(counts["succeeded"] + counts["failed"])


def kill_children(service: Service, chance: random.Random) -> None:
    """Kill one of the processes that score."""
    children = [child for child in service.processes[0].children() if child.children() == []]
    chance.choice(children).kill()


def kill_worker(service: Service, chance: random.Random) -> None:
    """Kill the worker with all its processes, and start another."""
    service.processes[0].kill()
    service.processes[0] = service.start_worker(BATCH)


def kill_redis(service: Service, chance: random.Random) -> None:
    """Kill Redis, and start it again."""
    service.redis.kill()
    service.restart_redis()


def kill_api(service: Service, chance: random.Random) -> None:
    """Kill the API with all its processes, and start another."""
    api = service.processes[-1]
    for child in api.children():
        child.kill()
    api.kill()
    service.start_api()


@pytest.mark.parametrize("kill", [kill_children, kill_worker, kill_redis, kill_api])
def test_a_kill_changes_nothing_in_the_output(service: Service, kill: Callable[[Service, random.Random], None]) -> None:
    undisturbed = submit(service)
    service.http.done(undisturbed)
    chance = random.Random(2)

    disturbed = submit(service)
    for part in (0.1, 0.4, 0.7):
        until(lambda part=part: scored(service, disturbed) > part * 8000, what="some rows are scored")  # type: ignore[misc]
        kill(service, chance)
    job = service.http.done(disturbed, 90)

    assert job["status"] == "partially_succeeded"
    assert job["counts"]["total"] == 8000
    assert outputs(service, disturbed) == outputs(service, undisturbed)


def test_a_huge_job_does_not_hold_up_small_ones(service: Service) -> None:
    huge = submit(service, rows(60_000))
    until(lambda: scored(service, huge) > 0, what="the huge job runs")

    small = [submit(service, rows(30)) for _ in range(10)]
    done = service.finished(small)

    assert {job["counts"]["total"] for job in done} == {30}
    assert not service.http("GET", f"/jobs/{huge}").json["done"]


def test_a_job_of_high_priority_overtakes_one_that_runs(service: Service) -> None:
    usual = submit(service, rows(30_000))
    until(lambda: scored(service, usual) > 0, what="the usual job runs")

    urgent = submit(service, rows(10_000), priority="high")
    service.http.done(urgent)

    assert scored(service, usual) < 20_000


def test_cancelling_keeps_what_is_done(service: Service) -> None:
    job_id = submit(service, rows(60_000))
    until(lambda: scored(service, job_id) > 1000, what="some rows are scored")

    service.http("POST", f"/jobs/{job_id}/cancel")
    job = service.http.done(job_id)

    counts = job["counts"]
    assert job["status"] == "cancelled"
    assert counts["skipped"] > 0
    assert counts["succeeded"] + counts["failed"] + counts["skipped"] == counts["total"] == 60_000
    result = outputs(service, job_id)["result"]
    assert result.count(b"a-") == counts["succeeded"]


def test_progress_never_runs_backwards(service: Service) -> None:
    job_id = submit(service)

    seen: list[tuple[int, float]] = []

    def look() -> bool:
        job = service.http("GET", f"/jobs/{job_id}").json
        seen.append((job["revision"], job["progress"]["fraction"]))
        return bool(job["done"])

    until(look, what="it is done")

    assert seen == sorted(seen)
    assert seen[-1][1] == 1.0
    assert all(0 <= fraction <= 1 for _, fraction in seen)


def test_every_snapshot_adds_up(service: Service) -> None:
    job_id = submit(service)
    answers: list[Answer] = []

    def look() -> bool:
        answers.append(service.http("GET", f"/jobs/{job_id}"))
        return bool(answers[-1].json["done"])

    until(look, what="it is done")

    for counts in (answer.json["counts"] for answer in answers):
        parts = [counts[name] for name in ("pending", "succeeded", "failed", "skipped")]
        assert counts["total"] == (None if counts["pending"] is None else sum(parts))
