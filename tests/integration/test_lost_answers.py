"""A worker does not know whether a commit was done whose answer is lost: no result is lost then, and none left over."""

from collections.abc import Callable, Sequence
from typing import Final

import pytest

from shared.errors import StoreUnavailable
from shared.records import WORKER_LOST, Committed, Outcome
from tests.integration.apis import Api, must_pull, online_work
from tests.models import register_moody
from worker.online import OnlineWork

ROWS: Final = {"model": "moody", "instances": [[1.0], [2.0]]}


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The API, with the model; each result lies in storage."""
    api = make_api(inline_result_bytes=1)
    register_moody(api.settings)
    return api


@pytest.fixture
def work(api: Api) -> OnlineWork:
    """A worker that is this process."""
    return online_work(api)


@pytest.fixture
def lose_answer(work: OnlineWork, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first commit is done, but the worker is not told."""
    commit = work._store.commit
    lost: list[str] = []

    def losing(fence: str, outcomes: Sequence[Outcome], cpu_seconds: float) -> Committed:
        committed: Committed = commit(fence, outcomes, cpu_seconds)
        if not lost:
            lost.append(fence)
            raise StoreUnavailable
        return committed

    monkeypatch.setattr(work._store, "commit", losing)


def submit(api: Api) -> str:
    """Where a new job is."""
    response = api.client.post("/jobs", json=ROWS)
    assert response.status_code == 202, response.text
    return response.headers["Location"]


def results(api: Api) -> list[str]:
    """The results that lie in storage."""
    return [name for name in api.stored() if name.startswith("jobs/")]


@pytest.mark.usefixtures("lose_answer")
def test_a_result_in_storage_is_kept(api: Api, work: OnlineWork) -> None:
    places = [submit(api) for _ in range(3)]

    work.do(must_pull(work))

    assert [(api.client.get(f"{place}/result").json or {})["predictions"] for place in places] == [[2.0, 4.0]] * 3
    assert len(results(api)) == len(places)


@pytest.mark.usefixtures("lose_answer")
def test_of_a_job_that_was_cancelled_nothing_is_kept(api: Api, work: OnlineWork) -> None:
    place = submit(api)
    unit = must_pull(work)
    assert api.client.post(f"{place}/cancel").status_code == 202

    work.do(unit)

    assert (api.client.get(place).json or {})["status"] == "cancelled"
    assert results(api) == []


def test_of_an_attempt_that_lost_its_lease_nothing_is_kept(api: Api, work: OnlineWork) -> None:
    place = submit(api)
    first = must_pull(work)
    api.services.store.release(first.fence, WORKER_LOST)
    work.do(must_pull(work))
    kept = results(api)

    work.do(first)

    assert results(api) == kept
    assert (api.client.get(f"{place}/result").json or {})["predictions"] == [2.0, 4.0]


def test_what_another_worker_has_under_the_same_attempt_is_kept(api: Api, work: OnlineWork) -> None:
    place = submit(api)
    first = must_pull(work)
    api.services.store.release(first.fence, WORKER_LOST, counts=False)  # or a failover forgot that it was pulled
    work.do(must_pull(work))

    work.do(first)

    assert (api.client.get(place).json or {})["attempt"] == 1
    assert (api.client.get(f"{place}/result").json or {})["predictions"] == [2.0, 4.0]


def test_a_file_that_nobody_may_come_to_need_is_removed(api: Api, work: OnlineWork) -> None:
    place = submit(api)
    unit = must_pull(work)
    api.services.store.release(unit.fence, WORKER_LOST, last=True)

    work.do(unit)

    assert (api.client.get(place).json or {})["status"] == "failed"
    assert results(api) == []
