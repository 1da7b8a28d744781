"""Production moves back and forth between two versions while jobs come in: none fails, and none is mixed."""

import io
import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import pyarrow as pa
from sklearn.dummy import DummyRegressor

from shared.settings import Settings
from tests.models import registry_of
from tests.processes import Http
from tests.system.service import Service, send_file
from tests.wait import until
from worker.registration import register

MOVES = 20
CLIENTS = 4
FILE_ROWS = 40_000
SLICE_BYTES = 4096  # some 40 slices a file


def registered(settings: Settings, name: str, value: float) -> None:
    """A version that predicts its own number, whatever the row."""
    file = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value]), file)
    register(registry_of(settings), name, file.getvalue(), format="joblib", sample=pa.table({"x": [1.0]}))


def with_two_versions(service: Service) -> str:
    """A model of its own with the versions 1 and 2, which predict their numbers."""
    name = f"swapped-{uuid.uuid4().hex[:8]}"
    for value in (1.0, 2.0):
        registered(service.settings, name, value)
    return name


def move(http: Http, name: str, version: int) -> None:
    answer = http("PUT", f"/models/{name}/aliases/production", {"version": version, "why": "to and fro"})
    assert answer.status == 200, answer.body


def rows_of(http: Http, job: dict[str, Any]) -> set[float]:
    """The different predictions of a batch job's result."""
    text = http("GET", f"/jobs/{job['id']}/result", Accept="text/csv").body.decode()
    header, *lines = text.splitlines()
    place = header.split(",").index("prediction")
    assert len(lines) == job["counts"]["total"]
    return {float(line.split(",")[place]) for line in lines}


def test_moves_under_load_fail_no_job_and_mix_no_versions(start: Callable[..., Service]) -> None:
    service = start(slice_bytes=SLICE_BYTES, max_chunk_slices=2)
    http, name, ended = service.http, with_two_versions(service), threading.Event()

    def client(_: int) -> list[dict[str, Any]]:
        jobs = []
        while not ended.is_set():
            body = {"model": name, "instances": [[1.0]] * 5}
            jobs.append(http("POST", "/jobs", body, Prefer="wait=30").json)
        return jobs

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            files: list[dict[str, Any]] = []
            for moves, version in enumerate(itertools.cycle((1, 2))):
                move(http, name, version)
                assert http.done(http.submit(name, [[1.0]])["id"])["model"]["version"] == version
                if moves < 2:
                    files.append(send_file(http, b"x\n" + b"1.0\n" * FILE_ROWS, model=name).json)
                if moves >= MOVES and all(http("GET", f"/jobs/{job['id']}").json["done"] for job in files):
                    break
        finally:
            ended.set()
        jobs = [job for each in clients for job in each.result(timeout=120)]

    done = [http.done(job["id"]) for job in jobs]
    assert {job["status"] for job in done} == {"succeeded"}
    assert {job["model"]["version"] for job in done} == {1, 2}
    for job in done:
        assert job["result"]["predictions"] == [float(job["model"]["version"])] * 5
    scored = [http.done(job["id"]) for job in files]
    assert [(job["status"], job["model"]["version"]) for job in scored] == [("succeeded", 1), ("succeeded", 2)]
    assert [rows_of(http, job) for job in scored] == [{1.0}, {2.0}]


def loaded(http: Http, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http("GET", f"/models/{name}").json["loaded"]
    return found


def test_a_model_shows_where_it_is_loaded_and_workers_follow_production_by_themselves(
    http: Http, service: Service
) -> None:
    swapped = with_two_versions(service)
    assert loaded(http, swapped) == []
    http.done(http.submit(swapped, [[1.0]])["id"])

    until(lambda: loaded(http, swapped), 30, "a process says that it has the model")
    (first, *_) = loaded(http, swapped)
    assert (first["queue"], first["versions"], first["failed"]) == ("online", [2], {})

    registered(service.settings, swapped, 3.0)

    def has_the_new_version() -> bool:
        processes = loaded(http, swapped)
        return bool(processes) and all(3 in process["versions"] for process in processes)

    until(has_the_new_version, 30, "the new version is loaded")


def test_a_process_that_is_gone_is_not_shown(start: Callable[..., Service]) -> None:
    service = start(workers=1)
    service.http.done(service.http.submit("linear", [[0.1, 0.2, 0.3]])["id"])
    until(lambda: loaded(service.http, "linear"), 30, "a process says that it has the model")
    (process,) = loaded(service.http, "linear")

    pid = int(process["worker"].rpartition(":")[2])
    next(member for member in service.members() if member.pid == pid).kill()

    until(lambda: loaded(service.http, "linear") == [], 30, "it is forgotten")
