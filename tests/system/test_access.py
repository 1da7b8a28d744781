"""Who may call what: every route of a real service, with every kind of key, against a written table.

Default is deny: a route that the table does not name fails here.
"""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from shared.api_keys import Scope
from tests.kept import Kept
from tests.processes import Answer
from tests.system.access import (
    ALL_BUT_ADMIN,
    ANN,
    CSV,
    WITHOUT,
    Keyed,
    Place,
    filled,
    outcome,
    place_of,
    table,
)
from tests.system.service import send_file
from tests.system.trainings import labelled, line, own_name
from tests.wait import until

TABLE = table()
METHODS: Final = ("get", "post", "put", "delete")


@pytest.fixture(scope="module")
def place(kept: Kept) -> Iterator[Place]:
    with place_of(kept) as place:
        yield place


# The table


def test_the_table_names_every_operation_and_no_other(place: Place) -> None:
    document = place.ann("GET", "/openapi.json").json
    served = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in METHODS if method in item
    }

    pages = {"GET /", "GET /dashboard/{name}", "GET /docs/", "GET /docs/{name}", "GET /openapi.json"}
    assert set(TABLE) == served | pages


def test_the_document_says_what_the_table_says(place: Place) -> None:
    document = place.ann("GET", "/openapi.json").json

    for operation, row in TABLE.items():
        method, _, path = operation.partition(" ")
        described = document["paths"].get(path, {}).get(method.lower())
        if described is not None:
            named = {scope for needed in described.get("security", []) for scope in needed["key"]}
            let_in = {scope for scope in Scope if row[scope] == "in"}
            assert (named | {Scope.ADMIN} if named else set(Scope)) == let_in, operation


@pytest.fixture(scope="module")
def invalid(place: Place) -> dict[str, str | None]:
    return place.ring.invalid(ANN)


@pytest.mark.parametrize("operation", TABLE)
def test_who_has_no_valid_key_is_treated_as_the_table_says(
    place: Place, invalid: dict[str, str | None], operation: str
) -> None:
    method, path = filled(operation)
    http = place.service.http

    sent: dict[str, dict[str, Any]] = {
        kind: {} if header is None else {"Authorization": header} for kind, header in invalid.items()
    }

    answers = {kind: http(method, path, X_Request_Id="same", **header) for kind, header in sent.items()}

    assert {outcome(answer) for answer in answers.values()} == {TABLE[operation][WITHOUT]}
    if TABLE[operation][WITHOUT] == "401":
        assert len({answer.body for answer in answers.values()}) == 1
        told = {kind: answer.headers["www-authenticate"] for kind, answer in answers.items()}
        assert told == {
            kind: 'Bearer realm="foretell"' + ("" if kind == "none" else ', error="invalid_token"') for kind in told
        }


@pytest.fixture(scope="module")
def single(place: Place) -> dict[Scope, Keyed]:
    """A key for each scope."""
    return {scope: place.ring.client(own_name("team"), scope) for scope in Scope}


@pytest.mark.parametrize("operation", TABLE)
def test_a_scope_lets_in_where_the_table_says_and_nowhere_else(single: dict[Scope, Keyed], operation: str) -> None:
    method, path = filled(operation)

    outcomes = {scope: outcome(http(method, path)) for scope, http in single.items()}

    assert outcomes == {scope: TABLE[operation][scope] for scope in Scope}


@pytest.mark.parametrize("operation", [operation for operation in TABLE if operation.startswith("GET ")])
def test_head_is_guarded_like_get(place: Place, single: dict[Scope, Keyed], operation: str) -> None:
    _, path = filled(operation)

    outcomes = {scope: outcome(http("HEAD", path)) for scope, http in single.items()}

    assert outcomes == {scope: TABLE[operation][scope] for scope in Scope}
    assert outcome(place.service.http("HEAD", path)) == TABLE[operation][WITHOUT]


@pytest.mark.parametrize("path", sorted({filled(operation)[1] for operation in TABLE}))
def test_options_tell_who_has_no_key_nothing(place: Place, path: str) -> None:
    needed = {row[WITHOUT] for operation, row in TABLE.items() if filled(operation)[1] == path}

    answer = place.service.http("OPTIONS", path)

    assert outcome(answer) in needed
    assert answer.status == 401 or answer.body == b""


def test_a_key_in_the_query_is_no_key(place: Place) -> None:
    query = urlencode({"key": place.ann.token, "access_token": place.ann.token})

    assert place.service.http("GET", f"/models?{query}").status == 401


def test_the_name_of_the_scheme_may_be_in_any_case(place: Place) -> None:
    answers = [
        place.service.http("GET", "/models", Authorization=f"{scheme} {place.ann.token}")
        for scheme in ("Bearer", "bearer", "BEARER", "Bearer ")
    ]

    assert [answer.status for answer in answers] == [200] * 4


