"""Whatever is killed while a file is scored, its outputs are the same bytes."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.conftest import BatchService, batch_service, environment_of_s3
from tests.models import RAISE, SLOW
from tests.processes import Answer, S3Server
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


@pytest.fixture(scope="module")
def at(request: pytest.FixtureRequest) -> Iterator[Callable[[str], BatchService]]:
    """A service on each kind of storage, whose units may be lost often; shared, and well again after each test."""
    started: dict[str, BatchService] = {}
    with contextlib.ExitStack() as stack:

        def of(kind: str) -> BatchService:
            if kind not in started:
                values: dict[str, Any] = {}
                if kind == "s3":
                    server: S3Server = request.getfixturevalue("s3_server")
                    stack.enter_context(environment_of_s3(server))
                    values["storage"] = server.url(uuid4().hex)
                started[kind] = stack.enter_context(batch_service(slice_bytes=SLICE_BYTES, max_attempts=50, **values))
            return started[kind]

        yield of


@pytest.fixture
def service(request: pytest.FixtureRequest, at: Callable[[str], BatchService]) -> Iterator[BatchService]:
    """The service on local storage, unless the test asks for the other."""
    service = at(getattr(request, "param", "local"))
    yield service
    service.give_up()


def submit(service: BatchService, data: bytes = FILE, **query: str) -> str:
    return service.send(data, include="note", **query)


def kill_children(service: BatchService, chance: random.Random) -> None:
    """Kill one of the processes that score."""
    children = [child for child in service.worker.children() if child.children() == []]
    chance.choice(children).kill()


def kill_worker(service: BatchService, chance: random.Random) -> None:
    """Kill the worker with all its processes, and start another."""
    service.kill_worker()


def kill_redis(service: BatchService, chance: random.Random) -> None:
    """Kill Redis, and start it again."""
    service.redis.kill()
    service.restart_redis()


def kill_api(service: BatchService, chance: random.Random) -> None:
    """Kill the API with all its processes, and start another."""
    service.kill_api()


@pytest.mark.parametrize(
    ("service", "kill"),
    [
        pytest.param("local", kill_children, id="local-a-process-that-scores"),
        pytest.param("local", kill_worker, id="local-the-worker"),
        pytest.param("local", kill_redis, id="local-redis"),
        pytest.param("local", kill_api, id="local-the-api"),
        pytest.param("s3", kill_children, id="s3-a-process-that-scores"),
        pytest.param("s3", kill_worker, id="s3-the-worker"),
    ],
    indirect=["service"],
)
def test_a_kill_changes_nothing_in_the_output(
    service: BatchService, kill: Callable[[BatchService, random.Random], None]
) -> None:
    undisturbed = submit(service)
    service.http.done(undisturbed)
    chance = random.Random(2)

    disturbed = submit(service)
    for part in (0.2, 0.6):
        until(lambda part=part: service.scored(disturbed) > part * 8000, what="some rows are scored")  # type: ignore[misc]
        kill(service, chance)
    job = service.http.done(disturbed, 90)

    assert job["status"] == "partially_succeeded"
    assert job["counts"]["total"] == 8000
    assert service.outputs(disturbed) == service.outputs(undisturbed)


def test_a_huge_job_does_not_hold_up_small_ones(service: BatchService) -> None:
    huge = submit(service, rows(60_000))
    until(lambda: service.scored(huge) > 0, what="the huge job runs")

    small = [submit(service, rows(30)) for _ in range(10)]
    done = service.finished(small)

    assert {job["counts"]["total"] for job in done} == {30}
    assert not service.http("GET", f"/jobs/{huge}").json["done"]


def test_a_job_of_high_priority_overtakes_one_that_runs(service: BatchService) -> None:
    usual = submit(service, rows(30_000))
    until(lambda: service.scored(usual) > 0, what="the usual job runs")

    urgent = submit(service, rows(10_000), priority="high")
    service.http.done(urgent)

    assert service.scored(usual) < 20_000


def test_cancelling_keeps_what_is_done(service: BatchService) -> None:
    job_id = submit(service, rows(60_000))
    until(lambda: service.scored(job_id) > 1000, what="some rows are scored")

    service.http("POST", f"/jobs/{job_id}/cancel")
    job = service.http.done(job_id)

    counts = job["counts"]
    assert job["status"] == "cancelled"
    assert counts["skipped"] > 0
    assert counts["succeeded"] + counts["failed"] + counts["skipped"] == counts["total"] == 60_000
    result = service.outputs(job_id)["result"]
    assert result.count(b"a-") == counts["succeeded"]


def test_progress_never_runs_backwards(service: BatchService) -> None:
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


def test_every_snapshot_adds_up(service: BatchService) -> None:
    job_id = submit(service)
    answers: list[Answer] = []

    def look() -> bool:
        answers.append(service.http("GET", f"/jobs/{job_id}"))
        return bool(answers[-1].json["done"])

    until(look, what="it is done")

    for counts in (answer.json["counts"] for answer in answers):
        parts = [counts[name] for name in ("pending", "succeeded", "failed", "skipped")]
        assert counts["total"] == (None if counts["pending"] is None else sum(parts))


def test_cancelling_does_not_wait_for_a_predict_call_that_takes_long(service: BatchService) -> None:
    job_id = submit(service, b"id,x,note\na,159,takes a minute\n")
    until(lambda: service.http("GET", f"/jobs/{job_id}").json["phase"] == "scoring", what="it is being scored")

    service.http("POST", f"/jobs/{job_id}/cancel")
    job = service.http.done(job_id, 30)

    assert (job["status"], job["counts"]["skipped"]) == ("cancelled", 1)
