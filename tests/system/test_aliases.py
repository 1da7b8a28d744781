"""Aliases and versions over HTTP: moves with and without If-Match, their history, the way back, and deletion."""

import io
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import pyarrow as pa
import pytest
from sklearn.dummy import DummyRegressor

from tests.models import registry_of
from tests.processes import Answer, Http
from tests.system.service import Barrier, Service
from worker.registration import register

ROW = [[1.0]]


@pytest.fixture
def home(service: Service) -> str:
    """A model of its own, whose versions 1, 2 and 3 predict their number; 3 is in production."""
    name = f"home-{uuid.uuid4().hex[:8]}"
    for version in (1.0, 2.0, 3.0):
        artifact = io.BytesIO()
        joblib.dump(DummyRegressor(strategy="constant", constant=version).fit([[0.0]], [version]), artifact)
        sample = pa.table({"x": [1.0]})
        register(registry_of(service.settings), name, artifact.getvalue(), format="joblib", sample=sample)
    return name


@pytest.fixture
def put(http: Http, home: str) -> Callable[..., Answer]:
    """Point an alias of that model at a version."""

    def send(version: Any, alias: str = "production", why: str = "tried", **headers: Any) -> Answer:
        return http("PUT", f"/models/{home}/aliases/{alias}", {"version": version, "why": why}, **headers)

    return send


def served(http: Http, reference: str) -> tuple[int, float]:
    """The version that a job is pinned to now, and what it predicts."""
    job = http.done(http.submit(reference, ROW)["id"])
    return job["model"]["version"], job["result"]["predictions"][0]


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def test_a_moved_alias_is_in_force_for_the_next_job(http: Http, home: str, put: Callable[..., Answer]) -> None:
    before = served(http, home)

    answer = put(1)

    assert (answer.status, answer.json["version"], answer.headers["etag"]) == (200, 1, '"4"')
    assert (before, served(http, home)) == ((3, 3.0), (1, 1.0))


def test_an_alias_can_be_made_and_read(http: Http, home: str, put: Callable[..., Answer]) -> None:
    made = put(2, "canary")

    read = http("GET", f"/models/{home}/aliases/canary")
    assert (made.status, made.headers["etag"]) == (200, '"1"')
    assert (read.status, read.headers["etag"]) == (200, '"1"')
    assert {name: read.json[name] for name in made.json} == made.json
    assert http("GET", f"/models/{home}").json["aliases"] == {"canary": 2, "production": 3}
    assert served(http, f"{home}@canary") == (2, 2.0)


def test_an_alias_that_is_as_it_was_read_moves(http: Http, home: str, put: Callable[..., Answer]) -> None:
    etag = http("GET", f"/models/{home}/aliases/production").headers["etag"]

    assert put(1, If_Match=etag).status == 200


@pytest.mark.parametrize(
    "etag",
    [
        pytest.param('"2"', id="older"),
        pytest.param('W/"3"', id="weak"),
        pytest.param('"abc"', id="not-ours"),
        pytest.param("3", id="without-quotes"),
    ],
)
def test_an_alias_that_is_not_as_it_was_read_does_not_move(
    http: Http, home: str, put: Callable[..., Answer], etag: str
) -> None:
    answer = put(1, If_Match=etag)

    assert code(answer) == (412, "alias_moved")
    assert "points to 3 now" in answer.json["detail"]
    assert http("GET", f"/models/{home}").json["aliases"] == {"production": 3}


def test_if_match_with_a_star_moves_an_alias_that_exists_and_no_other(put: Callable[..., Answer]) -> None:
    assert put(1, If_Match="*").status == 200
    assert code(put(1, "canary", If_Match="*")) == (412, "alias_moved")


def test_of_many_moves_at_once_from_one_etag_one_is_made(http: Http, home: str, put: Callable[..., Answer]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: put(1 + number % 2, If_Match='"3"'), range(8)))

    assert sorted(answer.status for answer in answers) == [200] + [412] * 7
    assert http("GET", f"/models/{home}/aliases/production").json["revision"] == 4


