"""The first look at a small job is answered by what its process heard of its end, and says the same as Redis does."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from flask.testing import FlaskClient

from api import expected, waiters
from shared.announcement import Announcement, load_announcement
from shared.errors import StoreUnavailable
from shared.job import Job
from shared.records import WORKER_LOST
from tests.integration.apis import Api, must_pull, online_work
from tests.models import RAISE, register_moody
from tests.wait import until
from worker.online import OnlineWork

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
    "a result that lies in storage": {"instances": [[1.0]] * 2000},
}
KEPT_SECONDS: Final = 50.0


@pytest.fixture
def api(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API, with the model; it is told of ends, and keeps them as long as a test may take."""
    monkeypatch.setattr(expected, "KEPT_SECONDS", KEPT_SECONDS)
    api = make_api(inline_result_bytes=5000)
    register_moody(api.settings)
    submit(api.client)
    until(lambda: signed(api))
    return api


def signed(api: Api) -> bool:
    """Whether the sign is up under which ends are announced."""
    return bool(api.services.store.connections.client.exists(api.services.store.keys.awaited))


@pytest.fixture
def work(api: Api) -> OnlineWork:
    """A worker that is this process."""
    return online_work(api)


def submit(client: FlaskClient, body: dict[str, Any] | None = None) -> str:
    """Where a new job is."""
    response = client.post("/jobs", json={"model": "moody", **(body or BODIES["rows"])})
    assert response.status_code == 202, response.text
    return response.headers["Location"]


def do(work: OnlineWork, *, between: Callable[[], object] = lambda: None) -> None:
    """Do a micro-batch that waits."""
    unit = must_pull(work)
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


@pytest.mark.parametrize("name", BODIES)
def test_the_first_look_says_what_the_second_does(name: str, api: Api, work: OnlineWork, reads: list[str]) -> None:
    client = api.client_of("ann")
    place = submit(client, BODIES[name])
    do(work)
    until(lambda: heard(api, place))

    first = client.get(place)
    assert reads == []
    second = client.get(place)
    assert len(reads) == 1

    assert first.status_code == 200
    assert (first.json or {})["done"]
    assert first.data == second.data
    assert {**first.headers, "X-Request-Id": ""} == {**second.headers, "X-Request-Id": ""}


def test_the_second_attempt_is_told_as_such(api: Api, work: OnlineWork) -> None:
    do(work)
    place = submit(api.client)
    unit = must_pull(work)
    api.services.store.release(unit.fence, WORKER_LOST)
    do(work)
    until(lambda: heard(api, place))

    first, second = api.client.get(place), api.client.get(place)

    assert (first.json or {})["attempt"] == 2
    assert first.data == second.data


def test_a_job_that_is_cancelled_while_it_runs(api: Api, work: OnlineWork) -> None:
    place = submit(api.client)
    do(work, between=lambda: api.client.post(f"{place}/cancel"))
    until(lambda: heard(api, place))

    first, second = api.client.get(place), api.client.get(place)

    assert (first.json or {})["status"] == "cancelled"
    assert first.data == second.data


def test_large_results_are_not_told(api: Api, work: OnlineWork) -> None:
    do(work)
    places = [submit(api.client, {"instances": [[1.0]] * 1000}) for _ in range(5)]
    do(work)
    after = submit(api.client)
    do(work)
    until(lambda: heard(api, after))

    assert not any(heard(api, place) for place in places)
    assert {(api.client.get(place).json or {})["status"] for place in places} == {"succeeded"}


@pytest.mark.parametrize(("seconds", "kept"), [(1, False), (60, True)])
def test_a_job_that_soon_expires_is_not_kept(seconds: int, kept: bool, api: Api) -> None:
    place = submit(api.client, {**BODIES["rows"], "result_ttl_seconds": seconds})

    assert (place.removeprefix("/jobs/") in api.services.waiters.expected._jobs) == kept


def test_another_owner_sees_nothing(api: Api, work: OnlineWork) -> None:
    place = submit(api.client_of("ann"))
    other = api.client_of("bob")
    do(work)
    until(lambda: heard(api, place))

    assert other.get(place).status_code == 404
    assert heard(api, place)


