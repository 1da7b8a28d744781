"""A batch job says how far its rows are from the training data, once, and the same whatever was interrupted."""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import joblib
import numpy as np
import pyarrow as pa
import pytest

from api.app import create_app
from shared.batch_store import BatchStore
from shared.drift import MOST_WINDOWS, Drift
from shared.job import Status
from shared.records import WORKER_LOST
from shared.registry import PRODUCTION, Move
from shared.settings import Settings
from shared.store import JobStore
from tests.integration import batches as by_hand
from tests.integration.batch_files import csv_file, service
from tests.integration.batch_runner import Finished, Runner
from tests.models import RAISE, Moody, register_moody, registry_of
from worker.drift import DRIFT_ROWS
from worker.profile import profile_of

ROWS: Final = 400


def register_profiled(settings: Settings) -> None:
    """The model `moody` with a training profile: its feature x is spread over 20 to 60."""
    registry = registry_of(settings)
    register_moody(settings)
    plain = registry.resolve("moody").manifest
    training = pa.table({"x": np.linspace(20, 60, 1000)})
    buffer = io.BytesIO()
    joblib.dump(Moody(), buffer)
    version = registry.reserve("profiled", "training")
    profiled = replace(plain, model="profiled", version=version, profile=profile_of(training, plain.signature))
    move = Move(alias=PRODUCTION, version=version, expected=None, who="", why="")
    registry.add(profiled, buffer.getvalue(), move=move)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with service(register_profiled) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(settings: Settings) -> Runner:
    """Workers that cut files into slices of a few rows."""
    return Runner(settings.model_copy(update={"slice_bytes": 400, "slice_rows": 40}))


@pytest.fixture(scope="module")
def drift(runner: Runner) -> Drift:
    return Drift(runner.store.connections, runner.store.keys)


def file_of(low: float = 20, high: float = 60, count: int = ROWS, seed: int = 0) -> bytes:
    """A file whose x is spread over a range."""
    chance = random.Random(seed)
    return csv_file(["x"], [[round(chance.uniform(low, high), 3)] for _ in range(count)]).encode()


def run(runner: Runner, data: bytes, **options: Any) -> Finished:
    return runner.run(data, model="profiled", **options)


def test_rows_like_the_training_data_have_not_drifted(runner: Runner) -> None:
    found = run(runner, file_of()).manifest["drift"]

    assert (found["rows"], found["drifted"], found["drifted_features"]) == (ROWS, False, [])
    assert (found["profile_rows"], found["threshold"]) == (1000, 0.25)


def test_rows_that_are_elsewhere_have_drifted_in_that_feature(runner: Runner, drift: Drift) -> None:
    done = run(runner, file_of(50, 90))

    found = done.manifest["drift"]
    assert (found["drifted"], found["drifted_features"]) == (True, ["x"])
    assert found["features"]["x"]["moved_most"]["bin"].startswith("above 5")
    (newest,) = drift.windows("profiled", 1)
    assert (newest["job_id"], newest["version"], newest["rows"]) == (done.job.id, 1, ROWS)
    assert (newest["drifted"], newest["drifted_features"]) == (True, ["x"])
    assert newest["features"] == {"x": found["features"]["x"]["psi"]} == {"x": newest["max_psi"]}


def test_a_window_has_the_time_when_its_job_ended(runner: Runner, drift: Drift) -> None:
    done = run(runner, file_of())

    ended = done.job.finished_at
    assert ended is not None
    assert drift.windows("profiled", 1)[0]["at"] == ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_model_without_a_profile_has_no_drift_and_no_window(runner: Runner, drift: Drift) -> None:
    done = runner.run(file_of())

    assert done.manifest["drift"] is None
    assert drift.windows("moody") == []


def test_a_file_of_a_few_rows_says_that_these_are_too_few(runner: Runner, drift: Drift) -> None:
    done = run(runner, file_of(50, 90, count=5))

    assert (done.manifest["drift"]["rows"], done.manifest["drift"]["drifted"]) == (5, None)
    assert done.manifest["drift"]["reason"].startswith("too few rows")
    assert drift.windows("profiled", 1)[0]["drifted"] is None


def test_rows_that_cannot_be_read_are_not_counted_and_those_that_the_model_refuses_are(runner: Runner) -> None:
    done = run(runner, file_of() + b"?\n" * 3 + f"{RAISE}\n".encode())

    assert (done.job.status, done.job.counts.failed) == (Status.PARTIALLY_SUCCEEDED, 4)
    assert done.manifest["drift"]["rows"] == ROWS + 1


def lose_units(runner: Runner, job_id: str, seed: int) -> None:
    """Have workers die at some of the units of a job, now and then after the work and before the commit."""
    chance = random.Random(seed)
    for _ in range(12):
        unit = runner.works[0].pull("w0", linger_seconds=0, answered=False, lane="")
        if unit is None or unit.job_id != job_id:
            break
        if chance.random() < 0.5:
            runner.store.release(unit.fence, WORKER_LOST, counts=False)
            runner.works[0].do(unit)  # too late: its lease is over
        else:
            runner.works[0].do(unit)


@pytest.mark.parametrize("seed", range(4))
def test_a_job_that_was_interrupted_has_the_same_drift(runner: Runner, drift: Drift, seed: int) -> None:
    data = file_of(30, 70, count=1500)
    undisturbed = run(runner, data).manifest["drift"]
    other = Runner(runner.settings.model_copy(update={"max_chunk_slices": seed + 1}))
    before = drift.windows("profiled")

    job_id = other.submit(data, model="profiled")
    lose_units(other, job_id, seed)
    done = other.finish(job_id, seed)

    assert done.manifest["drift"] == undisturbed
    assert len(drift.windows("profiled")) == min(len(before) + 1, MOST_WINDOWS)