def test_the_history_says_who_when_why_from_and_to(http: Http, home: str, put: Callable[..., Answer]) -> None:
    put(1, why="fewer complaints", X_Request_Id="move-17")

    history = http("GET", f"/models/{home}/aliases/production").json["history"]

    assert [(move["from"], move["to"]) for move in history] == [(3, 1), (2, 3), (1, 2), (None, 1)]
    newest = history[0]
    assert (newest["who"], newest["why"], newest["request_id"]) == ("http", "fewer complaints", "move-17")
    assert newest["at"] == http("GET", f"/models/{home}/aliases/production").json["moved_at"]


def test_an_alias_can_be_removed_but_not_production(http: Http, home: str, put: Callable[..., Answer]) -> None:
    put(2, "canary")

    stale = http("DELETE", f"/models/{home}/aliases/canary", If_Match='"7"')
    removed = http("DELETE", f"/models/{home}/aliases/canary", If_Match='"1"')
    again = http("DELETE", f"/models/{home}/aliases/canary")
    production = http("DELETE", f"/models/{home}/aliases/production")

    assert (code(stale), removed.status) == ((412, "alias_moved"), 204)
    assert (code(again), code(production)) == ((404, "model_not_found"), (409, "alias_needed"))
    assert code(http("POST", "/jobs", {"model": f"{home}@canary", "instances": ROW})) == (404, "model_not_found")
    assert http("GET", f"/models/{home}").json["aliases"] == {"production": 3}


def test_production_goes_back_one_version_at_a_time(http: Http, home: str) -> None:
    answers = [http("POST", f"/models/{home}/rollback", {"why": "worse"}) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 409]
    assert [answer.json["version"] for answer in answers[:2]] == [2, 1]
    assert answers[2].json["code"] == "nothing_to_roll_back"
    assert served(http, home) == (1, 1.0)


def test_a_rollback_needs_no_body_and_takes_if_match(http: Http, home: str) -> None:
    assert code(http("POST", f"/models/{home}/rollback", If_Match='"2"')) == (412, "alias_moved")
    assert http("POST", f"/models/{home}/rollback", If_Match='"3"').json["version"] == 2
    assert http("POST", f"/models/{home}/rollback").json["version"] == 1


def test_a_deleted_version_is_gone_at_once(http: Http, home: str) -> None:
    assert http("GET", f"/models/{home}/versions/1").status == 200
    assert served(http, f"{home}@1") == (1, 1.0)

    assert http("DELETE", f"/models/{home}/versions/1").status == 204

    assert code(http("GET", f"/models/{home}/versions/1")) == (404, "model_not_found")
    assert code(http("POST", "/jobs", {"model": f"{home}@1", "instances": ROW})) == (404, "model_not_found")
    assert code(http("DELETE", f"/models/{home}/versions/1")) == (404, "model_not_found")
    assert [version["version"] for version in http("GET", f"/models/{home}").json["versions"]] == [3, 2]


def test_a_file_for_a_deleted_version_is_not_taken(http: Http, home: str) -> None:
    http("DELETE", f"/models/{home}/versions/1")

    answer = http("POST", f"/jobs?model={home}@1", raw=b"x\n1\n", Content_Type="text/csv")

    assert code(answer) == (404, "model_not_found")


def test_a_retry_on_a_deleted_version_is_a_404(http: Http, home: str) -> None:
    job = http.done(http.submit(f"{home}@1", ROW)["id"])
    http("DELETE", f"/models/{home}/versions/1")

    answer = http("POST", f"/jobs/{job['id']}/retry", {"only": "all"})

    assert code(answer) == (404, "model_not_found")
    assert "was deleted" in answer.json["detail"]


def test_a_version_in_production_is_not_deleted(http: Http, home: str) -> None:
    answer = http("DELETE", f"/models/{home}/versions/3")

    assert code(answer) == (409, "version_in_use")
    assert "production points to it" in answer.json["detail"]
    assert served(http, home) == (3, 3.0)


