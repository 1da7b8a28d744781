"""Submits that the loop answers."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.front.pipeline import Pipeline
from api.shortcut import Shortcut, SmallRequest
from shared.script import Script
from tests.integration.apis import must_pull
from tests.integration.front.clients import (
    Connection,
    Running,
    answer_all,
    do_all,
    heard,
    ids,
    is_piped,
    raw,
    signed,
    submit,
)
from tests.integration.test_shortcut import MANY, ROWS
from tests.models import register_moody
from tests.processes import RedisServer
from tests.wait import until
from worker.online import OnlineWork


def test_a_small_job_is_answered_by_the_loop_alone(running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    running.in_threads.clear()

    accepted = client.ask(submit())
    work.do(must_pull(work))
    until(lambda: heard(running, accepted.json["id"]), what="its end is heard")
    looked = client.ask(raw("GET", accepted.fields["location"]))

    assert (accepted.status, accepted.json["status"]) == (202, "queued")
    assert (looked.status, looked.json["status"]) == (200, "succeeded")
    assert client.ask(raw("GET", accepted.fields["location"])).json == looked.json
    assert running.in_threads == []


def test_a_client_waits_for_its_job_without_a_thread(running: Running, work: OnlineWork) -> None:
    client = running.connect()
    running.in_threads.clear()

    client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    answer_all(running, work)
    answer = client.answer()

    assert (answer.status, answer.json["status"]) == (200, "succeeded")
    assert answer.fields["preference-applied"] == "wait=20"
    assert running.in_threads == []


def test_rows_that_a_thread_checks_are_waited_for_without_one(running: Running, work: OnlineWork) -> None:
    client = running.connect()
    running.in_threads.clear()

    client.send(submit({**ROWS, "instances": MANY}, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    answer_all(running, work)
    answer = client.answer()

    assert (answer.status, answer.json["status"], answer.json["counts"]["total"]) == (200, "succeeded", len(MANY))
    assert running.in_threads == []


def test_who_sends_no_more_while_its_rows_are_checked_is_answered_at_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, has_ended, rows = running.connect(), threading.Event(), Shortcut.rows

    def slowly(shortcut: Shortcut, request: SmallRequest) -> Any:
        has_ended.wait(20)
        return rows(shortcut, request)

    monkeypatch.setattr(Shortcut, "rows", slowly)
    client.send(submit({**ROWS, "instances": MANY}, "Prefer: wait=30"))
    client.socket.shutdown(socket.SHUT_WR)
    until(lambda: any(each.has_ended for each in running.front.clients), what="the end of what it sends has come")
    has_ended.set()

    answer = client.answer()  # its socket waits for 20 s

    assert (answer.status, answer.json["status"]) == (202, "queued")


def test_rows_are_checked_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, checks = running.connect(), list[bytes]()
    rows = Shortcut.rows

    def noted(shortcut: Shortcut, request: SmallRequest) -> Any:
        checks.append(request.environ["CONTENT_LENGTH"])
        return rows(shortcut, request)

    monkeypatch.setattr(Shortcut, "rows", noted)

    answers = [client.ask(submit({**ROWS, "instances": [*MANY, *more]})) for more in ([], [[1.0, 2.0]])]

    assert [answer.status for answer in answers] == [202, 422]
    assert len(checks) == 2


def test_rows_that_a_thread_has_checked_are_accepted_by_a_thread_if_the_loop_cannot(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ids(running)
    monkeypatch.setattr(Pipeline, "_send", lambda *_, **__: False)
    monkeypatch.setattr(running.api.services.waiters, "_heard", -1000.0)  # so the sign has to be raised first
    running.in_threads.clear()

    wishes = [(), ("Prefer: wait=0",), ("Prefer: wait=1",)]
    answers = [running.connect().ask(submit({**ROWS, "instances": MANY}, *wish)) for wish in wishes]

    assert [answer.status for answer in answers] == [202] * 3
    assert ids(running) == [*(answer.json["id"] for answer in reversed(answers)), *before]
    assert running.in_threads == ["/jobs"] * 3


def test_many_rows_that_come_again_under_their_key_are_answered_although_they_would_be_refused_now(
    running: Running, redis_server: RedisServer
) -> None:
    body = {**ROWS, "instances": MANY, "webhook": {"url": "https://93.184.216.34/"}}
    running.api.client.post("/webhooks/secret")
    first = running.connect().ask(submit(body, "Idempotency-Key: k"))
    redis_server.client.delete(f"{running.api.services.store.keys.base}webhook_secret:default")

    again, other = (running.connect().ask(submit(body, f"Idempotency-Key: {key}")) for key in "kl")

    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert other.status == 422


def test_a_client_that_has_waited_in_vain_is_given_its_job(running: Running) -> None:
    client, began = running.connect(), time.monotonic()

    answers = [client.ask(submit(ROWS, "Prefer: wait=1")) for _ in range(2)]
    assert time.monotonic() - began >= 2

    assert [(answer.status, answer.json["status"]) for answer in answers] == [(202, "queued")] * 2
    assert len(set(ids(running))) == len(ids(running))


def test_a_client_that_hangs_up_does_not_wait_any_more(running: Running, work: OnlineWork) -> None:
    before, clients = len(ids(running)), [running.connect() for _ in range(5)]
    for client in clients:
        client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 5, what="they wait")

    for client in clients:
        client.close()

    until(lambda: running.api.services.waiters.waiting("default") == 0, 10, what="their places are free")
    until(lambda: len(ids(running)) == before + 5, what="all are accepted")
    do_all(work)
    assert {job["status"] for job in (running.api.client.get("/jobs").json or {})["jobs"]} == {"succeeded"}


def test_who_finds_no_place_to_wait_at_is_given_the_job(start: Callable[..., Running]) -> None:
    running = start(max_waiters=1)
    waiting, other = running.connect(), running.connect()
    waiting.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    answer = other.ask(submit(ROWS, "Prefer: wait=20"))

    assert (answer.status, answer.json["status"]) == (202, "queued")
    assert other.ask(submit()).status == 202


def test_a_job_that_is_deleted_while_a_client_waits_is_gone(running: Running) -> None:
    signed(running)
    before, client = ids(running), running.connect()
    client.send(submit(ROWS, "Prefer: wait=20"))
    [job_id] = until(lambda: [one for one in ids(running) if one not in before], what="it is accepted")
    assert running.api.client.post(f"/jobs/{job_id}/cancel").status_code == 202

    answer = client.answer()

    assert (answer.status, answer.json["status"]) == (200, "cancelled")


def test_a_client_that_waits_behind_another_request_and_is_cut_off_leaves_its_place(running: Running) -> None:
    signed(running)
    client = running.connect()
    client.send(submit() + submit(ROWS, "Prefer: wait=20"))
    assert client.answer().status == 202
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    until(lambda: running.api.services.waiters.waiting("default") == 0, what="its place is free")


def test_an_end_without_a_sign_answers_who_waits(running: Running) -> None:
    client = running.connect()
    client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")

    running.front.finish()

    assert client.answer().fields["connection"] == "close"
    assert not running.front._thread.is_alive()


def test_a_reply_of_redis_that_is_lost_does_not_double_a_job(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lost = ids(running), threading.Event()
    send = Pipeline.send

    def lose(pipeline: Pipeline, script: Script, arguments: tuple[Any, ...], told: Callable[[Any], None]) -> bool:
        def told_nothing(reply: Any) -> None:
            lost.set()
            told(None)

        return send(pipeline, script, arguments, told_nothing)

    monkeypatch.setattr(Pipeline, "send", lose)

    answer = running.connect().ask(submit())

    assert lost.is_set()
    assert answer.status == 202
    assert ids(running) == [answer.json["id"], *before]


def test_many_replies_that_are_lost_at_once_double_nothing(
    running: Running, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.front.pipeline.AGAIN_SECONDS", 0.01)
    before = set(ids(running))
    with ThreadPoolExecutor(8) as pool:

        def load(name: int) -> list[str]:
            client = running.connect()
            return [accepted(client, f"Idempotency-Key: {name}-{number}") for number in range(40)]

        loads = [pool.submit(load, name) for name in range(8)]
        while not all(one.done() for one in loads):
            redis_server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.02)
        told = [job_id for one in loads for job_id in one.result()]

    assert len(set(told)) == 320
    assert all_ids(running) - before == set(told)


def accepted(client: Connection, key: str) -> str:
    """The id of a job, whose submit is sent again while nobody knows what became of it."""
    while (answer := client.ask(submit(ROWS, key))).status == 503:
        pass
    assert answer.status == 202, answer
    return str(answer.json["id"])


def all_ids(running: Running) -> set[str]:
    found, page = set[str](), "/jobs?limit=100"
    while page:
        document = running.api.client.get(page).json or {}
        found |= {job["id"] for job in document["jobs"]}
        cursor = document["next"]
        page = f"/jobs?limit=100&cursor={cursor}" if cursor else ""
    return found


def test_while_redis_hangs_others_are_answered(start: Callable[..., Running], redis_server: RedisServer) -> None:
    running = start(redis_timeout_seconds=2)
    stuck, other = running.connect(), running.connect()
    redis_server.client.execute_command("CLIENT", "PAUSE", 6000, "ALL")
    began = time.monotonic()
    stuck.send(submit())

    assert other.ask(raw("GET", "/healthz")).status == 200
    answered_after = time.monotonic() - began
    answer = stuck.answer()

    assert answered_after < time.monotonic() - began
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    redis_server.client.execute_command("CLIENT", "UNPAUSE")


def test_without_redis_a_submit_is_refused_and_later_taken_again(running: Running, redis_server: RedisServer) -> None:
    redis_server.popen.kill()
    redis_server.popen.wait()
    client = running.connect()
    refused = client.ask(submit())
    assert (refused.status, refused.json["code"]) == (503, "store_unavailable")

    again = RedisServer(redis_server.settings)
    try:
        until(lambda: client.ask(submit()).status == 202, what="it takes jobs again")
        until(lambda: is_piped(running), what="the loop has a connection again")
    finally:
        again.stop()


def test_an_alias_that_moves_before_the_submit_is_followed(running: Running) -> None:
    running.connect().ask(submit())  # the API knows by now where the alias points
    register_moody(running.api.settings)
    client = running.connect()

    accepted = client.ask(submit())

    assert accepted.json["model"]["version"] == 2
    assert running.api.services.store.read(accepted.json["id"]).spec.version == 2  # type: ignore[union-attr]


def test_a_full_lane_is_refused_as_ever(start: Callable[..., Running]) -> None:
    running = start(max_waiting_jobs=2)
    client = running.connect()
    answers = [client.ask(submit()) for _ in range(4)]

    refused = answers[-1]

    assert (refused.status, refused.json["code"]) == (429, "queue_full")
    assert "retry-after" in refused.fields
    assert refused.fields["x-request-id"] == refused.json["request_id"]


def test_a_key_is_accepted_once(running: Running) -> None:
    client = running.connect()

    first, again = (client.ask(submit(ROWS, "Idempotency-Key: k")) for _ in range(2))
    other = client.ask(submit({**ROWS, "priority": "high"}, "Idempotency-Key: k"))

    assert first.json["id"] == again.json["id"]
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
