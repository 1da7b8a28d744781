"""Production moves by retraining, by hand and by rollback while jobs come in: none fails, each keeps its version."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.processes import Answer, Http
from tests.system.service import Job, Service
from tests.system.trainings import labelled, line, trained

CLIENTS = 4
ROWS = [[1.0, 0.0], [0.5, 2.0]]


def moved(http: Http, method: str, path: str, body: Any) -> int:
    """The version that production points to after a move."""
    answer: Answer = http(method, path, body)
    assert answer.status == 200, answer.body
    return int(answer.json["version"])


def now(http: Http, model: str) -> int:
    """The version that a new job is pinned to."""
    return int(http.submit(model, ROWS)["model"]["version"])


def retrained(http: Http, model: str, slope: float) -> int:
    """The version that took production, since the rows have a slope that no earlier one knows."""
    job = trained(http, model, labelled(slope=slope))
    assert job["status"] == "succeeded", job["failure"]
    assert job["result"]["promoted"] is True, job["result"]
    return int(job["result"]["version"])


def test_no_job_fails_or_changes_its_version_while_production_goes_forth_and_back(http: Http, service: Service) -> None:
    model, ended = line(service, slope=1), threading.Event()
    production, rollback = f"/models/{model}/aliases/production", f"/models/{model}/rollback"

    def client(_: int) -> list[Job]:
        jobs = []
        while not ended.is_set():
            answer = http("POST", "/jobs", {"model": model, "instances": ROWS}, Prefer="wait=30")
            jobs.append(answer.json)
        return jobs

    seen = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            for slope in (3, 5):
                seen.append((retrained(http, model, slope), now(http, model)))
                for _ in range(3):
                    seen.append((moved(http, "POST", rollback, {"why": "tried"}), now(http, model)))
                    seen.append((moved(http, "PUT", production, {"version": seen[-2][0]}), now(http, model)))
        finally:
            ended.set()
        jobs = [job for each in clients for job in each.result(timeout=120)]

    done = [http.done(job["id"]) for job in jobs]
    expected = {
        version: http.done(http.submit(f"{model}@{version}", ROWS)["id"])["result"]["predictions"]
        for version in (1, 2, 3)
    }
    assert (
        [moved_to for moved_to, _ in seen] == [pinned for _, pinned in seen] == [2, 1, 2, 1, 2, 1, 2] + [3, 2] * 3 + [3]
    )
    assert {job["status"] for job in done} == {"succeeded"}
    assert {job["model"]["version"] for job in done} == {1, 2, 3}
    for job in done:
        assert job["result"]["predictions"] == pytest.approx(expected[job["model"]["version"]])
    assert len({predictions[0] for predictions in expected.values()}) == 3


def test_rollbacks_at_once_with_the_same_etag_go_back_one_step(http: Http, service: Service) -> None:
    model = line(service)
    for slope in (2, 3):
        line(service, slope=slope, name=model)
    tag = http("GET", f"/models/{model}/aliases/production").headers["etag"]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: http("POST", f"/models/{model}/rollback", If_Match=tag), range(CLIENTS)))

    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412]
    assert http("GET", f"/models/{model}").json["aliases"] == {"production": 2}