def test_who_waits_is_told_the_same(
    api: Api, work: OnlineWork, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    do(work)
    monkeypatch.setattr(api.services.store, "read_many", lambda *_, **__: {})
    body = {"model": "moody", **BODIES["some rows that fail"]}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.client.post, "/jobs", json=body, headers={"Prefer": "wait=10"})
        until(lambda: api.services.store.lane_length("moody", 1)[0])
        do(work)
    answer = waiting.result()

    assert answer.status_code == 200
    assert reads == []
    assert (answer.json or {}) == api.client.get(answer.headers["Location"]).json


@pytest.mark.parametrize("answered", [True, False])
def test_a_job_that_was_deleted_here_is_gone(
    answered: bool, api: Api, work: OnlineWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = submit(api.client)
    do(work)
    until(lambda: heard(api, place))
    monkeypatch.setattr(api.services.waiters, "_hear", lambda message: None)  # nor need this process hear of it
    delete = api.services.store.delete

    def deleted(job_id: str, **about: Any) -> bool:
        stored = delete(job_id, **about)
        if not answered:
            raise StoreUnavailable
        return stored

    monkeypatch.setattr(api.services.store, "delete", deleted)
    assert api.client.delete(place).status_code == (204 if answered else 503)

    assert api.client.get(place).status_code == 410


def test_a_job_that_another_process_deleted_is_gone(api: Api, work: OnlineWork, make_api: MakeApi) -> None:
    place = submit(api.client)
    do(work)
    until(lambda: heard(api, place))

    assert make_api().client.delete(place).status_code == 204
    until(lambda: not heard(api, place), KEPT_SECONDS / 2)
    assert api.client.get(place).status_code == 410


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": '"1"'}, {"Prefer": "wait=1"}], ids=str)
def test_what_was_read_is_not_kept(
    headers: dict[str, str], api: Api, work: OnlineWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = submit(api.client)
    with monkeypatch.context() as patch:
        patch.setattr(api.services.waiters, "_hear", lambda message: None)  # as if it came later
        do(work)
        assert (api.client.get(place, headers=headers).json or {})["done"]

    assert place.removeprefix("/jobs/") not in api.services.waiters.expected._jobs


def test_a_process_that_lost_its_connection_keeps_nothing(api: Api, work: OnlineWork) -> None:
    place = submit(api.client)
    do(work)
    until(lambda: heard(api, place))

    api.services.store.connections.client.client_kill_filter(_type="pubsub")

    until(lambda: not heard(api, place), KEPT_SECONDS / 2)


def test_a_process_that_stops_keeps_nothing(api: Api, work: OnlineWork) -> None:
    place = submit(api.client)
    do(work)
    until(lambda: heard(api, place))

    api.services.waiters.end()

    until(lambda: not heard(api, place), KEPT_SECONDS / 2)
    assert submit(api.client).removeprefix("/jobs/") not in api.services.waiters.expected._jobs


def test_only_so_many_are_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "MOST", 2)

    places = [submit(api.client) for _ in range(3)]

    assert [f"/jobs/{job_id}" for job_id in api.services.waiters.expected._jobs] == places[1:]


def test_what_is_not_looked_at_is_forgotten_and_nothing_announced_for_it(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "SIGN_SECONDS", 3)
    monkeypatch.setattr(expected, "KEPT_SECONDS", 2.5)
    api = make_api()
    register_moody(api.settings)
    submit(api.client)

    until(lambda: signed(api))
    until(lambda: not api.services.waiters.expected)
    until(lambda: not signed(api))


def test_of_a_message_of_another_release_the_ids_are_taken() -> None:
    assert load_announcement(b"d one two") == Announcement(kind="d", job_ids=["one", "two"], ends={})
    assert load_announcement(b"d one two \n2 anything\nat all") == Announcement(
        kind="d", job_ids=["one", "two"], ends={}
    )


def test_an_older_release_takes_the_ids_of_our_message(api: Api, work: OnlineWork) -> None:
    store = api.services.store
    with store.connections.subscription(store.keys.changes, 1.0) as messages:
        ids = [submit(api.client).removeprefix("/jobs/") for _ in range(2)]
        do(work)
        heard = (message or b"" for message in itertools.islice(messages, 30))
        message = next((message for message in heard if message.startswith(b"d ")), b"")

    assert b"\n1 " in message
    assert set(ids) <= set(message.decode().split(" "))  # as that one does
