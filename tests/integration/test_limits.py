"""What an owner may send, store and hold at a time, through the API in this process."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.keys import Keys
from tests.integration.apis import Api
from tests.models import register_moody
from tests.processes import RedisServer, clean_environment
from tests.wait import until

MakeApi = Callable[..., Api]
CSV = b"x\n" + b"1\n" * 499
TYPE = {"Content-Type": "text/csv"}
ONNX = {"Content-Type": "application/onnx", "Prefer": "wait=0"}
PLAN = '"upload-bytes";q=1000;w=86400;qu="content-bytes"'


def limit_of(answer: TestResponse) -> str:
    """The limit for which a request was refused."""
    document = answer.json or {}
    assert (answer.status_code, document["code"]) == (429, "limit_reached"), answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 120
    return str(document["errors"][0]["code"])


def never_for(answer: TestResponse) -> str:
    """The limit for which a request was refused for good: to wait for room would not help."""
    document = answer.json or {}
    assert (answer.status_code, "Retry-After" in answer.headers) == (422, False), answer.text
    (fault,) = document["errors"]
    assert "can never be accepted" in document["detail"]
    assert f"FORETELL_OWNER_{fault['code'].upper()}" in document["detail"]
    return str(fault["code"])


def chunked(client: FlaskClient, body: Any, path: str = "/files?format=csv") -> TestResponse:
    """Send a file without saying how long it is, as a web server hands it on; gzip says itself where it ends."""
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    environ = {"wsgi.input": stream, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post(path, content_type="application/vnd.apache.parquet", environ_overrides=environ)


def parquet_like(size: int) -> bytes:
    """Bytes that may come without a length, since they say themselves whether they are whole."""
    return b"PAR1" + b"\0" * (size - 8) + b"PAR1"


def nothing_is_left(api: Api, redis_server: RedisServer) -> bool:
    """Whether no trace of an upload is left."""
    return not api.stored() and not redis_server.client.exists(Keys("foretell").uploads)


class Held(io.RawIOBase):
    """A body that goes on only when it is told to."""

    def __init__(self) -> None:
        self.blocks: SimpleQueue[bytes] = SimpleQueue()
        self.asked = threading.Event()
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.asked.set()
        block = self.blocks.get(timeout=60)
        buffer[: len(block)] = block
        self.given += len(block)
        return len(block)


# Bytes of a day


def test_a_file_that_is_larger_than_what_is_left_of_the_day_is_refused_before_it_is_read(
    make_api: MakeApi, redis_server: RedisServer
) -> None:
    api = make_api(owner_upload_bytes_per_day=1999)
    file_id = (api.client.post("/files", data=CSV, headers=TYPE).json or {})["id"]
    api.client.delete(f"/files/{file_id}")
    body = Held()

    answer = api.client.post("/files", content_type="text/csv", environ_overrides={
        "wsgi.input": body, "CONTENT_LENGTH": "1000", "HTTP_EXPECT": "100-continue",
    })  # fmt: skip

    assert limit_of(answer) == "upload_bytes_per_day"
    assert body.given == 0
    assert "UTC" in (answer.json or {})["detail"]
    assert api.used(api.client)["upload_bytes_per_day"] == 1000
    assert nothing_is_left(api, redis_server)


def test_as_much_as_the_day_has_may_be_sent(make_api: MakeApi) -> None:
    api = make_api(owner_upload_bytes_per_day=1000)

    answer = api.client.post("/files", data=CSV, headers=TYPE)

    assert len(CSV) == 1000
    assert answer.status_code == 201
    assert answer.headers["RateLimit-Policy"] == PLAN
    name, left, seconds = answer.headers["RateLimit"].split(";")
    assert (name, left) == ('"upload-bytes"', "r=0")
    assert 1 <= int(seconds.removeprefix("t=")) <= 86_400
    assert limit_of(api.client.post("/files", data=b"x", headers=TYPE)) == "upload_bytes_per_day"


def test_a_file_of_unknown_length_is_cut_off_where_the_day_ends(make_api: MakeApi, redis_server: RedisServer) -> None:
    most = 3 * 2**20
    api = make_api(owner_upload_bytes_per_day=most)
    body = io.BytesIO(parquet_like(8 * 2**20))

    answer = chunked(api.client, body)

    assert never_for(answer) == "upload_bytes_per_day"
    assert answer.headers["RateLimit"].startswith('"upload-bytes";r=0;')
    assert nothing_is_left(api, redis_server)
    assert api.used(api.client)["upload_bytes_per_day"] == most


def test_a_file_of_unknown_length_counts_with_what_came_of_it(make_api: MakeApi) -> None:
    api = make_api(owner_upload_bytes_per_day=100 * 2**20)

    answer = chunked(api.client, parquet_like(5 * 2**20 + 17), "/files?format=parquet")

    assert answer.status_code == 201, answer.text
    assert api.used(api.client)["upload_bytes_per_day"] == 5 * 2**20 + 17
    assert f";r={95 * 2**20 - 17};" in answer.headers["RateLimit"]


def test_an_upload_that_breaks_off_counts_with_what_came_of_it(make_api: MakeApi, redis_server: RedisServer) -> None:
    api = make_api(owner_upload_bytes_per_day=10_000)

    answer = api.client.post("/files", content_type="text/csv", environ_overrides={
        "wsgi.input": io.BytesIO(CSV), "wsgi.input_terminated": True, "CONTENT_LENGTH": "5000",
    })  # fmt: skip

    assert (answer.json or {})["code"] == "incomplete_body"
    assert api.used(api.client)["upload_bytes_per_day"] == len(CSV)
    assert nothing_is_left(api, redis_server)


ROUTES: dict[str, tuple[str, Callable[[], Any], dict[str, str]]] = {
    "file": ("/files", lambda: CSV, TYPE),
    "file-in-a-form": ("/files", lambda: {"file": (io.BytesIO(CSV), "a.csv")}, {}),
    "job": ("/jobs?model=moody", lambda: CSV, TYPE),
    "job-in-a-form": ("/jobs", lambda: {"job": '{"model": "moody"}', "file": (io.BytesIO(CSV), "a.csv")}, {}),
    "retrain": ("/models/moody/retrain?target=y", lambda: b"x,y\n" + b"1,2\n" * 249, TYPE),
    "artifact": ("/models/own/versions", lambda: b"\x08" + b"\0" * 999, ONNX),
    "artifact-in-a-form": (
        "/models/own/versions",
        lambda: {"artifact": (io.BytesIO(b"\x08" + b"\0" * 999), "a.onnx")},
        {"Prefer": "wait=0"},
    ),
}


@pytest.mark.parametrize(("path", "data", "headers"), ROUTES.values(), ids=ROUTES)
def test_every_route_that_takes_files_counts_their_bytes(
    make_api: MakeApi, path: str, data: Callable[[], Any], headers: dict[str, str]
) -> None:
    api = make_api(owner_upload_bytes_per_day=10_000)
    register_moody(api.settings)

    answer = api.client.post(path, data=data(), headers=headers)

    assert answer.status_code in (201, 202), answer.text
    sent = api.used(api.client)["upload_bytes_per_day"]
    # A form has some bytes beside its files.
    assert sent == 1000 if isinstance(data(), bytes) else 1000 < sent < 1600
    assert f";r={10_000 - sent};" in answer.headers["RateLimit"]


@pytest.mark.parametrize(("path", "data", "headers"), ROUTES.values(), ids=ROUTES)
def test_no_route_takes_a_file_beyond_the_day(
    make_api: MakeApi, redis_server: RedisServer, path: str, data: Callable[[], Any], headers: dict[str, str]
) -> None:
    api = make_api(owner_upload_bytes_per_day=999)
    register_moody(api.settings)
    before = api.stored()

    answer = api.client.post(path, data=data(), headers=headers)

    assert never_for(answer) == "upload_bytes_per_day"
    assert api.stored() == before
    assert not redis_server.client.exists(Keys("foretell").uploads)


def test_rows_in_a_request_are_no_file(make_api: MakeApi) -> None:
    api = make_api(owner_upload_bytes_per_day=1)
    register_moody(api.settings)

    answer = api.client.post("/jobs", json={"model": "moody", "instances": [[1.0]]})

    assert answer.status_code == 202, answer.text
    assert "RateLimit" not in answer.headers


def test_the_next_day_begins_at_nothing(make_api: MakeApi, redis_server: RedisServer) -> None:
    api = make_api(owner_upload_bytes_per_day=1000)
    api.client.post("/files", data=CSV, headers=TYPE)
    redis_server.client.hincrby(Keys("foretell").sent("default"), "day", -1)

    assert api.used(api.client)["upload_bytes_per_day"] == 0
    assert api.client.post("/files", data=CSV, headers=TYPE).status_code == 201


def test_each_owner_has_a_day_of_its_own(make_api: MakeApi) -> None:
    api = make_api(owner_upload_bytes_per_day=1000)
    first, second = api.client_of("team-a"), api.client_of("team-b")
    first.post("/files", data=CSV, headers=TYPE)

    assert limit_of(first.post("/files", data=CSV, headers=TYPE)) == "upload_bytes_per_day"
    assert second.post("/files", data=CSV, headers=TYPE).status_code == 201


def test_a_day_without_a_limit_is_not_counted(make_api: MakeApi, redis_server: RedisServer) -> None:
    api = make_api()

    answer = api.client.post("/files", data=CSV, headers=TYPE)

    assert "RateLimit" not in answer.headers
    assert api.used(api.client)["upload_bytes_per_day"] is None
    assert not redis_server.client.exists(Keys("foretell").sent("default"))


# Bytes in storage


@pytest.mark.parametrize(
    ("most", "had", "refused_for"),
    [
        pytest.param(1999, 1000, limit_of, id="now"),
        pytest.param(999, 0, never_for, id="ever"),
    ],
)
def test_a_file_for_which_storage_has_no_room_is_refused_before_it_is_read(
    make_api: MakeApi, redis_server: RedisServer, most: int, had: int, refused_for: Callable[[TestResponse], str]
) -> None:
    api = make_api(owner_stored_bytes=most)
    redis_server.client.hset(Keys("foretell").usage("default"), "bytes", had)
    body = Held()

    answer = api.client.post("/files", content_type="text/csv", environ_overrides={
        "wsgi.input": body, "CONTENT_LENGTH": "1000", "HTTP_EXPECT": "100-continue",
    })  # fmt: skip

    assert refused_for(answer) == "stored_bytes"
    assert body.given == 0
    assert nothing_is_left(api, redis_server)


@pytest.mark.parametrize("how", ["chunked", "form"])
def test_a_file_that_turns_out_to_have_no_room_is_refused_at_its_end(
    make_api: MakeApi, redis_server: RedisServer, how: str
) -> None:
    api = make_api(owner_stored_bytes=999)

    if how == "chunked":
        answer = chunked(api.client, parquet_like(1000))
    else:
        answer = api.client.post("/files", data={"file": (io.BytesIO(CSV), "a.csv")})

    assert never_for(answer) == "stored_bytes"
    assert nothing_is_left(api, redis_server)
    assert api.used(api.client)["stored_bytes"] == 0


def test_storage_has_room_again_when_a_file_is_deleted(make_api: MakeApi) -> None:
    api = make_api(owner_stored_bytes=1500)
    file_id = (api.client.post("/files", data=CSV, headers=TYPE).json or {})["id"]

    assert limit_of(api.client.post("/files", data=CSV, headers=TYPE)) == "stored_bytes"
    assert api.used(api.client)["stored_bytes"] == 1000
    api.client.delete(f"/files/{file_id}")
    assert api.used(api.client)["stored_bytes"] == 0
    assert api.client.post("/files", data=CSV, headers=TYPE).status_code == 201


@pytest.mark.parametrize("name", ["job", "job-in-a-form", "retrain", "artifact", "artifact-in-a-form"])
def test_a_job_whose_file_storage_has_no_room_for_is_refused(
    make_api: MakeApi, redis_server: RedisServer, name: str
) -> None:
    path, data, headers = ROUTES[name]
    api = make_api(owner_stored_bytes=999)
    register_moody(api.settings)
    before = api.stored()

    answer = api.client.post(path, data=data(), headers=headers)

    assert never_for(answer) == "stored_bytes"
    assert api.stored() == before
    assert not redis_server.client.exists(Keys("foretell").uploads)


def test_a_job_over_a_file_takes_no_room_a_second_time(make_api: MakeApi) -> None:
    api = make_api(owner_stored_bytes=1000)
    register_moody(api.settings)
    file_id = (api.client.post("/files", data=CSV, headers=TYPE).json or {})["id"]

    answer = api.client.post("/jobs", json={"model": "moody", "input": {"file_id": file_id}})

    assert answer.status_code == 202, answer.text
    assert api.used(api.client)["stored_bytes"] == 1000


# At a time


@contextmanager
def sending(client: FlaskClient) -> Iterator[None]:
    """A file is being sent meanwhile, and comes to its end then."""
    body = Held()
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(CSV))}
    answers: SimpleQueue[TestResponse] = SimpleQueue()
    thread = threading.Thread(
        target=lambda: answers.put(client.post("/files", content_type="text/csv", environ_overrides=environ))
    )
    thread.start()
    try:
        assert body.asked.wait(60)
        yield
    finally:
        body.blocks.put(CSV)
        body.blocks.put(b"")
        thread.join(60)
    assert answers.get(timeout=60).status_code == 201


def test_an_owner_sends_so_many_files_at_a_time(make_api: MakeApi) -> None:
    api = make_api(owner_uploads=1)
    first, second = api.client_of("team-a"), api.client_of("team-b")

    with sending(first):
        refused = first.post("/files", data=CSV, headers=TYPE)
        other = second.post("/files", data=CSV, headers=TYPE)
        used = api.used(first)["uploads"]

    assert limit_of(refused) == "uploads"
    assert (other.status_code, used) == (201, 1)


def test_an_upload_that_has_ended_makes_room_for_another(make_api: MakeApi) -> None:
    api = make_api(owner_uploads=1)
    answers = [api.client.post("/files", data=data, headers=TYPE) for data in (CSV, b"", CSV)]
    broken = api.client.post("/files", content_type="text/csv", environ_overrides={
        "wsgi.input": io.BytesIO(CSV), "wsgi.input_terminated": True, "CONTENT_LENGTH": "5000",
    })  # fmt: skip

    assert [answer.status_code for answer in (*answers, broken)] == [201, 422, 201, 400]
    assert api.used(api.client)["uploads"] == 0


def queued_job(api: Api, client: FlaskClient) -> str:
    """A job that nobody works on."""
    answer = client.post("/jobs", json={"model": "moody", "instances": [[1.0]]})
    assert answer.status_code == 202, answer.text
    return str((answer.json or {})["id"])


def test_an_owner_has_so_many_event_streams(make_api: MakeApi) -> None:
    api = make_api(owner_event_streams=1)
    register_moody(api.settings)
    first, second = api.client_of("team-a"), api.client_of("team-b")
    mine, theirs = queued_job(api, first), queued_job(api, second)

    with first.get(f"/jobs/{mine}/events") as opened:
        refused = first.get(f"/jobs/{mine}/events")
        used = api.used(first)["event_streams"]
        with second.get(f"/jobs/{theirs}/events") as other:
            assert (opened.status_code, other.status_code) == (200, 200)

    assert limit_of(refused) == "event_streams"
    assert used == 1
    with first.get(f"/jobs/{mine}/events") as again:
        assert again.status_code == 200


def test_a_client_too_many_that_waits_gets_the_job_as_it_is(make_api: MakeApi) -> None:
    api = make_api(owner_waiters=1)
    register_moody(api.settings)
    first, second = api.client_of("team-a"), api.client_of("team-b")
    job_id = queued_job(api, first)
    answers: SimpleQueue[TestResponse] = SimpleQueue()

    def wait(client: FlaskClient, job_id: str) -> threading.Thread:
        def run() -> None:
            answers.put(client.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30"}))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    waiting = wait(first, job_id)
    until(lambda: api.used(first)["waiters"] == 1, what="the first one waits")
    at_once = first.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30"})
    submitted = first.post("/jobs", json={"model": "moody", "instances": [[1.0]]}, headers={"Prefer": "wait=30"})
    other = wait(second, queued_job(api, second))
    until(lambda: api.used(second)["waiters"] == 1, what="another owner's waits too")
    stored = api.stored()
    doors = [
        first.post(path, json=body)
        for path, body in (
            ("/invocations?model=moody", {"inputs": [[1.0]]}),
            ("/v2/models/moody/infer", {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}]}),
        )
    ]
    csv = first.post("/invocations?model=moody", data=b"x\n1\n", content_type="text/csv")
    jobs = len((first.get("/jobs").json or {})["jobs"])
    still = waiting.is_alive()
    api.services.waiters.end()
    waiting.join(60)
    other.join(60)

    assert still
    assert (at_once.status_code, (at_once.json or {})["status"]) == (200, "queued")
    assert (submitted.status_code, (submitted.json or {})["status"]) == (202, "queued")
    # Where only the outcome is an answer there is none, and nothing is left of what came.
    assert [limit_of(answer) for answer in (*doors, csv)] == ["waiters"] * 3
    assert (jobs, api.stored()) == (2, stored)
    assert [answers.get().status_code for _ in range(2)] == [200, 200]
    assert [api.used(client)["waiters"] for client in (first, second)] == [0, 0]


# What is told


def test_an_owner_is_told_what_it_may_use_and_uses(make_api: MakeApi) -> None:
    api = make_api(owner_waiting_jobs=10, owner_requests_per_second=500, owner_stored_bytes=10_000)
    register_moody(api.settings)
    client = api.client_of("team-a", {"waiting_jobs": 20})
    client.post("/jobs", json={"model": "moody", "instances": [[1.0], [2.0]]})
    client.post("/files", data=CSV, headers=TYPE)

    document = client.get("/limits").json or {}

    assert document["owner"] == "team-a"
    assert document["limits"] == {
        "requests_per_second": 500, "waiting_jobs": 20, "waiting_rows": 0, "stored_bytes": 10_000,
        "upload_bytes_per_day": 0, "uploads": 0, "waiters": 0, "event_streams": 0, "models": 0,
    }  # fmt: skip
    assert 1 <= document["used"].pop("requests_per_second") <= 3
    assert document["used"] == {
        "waiting_jobs": 1, "waiting_rows": 2, "stored_bytes": 1000, "upload_bytes_per_day": None, "uploads": 0,
        "waiters": 0, "event_streams": 0, "models": 0,
    }  # fmt: skip


def test_nobody_is_told_what_another_owner_uses(make_api: MakeApi) -> None:
    api = make_api()
    register_moody(api.settings)
    queued_job(api, api.client_of("team-a"))

    assert api.used(api.client_of("team-b"))["waiting_jobs"] == 0


@pytest.mark.parametrize(
    ("limits", "instances", "limit"),
    [
        pytest.param({"waiting_jobs": 1}, [[1.0]], "waiting_jobs", id="jobs"),
        pytest.param({"waiting_rows": 3}, [[1.0], [2.0]], "waiting_rows", id="rows"),
    ],
)
def test_a_job_too_many_is_refused(
    make_api: MakeApi, limits: dict[str, int], instances: list[list[float]], limit: str
) -> None:
    api = make_api()
    register_moody(api.settings)
    client = api.client_of("team-a", limits)
    body = {"model": "moody", "instances": instances}

    first, second = (client.post("/jobs", json=body) for _ in range(2))

    assert first.status_code == 202
    assert limit_of(second) == limit
    client.post(f"/jobs/{(first.json or {})['id']}/cancel")
    assert client.post("/jobs", json=body).status_code == 202


def test_a_job_of_more_rows_than_its_owner_may_have_is_refused_for_good(make_api: MakeApi) -> None:
    api = make_api(owner_waiting_rows=1)
    register_moody(api.settings)

    answer = api.client.post("/jobs", json={"model": "moody", "instances": [[1.0], [2.0]]})

    assert never_for(answer) == "waiting_rows"
    assert (answer.json or {})["code"] == "too_many_instances"


# Limits of keys


def test_a_key_is_made_with_limits_of_its_own_over_http(make_api: MakeApi) -> None:
    api = make_api(owner_waiting_jobs=100)
    admin = api.client_of("team-a")
    wanted = {"name": "k", "owner": "team-b", "scopes": ["jobs:read"], "limits": {"waiting_jobs": 10, "waiters": 0}}

    made = admin.post("/keys", json=wanted)

    document = made.json or {}
    assert (made.status_code, document["limits"]) == (201, {"waiting_jobs": 10, "waiters": 0})
    shown = api.client.get("/limits", headers={"Authorization": f"Bearer {document['key']}"}).json or {}
    assert (shown["owner"], shown["limits"]["waiting_jobs"], shown["limits"]["waiters"]) == ("team-b", 10, 0)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"jobs": 1}, id="unknown"),
        pytest.param({"waiting_jobs": -1}, id="negative"),
        pytest.param({"waiting_jobs": 1.5}, id="fraction"),
        pytest.param({"waiting_jobs": "1"}, id="text"),
        pytest.param({"waiting_jobs": True}, id="truth"),
        pytest.param({"waiting_jobs": None}, id="null"),
        pytest.param({"waiting_jobs": 2**53}, id="too-large"),
    ],
)
def test_a_key_cannot_be_made_with_a_limit_that_is_none(make_api: MakeApi, limits: dict[str, Any]) -> None:
    answer = make_api().client.post("/keys", json={"name": "k", "scopes": ["admin"], "limits": limits})

    (fault,) = (answer.json or {})["errors"]
    assert (answer.status_code, fault["code"], fault["pointer"]) == (422, "bad_limit", f"/limits/{next(iter(limits))}")


def test_a_key_is_made_with_limits_of_its_own_on_the_server(make_api: MakeApi) -> None:
    api = make_api(owner_waiting_jobs=100)
    command = ["keys", "create", "k", "--owner", "team-b", "--scope", "jobs:read"]

    made = subprocess.run(
        [sys.executable, "-m", "deploy", *command, "--limit", "waiting_jobs=10", "--limit", "uploads=2"],
        env=clean_environment(api.settings), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert made.returncode == 0, made.stderr
    (key,) = api.services.api_keys.all()
    assert dict(key.limits) == {"waiting_jobs": 10, "uploads": 2}
    assert "waiting_jobs 10, uploads 2" in made.stdout


@pytest.mark.parametrize("given", ["jobs=1", "waiting_jobs", "waiting_jobs=-1", "waiting_jobs=many"])
def test_the_command_refuses_a_limit_that_is_none(make_api: MakeApi, given: str) -> None:
    api = make_api()
    command = ["keys", "create", "k", "--scope", "jobs:read", "--limit", given]

    made = subprocess.run(
        [sys.executable, "-m", "deploy", *command], env=clean_environment(api.settings), capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert made.returncode != 0
    assert f"argument --limit: {given} is no limit" in made.stderr or "whole number" in made.stderr
    assert api.services.api_keys.all() == []


def test_an_owner_has_so_many_models(make_api: MakeApi, redis_server: RedisServer) -> None:
    api = make_api(owner_models=1)
    client, other = api.client_of("team-a"), api.client_of("team-b")
    register_moody(api.settings)
    keys = Keys("foretell")
    redis_server.client.hset(keys.model("moody"), "owner", "team-a")
    redis_server.client.sadd(keys.owned("team-a"), "moody")
    artifact = b"\x08" + b"\0" * 99

    answers = [
        sender.post(f"/models/{model}/versions", data=artifact, headers=ONNX)
        for sender, model in ((client, "new"), (client, "moody"), (other, "new"))
    ]

    assert limit_of(answers[0]) == "models"
    assert [answer.status_code for answer in answers[1:]] == [202, 202]
