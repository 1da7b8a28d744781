"""Jobs by their handle: followed, cancelled, repeated, listed, removed."""

import threading

import pytest
from foretell import Client, JobFailed, Status, StillRunning
from foretell.errors import JobFinished, JobGone, JobNotFinished, JobNotFound, NothingToRetry

from tests.models import RAISE
from tests.system.rows import LINEAR_ROWS
from tests.system.service import Barrier
from tests.wait import until


def test_a_job_is_waited_for_and_has_its_result_in_the_kind_of_its_rows(client: Client) -> None:
    job = client.submit("linear", LINEAR_ROWS, metadata={"ticket": "42"})

    assert job.wait(30).status is Status.SUCCEEDED
    assert len(job.result()) == 2
    assert job.document["metadata"] == {"ticket": "42"}
    assert job.model == "linear@1"


def test_a_job_can_be_found_again_by_its_id(client: Client) -> None:
    job_id = client.submit("linear", LINEAR_ROWS).id

    assert client.job(job_id).wait(30).succeeded


def test_the_same_key_is_the_same_job(client: Client) -> None:
    first = client.submit("linear", LINEAR_ROWS, idempotency_key="the-same-of-the-client")
    second = client.submit("linear", LINEAR_ROWS, idempotency_key="the-same-of-the-client")

    assert first.id == second.id


def test_who_does_not_want_to_wait_longer_is_told_so_and_the_job_goes_on(client: Client, barrier: Barrier) -> None:
    job = client.job(barrier.submit()["id"])

    with pytest.raises(StillRunning, match="It goes on") as raised:
        job.wait(1)

    assert raised.value.job_id == job.id
    assert not job.refresh().done
    barrier.open()
    assert job.wait(30).succeeded


def test_every_change_of_a_job_is_an_event(client: Client, barrier: Barrier) -> None:
    job = client.job(barrier.submit()["id"])
    seen = []

    for changed in job.events():
        seen.append(changed.status)
        if changed.status == Status.RUNNING:
            barrier.open()

    assert seen[-1] is Status.SUCCEEDED
    assert job.done
    assert Status.RUNNING in seen


def test_a_job_can_be_cancelled_once_and_has_no_result_then(client: Client, barrier: Barrier) -> None:
    for _ in range(2):
        barrier.hold()
    job = client.job(barrier.submit()["id"])

    assert job.cancel().wait(30).status is Status.CANCELLED
    with pytest.raises(JobFailed, match="cancelled") as raised:
        job.result()
    assert raised.value.code == "cancelled"


def test_a_job_that_is_done_is_not_cancelled(client: Client) -> None:
    with pytest.raises(JobFinished):
        client.submit("linear", LINEAR_ROWS).wait(30).cancel()


def test_failed_rows_are_named_and_can_be_tried_again(client: Client) -> None:
    job = client.submit("moody", [[1.0], [RAISE]]).wait(30)

    again = job.retry().wait(30)

    assert job.status is Status.PARTIALLY_SUCCEEDED
    assert [error["row"] for error in job.errors()] == [2]
    assert job.result() == [2.0, None]
    assert again.document["retry_of"] == job.id
    assert again.status is Status.FAILED
    with pytest.raises(NothingToRetry):
        client.submit("moody", [[1.0]]).wait(30).retry()


def test_jobs_are_listed_newest_first_page_by_page(client: Client) -> None:
    made = [client.submit("linear", LINEAR_ROWS).id for _ in range(3)]

    listed = client.jobs(model="linear", kind="predict", limit=3)

    assert [job.id for job in listed] == made[::-1]


def test_a_job_is_removed_when_it_is_done(client: Client, barrier: Barrier) -> None:
    job = client.submit("linear", LINEAR_ROWS).wait(30)

    job.delete()

    with pytest.raises(JobGone):
        job.refresh()
    with pytest.raises(JobNotFound):
        client.job("nobody")
    with pytest.raises(JobNotFinished):
        client.job(barrier.hold()["id"]).delete()


def test_waiting_asks_seldom(client: Client, barrier: Barrier) -> None:
    job = client.job(barrier.hold()["id"])
    asked = answers(client)

    with pytest.raises(StillRunning):
        job.wait(2)

    assert len(asked) < 25  # in the last second, of which a whole one cannot be waited for, every 0.1 s


def test_a_job_of_which_nothing_is_new_is_waited_for_further(client: Client, barrier: Barrier) -> None:
    job = client.job(barrier.hold()["id"])
    asked = answers(client)

    def open_then() -> None:
        until(lambda: 304 in asked, 60)
        barrier.open()

    opening = threading.Thread(target=open_then)
    opening.start()

    job.wait(60, progress=lambda _: None)

    opening.join()
    assert 304 in asked
    assert job.status is Status.SUCCEEDED


def answers(client: Client) -> list[int]:
    """The statuses of the answers that a client gets from now on."""
    seen: list[int] = []
    client._runner._http.event_hooks["response"].append(lambda response: seen.append(response.status_code))
    return seen
