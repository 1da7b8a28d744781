"""The first look at a small job is answered by what its process heard of its end, and says the same as Redis does."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from celery import Celery
from flask.testing import FlaskClient

from api import expected
from shared.announcement import Announcement, load_announcement
from shared.job import Job
from shared.queue import ONLINE
from tests.integration.apis import Api
from tests.models import RAISE, register_moody
from tests.wait import until
from worker.drain import worker_name
from worker.services import build_services
from worker.stopping import Stopping

MakeApi = Callable[..., Api]
BODIES: Final[dict[str, dict[str, Any]]] = {
    "rows": {"instances": [[1.0], [2.0]]},
    "with all that a client may say": {
        "instances": [[1.0]],
        "metadata": {"a": "\n ünï *1\r\n"},
        "priority": "high",
        "deadline_seconds": 60,
        "result_ttl_seconds": 60,
    },
    "a row that fails": {"instances": [[RAISE]]},
    "some rows that fail": {"instances": [[1.0], [RAISE], [2.0]]},
    "more than is told": {"instances": [[1.0]] * 5000},
    "more than Redis keeps": {"instances": [[1.0]] * 10_000},
}


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """The API, with the model; it is told of ends."""
    api = make_api(inline_result_bytes=50_000)
    register_moody(api.settings)
    be_told(api)
    return api


def be_told(api: Api) -> None:
    """Submit something, and wait until the sign is up under which ends are announced."""
    submit(api.client)
    until(lambda: api.services.store.connections.client.exists(api.services.store.keys.awaited))


@pytest.fixture
def work(api: Api) -> Any:
    """A worker that is this process."""
    return build_services(api.settings, Celery("test"), Stopping(), [ONLINE]).drainers[ONLINE]._work


def submit(client: FlaskClient, body: dict[str, Any] | None = None) -> str:
    """Where a new job is."""
    response = client.post("/jobs", json={"model": "moody", **(body or BODIES["rows"])})
    assert response.status_code == 202, response.text
    return response.headers["Location"]


def do_all(work: Any, *, between: Callable[[], object] = lambda: None) -> None:
    """Do what waits, one micro-batch after the other."""
    while unit := work.pull(worker_name(), linger_seconds=0, answered=False, lane=""):
        between()
        work.do(unit)


def heard(api: Api, place: str) -> bool:
    """Whether the end of a job was heard, and is kept."""
    kept = api.services.waiters.expected._jobs.get(place.removeprefix("/jobs/"))
    return kept is not None and kept.end is not None


@pytest.fixture
def reads(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of jobs that were read from Redis for somebody."""
    ids: list[str] = []
    read = api.services.store.read

    def noted(job_id: str, **about: Any) -> Job | None:
        ids.append(job_id)
        return read(job_id, **about)

    monkeypatch.setattr(api.services.store, "read", noted)
    return ids


@pytest.mark.parametrize("name", [name for name in BODIES if not name.startswith("more")])
def test_the_first_look_says_what_the_second_does(name: str, api: Api, work: Any, reads: list[str]) -> None:
    client = api.client_of("ann")
    place = submit(client, BODIES[name])
    do_all(work)
    until(lambda: heard(api, place))

    first = client.get(place)
    assert reads == []
    second = client.get(place)
    assert len(reads) == 1

    assert first.status_code == 200
    assert (first.json or {})["done"]
    assert first.data == second.data
    assert {**first.headers, "X-Request-Id": ""} == {**second.headers, "X-Request-Id": ""}


@pytest.mark.parametrize("name", [name for name in BODIES if name.startswith("more")])
def test_large_results_are_not_told(name: str, api: Api, work: Any) -> None:
    place = submit(api.client, BODIES[name])
    after = submit(api.client)
    do_all(work)
    until(lambda: heard(api, after) or api.services.waiters.expected._jobs.get(after.removeprefix("/jobs/")) is None)

    assert not heard(api, place)
    assert (api.client.get(place).json or {})["status"] == "succeeded"


@pytest.mark.parametrize(("seconds", "kept"), [(1, False), (60, True)])
def test_a_job_that_soon_expires_is_not_kept(seconds: int, kept: bool, api: Api) -> None:
    place = submit(api.client, {**BODIES["rows"], "result_ttl_seconds": seconds})

    assert (place.removeprefix("/jobs/") in api.services.waiters.expected._jobs) == kept


def test_a_job_that_is_cancelled_while_it_runs(api: Api, work: Any) -> None:
    place = submit(api.client)
    do_all(work, between=lambda: api.client.post(f"{place}/cancel"))
    until(lambda: heard(api, place))

    first, second = api.client.get(place), api.client.get(place)

    assert (first.json or {})["status"] == "cancelled"
    assert first.data == second.data


def test_another_owner_sees_nothing(api: Api, work: Any) -> None:
    place = submit(api.client_of("ann"))
    other = api.client_of("bob")
    do_all(work)
    until(lambda: heard(api, place))

    assert other.get(place).status_code == 404
    assert heard(api, place)


def test_who_waits_is_told_the_same(api: Api, work: Any) -> None:
    job_id, read = submit(api.client, BODIES["some rows that fail"]).removeprefix("/jobs/"), api.services.store.read
    before = read(job_id)
    assert before is not None
    with api.services.waiters.watch(job_id, told=True) as watch:
        assert watch is not None
        do_all(work)
        assert watch.next(30, before.spec) == read(job_id)


def test_a_job_that_was_deleted_here_is_gone(api: Api, work: Any) -> None:
    place = submit(api.client)
    do_all(work)
    until(lambda: heard(api, place))

    assert api.client.delete(place).status_code == 204
    assert api.client.get(place).status_code == 410


def test_a_job_that_another_process_deleted_is_gone(api: Api, work: Any, make_api: MakeApi) -> None:
    place = submit(api.client)
    do_all(work)
    until(lambda: heard(api, place))

    assert make_api().client.delete(place).status_code == 204
    until(lambda: not heard(api, place))
    assert api.client.get(place).status_code == 410


def test_what_is_not_looked_at_is_forgotten_and_nothing_announced_for_it(
    api: Api, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected, "KEPT_SECONDS", 0.1)
    place = submit(api.client)
    do_all(work)

    until(lambda: not api.services.waiters.expected)
    assert (api.client.get(place).json or {})["status"] == "succeeded"
    until(lambda: not api.services.store.connections.client.exists(api.services.store.keys.awaited))


def test_of_a_message_of_another_release_the_ids_are_taken() -> None:
    assert load_announcement(b"d one two") == Announcement(kind="d", job_ids=["one", "two"], ends={})
    assert load_announcement(b"d one two \n2 anything\nat all") == Announcement(
        kind="d", job_ids=["one", "two"], ends={}
    )
