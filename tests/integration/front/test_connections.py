"""What the loop does with connections: whatever is sent on them, and however they end."""

import errno
import socket
import time
from collections.abc import Callable

import pytest

from api.front.client import MOST_AHEAD_BYTES, Phase
from shared.job import Status
from tests.integration.front.clients import (
    Running,
    answers,
    ids,
    phases,
    raw,
    submit,
)
from tests.integration.test_shortcut import ROWS
from tests.kept import short_folder
from tests.wait import until


def test_requests_that_come_at_once_are_answered_in_order(running: Running) -> None:
    client = running.connect()
    client.send(b"".join(submit({**ROWS, "metadata": {"n": number}}) for number in range(50)) + raw("GET", "/healthz"))

    assert [client.answer().json["metadata"]["n"] for _ in range(50)] == list(range(50))
    assert client.answer().status == 200


def test_a_request_may_come_in_pieces(running: Running) -> None:
    client = running.connect()
    request = submit()
    for at in range(0, len(request), 7):
        client.send(request[at : at + 7])
        time.sleep(0.001)

    assert client.answer().status == 202


def test_a_request_that_does_not_come_whole_is_handed_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.front.loop.PATIENCE_SECONDS", 0.1)
    running.connections.close()
    client = running.connect()
    request = submit()
    client.send(request[:-5])
    until(lambda: phases(running) == [Phase.TUNNEL], what="it is granian's")
    client.send(request[-5:])

    answer = client.answer()

    assert answer.status == 202
    assert "server" in answer.fields  # which the loop does not say


def test_what_comes_after_the_last_request_is_not_done(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.front.loop.PATIENCE_SECONDS", 0.1)
    running.connections.close()
    before, client = len(ids(running)), running.connect()

    client.send(submit(ROWS, "Connection: close") + submit())
    assert client.answer().status == 202
    until(lambda: not phases(running), what="it is closed")

    assert len(ids(running)) == before + 1


def test_a_client_that_does_not_read_is_not_answered_any_more(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.front.loop.PATIENCE_SECONDS", 0.1)
    place = running.connect().ask(submit({**ROWS, "metadata": {"a": "x" * 3_000}})).fields["location"]
    running.connections.close()
    client = running.connect()
    client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.send(raw("GET", place) * 1_000_000)

    (open_one,) = running.front.clients
    until(lambda: open_one.full, what="it takes no more")
    time.sleep(0.5)  # in which it would be handed over
    assert open_one.full
    assert len(open_one._buffer) <= MOST_AHEAD_BYTES + 2**18
    assert open_one._transport.get_write_buffer_size() < 2**20

    impatient = running.api.settings.model_copy(update={"stuck_client_seconds": 0.1})
    monkeypatch.setattr(running.front, "_settings", impatient)
    until(lambda: not phases(running), 10, what="it is hung up on")


def test_a_client_of_granian_that_does_not_read_is_sent_no_more(running: Running) -> None:
    running.connections.close()
    client = running.connect()
    client.send(raw("GET", "/openapi.json"))
    until(lambda: phases(running) == [Phase.TUNNEL], what="it is granian's")
    (open_one,) = running.front.clients
    tunnel = open_one._tunnel
    assert tunnel is not None

    running.front._loop.call_soon_threadsafe(open_one.pause_writing)
    until(lambda: tunnel._transport is not None and not tunnel._transport.is_reading(), what="granian is not read")
    running.front._loop.call_soon_threadsafe(open_one.resume_writing)

    assert client.answer().status == 200


def test_granian_that_has_ended_without_a_sign_is_said_to_be_away(running: Running) -> None:
    client = running.connect()
    assert client.ask(submit()).status == 202
    running.server.shutdown()
    running.serving.join()

    answer = client.ask(raw("GET", "/models"))

    assert (answer.status, answer.fields["connection"]) == (503, "close")
    assert client.socket.recv(1) == b""
    until(lambda: not answers(running.port), what="nobody listens")
    assert running.api.services.stopping.begun


def test_a_granian_that_does_not_read_is_sent_no_more(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.connections.close()
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "deaf"))
        deaf.listen()
        monkeypatch.setattr(running.front, "address", str(folder / "deaf").encode())
        client = running.connect()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send(raw("POST", "/files", b"x" * 100_000_000))

        (open_one,) = running.front.clients
        tunnel = open_one._tunnel
        assert tunnel is not None
        assert tunnel._transport is not None
        assert tunnel._transport.get_write_buffer_size() < 2**20
        client.close()
    until(lambda: not phases(running), what="it is gone with granian's side")


def test_a_process_with_too_many_open_files_says_so_and_goes_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(address: bytes) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    client = running.connect()
    with monkeypatch.context() as patch:
        patch.setattr("api.front.tunnel.connected", refused)
        answer = client.ask(raw("GET", "/models"))

    assert (answer.status, answer.fields["connection"]) == (503, "close")
    assert running.connect().ask(raw("GET", "/models")).status == 200
    assert not running.api.services.stopping.begun


def test_after_another_request_the_same_connection_goes_on(running: Running) -> None:
    client = running.connect()

    assert client.ask(submit()).status == 202
    assert client.ask(raw("GET", "/models")).status == 200
    again = running.connect()
    again.send(submit() + raw("GET", "/jobs?limit=1") + submit())
    assert [again.answer().status for _ in range(2)] == [202, 200]


def test_large_bodies_and_answers_pass(running: Running) -> None:
    rows = [[float(number)] for number in range(9_000)]
    client = running.connect()

    answer = client.ask(submit({"model": "moody", "instances": rows}))

    assert (answer.status, answer.json["counts"]["total"]) == (202, 9_000)


def test_a_client_that_wants_no_further_answer_is_hung_up_on(running: Running) -> None:
    client = running.connect()

    assert client.ask(submit(ROWS, "Connection: close")).status == 202
    assert client.socket.recv(1) == b""


def test_a_client_that_sends_no_more_is_answered_all_the_same(running: Running) -> None:
    client = running.connect()
    client.send(submit() * 2)
    client.socket.shutdown(socket.SHUT_WR)

    assert [client.answer().status for _ in range(2)] == [202, 202]
    assert client.socket.recv(1) == b""


def test_idle_connections_are_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client = running.connect()
    assert client.ask(submit()).status == 202

    monkeypatch.setattr("api.front.loop.IDLE_SECONDS", 0.1)

    assert client.socket.recv(1) == b""


def test_connections_past_the_limit_wait_for_others_to_end(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    monkeypatch.setattr(running.front.clients, "_most", 2)
    running.connections.close()
    until(lambda: not list(running.front.clients), what="all have ended")
    first, second, third = (running.connect() for _ in range(3))
    assert first.ask(submit()).status == second.ask(submit()).status == 202
    third.send(submit())
    third.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        third.socket.recv(1)
    third.socket.settimeout(20)

    first.close()

    assert third.answer().status == 202


def test_the_end_of_the_process_is_told_and_awaited(running: Running) -> None:
    idle, waiting = running.connect(), running.connect()
    accepted = idle.ask(submit())
    waiting.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    running.api.services.stopping.begin()

    answer = waiting.answer()
    assert (answer.status, answer.json["status"]) == (202, Status.QUEUED)
    assert answer.fields["connection"] == "close"
    assert idle.ask(raw("GET", accepted.fields["location"])).fields["connection"] == "close"
    until(lambda: not answers(running.port), what="nobody listens")
    running.front.finish()
    assert not running.front._thread.is_alive()