def test_with_keys_the_name_of_the_host_and_the_origin_do_not_matter(place: Place) -> None:
    headers: dict[str, Any] = {"Host": "foretell.example", "Origin": "https://app.example"}

    assert place.ann("GET", "/models", **headers).status == 200
    assert place.service.http("GET", "/models", **headers).status == 401


def test_a_refusal_names_the_key_and_the_scope_and_not_the_secret(single: dict[Scope, Keyed]) -> None:
    http = single[Scope.JOBS_READ]

    answer = http("POST", "/predict", {"x1": 1})

    assert answer.json["code"] == "forbidden"
    assert http.token[3:15] in answer.json["detail"]
    assert "jobs:write" in answer.json["detail"]
    assert http.token[16:] not in answer.body.decode()


# Trainings need their own scope, whichever way they come


def form(job: str, data: bytes) -> tuple[bytes, str]:
    """A form with a job and its file, and its type."""
    boundary = "of-the-test"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="job"\r\n\r\n{job}\r\n'.encode(),
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="r.csv"\r\n\r\n'.encode() + data,
        f"\r\n--{boundary}--\r\n".encode(),
    )
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def submitted(http: Keyed, kind: str, way: str, model: str) -> Answer:
    """A training or a scoring of a file, sent in one of all ways."""
    training = kind == "train"
    data = labelled(30) if training else b"a,b\n1,2\n"
    options: dict[str, Any] = {"kind": "train", "target": "y"} if training else {}
    if way == "by reference":
        file_id = http("POST", "/files", raw=data, **CSV).json["id"]
        return http("POST", "/jobs", {"model": model, **options, "input": {"file_id": file_id}})
    if way == "as a form":
        body, media_type = form(json.dumps({"model": model, **options}), data)
        return http("POST", "/jobs", raw=body, Content_Type=media_type)
    if way == "checked only":
        return send_file(http, data, model=model, validate_only="true", **options)
    if way == "as a retraining":
        return http("POST", f"/models/{model}/retrain?target=y", raw=data, **CSV)
    return send_file(http, data, model=model, **options)


WAYS: Final = ("by reference", "as a form", "as the body", "checked only")


@pytest.mark.parametrize("way", [*WAYS, "as a retraining"])
def test_a_training_needs_the_scope_train(place: Place, way: str) -> None:
    model = line(place.service)
    without = place.ring.client(ANN, *(scope for scope in ALL_BUT_ADMIN if scope != Scope.TRAIN))
    alone = place.ring.client(ANN, Scope.TRAIN)

    refused, taken = submitted(without, "train", way, model), submitted(alone, "train", way, model)

    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert taken.status in (200, 202), taken.body


@pytest.mark.parametrize("way", [*WAYS, "rows"])
def test_a_prediction_needs_the_scope_jobs_write(place: Place, way: str) -> None:
    model = line(place.service)
    without, alone = place.ring.client(ANN, Scope.TRAIN), place.ring.client(ANN, Scope.JOBS_WRITE)

    def sent(http: Keyed) -> Answer:
        rows = {"model": model, "instances": [[1, 2]]}
        return http("POST", "/jobs", rows) if way == "rows" else submitted(http, "batch", way, model)

    refused, taken = sent(without), sent(alone)

    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert taken.status in (200, 202), taken.body


def test_a_retry_needs_the_scope_of_the_job(place: Place) -> None:
    training, scoring = place.jobs["a training"], place.jobs["succeeded"]
    writing, train = place.ring.client(ANN, Scope.JOBS_WRITE), place.ring.client(ANN, Scope.TRAIN)

    answers = [
        http("POST", f"/jobs/{job_id}/retry", {"only": "all"}).status
        for http in (writing, train)
        for job_id in (training, scoring)
    ]

    assert answers == [403, 202, 202, 403]


# Keys over HTTP


def test_an_admin_makes_rotates_and_revokes_keys_over_http(place: Place) -> None:
    admin = place.bob_admin
    made = admin(
        "POST", "/keys", {"name": "new", "owner": "team-new", "scopes": ["jobs:read"], "expires_in_seconds": 900}
    )
    key = Keyed(admin.port, made.json["key"])
    here = made.headers["location"]

    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    assert (made.json["owner"], made.json["state"], made.json["scopes"]) == ("team-new", "active", ["jobs:read"])
    assert key("GET", "/jobs").status == 200
    shown = [admin("GET", here), admin("GET", "/keys")]
    assert [key.token in answer.body.decode() for answer in shown] == [False, False]

    rotated = admin("POST", f"{here}/rotate", {"overlap_seconds": 3600})
    second = Keyed(admin.port, rotated.json["key"])
    assert [http("GET", "/jobs").status for http in (key, second)] == [200, 200]

    assert admin("DELETE", here).status == 204
    until(lambda: {http("GET", "/jobs").status for http in (key, second)} == {401}, 10, "both secrets are refused")
    assert admin("GET", here).json["state"] == "revoked"
    assert admin("POST", f"{here}/rotate", {}).status == 404
