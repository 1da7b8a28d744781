"""A micro-batch: jobs that share a call and nothing else."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ArtifactCorrupt, ServiceError
from shared.job import Spec, Status
from shared.records import Leased, Outcome, Unit
from shared.signature import Signature
from shared.storage import Storage, result_key
from tests.unit.estimators import ONE_NUMBER, Answering, Doubling
from tests.unit.fakes import make_manifest
from worker.micro_batch import NOT_FINITE, MicroBatchRunner
from worker.model_cache import LoadedModel, ModelCache


class OneModel:
    """A cache with one model in it, or an error instead."""

    def __init__(self, estimator: Any, signature: Signature = ONE_NUMBER) -> None:
        self.loaded = LoadedModel(make_manifest(signature), estimator)

    def patiently(self, *_: Any) -> LoadedModel:
        if isinstance(self.loaded.estimator, BaseException):
            raise self.loaded.estimator
        return self.loaded


def leased(job_id: str, rows: list[Any], **spec: Any) -> Leased:
    about: dict[str, Any] = {"requested": "m", "model": "m", "version": 1, "sha256": "", "method": "predict"} | spec
    return Leased(id=job_id, attempt=1, spec=Spec(**about), rows=orjson.dumps(rows))


def run(
    estimator: Any, *jobs: Leased, unwanted: tuple[str, ...] = (), folder: Path = Path(), inline_bytes: int = 10_000
) -> dict[str, Outcome]:
    """The outcomes by job."""
    runner = MicroBatchRunner(
        cast(ModelCache, OneModel(estimator)),
        Storage(folder.absolute().as_uri()),
        most_rows=1000,
        inline_bytes=inline_bytes,
    )
    unit = Unit(fence="1", lane="m@1", queue="online", ring=False, jobs=jobs)
    outcomes = runner.run(unit, lambda: frozenset(unwanted))
    assert sorted(outcome.id for outcome in outcomes) == sorted(job.id for job in jobs)
    return {outcome.id: outcome for outcome in outcomes}


def test_jobs_share_a_call_and_each_gets_its_own_rows_back() -> None:
    estimator = Doubling()

    outcomes = run(estimator, leased("a", [[1], [2]]), leased("b", [[3]]))

    assert estimator.calls == [3]
    assert [(outcomes[job].status, outcomes[job].result) for job in "ab"] == [
        (Status.SUCCEEDED, b"[2.0,4.0]"),
        (Status.SUCCEEDED, b"[6.0]"),
    ]


def test_a_bad_job_fails_alone() -> None:
    outcomes = run(Doubling({2}), leased("good", [[1]]), leased("bad", [[2]]), leased("fine", [[3]]))

    assert [outcomes[job].status for job in ("good", "bad", "fine")] == [
        Status.SUCCEEDED,
        Status.FAILED,
        Status.SUCCEEDED,
    ]
    assert outcomes["bad"].failure == {
        "code": "prediction_failed",
        "message": "The model refused the row: x is out of range",
    }


def test_a_job_with_some_bad_rows_is_partially_succeeded_and_says_which() -> None:
    outcome = run(Doubling({2, 4}), leased("a", [[1], [2], [3], [4]]))["a"]

    assert (outcome.status, outcome.succeeded, outcome.failed) == (Status.PARTIALLY_SUCCEEDED, 2, 2)
    assert outcome.result == b"[2.0,null,6.0,null]"
    assert [(error["row"], error["code"]) for error in outcome.errors] == [
        (2, "prediction_failed"),
        (4, "prediction_failed"),
    ]


def test_a_job_whose_rows_all_failed_has_no_result_and_tells_the_first_reason() -> None:
    outcome = run(Doubling({1, 2}), leased("a", [[1], [2]]))["a"]

    assert (outcome.status, outcome.succeeded, outcome.failed, outcome.result) == (Status.FAILED, 0, 2, None)
    assert outcome.failure is not None
    assert outcome.failure["message"].startswith("All 2 rows failed; the first: The model refused the row")


def test_the_rows_of_a_retry_keep_the_numbers_that_they_first_had() -> None:
    outcome = run(Doubling({7}), leased("a", [[6], [7], [8]], retry_rows=(10, 20, 30)))["a"]

    assert [error["row"] for error in outcome.errors] == [20]


def test_jobs_that_ask_for_something_else_are_called_apart() -> None:
    class Both(Doubling):
        def transform(self, matrix: Any) -> Any:
            return matrix + 1

    outcomes = run(Both(), leased("a", [[1]]), leased("b", [[1]], method="transform"))

    assert [outcomes[job].result for job in "ab"] == [b"[2.0]", b"[[2.0]]"]


def test_predictions_that_are_not_finite_are_null_with_a_warning() -> None:
    estimator = Answering(lambda n_rows: np.full(n_rows, np.nan))

    outcome = run(estimator, leased("a", [[1]]))["a"]

    assert (outcome.status, outcome.result, tuple(outcome.warnings)) == (Status.SUCCEEDED, b"[null]", (NOT_FINITE,))


@pytest.mark.parametrize(
    "unspeakable",
    [
        pytest.param(2**70, id="integer-beyond-64-bits"),
        pytest.param("\ud800", id="half-a-character"),
        pytest.param({1: 2}, id="object-with-a-number-as-key"),
    ],
)
def test_a_prediction_that_json_cannot_say_fails_its_own_job_only(unspeakable: Any) -> None:
    class Odd:
        def predict(self, matrix: Any) -> Any:
            answer = np.empty(len(matrix), dtype=object)
            answer[:] = [unspeakable if row[0] == 2 else "fine" for row in matrix]
            return answer

    outcomes = run(Odd(), leased("good", [[1]]), leased("bad", [[2]]))

    assert (outcomes["good"].status, outcomes["good"].result) == (Status.SUCCEEDED, b'["fine"]')
    assert outcomes["bad"].failure is not None
    assert outcomes["bad"].failure["code"] == "bad_model_output"


def test_a_model_that_answers_nothing_fails_its_jobs() -> None:
    outcome = run(Answering(lambda n_rows: []), leased("a", [[1], [2]]))["a"]

    assert (outcome.status, outcome.failed) == (Status.FAILED, 2)


def test_nothing_is_predicted_for_jobs_that_nobody_wants() -> None:
    estimator = Doubling()

    outcome = run(estimator, leased("a", [[1]]), unwanted=("a",))["a"]

    assert estimator.calls == []
    assert outcome.failure is not None
    assert outcome.failure["code"] == "cancelled"


def test_a_job_that_nobody_wants_does_not_stop_the_others() -> None:
    outcomes = run(Doubling(), leased("a", [[1]]), leased("b", [[2]]), unwanted=("a",))

    assert outcomes["b"].result == b"[4.0]"


def test_a_large_result_goes_to_storage_with_its_size(tmp_path: Path) -> None:
    outcome = run(Doubling(), leased("a", [[row] for row in range(10)]), folder=tmp_path, inline_bytes=20)["a"]

    written = Storage(tmp_path.as_uri()).get(result_key("a", 1))
    assert orjson.loads(written) == [2.0 * row for row in range(10)]
    assert outcome.result is None
    assert outcome.stored_bytes == len(written)


def test_a_result_of_exactly_the_limit_stays_inline(tmp_path: Path) -> None:
    outcome = run(Doubling(), leased("a", [[1], [2]]), folder=tmp_path, inline_bytes=len(b"[2.0,4.0]"))["a"]

    assert (outcome.result, outcome.stored_bytes) == (b"[2.0,4.0]", None)


def test_a_large_result_that_cannot_be_stored_fails_its_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")

    outcomes = run(
        Doubling(),
        leased("large", [[row] for row in range(10)]),
        leased("small", [[1]]),
        folder=tmp_path / "file",
        inline_bytes=20,
    )

    assert (outcomes["large"].status, outcomes["small"].status) == (Status.FAILED, Status.SUCCEEDED)
    assert outcomes["large"].failure is not None
    assert outcomes["large"].failure["code"] == "storage_failed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(ArtifactCorrupt("other bytes"), "artifact_corrupt", id="corrupt"),
        pytest.param(ServiceError(), "internal", id="another-error-of-ours"),
        pytest.param(MemoryError(), "out_of_memory", id="too-large"),
    ],
)
def test_a_model_that_cannot_be_loaded_fails_its_jobs(error: BaseException, code: str) -> None:
    outcomes = run(error, leased("a", [[1]]), leased("b", [[2]]))

    assert {outcome.status for outcome in outcomes.values()} == {Status.FAILED}
    assert [outcome.failure["code"] for outcome in outcomes.values() if outcome.failure] == [code, code]


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), bad=st.sets(st.integers(0, 47)))
def test_every_row_of_every_job_is_accounted_for(sizes: list[int], bad: set[int]) -> None:
    numbers = iter(range(100))
    rows = {f"job {index}": [next(numbers) for _ in range(size)] for index, size in enumerate(sizes)}

    outcomes = run(Doubling(bad), *(leased(job, [[row] for row in of_job]) for job, of_job in rows.items()))

    for job, of_job in rows.items():
        outcome = outcomes[job]
        assert outcome.succeeded + outcome.failed == len(of_job)
        assert [error["row"] for error in outcome.errors] == [
            number for number, row in enumerate(of_job, 1) if row in bad
        ]
        if outcome.result is not None:
            assert orjson.loads(outcome.result) == [None if row in bad else 2 * row for row in of_job]
