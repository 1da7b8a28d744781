"""The life of a train job over HTTP: watched, cancelled, repeated, listed, read to the end; and as documented."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Http
from tests.system.service import Job, Service
from tests.system.test_events import opened
from tests.system.test_openapi import faults
from tests.system.trainings import aliases, begun, labelled, line, send_training, trained, versions, waiting
from tests.wait import until

# The third row has no number, and the last lacks a field.
BAD_ROWS = labelled(100).replace(b"r2,", b"r2,x").rpartition(b",")[0] + b"\n"


class Held:
    """A search of two parameter sets with two folds each, of which two fits end at once and two when they may."""

    def __init__(self, http: Http, service: Service, folder: Path) -> None:
        self.model = waiting(service)
        self._http = http
        self._path = folder / "fit"
        recipe = {"param_grid": {"path": ["/", str(self._path)]}, "folds": 2}
        self.job_id = begun(http, self.model, recipe=json.dumps(recipe))

    def read(self) -> Job:
        job: Job = self._http("GET", f"/jobs/{self.job_id}").json
        return job

    def half_done(self) -> Job:
        """The job as soon as all is done that can be."""
        until(lambda: (self.read()["progress"]["fits"] or {}).get("done") == 2, 60, "two fits are done")
        return self.read()

    def let_through(self) -> None:
        """Let every fit end."""
        self._path.touch()


@pytest.fixture
def held(http: Http, service: Service, folder: Path) -> Iterator[Held]:
    held = Held(http, service, folder)
    yield held
    held.let_through()
    http.done(held.job_id)


def test_a_search_shows_its_fits_while_it_runs(http: Http, held: Held) -> None:
    job = held.half_done()

    assert (job["status"], job["phase"], job["done"]) == ("running", "fitting", False)
    assert job["progress"]["fits"] == {"done": 2, "total": 4}
    assert job["progress"]["fraction"] == 2 / 5
    assert job["progress"]["eta_seconds"] > 0
    assert "cancel" in job["links"]
    for path in ("/result", "/manifest", "/errors"):
        assert http("GET", f"/jobs/{held.job_id}{path}").json["code"] == "result_not_ready"


def test_the_stream_of_events_shows_every_stage_and_ends_with_the_job(http: Http, held: Held) -> None:
    with opened(http, held.job_id) as stream:
        seen = []
        while (event := stream.event()) is not None:
            seen.append(event.data)
            if (event.data["progress"]["fits"] or {}).get("done") == 2:
                held.let_through()

    fractions = [job["progress"]["fraction"] for job in seen]
    phases = list(dict.fromkeys(job["phase"] for job in seen if job["phase"]))
    assert fractions == sorted(fractions)
    assert phases == [
        phase for phase in ("loading", "fitting", "evaluating", "gating", "registering") if phase in phases
    ]
    assert {"loading", "fitting"} <= set(phases)
    assert (seen[-1]["status"], fractions[-1]) == ("succeeded", 1.0)
    assert seen[-1] == http("GET", f"/jobs/{held.job_id}").json


def test_a_client_can_wait_for_the_end_of_a_training(http: Http, service: Service) -> None:
    answer = send_training(http, line(service), labelled(), headers={"Prefer": "wait=30"})

    assert (answer.status, answer.headers["preference-applied"]) == (200, "wait=30")
    assert answer.json["result"]["version"] == 2


def test_a_cancelled_search_ends_at_once_and_leaves_no_version(http: Http, service: Service, held: Held) -> None:
    held.half_done()

    answer = http("POST", f"/jobs/{held.job_id}/cancel")
    job = http.done(held.job_id)
    again = http("POST", f"/jobs/{held.job_id}/cancel")
    next_one = trained(http, line(service))

    assert (answer.status, answer.json["cancel_requested"]) == (202, True)
    assert (job["status"], job["result"], job["failure"]) == ("cancelled", None, None)
    assert (again.status, versions(http, held.model), aliases(http, held.model)) == (200, [1], {"production": 1})
    assert next_one["status"] == "succeeded"


def test_a_training_that_registered_its_version_cannot_be_cancelled(http: Http, service: Service) -> None:
    job = trained(http, line(service))

    answer = http("POST", f"/jobs/{job['id']}/cancel")

    assert (answer.status, answer.json["code"]) == (409, "job_finished")


def test_the_version_that_a_training_starts_from_cannot_be_deleted_before_it_ends(
    http: Http, service: Service, held: Held
) -> None:
    held.half_done()
    line(service, name=held.model)  # production points elsewhere now

    during = http("DELETE", f"/models/{held.model}/versions/1")
    held.let_through()
    http.done(held.job_id)
    after = http("DELETE", f"/models/{held.model}/versions/1")

    assert (during.status, during.json["code"], after.status) == (409, "version_in_use", 204)
    assert held.job_id in during.json["detail"]


def test_a_cancelled_training_can_be_repeated_as_a_new_job(http: Http, held: Held) -> None:
    held.half_done()
    http("POST", f"/jobs/{held.job_id}/cancel")
    http.done(held.job_id)
    held.let_through()

    answer = http("POST", f"/jobs/{held.job_id}/retry")
    job = http.done(answer.json["id"])

    assert (answer.status, job["retry_of"], job["status"]) == (202, held.job_id, "succeeded")
    assert job["training"] == held.read()["training"]
    assert versions(http, held.model)[0] == job["result"]["version"]


def test_a_training_whose_file_is_gone_cannot_be_repeated(http: Http, service: Service) -> None:
    file_id = http("POST", "/files", raw=labelled(), Content_Type="text/csv").json["id"]
    body = {"kind": "train", "model": line(service), "target": "y", "input": {"file_id": file_id}}
    job = http.done(http("POST", "/jobs", body).json["id"])

    removed = http("DELETE", f"/files/{file_id}")
    answer = http("POST", f"/jobs/{job['id']}/retry")

    assert (removed.status, answer.status, answer.json["code"]) == (204, 410, "input_gone")


def test_trainings_are_listed_by_their_kind_and_model(http: Http, service: Service) -> None:
    model = line(service)
    job = trained(http, model)
    http.submit(model, [[1, 2]])

    by_kind = http("GET", f"/jobs?kind=train&model={model}").json["jobs"]
    all_of_kind = http("GET", "/jobs?kind=train&limit=200").json["jobs"]

    assert [entry["id"] for entry in by_kind] == [job["id"]]
    assert {entry["kind"] for entry in all_of_kind} == {"train"}


def test_bad_rows_are_named_and_the_others_are_trained_on(http: Http, service: Service) -> None:
    model = line(service)

    job = trained(http, model, BAD_ROWS)

    errors = [json.loads(row) for row in http("GET", f"/jobs/{job['id']}/errors").body.splitlines()]
    assert (job["status"], job["result"]["version"]) == ("partially_succeeded", 2)
    assert job["counts"] == {"total": 100, "pending": 0, "succeeded": 98, "failed": 2, "skipped": 0}
    assert [(error["row"], error["column"], error["code"]) for error in errors] == [
        (3, "a", "not_a_number"), (100, None, "wrong_number_of_fields"),
    ]  # fmt: skip
    assert http("GET", f"/models/{model}/versions/2").json["data"]["failed"] == 2


def test_more_bad_rows_than_the_job_allows_end_it_before_any_fit(http: Http, service: Service) -> None:
    model = line(service)

    job = trained(http, model, BAD_ROWS, max_failed_rows=1)

    assert (job["status"], job["failure"]["code"]) == ("failed", "too_many_failed_rows")
    assert versions(http, model) == [1]


def test_a_training_in_which_no_row_is_good_names_the_rows(http: Http, service: Service) -> None:
    job = trained(http, line(service), b"a,b,y\n1,2,x\n3,4,y\n")

    rows = [json.loads(row)["row"] for row in http("GET", f"/jobs/{job['id']}/errors").body.splitlines()]
    assert (job["status"], rows) == ("failed", [1, 2])
    assert [error["row"] for error in job["errors"]] == rows


def test_the_manifest_of_a_training_is_a_download_like_any_other(http: Http, service: Service) -> None:
    job = trained(http, line(service))
    path = job["links"]["manifest"]

    whole, head = http("GET", path), http("HEAD", path)
    part = http("GET", path, Range="bytes=0-9")
    same = http("GET", path, If_None_Match=whole.headers["etag"])

    assert (whole.status, head.status, part.status, same.status) == (200, 200, 206, 304)
    assert (head.body, head.headers["content-length"]) == (b"", str(len(whole.body)))
    assert part.body == whole.body[:10]
    assert whole.json["registered"]["gate"] == job["result"]["gate"]
    assert whole.json["counts"] == {"total": 200, "failed": 0}


def test_the_result_by_itself_is_that_of_the_job(http: Http, service: Service) -> None:
    job = trained(http, line(service))

    result = http("GET", job["links"]["result"])

    told = {name: value for name, value in job["result"].items() if name != "href"}
    assert (result.status, result.json) == (200, {"job_id": job["id"]} | told)


def test_a_job_that_failed_has_no_result_and_says_so(http: Http, service: Service) -> None:
    job = trained(http, line(service), b"a,b,y\n1,2,3\n")

    result, manifest = (http("GET", f"/jobs/{job['id']}/{what}") for what in ("result", "manifest"))

    assert [(answer.status, answer.json["code"]) for answer in (result, manifest)] == [(409, "no_result")] * 2
    assert job["failure"]["errors"][0]["code"] == "too_few_rows"
    assert "result" not in job["links"]


@pytest.fixture(scope="module")
def schema(http: Http) -> dict[str, Any]:
    document: dict[str, Any] = http("GET", "/openapi.json").json
    return document


def test_a_training_is_as_the_document_says_in_every_state(
    http: Http, service: Service, schema: dict[str, Any], held: Held
) -> None:
    answers = schema["paths"]["/jobs/{job_id}"]["get"]["responses"]["200"]
    described = answers["content"]["application/json"]["schema"]
    running, queued = held.half_done(), send_training(http, line(service), BAD_ROWS).json
    held.let_through()
    jobs = [running, queued, http.done(queued["id"]), trained(http, line(service), b"a,b,y\n1,2,3\n")]

    assert [job["status"] for job in jobs] == ["running", "queued", "partially_succeeded", "failed"]
    assert [faults(job, described, schema) for job in jobs] == [[]] * 4


def test_a_result_and_a_version_are_as_the_document_says(http: Http, service: Service, schema: dict[str, Any]) -> None:
    model = line(service)
    result = http("GET", trained(http, model)["links"]["result"])

    for path, answer in (
        ("/jobs/{job_id}/result", result),
        ("/models/{name}/versions/{version}", http("GET", f"/models/{model}/versions/2")),
        ("/models/{name}", http("GET", f"/models/{model}")),
        ("/models/{name}/aliases/{alias}", http("GET", f"/models/{model}/aliases/production")),
    ):
        described = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert faults(answer.json, described, schema) == []
