"""What an owner has: for others its jobs, files and webhooks do not exist, and its models are there to be read."""

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

from examples.small_network import network
from shared.api_keys import Scope
from shared.job import new_job_id
from tests.kept import Kept
from tests.processes import Answer
from tests.system.access import (
    ADMIN_STRANGER,
    ANN,
    BOB,
    CSV,
    ONNX,
    STRANGER,
    Keyed,
    Place,
    filled,
    model_of,
    outcome,
    place_of,
    table,
)
from tests.system.rows import LINEAR
from tests.system.service import Barrier
from tests.system.trainings import labelled, line, trained

TABLE = table()
SCHEDULE: Final = {"cron": "0 3 1 1 *", "target": "y"}


@pytest.fixture(scope="module")
def place(kept: Kept) -> Iterator[Place]:
    with place_of(kept) as place:
        yield place


@pytest.fixture
def jobs(place: Place, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Those of Ann's team in every state: also one that runs, one that waits, and one that was cancelled meanwhile."""
    barrier = Barrier(place.ann, tmp_path)
    running = barrier.hold()["id"]
    queued, cancelled = barrier.submit()["id"], barrier.submit()["id"]
    assert place.ann("POST", f"/jobs/{cancelled}/cancel").json["status"] == "cancelled"
    yield place.jobs | {"running": running, "queued": queued, "cancelled": cancelled}
    barrier.open()


# What another owner has


def seen(answer: Answer, id: str) -> tuple[Any, ...]:
    """All that a client sees of an answer but the time and the id that it asked for."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status, headers, answer.body.replace(id.encode(), b"<id>")


def asked(http: Keyed, operation: str, **values: str) -> Answer:
    method, path = filled(operation, **values)
    return http(method, path, X_Request_Id="same")


OWNED_JOBS = [operation for operation, row in TABLE.items() if row[STRANGER] == "404" and "{job_id}" in operation]


@pytest.mark.parametrize("who", [STRANGER, ADMIN_STRANGER])
def test_another_owner_s_job_is_like_one_that_never_was(place: Place, jobs: dict[str, str], who: str) -> None:
    stranger = place.bob if who == STRANGER else place.bob_admin
    before = {state: place.ann("GET", f"/jobs/{job_id}").json for state, job_id in jobs.items()}
    never = new_job_id()

    unknown = {operation: seen(asked(stranger, operation, job_id=never), never) for operation in OWNED_JOBS}
    told = {
        (operation, state): answer
        for operation in OWNED_JOBS
        for state, job_id in jobs.items()
        if (answer := seen(asked(stranger, operation, job_id=job_id), job_id)) != unknown[operation]
    }

    assert told == {}
    assert {operation: str(answer[0]) for operation, answer in unknown.items()} == {
        operation: TABLE[operation][who] for operation in OWNED_JOBS
    }
    after = {state: place.ann("GET", f"/jobs/{job_id}").json for state, job_id in jobs.items()}
    fields = ("status", "revision", "cancel_requested", "code")
    assert [[job.get(field) for field in fields] for job in after.values()] == [
        [job.get(field) for field in fields] for job in before.values()
    ]


@pytest.mark.parametrize("who", [STRANGER, ADMIN_STRANGER])
@pytest.mark.parametrize(
    "operation",
    [operation for operation, row in TABLE.items() if row[STRANGER] == "404" and operation not in OWNED_JOBS],
)
def test_another_owner_s_file_or_delivery_is_like_one_that_never_was(place: Place, operation: str, who: str) -> None:
    stranger = place.bob if who == STRANGER else place.bob_admin
    owned = {
        "file_id": place.file_id,
        "content_id": place.file_id,
        "batch_id": place.batch_id,
        "delivery_id": place.delivery_id,
    }
    ((kind, own),) = ((kind, own) for kind, own in owned.items() if f"{{{kind}}}" in operation)
    never = f"msg_{new_job_id()}" if kind == "delivery_id" else new_job_id()

    answer = seen(asked(stranger, operation, **{kind: own}), own)
    unknown = seen(asked(stranger, operation, **{kind: never}), never)

    assert answer == unknown
    assert str(answer[0]) == TABLE[operation][who] == "404"
    assert asked(place.ann, operation.replace("DELETE", "GET"), **{kind: own}).status in (200, 202, 409)


@pytest.mark.parametrize("operation", [operation for operation in OWNED_JOBS if operation.startswith("GET ")])
def test_the_owner_reads_what_there_is(place: Place, operation: str) -> None:
    answers = {state: asked(place.ann, operation, job_id=job_id).status for state, job_id in place.jobs.items()}

    assert answers.pop("deleted") == 410
    assert set(answers.values()) <= {200, 409}
    assert 200 in answers.values()


def test_lists_have_nothing_of_another_owner(place: Place) -> None:
    first = place.ann("GET", "/jobs?limit=2").json
    own = place.bob.submit("linear", [LINEAR])["id"]

    for http in (place.bob, place.bob_admin):
        listed = {job["id"] for query in ("", f"?cursor={first['next']}") for job in jobs_in(http, query)}
        assert listed & set(place.jobs.values()) == set()
        assert own in {job["id"] for job in jobs_in(http, "")}
        assert http("GET", "/webhooks/deliveries").json["deliveries"] == []
        assert http("GET", f"/webhooks/deliveries?job_id={place.jobs['told']}").json["deliveries"] == []
        overview = http("GET", "/webhooks").json
        assert (overview["secret"], overview["waiting"]) == (None, 0)
        assert http("GET", "/limits").json["owner"] == BOB
    assert own not in {job["id"] for job in jobs_in(place.ann, "")}
    assert [one["id"] for one in place.ann("GET", "/webhooks/deliveries").json["deliveries"]] == [place.delivery_id]


def test_the_overview_is_of_the_owner_and_to_an_admin_of_everybody(place: Place) -> None:
    failed = place.ann.done(place.ann.submit("lookup", ["unknown"])["id"])
    assert failed["status"] == "failed"

    seen = {name: getattr(place, name)("GET", "/overview").json for name in ("ann", "bob", "bob_admin")}

    assert {name: overview["owner"] for name, overview in seen.items()} == {"ann": ANN, "bob": BOB, "bob_admin": None}
    listed = {name: {one["job_id"] for one in overview["failures"]} for name, overview in seen.items()}
    assert {name for name, found in listed.items() if failed["id"] in found} == {"ann", "bob_admin"}
    assert all(worker["version"] for worker in seen["bob"]["workers"] if worker["alive"])


def test_who_asks_is_told_whose_key_it_is(place: Place) -> None:
    nobody: dict[str, Any] = {"owner": None, "key_id": None, "scopes": []}

    valid = place.ann("GET", "/whoami").json
    headers: list[dict[str, Any]] = [{}, {"Authorization": "Bearer ft_nobody"}]
    others = [place.service.http("GET", "/whoami", **header) for header in headers]

    assert (valid["owner"], bool(valid["key_id"]), bool(valid["scopes"])) == (ANN, True, True)
    assert [(answer.status, answer.json) for answer in others] == [(200, nobody)] * 2


def jobs_in(http: Keyed, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http("GET", f"/jobs{query}").json["jobs"]
    return found


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "/jobs", {"model": "linear"}, id="batch"),
        pytest.param("POST", "/jobs?validate_only=true", {"model": "linear"}, id="validation"),
        pytest.param("POST", "/jobs", {"kind": "train", "model": "linear", "target": "x1"}, id="train"),
        pytest.param("POST", "/models/linear/retrain", {"target": "x1"}, id="retrain"),
        pytest.param("PUT", "/models/linear/schedule", {"cron": "0 3 1 1 *", "target": "x1"}, id="schedule"),
    ],
)
def test_another_owner_s_file_cannot_be_read_by_a_job(
    place: Place, method: str, path: str, body: dict[str, Any]
) -> None:
    never = new_job_id()

    taken, unknown = (
        seen(place.bob(method, path, body | {"input": {"file_id": one}}, X_Request_Id="same"), one)
        for one in (place.file_id, never)
    )

    assert taken == unknown
    assert taken[0] == 404


def test_the_same_idempotency_key_of_two_owners_is_two_jobs(place: Place) -> None:
    body, header = {"model": "linear", "instances": [LINEAR]}, {"Idempotency_Key": "order-4711"}

    jobs = [http("POST", "/jobs", body, **header).json["id"] for http in (place.ann, place.bob) for _ in range(2)]

    assert jobs[0] == jobs[1]
    assert jobs[2] == jobs[3]
    assert jobs[0] != jobs[2]
    assert place.bob("POST", "/jobs", {**body, "priority": "high"}, **header).json["code"] == "idempotency_key_reused"
    third = place.ring.client("team-cleo")
    assert third("POST", "/jobs", {**body, "priority": "high"}, **header).status == 202


def test_a_retry_stays_with_its_owner(place: Place) -> None:
    again = place.ann("POST", f"/jobs/{place.jobs['succeeded']}/retry", {"only": "all"})

    assert again.status == 202, again.body
    assert place.bob("GET", f"/jobs/{again.json['id']}").status == 404
    assert place.ann("GET", f"/jobs/{again.json['id']}").json["retry_of"] == place.jobs["succeeded"]


# Models, which everybody reads and their owner changes


MODEL_BODIES: Final[dict[str, dict[str, Any]]] = {
    "POST /models/{name}/versions": {"raw": network(), "Prefer": "wait=30", **ONNX},
    "PUT /models/{name}/aliases/{alias}": {"body": {"version": 1}},
    "POST /models/{name}/rollback": {"body": {"why": "tried"}},
    "POST /models/{name}/retrain": {"raw": labelled(30), "Content_Type": "text/csv"},
    "PUT /models/{name}/schedule": {"body": SCHEDULE},
}


def change(http: Keyed, operation: str, model: str, **values: str) -> Answer:
    """A call of an operation on a model that would do something."""
    more = dict(MODEL_BODIES.get(operation, {}))
    method, path = filled(operation, **({"name": model, "alias": "canary", "version": "1"} | values))
    if operation.endswith("retrain"):
        path += "?target=y"
    if "body" in more and more["body"] is SCHEDULE:
        file_id = http("POST", "/files", raw=labelled(30), **CSV).json["id"]
        more["body"] = SCHEDULE | {"input": {"file_id": file_id}}
    return http(method, path, more.pop("body", None), **more)


@pytest.mark.parametrize("operation", [operation for operation, row in TABLE.items() if row[STRANGER] in ("in", "403")])
def test_a_model_of_another_owner_is_read_by_all_and_changed_by_none(place: Place, operation: str) -> None:
    before = place.ann("GET", f"/models/{place.model}").json

    answer = change(place.bob, operation, place.model)

    assert outcome(answer) == TABLE[operation][STRANGER]
    if TABLE[operation][STRANGER] == "403":
        assert answer.json["detail"] == (f"The model {place.model} belongs to another owner, who alone may change it.")
    unloaded = {"loaded": None}
    assert place.ann("GET", f"/models/{place.model}").json | unloaded == before | unloaded
    assert place.ann("GET", f"/models/{place.model}/schedule").status == 404


@pytest.mark.parametrize("operation", [operation for operation, row in TABLE.items() if row[STRANGER] in ("in", "403")])
def test_an_admin_of_another_owner_is_let_in(place: Place, operation: str) -> None:
    own = model_of(place.ann) if TABLE[operation][STRANGER] == "403" else place.model

    answer = change(place.bob_admin, operation, own)

    assert outcome(answer) == TABLE[operation][ADMIN_STRANGER] == "in"
    assert answer.status < 400 or answer.status in (404, 409, 422), answer.body


def test_a_model_says_whose_it_is_and_whose_key_moved_it(place: Place) -> None:
    by_key = place.ring.client(ANN, Scope.MODELS_WRITE, Scope.MODELS_READ, name="release")
    name = model_of(by_key)

    shown = by_key("GET", f"/models/{name}").json
    listed = {model["name"]: model["owner"] for model in place.bob("GET", "/models").json["models"]}
    moves = by_key("GET", f"/models/{name}/aliases/production").json["history"]

    assert shown["owner"] == ANN
    assert (listed[name], listed["linear"]) == (ANN, None)
    assert {move["who"] for move in moves} == {"release (team-ann)"}
    assert shown["versions"][0]["created_by"] == "release (team-ann)"


def test_a_training_is_promoted_in_the_name_of_its_key(place: Place) -> None:
    name = line(place.service)
    by_key = place.ring.client(BOB, Scope.TRAIN, Scope.JOBS_READ, Scope.MODELS_READ, name="retraining")

    job = trained(by_key, name)

    assert job["status"] == "succeeded", job
    newest = place.ann("GET", f"/models/{name}/aliases/production").json["history"][0]
    assert (newest["who"], newest["job_id"]) == ("retraining (team-bob)", job["id"])


def test_what_a_schedule_says_for_its_owner_alone_is_hidden_from_others(place: Place) -> None:
    name = line(place.service)
    file_id = place.ann("POST", "/files", raw=labelled(30), **CSV).json["id"]
    private = {"webhook": {"url": "http://127.0.0.1:1/hook?token=of-ann"}, "metadata": {"ticket": "42"}}
    body = SCHEDULE | {"input": {"file_id": file_id}} | private

    kept = place.ann("PUT", f"/models/{name}/schedule", body)
    theirs = place.bob("GET", f"/models/{name}/schedule")
    admins = place.bob_admin("GET", f"/models/{name}/schedule")

    assert kept.status == 200, kept.body
    assert {field: kept.json[field] for field in private} == private
    assert {field: admins.json[field] for field in private} == private
    assert [theirs.json[field] for field in ("webhook", "metadata", "input")] == [None, None, None]
    assert b"of-ann" not in theirs.body


def test_an_event_stream_ends_when_its_key_is_revoked(place: Place, jobs: dict[str, str]) -> None:
    reader, path = place.ring.client(ANN, Scope.JOBS_READ), f"/jobs/{jobs['running']}"
    connection = HTTPConnection("127.0.0.1", reader.port, timeout=30)
    connection.request("GET", f"{path}/events", headers={"Authorization": f"Bearer {reader.token}"})
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"id: ")

    place.ring.api_keys.revoke(reader.token[3:15])
    rest = response.read()  # up to its end, or the time-out
    connection.close()

    assert b"data: " in rest
    assert place.ann("GET", path).json["status"] == "running"


def test_rows_that_another_owner_s_model_was_trained_on_are_not_for_others(place: Place) -> None:
    file_id = place.bob("POST", "/files", raw=labelled(30), **CSV).json["id"]
    training = {
        "kind": "train", "model": "of-bob", "input": {"file_id": file_id}, "target": "y",
        "recipe": {"base": f"{place.model}@1"}, "combine": "append",
    }  # fmt: skip

    answer = place.bob("POST", "/jobs", training)

    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "combine=replace" in answer.json["detail"]
