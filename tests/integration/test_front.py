"""The event loop before the web server: what it answers itself, what it hands on, and that nothing is lost."""

import errno
import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pytest
from werkzeug.serving import BaseWSGIServer, make_server

from api.front.client import MOST_AHEAD_BYTES, Client, Phase
from api.front.loop import Front
from api.front.pipeline import Pipeline
from api.front.small_jobs import SmallJobs
from shared.job import Status
from shared.script import Script
from tests.integration.apis import Api, must_pull, online_work
from tests.integration.test_shortcut import REQUESTS, ROWS, VARYING, Sent
from tests.kept import short_folder
from tests.models import register_moody
from tests.processes import RedisServer
from tests.wait import until
from worker.online import OnlineWork

MakeApi = Callable[..., Api]
UNKNOWN: Final = "/jobs/01a219cb-5970-7a73-9416-705b08a22ab8"
# More is announced there than comes.
CUT_OFF: Final = {"rows that are cut off", "rows that are announced to be endless"}
# What servers add of themselves.
OWN_FIELDS: Final = {"server", "date", "connection"}


class Answer(NamedTuple):
    """What is told of an answer."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)


class Connection:
    """A client's connection, over which bytes are sent as they are."""

    def __init__(self, front: "Running") -> None:
        self.socket = socket.create_connection(("127.0.0.1", front.port), timeout=20)
        self._read = self.socket.makefile("rb")  # one for all answers, as several may come at once

    def send(self, data: bytes) -> None:
        """Send."""
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        status = int(self._read.readline().split()[1])
        fields = {name.lower(): value for name, value in http.client.parse_headers(self._read).items()}
        has_body = method != "HEAD" and status not in (204, 304)
        return Answer(status, fields, self._read.read(int(fields["content-length"])) if has_body else b"")

    def close(self) -> None:
        """Hang up."""
        self._read.close()
        self.socket.close()

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        """The answer to one request."""
        self.send(data)
        return self.answer(method)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A front of the application in this process, before another web server of the same."""

    api: Api
    front: Front
    port: int
    server: BaseWSGIServer  # the other one
    serving: threading.Thread  # which closes the server's socket when it ends
    path: str  # of its socket
    in_threads: list[str]  # the paths of what was not answered by the loop alone
    connections: ExitStack

    def connect(self) -> Connection:
        """A new client."""
        connection = Connection(self)
        self.connections.callback(connection.close)
        return connection


def submit(body: Mapping[str, Any] = ROWS, *fields: str) -> bytes:
    """A submit as it is sent."""
    return raw("POST", "/jobs", json.dumps(body).encode(), "Content-Type: application/json", *fields)


def raw(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    """A request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", *fields]
    if not any(field.startswith("Host:") for field in fields):
        lines.append("Host: localhost")
    if body and not any(field.startswith("Content-Length:") for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def start(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Start a front, with settings of one's own."""
    in_threads: list[str] = []
    in_thread = SmallJobs._in_thread

    def noted(jobs: SmallJobs, client: Client, environ: Any) -> None:
        in_threads.append(environ["PATH_INFO"])
        in_thread(jobs, client, environ)

    monkeypatch.setattr(SmallJobs, "_in_thread", noted)
    monkeypatch.setattr("api.access.REMEMBER_SECONDS", 3600.0)  # whose look at Redis is a thread's
    with ExitStack() as stack:

        def begin(**values: Any) -> Running:
            path = str(stack.enter_context(short_folder()) / "api")
            api = make_api(**values)
            port = api.settings.port
            register_moody(api.settings)
            server = make_server(f"unix://{path}", 0, api.app, threaded=True)
            serving = threading.Thread(target=server.serve_forever)
            front = Front(api.app, path.encode())
            serving.start()
            stack.callback(serving.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            front.start()
            stack.callback(front.finish)
            connections = stack.enter_context(ExitStack())
            until(lambda: answers(port), what="the front listens")
            running = Running(
                api=api,
                front=front,
                port=port,
                server=server,
                serving=serving,
                path=path,
                in_threads=in_threads,
                connections=connections,
            )
            until(lambda: is_piped(running), what="the loop has its connection to Redis")
            in_threads.clear()
            return running

        yield begin


def answers(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def is_piped(running: Running) -> bool:
    """Whether a submit is answered by the loop alone."""
    before = len(running.in_threads)
    assert running.connect().ask(submit()).status == 202
    return len(running.in_threads) == before


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A front as by default."""
    return start()


@pytest.fixture
def work(running: Running) -> OnlineWork:
    """A worker that is this process, which has done what there was."""
    work = online_work(running.api)
    do_all(work)
    return work


def do_all(work: OnlineWork) -> None:
    """Do what waits."""
    while (unit := work.pull("test", linger_seconds=0, answered=False, lane="")) is not None:
        work.do(unit)


def ids(running: Running) -> list[str]:
    """All jobs that there are, the newest first."""
    return [job["id"] for job in (running.api.client.get("/jobs?limit=100").json or {})["jobs"]]


def signed(running: Running) -> None:
    """See to it that ends are announced."""
    store = running.api.services.store
    until(lambda: bool(store.connections.client.exists(store.keys.awaited)), what="ends are announced")


def test_a_small_job_is_answered_by_the_loop_alone(running: Running, work: OnlineWork) -> None:
    signed(running)
    client = running.connect()
    running.in_threads.clear()

    accepted = client.ask(submit())
    work.do(must_pull(work))
    until(lambda: heard(running, accepted.json["id"]), what="its end is heard")
    looked = client.ask(raw("GET", accepted.fields["location"]))

    assert running.in_threads == []
    assert (accepted.status, accepted.json["status"]) == (202, "queued")
    assert (looked.status, looked.json["status"]) == (200, "succeeded")
    again = client.ask(raw("GET", accepted.fields["location"]))
    assert again.json == looked.json
    assert running.in_threads == [accepted.fields["location"]]


def heard(running: Running, job_id: str) -> bool:
    """Whether the end of a job is kept for the first look."""
    expected = running.api.services.waiters.expected
    return job_id in expected._jobs and expected.awaits(job_id, "default") is None


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


def test_a_client_waits_for_its_job_without_a_thread(running: Running, work: OnlineWork) -> None:
    signed(running)
    first = running.connect()
    first.send(submit(ROWS, "Prefer: wait=20"))  # for which the sign that somebody waits may have to be raised
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    running.in_threads.clear()
    client = running.connect()

    client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 2, what="it waits")
    do_all(work)
    answer = client.answer()

    assert (answer.status, answer.json["status"]) == (200, "succeeded")
    assert answer.fields["preference-applied"] == "wait=20"
    assert first.answer().json["status"] == "succeeded"
    assert running.in_threads == []
    assert running.api.services.waiters.waiting("default") == 0


def test_a_client_that_has_waited_in_vain_is_given_its_job(running: Running) -> None:
    client = running.connect()

    answers = [client.ask(submit(ROWS, "Prefer: wait=1")) for _ in range(2)]

    assert [(answer.status, answer.json["status"]) for answer in answers] == [(202, "queued")] * 2
    assert len(set(ids(running))) == len(ids(running))


def test_a_client_that_hangs_up_does_not_wait_any_more(running: Running, work: OnlineWork) -> None:
    before, clients = len(ids(running)), [running.connect() for _ in range(5)]
    for client in clients:
        client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 5, what="they wait")

    for client in clients:
        client.close()

    until(lambda: running.api.services.waiters.waiting("default") == 0, what="their places are free")
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


def test_a_job_that_is_deleted_while_a_client_waits_is_gone(running: Running) -> None:
    signed(running)
    client = running.connect()
    client.send(submit(ROWS, "Prefer: wait=20"))
    until(lambda: running.api.services.waiters.waiting("default") == 1, what="it waits")
    job_id = ids(running)[0]
    assert running.api.client.post(f"/jobs/{job_id}/cancel").status_code == 202

    answer = client.answer()

    assert (answer.status, answer.json["status"]) == (200, "cancelled")


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


def phases(running: Running) -> list[Phase]:
    """What the open connections are at."""
    return [client.phase for client in running.front.clients]


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


@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - CUT_OFF))
def test_each_request_is_answered_as_by_the_web_server_alone(name: str, running: Running) -> None:
    sent = REQUESTS[name]
    place = running.connect().ask(submit()).fields["location"]
    request = as_bytes(sent, place)

    answer = running.connect().ask(request, sent.method)

    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(20)
        other.connect(running.path)
        other.sendall(request)
        response = http.client.HTTPResponse(other, method=sent.method)
        response.begin()
        fields = {field.lower(): value for field, value in response.getheaders()}
        assert compared(answer) == compared(Answer(response.status, fields, response.read()))


def as_bytes(sent: Sent, place: str) -> bytes:
    fields = [f"{name}: {value}" for name, value in sent.headers.items()]
    if sent.body is not None and "Content-Type" not in sent.headers:
        fields.append("Content-Type: application/json")
    if sent.body == b"":
        fields.append("Content-Length: 0")
    return raw(sent.method, sent.path.format(job=place, gone=UNKNOWN), sent.body or b"", *fields)


def compared(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What can be compared."""
    fields = {
        name: re.sub(VARYING, b"*", value.encode()).decode()
        for name, value in answer.fields.items()
        if name not in OWN_FIELDS
    }
    return answer.status, fields, VARYING.sub(b"*", answer.body)


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


def test_many_replies_that_are_lost_at_once_double_nothing(running: Running, redis_server: RedisServer) -> None:
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
