"""Looks at jobs that the loop answers."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.waiters import Waiters
from tests.integration.apis import must_pull, online_work
from tests.integration.front.clients import Connection, Running, answer_all, do_all, heard, raw, signed, submit
from tests.integration.test_shortcut import ROWS
from tests.processes import RedisServer
from tests.wait import until
from worker.online import OnlineWork


def test_a_look_at_a_job_that_is_about_to_be_done_waits_for_it(start: Callable[..., Running]) -> None:
    running = start(poll_patience_seconds=10)
    work = online_work(running.api)
    do_all(work)
    signed(running)
    client = running.connect()
    accepted = client.ask(submit())
    running.in_threads.clear()

    client.send(raw("GET", accepted.fields["location"]))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    work.do(must_pull(work))

    assert client.answer().json["status"] == "succeeded"
    assert running.in_threads == []
    assert running.api.services.waiters.waiting("default") == 0


def test_a_look_at_a_job_whose_end_is_too_much_to_be_told_reads_it(start: Callable[..., Running]) -> None:
    running = start(poll_patience_seconds=10)
    work = online_work(running.api)
    do_all(work)
    signed(running)
    client = running.connect()
    accepted = client.ask(submit({"model": "moody", "instances": [[1.0]] * 6_000}))
    work.do(must_pull(work))
    expected = running.api.services.waiters.expected
    until(lambda: expected.awaits(accepted.json["id"], "default") is None, what="its end is heard of")
    began = time.monotonic()

    looked = client.ask(raw("GET", accepted.fields["location"]))

    assert looked.json["status"] == "succeeded"
    assert time.monotonic() - began < 10  # it did not wait for what it has missed


def test_a_look_does_not_wait_for_long(running: Running) -> None:
    client = running.connect()
    accepted = client.ask(submit())

    assert client.ask(raw("GET", accepted.fields["location"])).json["status"] == "queued"


def test_a_look_that_reads_needs_no_thread(running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    work.do(must_pull(work))
    running.in_threads.clear()

    first, again = (client.ask(raw("GET", place)) for _ in range(2))
    known = client.ask(raw("GET", place, b"", f"If-None-Match: {again.fields['etag']}"))
    other = client.ask(raw("GET", place, b"", 'If-None-Match: "999"'))

    assert first.json == again.json == other.json
    assert (again.status, again.json["status"]) == (200, "succeeded")
    assert (known.status, known.fields["etag"], known.fields["retry-after"]) == (304, again.fields["etag"], "1")
    assert running.in_threads == []


def test_a_job_of_another_process_that_is_about_to_be_done_is_waited_for(start: Callable[..., Running]) -> None:
    running = start(poll_patience_seconds=10)
    work = online_work(running.api)
    do_all(work)  # so its pace is known
    signed(running)
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    running.api.services.waiters.expected.forget_all()
    running.in_threads.clear()

    client.send(raw("GET", place))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    work.do(must_pull(work))

    assert client.answer().json["status"] == "succeeded"
    assert running.in_threads == []
    assert running.api.services.waiters.waiting("default") == 0


@pytest.mark.parametrize("expected", [True, False], ids=["of this process", "of another"])
def test_a_look_that_waits_holds_no_thread(expected: bool, running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    if not expected:
        running.api.services.waiters.expected.forget_all()
    running.in_threads.clear()

    client.send(raw("GET", place, b"", "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    work.do(must_pull(work))

    answer = client.answer()
    assert (answer.status, answer.json["status"]) == (200, "succeeded")
    assert running.in_threads == []
    assert running.api.services.waiters.waiting("default") == 0


def test_a_look_that_waits_hears_of_a_job_that_was_done_before(running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    places = [client.ask(submit()).fields["location"] for _ in range(2)]
    do_all(work)
    until(lambda: heard(running, places[1].rpartition("/")[2]), what="it is heard")
    running.api.services.waiters.expected.forget((places[0].rpartition("/")[2],))

    assert [client.ask(raw("GET", place, b"", "Prefer: wait=20")).json["status"] for place in places] == [
        "succeeded"
    ] * 2


def test_a_look_that_waits_reads_of_an_end_that_was_not_announced(
    running: Running, work: OnlineWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = running.api.services.store
    monkeypatch.setattr(Waiters, "_be_heard", lambda waiters: None)
    monkeypatch.setattr("api.waiters.READ_ALL_SECONDS", 3600.0)
    monkeypatch.setattr("api.expected.KEPT_SECONDS", 60.0)
    client = running.connect()
    store.connections.client.delete(store.keys.awaited)
    accepted = client.ask(submit())
    do_all(work)
    assert running.api.services.waiters.expected.awaits(accepted.json["id"], "default") is not None

    client.send(raw("GET", accepted.fields["location"], b"", "Prefer: wait=60"))

    assert client.answer().json["status"] == "succeeded"  # and not only after 60 s, for which nobody waits here


def test_a_look_waits_for_another_revision(running: Running, work: OnlineWork) -> None:
    client, other = running.connect(), running.connect()
    queued = client.ask(submit())
    place, fields = queued.fields["location"], ("Prefer: wait=20", f'If-None-Match: "{queued.json["revision"]}"')
    running.in_threads.clear()
    other.send(raw("GET", place, b"", *fields))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="the other waits")

    client.send(raw("GET", place, b"", *fields))
    until(lambda: running.api.services.waiters.waiting("default") == 2, what="it waits")
    waiters = running.api.services.waiters
    with waiters.stream(queued.json["id"]):  # for which it is read whatever is known
        waiters._deliver(None, every_change=True)  # as it is done every few seconds
    client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)  # nothing has changed
    client.socket.settimeout(20)
    do_all(work)

    assert [one.answer().json["revision"] > queued.json["revision"] for one in (client, other)] == [True, True]
    assert running.in_threads == []
    assert running.api.services.waiters.waiting("default") == 0


def test_a_look_that_has_waited_in_vain(running: Running) -> None:
    client = running.connect()
    queued = client.ask(submit())
    place, revision = queued.fields["location"], queued.json["revision"]

    began = time.monotonic()
    end = client.ask(raw("GET", place, b"", "Prefer: wait=1"))
    change = client.ask(raw("GET", place, b"", "Prefer: wait=1", f'If-None-Match: "{revision}"'))

    assert time.monotonic() - began >= 2

    assert (end.status, end.json["status"]) == (200, "queued")
    assert (change.status, change.fields["etag"]) == (304, f'"{revision}"')


def test_a_look_that_finds_no_place_to_wait_at_is_answered_at_once(start: Callable[..., Running]) -> None:
    running = start(max_waiters=1)
    waiting, client = running.connect(), running.connect()
    place = client.ask(submit()).fields["location"]
    waiting.send(raw("GET", place, b"", "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    answer = client.ask(raw("GET", place, b"", "Prefer: wait=30"))  # for longer than anybody waits for it here

    assert (answer.status, answer.json["status"]) == (200, "queued")


def test_a_wait_does_not_begin_anew_where_the_read_after_it_fails(
    running: Running, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters = running.api.services.waiters
    client = running.connect()
    queued = client.ask(submit())
    client.send(raw("GET", queued.fields["location"], b"", "Prefer: wait=2"))
    until(lambda: waiters.waiting("default") == 1, what="it waits")
    redis_server.client.script_flush()
    running.in_threads.clear()
    monkeypatch.setattr(waiters, "watch", None)  # nobody may wait once more

    answer = client.answer()

    assert (answer.status, answer.json["status"]) == (200, "queued")
    assert running.in_threads == [queued.fields["location"]]


def test_who_asks_is_looked_up_without_a_thread_that_waits(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(max_waiting_threads=1)
    gate = running.front._shortcut._gate
    place = running.connect().ask(submit()).fields["location"]
    clients = [running.connect() for _ in range(20)]
    running.in_threads.clear()

    for number, client in enumerate(clients):
        monkeypatch.setattr(gate, "_without_keys_until", 0.0)  # as it is once a second
        client.send(raw("GET", place, b"", "Prefer: wait=20") if number % 2 else submit(ROWS, "Prefer: wait=20"))

    until(lambda: running.api.services.waiters.waiting("default") == 20, what="all wait")
    assert running.in_threads == []


def test_a_place_is_given_back_before_the_next_request_wants_it(start: Callable[..., Running]) -> None:
    running = start(max_waiters=1)
    work, client = online_work(running.api), running.connect()
    done, waits = (client.ask(submit()).fields["location"] for _ in range(2))
    assert running.api.client.post(f"{done}/cancel").status_code == 202
    running.api.services.waiters.expected.forget_all()

    client.send(raw("GET", done, b"", "Prefer: wait=20") + raw("GET", waits, b"", "Prefer: wait=20"))
    assert client.answer().json["status"] == "cancelled"
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="the second waits")
    answer_all(running, work)

    assert client.answer().json["status"] == "succeeded"


def test_more_clients_than_threads_may_wait(start: Callable[..., Running]) -> None:
    running = start(max_waiting_threads=1)
    work = online_work(running.api)
    do_all(work)
    place = running.connect().ask(submit()).fields["location"]
    clients = [running.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(raw("GET", place, b"", "Prefer: wait=20") if number % 2 else submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 50, what="they wait")

    answer_all(running, work)

    assert {client.answer().json["status"] for client in clients} == {"succeeded"}


def test_a_client_that_hangs_up_on_a_look_gives_its_place_back(running: Running) -> None:
    place = running.connect().ask(submit()).fields["location"]
    clients = [running.connect() for _ in range(5)]
    for client in clients:
        client.send(raw("GET", place, b"", "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 5, what="they wait")

    for client in clients:
        client.close()

    until(lambda: running.api.services.waiters.waiting("default") == 0, 10, what="their places are free")


def test_who_sends_no_more_is_answered_with_what_is_known(running: Running) -> None:
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    client.send(raw("GET", place, b"", "Prefer: wait=30"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    client.socket.shutdown(socket.SHUT_WR)

    assert client.answer().json["status"] == "queued"


def test_a_large_result_is_read(running: Running, work: OnlineWork) -> None:
    accepted = running.api.client.post("/jobs", json={"model": "moody", "instances": [[1.0]] * 10_000})
    do_all(work)
    running.in_threads.clear()

    looked = running.connect().ask(raw("GET", accepted.headers["Location"]))

    assert running.in_threads == []
    assert len(looked.json["result"]["predictions"]) == 10_000


def test_an_owner_sees_no_job_of_another(running: Running) -> None:
    place = running.connect().ask(submit()).fields["location"]
    with_key = f"Authorization: {running.api.client_of('bob').environ_base['HTTP_AUTHORIZATION']}"
    client = running.connect()

    looks = [
        client.ask(raw("GET", place, b"", with_key, *fields))
        for fields in ((), ("Prefer: wait=1",), ('If-None-Match: "1"',), ("Prefer: wait=1", 'If-None-Match: "1"'))
    ]

    assert [(look.status, look.json["code"]) for look in looks] == [(404, "job_not_found")] * 4


def test_a_look_at_a_job_that_is_deleted_meanwhile(running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    do_all(work)
    assert running.api.client.delete(place).status_code == 204
    until(lambda: not heard(running, place.rpartition("/")[2]), what="that is heard")

    answers = [client.ask(raw("GET", place, b"", *fields)) for fields in ((), ("Prefer: wait=1",))]

    assert [(answer.status, answer.json["code"]) for answer in answers] == [(410, "job_gone")] * 2


def test_looks_whose_replies_are_lost_are_answered_all_the_same(
    running: Running, work: OnlineWork, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.front.pipeline.AGAIN_SECONDS", 0.01)
    place = running.connect().ask(submit()).fields["location"]
    with ThreadPoolExecutor(8) as pool:

        def look(number: int) -> list[str]:
            client, fields = running.connect(), ["Prefer: wait=2"] if number % 2 else []
            return [seen(client, raw("GET", place, b"", *fields)) for _ in range(40)]

        looks = [pool.submit(look, number) for number in range(8)]
        for _ in range(20):
            redis_server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.02)
        do_all(work)
        assert {status for one in looks for status in one.result()} <= {"queued", "running", "succeeded"}

    assert seen(running.connect(), raw("GET", place)) == "succeeded"
    until(lambda: running.api.services.waiters.waiting("default") == 0, what="all places are free")


def seen(client: Connection, data: bytes) -> str:
    """The status of a job, asked for until there is an answer."""
    while (answer := client.ask(data)).status == 503:
        pass
    assert answer.status == 200, answer
    return str(answer.json["status"])


def test_the_end_of_the_process_answers_looks_that_wait(running: Running) -> None:
    client = running.connect()
    place = client.ask(submit()).fields["location"]
    client.send(raw("GET", place, b"", "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    running.api.services.stopping.begin()

    answer = client.answer()
    assert (answer.status, answer.json["status"], answer.fields["connection"]) == (200, "queued", "close")
