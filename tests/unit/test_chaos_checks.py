"""The chaos suite sees what it is there to see: each promise, broken on purpose, is a finding."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.calm import Outcome
from tests.chaos.checks import check_ends, check_list, check_outcome, check_versions
from tests.chaos.injection import Injected
from tests.chaos.ledger import Finding, Job, Ledger, Submission
from tests.chaos.report import recoveries
from tests.chaos.workload import File, Rows

SMALL = Rows(name="small", model="linear", instances=((1.0,), (2.0,)))
FILE = File(name="file", model="linear", data=b"x\n1\n2\n3\n", rows=3)


def counts(succeeded: int, failed: int = 0, skipped: int = 0, pending: int = 0) -> dict[str, int]:
    total = succeeded + failed + skipped + pending
    return {"total": total, "pending": pending, "succeeded": succeeded, "failed": failed, "skipped": skipped}


def job(**values: Any) -> Job:
    """A small job that is done."""
    usual: Job = {
        "id": "job-1",
        "kind": "predict",
        "status": "succeeded",
        "done": True,
        "revision": 3,
        "attempt": 1,
        "counts": counts(2),
        "result": {"predictions": [2.0, 4.0]},
        "failure": None,
        "finished_at": "2026-11-25T12:00:00Z",
        "model": {"name": "linear", "version": 1},
    }
    return usual | values


RUNNING = job(status="running", done=False, revision=2, counts=counts(0, pending=2), result=None, finished_at=None)


def submission(work: Rows | File = SMALL, **values: Any) -> Submission:
    return Submission(key="key", work=work, job_ids={"job-1"}, **values)


def came(**values: Any) -> Outcome:
    """What came of a small job."""
    usual: dict[str, Any] = {"status": "succeeded", "counts": counts(2), "predictions": (2.0, 4.0)}
    return Outcome(**usual | values)


CALM_FILE = Outcome(status="partially_succeeded", counts=counts(2, 1), errors=b"row 2\n", result=b"p\n1\n3\n")


def promises(found: Any) -> list[str]:
    return [finding.promise for finding in found]


def compared(sent: Submission, outcome: Outcome, calm: Outcome, *excuses: str, **about: Any) -> Any:
    return promises(check_outcome(sent, job(**about), outcome, calm, excuses=frozenset(excuses)))


def seen(*jobs: Job) -> list[Finding]:
    """What a client finds that reads these, one after the other."""
    ledger = Ledger()
    sent = ledger.begin("key", SMALL)
    ledger.acknowledge(sent, jobs[0])
    for each in jobs:
        ledger.observe(sent, each)
    return ledger.findings


def test_a_job_that_is_as_in_a_calm_run_is_no_finding() -> None:
    assert compared(submission(), came(), came()) == []
    assert compared(submission(FILE), CALM_FILE, CALM_FILE) == []


def test_the_last_digit_may_differ() -> None:
    assert compared(submission(), came(predictions=(2.0, 4.000000000000001)), came()) == []


@pytest.mark.parametrize(
    ("values", "promise"),
    [
        pytest.param({"predictions": (2.0, 4.1)}, "results are those of a calm run", id="another prediction"),
        pytest.param({"predictions": (2.0,)}, "results are those of a calm run", id="a prediction is missing"),
        pytest.param({"predictions": (4.0, 2.0)}, "results are those of a calm run", id="another order"),
        pytest.param({"predictions": None}, "results are those of a calm run", id="no prediction"),
        pytest.param({"counts": counts(3)}, "row accounting is exact", id="a row too many"),
        pytest.param({"counts": counts(1, pending=1)}, "row accounting is exact", id="a row pending"),
        pytest.param({"counts": counts(1, 1)}, "row accounting is exact", id="a failed row that is not named"),
        pytest.param({"status": "cancelled"}, "results are those of a calm run", id="cancelled by nobody"),
    ],
)
def test_a_small_job_that_differs_is_a_finding(values: dict[str, Any], promise: str) -> None:
    assert promise in compared(submission(), came(**values), came())


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"result": b"p\n1\n4\n"}, id="another byte"),
        pytest.param({"errors": b"row 3\n"}, id="another row failed"),
        pytest.param({"result": None, "errors": b""}, id="no result"),
    ],
)
def test_a_file_that_differs_is_a_finding(values: dict[str, Any]) -> None:
    found = compared(submission(FILE), replace(CALM_FILE, **values), CALM_FILE)

    assert "results are those of a calm run" in found


def test_a_failure_is_a_finding_unless_the_faults_explain_it() -> None:
    failed = Outcome(status="failed", counts=counts(0, skipped=3))
    about: dict[str, Any] = {"status": "failed", "failure": {"code": "storage_full"}}

    assert compared(submission(FILE), failed, CALM_FILE, **about) == ["results are those of a calm run"]
    assert compared(submission(FILE), failed, CALM_FILE, "storage_full", **about) == []
    assert compared(submission(FILE), failed, CALM_FILE, "other", **about) != []


def test_a_job_whose_cancel_was_promised_must_be_cancelled() -> None:
    sent = submission(cancel_tried=True, cancel_promised=True)
    cancelled = came(status="cancelled", counts=counts(0, skipped=2), predictions=None)

    assert compared(sent, cancelled, came()) == []
    assert "cancelled stays cancelled" in compared(sent, came(), came())


def test_the_part_of_a_result_that_was_cancelled_must_be_of_the_whole_one() -> None:
    sent = submission(FILE, cancel_tried=True, cancel_promised=True)
    part = Outcome(status="cancelled", counts=counts(1, skipped=2), result=b"p\n3\n")

    assert compared(sent, part, CALM_FILE) == []
    assert compared(sent, replace(part, result=b"p\n4\n"), CALM_FILE) == ["results are those of a calm run"]
    assert compared(sent, replace(part, result=b"3\np\n"), CALM_FILE) == ["results are those of a calm run"]


def test_a_job_that_was_written_twice_is_a_finding() -> None:
    assert compared(submission(), came(), came(), revision=5, attempt=2) == []
    assert compared(submission(), came(), came(), revision=5, attempt=1) == []
    assert compared(submission(), came(), came(), revision=4, attempt=1) == ["one result each"]
    assert compared(submission(), came(), came(), revision=3, attempt=2) == ["one result each"]


def test_a_job_that_does_not_end_is_a_finding() -> None:
    assert promises(check_ends([submission(seen=job())])) == []
    assert promises(check_ends([submission(seen=RUNNING)])) == ["every acknowledged job ends"]
    assert promises(check_ends([submission()])) == ["every acknowledged job ends"]


@pytest.mark.parametrize(
    ("listed", "unanswered", "expected"),
    [
        pytest.param(["job-1"], 0, [], id="exactly"),
        pytest.param([], 0, ["accepted means kept"], id="one is missing"),
        pytest.param(["job-1", "job-2"], 0, ["one key, one job"], id="one too many"),
        pytest.param(["job-1", "job-2"], 1, [], id="one whose answer was lost"),
        pytest.param(["job-1", "job-1"], 0, ["one key, one job"], id="one twice"),
    ],
)
def test_the_list_has_what_was_acknowledged(listed: list[str], unanswered: int, expected: list[str]) -> None:
    assert promises(check_list([submission()], listed, unanswered=unanswered)) == expected


@pytest.mark.parametrize(
    ("made", "after", "expected"),
    [
        pytest.param([2, 3], [3, 2, 1], [], id="one each"),
        pytest.param([2], [3, 2, 1], ["one version a training"], id="one that nobody made"),
        pytest.param([2, 2], [2, 1], ["one version a training"], id="the same twice"),
        pytest.param([2, None], [2, 1], ["one version a training"], id="a training without one"),
    ],
)
def test_a_training_makes_one_version(made: list[int | None], after: list[int], expected: list[str]) -> None:
    outcomes = [Outcome(status="succeeded", counts=counts(1), version=version) for version in made]

    assert promises(check_versions(outcomes, before=[1], after=after)) == expected


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        pytest.param([RUNNING, job()], [], id="forward"),
        pytest.param(
            [RUNNING, job(status="queued", done=False, revision=3, counts=counts(0, pending=2))], [], id="given back"
        ),
        pytest.param([job(), RUNNING], ["revisions grow", "what is final stays"], id="back from the end"),
        pytest.param([job(), job(result=None)], ["what is final stays"], id="the result vanishes"),
        pytest.param([job(), job(status="cancelled")], ["what is final stays"], id="another end"),
        pytest.param([RUNNING, RUNNING | {"revision": 1}], ["revisions grow"], id="revision runs back"),
        pytest.param([RUNNING | {"counts": counts(2) | {"total": 3}}], ["counts add up"], id="a row is missing"),
    ],
)
def test_what_readers_see_goes_forward(jobs: list[Job], expected: list[str]) -> None:
    assert promises(seen(*jobs)) == expected


def test_a_key_with_two_jobs_is_a_finding() -> None:
    ledger = Ledger()
    sent = ledger.begin("key", SMALL)

    for name in ("job-1", "job-1", "job-2"):
        ledger.acknowledge(sent, job(id=name))

    assert promises(ledger.findings) == ["one key, one job"]


def test_recovery_is_from_the_end_of_a_fault_to_the_end_of_a_job_that_came_after_it() -> None:
    fault = Injected(kind="kill", target="redis", began=0.0, ended=10.0)
    # The first was acknowledged before, the second is slower than the third.
    finished = [(9.0, 10.5), (10.1, 14.0), (11.0, 12.0)]

    (recovery,) = recoveries([fault], finished)

    assert recovery.seconds == 2.0