def test_the_sample_of_a_large_slice_is_the_same_in_every_run(settings: Settings) -> None:
    data = file_of(count=6000)
    whole = Runner(settings)

    first, second = (run(whole, data, seed=seed).manifest["drift"] for seed in (1, 2))

    assert first == second
    assert first["rows"] == DRIFT_ROWS


def test_a_cancelled_job_is_no_window_and_its_manifest_says_what_was_counted(runner: Runner, drift: Drift) -> None:
    before = drift.windows("profiled")
    job_id = runner.submit(file_of(count=2000), model="profiled")
    for _ in range(3):
        runner.step()
    runner.store.cancel(job_id)

    done = runner.finish(job_id)

    assert done.job.status is Status.CANCELLED
    assert 0 < done.manifest["drift"]["rows"] == done.job.counts.succeeded < 2000
    assert drift.windows("profiled") == before


def test_a_job_that_failed_is_no_window(runner: Runner, drift: Drift) -> None:
    before = drift.windows("profiled")

    done = run(runner, file_of() + b"?\n" * 50, max_failed_rows=1)

    assert done.job.status is Status.FAILED
    assert drift.windows("profiled") == before


def test_the_rows_of_a_retry_are_no_window(runner: Runner, drift: Drift) -> None:
    first = run(runner, file_of() + b"?\n" * 5)
    before = drift.windows("profiled")
    given = runner.read(first.job.id).spec.batch
    assert given is not None

    job_id = runner.submit(b"", "profiled", given=given.input, retry_of=first.job.id, retry_only="failed")
    done = runner.finish(job_id)

    assert done.job.done
    assert done.manifest["drift"] is None
    assert drift.windows("profiled") == before


@pytest.fixture
def own() -> Iterator[tuple[JobStore, BatchStore, Drift]]:
    """A job store without any worker."""
    with service() as settings:
        store = Runner(settings).store
        store.connections.client.hset(store.keys.model("m"), "v:1", 1)
        yield store, BatchStore(store, settings), Drift(store.connections, store.keys)


WINDOW: Final = {"job_id": "j", "version": 1, "rows": 1, "max_psi": 0.0, "drifted": None, "features": {}}


def test_a_commit_that_is_repeated_records_one_window(own: tuple[JobStore, BatchStore, Drift]) -> None:
    store, batches, drift = own
    by_hand.planned(store, batches, 1)
    by_hand.commit(batches, by_hand.pull(batches))
    last = by_hand.pull(batches)

    for _ in range(3):
        batches.commit_final(last, Status.SUCCEEDED, {}, window=WINDOW)

    assert len(drift.windows("m")) == 1


def test_a_job_that_is_cancelled_while_it_ends_records_no_window(own: tuple[JobStore, BatchStore, Drift]) -> None:
    store, batches, drift = own
    job_id = by_hand.planned(store, batches, 1)
    by_hand.commit(batches, by_hand.pull(batches))
    last = by_hand.pull(batches)

    store.cancel(job_id)
    counted = batches.commit_final(last, Status.SUCCEEDED, {}, window=WINDOW)

    assert not counted
    assert drift.windows("m") == []


def test_only_the_newest_hundred_windows_are_kept(own: tuple[JobStore, BatchStore, Drift]) -> None:
    store, batches, drift = own
    for number in range(MOST_WINDOWS + 3):
        by_hand.planned(store, batches, 1)
        by_hand.commit(batches, by_hand.pull(batches))
        batches.commit_final(by_hand.pull(batches), Status.SUCCEEDED, {}, window={**WINDOW, "rows": number})

    found = drift.windows("m", 1000)

    assert [window["rows"] for window in found] == list(reversed(range(3, MOST_WINDOWS + 3)))


def test_the_windows_of_a_model_are_read_over_http_newest_first(runner: Runner, settings: Settings) -> None:
    ids = [run(runner, data).job.id for data in (file_of(), file_of(50, 90))]
    client = create_app(settings).test_client()

    answer = client.get("/models/profiled/drift?limit=2")

    body = json.loads(answer.data)
    assert (answer.status_code, body["model"], body["threshold"]) == (200, "profiled", 0.25)
    assert [(window["job_id"], window["drifted"]) for window in body["windows"]] == [(ids[1], True), (ids[0], False)]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("/models/nothing/drift", 404, "model_not_found", id="unknown-model"),
        pytest.param("/models/profiled/drift?limit=0", 400, "bad_parameter", id="limit-too-small"),
        pytest.param("/models/profiled/drift?limit=101", 400, "bad_parameter", id="limit-too-large"),
        pytest.param("/models/profiled/drift?limit=ten", 400, "bad_parameter", id="limit-in-words"),
        pytest.param("/models/profiled/drift?most=1", 400, "unknown_parameter", id="unknown-parameter"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(settings: Settings, path: str, status: int, code: str) -> None:
    answer = create_app(settings).test_client().get(path)

    assert (answer.status_code, json.loads(answer.data)["code"]) == (status, code)


def test_a_model_without_windows_has_an_empty_list(settings: Settings) -> None:
    answer = create_app(settings).test_client().get("/models/moody/drift")

    assert json.loads(answer.data)["windows"] == []
