"""What is about the moment is tried again, and done once."""

import threading
from typing import Any

import httpx
import pytest
from foretell import Client, Status, Unreachable
from foretell.errors import QueueFull, StoreUnavailable, Unauthorized, problem_of
from foretell.flow import Request
from foretell.retry import RetryPolicy

from tests.chaos.network import Link
from tests.processes import free_port
from tests.system.rows import LINEAR_ROWS
from tests.system.service import Barrier, Service, kill_all
from tests.wait import until


def api_processes(service: Service) -> list[Any]:
    return [process for process in service.members() if process.name() == "api"]


def test_jobs_are_waited_for_while_the_api_is_killed_and_comes_back(service: Service, barrier: Barrier) -> None:
    with Client(service.address, retries=20) as client:
        job = client.job(barrier.hold()["id"])
        waiting = threading.Thread(target=job.wait)
        waiting.start()
        killed = api_processes(service)

        kill_all(killed)
        made = client.predict("linear", LINEAR_ROWS)
        barrier.open()
        waiting.join(60)

    assert killed
    assert len(made) == 2
    assert job.status is Status.SUCCEEDED
    until(service.ready, 60, "the service is whole again")


def test_a_service_that_refuses_connections_for_a_while_is_asked_again(far_client: Client, link: Link) -> None:
    link.refuse()
    healed = threading.Timer(0.5, link.heal)
    healed.start()

    made = far_client.predict("linear", LINEAR_ROWS)

    healed.join()
    assert len(made) == 2


def test_events_go_on_after_the_stream_was_cut(far_client: Client, link: Link, barrier: Barrier) -> None:
    job = far_client.job(barrier.hold()["id"])
    statuses = []

    for changed in job.events():
        statuses.append(changed.status)
        if len(statuses) == 1:
            link.cut()
            barrier.open()

    assert statuses[-1] is Status.SUCCEEDED


def test_a_rollback_whose_answer_is_lost_goes_back_once(far_client: Client, link: Link) -> None:
    for version in (1, 2, 3):
        if version > len(far_client.model("scaler")["versions"]):
            push_scaler(far_client)
        far_client.promote("scaler", version)
    armed = threading.Event()
    original = far_client._runner._http.request

    def lose_the_answer(**request: Any) -> httpx.Response:
        if request["url"].endswith("/rollback") and not armed.is_set():
            armed.set()
            link.truncate(1)
        return original(**request)

    far_client._runner._http.request = lose_the_answer  # type: ignore[method-assign,assignment]

    state = far_client.rollback("scaler", why="tried")

    assert armed.is_set()
    assert link.truncations_left == 0
    assert state["version"] == 2
    assert far_client.model("scaler")["aliases"]["production"] == 2


def push_scaler(client: Client) -> None:
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    rows = np.array([[1.0, 2.0], [3.0, 5.0]])
    client.push("scaler", StandardScaler().fit(rows), rows)


def test_nobody_there_is_said_with_the_address() -> None:
    port = free_port()

    with (
        Client(f"http://127.0.0.1:{port}", retries=1) as client,
        pytest.raises(Unreachable, match=f":{port}") as raised,
    ):
        client.models()

    assert "tried 2 times" in str(raised.value)
    assert isinstance(raised.value, ConnectionError)


def test_nothing_is_tried_again_beyond_the_time_that_a_call_may_take() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", retries=1000) as client,
        pytest.raises(Unreachable) as raised,
    ):
        client.predict("linear", LINEAR_ROWS, timeout=0)

    assert "tried once" in str(raised.value)


AGAIN = RetryPolicy(retries=3, first_seconds=1.0, longest_seconds=4.0)
GET = Request(method="GET", path="/")
ONCE = Request(method="POST", path="/", repeatable=False)
FULL = QueueFull("full", status=429, retry_after_seconds=7.0)
AWAY = StoreUnavailable("away", status=503, retry_after_seconds=None)


@pytest.mark.parametrize(
    ("request_", "error", "again"),
    [
        (GET, FULL, True), (ONCE, FULL, True), (GET, AWAY, True), (ONCE, AWAY, False),
        (GET, httpx.ReadError("cut"), True), (ONCE, httpx.ReadError("cut"), False),
        (ONCE, httpx.ConnectError("refused"), True), (GET, problem_of(500, b""), False),
        (GET, problem_of(502, b"<html>"), True), (GET, Unauthorized("no", status=401), False),
        (Request(method="GET", path="/readyz", insist=False), AWAY, False),
    ],
)  # fmt: skip
def test_only_what_may_be_done_again_is(request_: Request, error: Exception, again: bool) -> None:
    assert AGAIN.may_repeat(request_, error, 1) is again
    assert not AGAIN.may_repeat(request_, error, 4)


def test_pauses_grow_and_are_no_shorter_than_the_service_asks_for() -> None:
    pauses = [[AGAIN.pause_seconds(attempt, AWAY) for _ in range(50)] for attempt in (1, 2, 3, 4)]

    for most, drawn in zip((1.0, 2.0, 4.0, 4.0), pauses, strict=True):
        assert most / 2 <= min(drawn) < max(drawn) <= most
    assert AGAIN.pause_seconds(1, FULL) == 7.0
    assert AGAIN.pause_seconds(1, QueueFull("full", status=429, retry_after_seconds=3600.0)) == 120.0
