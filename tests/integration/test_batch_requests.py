"""Files whose lines are requests: what is refused before any is predicted, and what is told of those not reached."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from shared.batch import Requests
from shared.job import Status
from shared.settings import Settings
from tests.integration.batch_files import service
from tests.integration.batch_runner import Finished, Runner
from tests.integration.test_batch_retry import again, pull
from tests.models import RAISE, register_moody

URL = "/v1/predictions"
REQUESTS = Requests(url=URL, body={"model": "moody"}, window="24h")
OPTIONS: dict[str, Any] = {"requests": REQUESTS, "key_column": "custom_id", "name": "lines.jsonl"}


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(register_moody) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers that cut files into slices of some lines, and take one at a time."""
    return Runner(base.model_copy(update={"slice_bytes": 400, "max_chunk_slices": 1}))


def lines(count: int, bad: tuple[int, ...] = (), names: str = "k{}") -> bytes:
    """A file of so many requests, some of which the model refuses."""
    return b"\n".join(
        orjson.dumps(
            {
                "custom_id": names.format(n), "method": "POST", "url": URL,
                "body": {"model": "moody", "input": [RAISE if n in bad else 20.0]},
            }
        )
        for n in range(1, count + 1)
    )  # fmt: skip


def keys(done: Finished, name: str) -> list[str]:
    """The custom_ids in one of a job's files."""
    return [line.get("custom_id", line.get("key")) for line in map(orjson.loads, done.files[name].splitlines())]


def test_a_file_with_a_double_is_refused_before_a_line_is_predicted(runner: Runner) -> None:
    done = runner.run(lines(30) + b"\n" + lines(3), **OPTIONS)

    assert (done.job.status, done.job.counts.succeeded, done.files) == (Status.FAILED, 0, {})
    assert done.job.failure is not None
    assert done.job.failure["code"] == "invalid_input"
    assert [(fault["code"], fault["row"]) for fault in done.job.errors] == [
        ("duplicate_custom_id", 31),
        ("duplicate_custom_id", 32),
        ("duplicate_custom_id", 33),
    ]


@pytest.mark.parametrize("planned", [pytest.param(True, id="planned"), pytest.param(False, id="half-planned")])
@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_lines_that_were_not_reached_are_told(
    runner: Runner, how: str, planned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not planned:  # a turn is over with the first slice
        monkeypatch.setattr("worker.plan.FIRST_FLUSH_SECONDS", -1)
        monkeypatch.setattr("worker.plan.TURN_SECONDS", -1)
    job_id = runner.submit(lines(30, bad=(2,)), **OPTIONS)
    for _ in range(2):
        runner.works[0].do(pull(runner))
    end(runner, job_id, how)

    done = runner.finish(job_id)

    reached = keys(done, "result") + keys(done, "errors")
    every = [f"k{n}" for n in range(1, 31)]
    assert reached == (["k1", "k3", "k4", "k2"] if planned else [])
    assert keys(done, "unreached") == [key for key in every if key not in reached]
    assert done.job.outputs["unreached"]["rows"] == 30 - len(reached)
    assert (done.job.counts.total == 30) is planned


def end(runner: Runner, job_id: str, how: str) -> None:
    """Cancel a job, or let its deadline be over."""
    if how == "cancelled":
        runner.store.cancel(job_id)
    else:
        runner.store.connections.client.zadd(f"{runner.store.keys.base}deadlines", {job_id: 1})
        runner.janitor.tick()


def test_what_is_left_of_a_retry_are_lines_of_it(runner: Runner) -> None:
    first = runner.run(lines(30, bad=(3, 17, 29)), **OPTIONS)
    job_id = again(runner, first.job.id, "failed", requests=REQUESTS, key_column="custom_id")
    for _ in range(2):
        runner.works[0].do(pull(runner))
    runner.store.cancel(job_id)

    done = runner.finish(job_id)

    assert keys(done, "errors") == ["k3"]
    assert keys(done, "unreached") == ["k17", "k29"]


def test_of_a_batch_that_came_to_its_end_or_failed_no_line_is_told_as_left(runner: Runner) -> None:
    whole = runner.run(lines(30, bad=(2,)), **OPTIONS)
    early = runner.run(lines(30, bad=tuple(range(1, 31))), max_failed_rows=2, **OPTIONS)

    assert "unreached" not in whole.files
    assert early.job.counts.skipped > 0
    assert "unreached" not in early.files