def test_a_version_that_a_waiting_job_needs_is_not_deleted(http: Http, home: str, held_workers: Barrier) -> None:
    job = http.submit(f"{home}@1", ROW)

    refused = http("DELETE", f"/models/{home}/versions/1")

    held_workers.open()
    http.done(job["id"])
    assert code(refused) == (409, "version_in_use")
    assert "1 wait" in refused.json["detail"]
    assert http("DELETE", f"/models/{home}/versions/1").status == 204


def test_a_deleted_model_is_gone_at_once_with_its_aliases_and_schedule(http: Http, home: str) -> None:
    assert served(http, home) == (3, 3.0)
    file = http("POST", "/files", raw=b"x,y\n1,2\n", Content_Type="text/csv").json["id"]
    schedule = {"cron": "0 3 * * *", "input": {"file_id": file}, "target": "y"}
    assert http("PUT", f"/models/{home}/schedule", schedule).status == 200

    assert http("DELETE", f"/models/{home}").status == 204

    gone = ["", "/versions/3", "/aliases/production", "/schedule"]
    assert {code(http("GET", f"/models/{home}{path}")) for path in gone} == {(404, "model_not_found")}
    assert code(http("POST", "/jobs", {"model": home, "instances": ROW})) == (404, "model_not_found")
    assert code(http("DELETE", f"/models/{home}")) == (404, "model_not_found")
    assert home not in [model["name"] for model in http("GET", "/models").json["models"]]


def test_a_model_that_a_waiting_job_needs_is_not_deleted(http: Http, home: str, held_workers: Barrier) -> None:
    job = http.submit(f"{home}@1", ROW)

    refused = http("DELETE", f"/models/{home}")

    held_workers.open()
    assert http.done(job["id"])["status"] == "succeeded"
    assert code(refused) == (409, "version_in_use")
    assert f"{home} is in use by unfinished jobs: 1 wait" in refused.json["detail"]
    assert http("DELETE", f"/models/{home}").status == 204


def test_who_may_not_delete_a_part_is_told_how_the_whole_goes(http: Http, home: str) -> None:
    refused = [http("DELETE", f"/models/{home}/{part}") for part in ("versions/3", "aliases/production")]

    assert [code(answer) for answer in refused] == [(409, "version_in_use"), (409, "alias_needed")]
    assert all(f"DELETE /models/{home} removes the whole model" in answer.json["detail"] for answer in refused)


@pytest.mark.parametrize(
    ("alias", "body", "expected"),
    [
        pytest.param("production", {"version": 9}, (404, "model_not_found"), id="unknown-version"),
        pytest.param("7", {"version": 1}, (422, "invalid_request"), id="alias-of-digits"),
        pytest.param("a b", {"version": 1}, (422, "invalid_request"), id="alias-with-a-space"),
        pytest.param("production", {"version": "1"}, (422, "invalid_request"), id="version-in-words"),
        pytest.param("production", {"version": 0}, (422, "invalid_request"), id="version-zero"),
        pytest.param("production", {}, (422, "invalid_request"), id="no-version"),
        pytest.param("production", {"version": 1, "colour": "red"}, (422, "invalid_request"), id="unknown-field"),
        pytest.param("production", {"version": 1, "why": "x" * 501}, (422, "invalid_request"), id="long-reason"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    http: Http, home: str, alias: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = http("PUT", f"/models/{home}/aliases/{alias.replace(' ', '%20')}", body)

    assert code(answer) == expected
    assert http("GET", f"/models/{home}").json["aliases"] == {"production": 3}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "/models/nowhere/aliases/production", None, id="read"),
        pytest.param("PUT", "/models/nowhere/aliases/production", {"version": 1}, id="move"),
        pytest.param("POST", "/models/nowhere/rollback", None, id="rollback"),
        pytest.param("DELETE", "/models/nowhere/versions/1", None, id="delete"),
        pytest.param("DELETE", "/models/nowhere", None, id="delete-all"),
    ],
)
def test_an_unknown_model_is_not_found(http: Http, method: str, path: str, body: Any) -> None:
    assert code(http(method, path, body)) == (404, "model_not_found")
    assert code(http(method, path, body, If_Match='"1"')) == (404, "model_not_found")
