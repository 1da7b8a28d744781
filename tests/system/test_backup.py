"""`python -m deploy backup` of a service at work, and `python -m deploy restore` elsewhere after everything is gone."""

import json
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kept import short_folder
from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import (
    Barrier,
    HeldFile,
    Job,
    Service,
    kill_all,
    quick_settings,
    register_estimators,
    run_command,
    scored_file,
    send_file,
)
from tests.wait import until

ROWS = b"id,x1,x2,x3\n" + b"".join(b"%d,0.0%d,0.02,0.04\n" % (row, row % 9) for row in range(300)) + b"bad,x,0,0\n"
TRAINING = b"x1,x2,x3,y\n" + b"".join(b"%d,%d,%d,%d\n" % (n, n * n % 7, n % 3, n) for n in range(60))
LARGE_ROWS = 400


def outputs(http: Http, job_id: str) -> dict[str, tuple[int, bytes]]:
    """All that a job gives, as bytes; nothing of a refusal, which names the request."""
    answers = {name: http("GET", f"/jobs/{job_id}/{name}") for name in ("result", "errors", "manifest")}
    return {name: (answer.status, answer.body if answer.status == 200 else b"") for name, answer in answers.items()}


class Submitter:
    """A client that submits small jobs one after another until it is told to end, and knows what was acknowledged."""

    def __init__(self, http: Http) -> None:
        self.acknowledged: list[str] = []
        self._http = http
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            self.acknowledged.append(self._http.submit("linear", [LINEAR])["id"])

    def __enter__(self) -> "Submitter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a service had when its backup began, as its clients saw it, and the backup."""

    folder: Path
    backup: Path
    said: str
    finished: dict[str, Job]
    results: dict[str, dict[str, tuple[int, bytes]]]
    unfinished: list[str]
    acknowledged: list[str]
    meanwhile: list[str]
    half_done: str
    models: Any
    schedule: Any
    history: Any
    file: Job
    gates: list[Path]  # what held jobs wait for


def fill(service: Service) -> dict[str, Job]:
    """Jobs of every kind that are done."""
    http = service.http
    small = http.done(http.submit("linear", [LINEAR])["id"])
    large = http.done(http.submit("linear", [LINEAR] * LARGE_ROWS)["id"])
    failed = http.done(http.submit("lookup", ["unknown"])["id"])
    batch = scored_file(http, ROWS, model="linear@1", key="id")
    trained = http("POST", "/models/linear/retrain?target=y", raw=TRAINING, Content_Type="text/csv")
    assert trained.status == 202, trained.body
    jobs = [small, large, failed, batch, http.done(trained.json["id"])]
    assert [job["status"] for job in jobs] == ["succeeded"] * 2 + ["failed", "partially_succeeded", "succeeded"]
    return {job["id"]: job for job in jobs}


@pytest.fixture(scope="module")
def before() -> Iterator[Before]:
    """Backed up under work; then everything was killed, and its folder removed."""
    with short_folder() as folder:
        settings = quick_settings(folder / "var", inline_result_bytes=1000)
        service = Service(settings)
        http, barrier, held = service.http, Barrier(service.http, folder), HeldFile(service.http, folder)
        try:
            register_estimators(settings)
            finished = fill(service)
            file = http("POST", "/files?name=rows.csv", raw=TRAINING, Content_Type="text/csv").json
            wanted = {"cron": "0 3 1 1 *", "input": {"file_id": file["id"]}, "target": "y"}
            assert http("PUT", "/models/linear/schedule", wanted).status in (200, 201)
            moved = http("PUT", "/models/linear/aliases/stable", {"version": 1})
            assert moved.status == 200, moved.body
            half_done = held.half_done()["id"]
            running = [barrier.hold()["id"] for _ in range(settings.workers)]
            waiting = [
                http.submit("linear", [LINEAR])["id"],
                send_file(http, ROWS, model="linear@1", key="id").json["id"],
            ]
            with Submitter(http) as submitter:
                until(lambda: submitter.acknowledged, what="the client submits")
                acknowledged = list(submitter.acknowledged)
                done = run_command(settings, "backup", str(folder / "backup"))
            seen = Before(
                folder=folder,
                backup=folder / "backup",
                said=done.stdout,
                finished=finished,
                results={job_id: outputs(http, job_id) for job_id in finished},
                unfinished=[half_done, *running, *waiting],
                acknowledged=acknowledged,
                meanwhile=submitter.acknowledged,
                half_done=half_done,
                models=http("GET", "/models").json,
                schedule=http("GET", "/models/linear/schedule").json,
                history=http("GET", "/models/linear/aliases/production").json,
                file=file,
                gates=[*barrier.gates, held.gate],
            )
            assert done.returncode == 0, done.stderr
        finally:
            members = service.members()
            kill_all(members)
            psutil.wait_procs(members, timeout=30)
            service.stop()
            shutil.rmtree(settings.data_dir)
        yield seen


@pytest.fixture(scope="module")
def restored(before: Before) -> Iterator[Service]:
    """A service on the restored backup: in another folder, under another prefix."""
    settings = quick_settings(
        before.folder / "elsewhere", redis_prefix="other", inline_result_bytes=1000, demo_models=False
    )
    done = run_command(settings, "restore", str(before.backup))
    assert done.returncode == 0, done.stderr
    for gate in before.gates:  # else what was under way would hold up the rest for as long as no test lets it go
        gate.touch()
    service = Service(settings)
    try:
        yield service
    finally:
        service.stop()


def test_what_it_holds_is_told(before: Before) -> None:
    assert before.said.startswith(f"{before.backup} holds ")
    assert " versions of models and 1 uploaded files as of " in before.said


def test_nobody_else_may_read_it(before: Before) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (before.backup, *before.backup.rglob("*"))}

    assert modes == {0}


def test_it_holds_nothing_of_what_is_made_again(before: Before) -> None:
    files = [path.relative_to(before.backup / "storage") for path in before.backup.glob("storage/jobs/*/*")]

    assert {path.name for path in files} >= {"input", "manifest.json", "errors.jsonl"}
    assert not {"parts", "unpacked"} & {path.name for path in files}


class TestRestored:
    """On another folder and prefix than before."""

    def test_what_was_done_is_there_as_it_was(self, before: Before, restored: Service) -> None:
        jobs = {job_id: restored.http("GET", f"/jobs/{job_id}").json for job_id in before.finished}

        assert jobs == before.finished

    def test_results_are_the_same_bytes(self, before: Before, restored: Service) -> None:
        results = {job_id: outputs(restored.http, job_id) for job_id in before.finished}

        assert results == before.results

    def test_every_job_that_was_acknowledged_before_it_began_is_there_and_ends(
        self, before: Before, restored: Service
    ) -> None:
        ended = [restored.http.done(job_id) for job_id in before.acknowledged]

        assert {job["status"] for job in ended} == {"succeeded"}

    def test_a_job_that_was_acknowledged_meanwhile_is_there_as_a_whole_or_not_at_all(
        self, before: Before, restored: Service
    ) -> None:
        answers = [restored.http("GET", f"/jobs/{job_id}") for job_id in before.meanwhile]

        there = [answer.status == 200 for answer in answers]
        assert there == sorted(there, reverse=True)
        assert {answer.status for answer in answers} <= {200, 404}

    def test_what_was_under_way_ends(self, before: Before, restored: Service) -> None:
        ended = [restored.http.done(job_id, 90) for job_id in before.unfinished]

        assert [(job["id"], job["status"]) for job in ended if job["status"] != "succeeded"] == [
            (before.unfinished[-1], "partially_succeeded")
        ]
        counts = restored.http("GET", f"/jobs/{before.half_done}").json["counts"]
        assert counts == {"total": HeldFile.ROWS, "pending": 0, "succeeded": HeldFile.ROWS, "failed": 0, "skipped": 0}

    def test_a_job_over_a_file_that_began_again_gives_the_same_bytes(self, before: Before, restored: Service) -> None:
        (calm,) = [job_id for job_id, job in before.finished.items() if job["kind"] == "batch"]
        ended = restored.http.done(before.unfinished[-1])

        assert outputs(restored.http, ended["id"])["result"] == before.results[calm]["result"]

    def test_models_aliases_history_and_schedule_are_as_they_were(self, before: Before, restored: Service) -> None:
        assert without_workers(restored.http("GET", "/models").json) == without_workers(before.models)
        assert restored.http("GET", "/models/linear/aliases/production").json == before.history
        assert restored.http("GET", "/models/linear/schedule").json == before.schedule

    def test_their_copies_in_storage_are_written_anew(self, before: Before, restored: Service) -> None:
        folder = restored.settings.data_dir / "storage" / "models" / "linear"

        until(lambda: (folder / "aliases.json").exists() and (folder / "schedule.json").exists(), 30, "both are there")

        assert json.loads((folder / "aliases.json").read_bytes())["aliases"]["stable"]["version"] == 1

    def test_an_uploaded_file_can_be_used(self, before: Before, restored: Service) -> None:
        about = {"model": "linear@1", "input": {"file_id": before.file["id"]}}
        answer = restored.http("POST", "/jobs", about)

        assert answer.status == 202, answer.body
        assert restored.http.done(answer.json["id"])["status"] == "succeeded"


def without_workers(models: Any) -> Any:
    """What GET /models says, but for what processes say at the moment."""
    return [{name: value for name, value in model.items() if name != "loaded"} for model in models["models"]]


def copy_of(before: Before, folder: Path) -> Path:
    """A backup that may be damaged."""
    shutil.copytree(before.backup, folder / "backup")
    return folder / "backup"


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def some_result(backup: Path) -> str:
    """The result of the job over a file."""
    return str(next(backup.glob("storage/jobs/*/result.csv")).relative_to(backup))


@pytest.mark.parametrize("name", ["backup.json", "records.resp", "files.jsonl", "a result"])
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["a-flipped-bit", "a-missing-file"])
def test_a_damaged_backup_is_refused_by_name(before: Before, folder: Path, name: str, damage: Any) -> None:
    backup = copy_of(before, folder)
    file = backup / (some_result(backup) if name == "a result" else name)
    damage(file)
    settings = quick_settings(folder / "var")

    done = run_command(settings, "restore", str(backup))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert str(file) in done.stderr
    assert not settings.data_dir.exists()


def test_a_place_that_is_not_empty_is_left_alone(before: Before, folder: Path) -> None:
    settings = quick_settings(folder / "var")
    assert run_command(settings, "restore", str(before.backup)).returncode == 0

    again = run_command(settings, "restore", str(before.backup))

    assert (again.returncode, again.stdout) == (1, "")
    assert "--replace" in again.stderr


def test_it_can_be_restored_over_what_is_there(before: Before, folder: Path) -> None:
    settings = quick_settings(folder / "var")
    assert run_command(settings, "restore", str(before.backup)).returncode == 0
    stranger = settings.data_dir / "storage" / "jobs" / "stranger"
    stranger.mkdir()
    (stranger / "input").touch()

    again = run_command(settings, "restore", str(before.backup), "--replace")

    assert again.returncode == 0, again.stderr
    assert not stranger.exists()


def test_a_service_that_runs_is_left_alone(before: Before, restored: Service) -> None:
    done = run_command(restored.settings, "restore", str(before.backup), "--replace")

    assert (done.returncode, done.stdout) == (1, "")
    assert "another Foretell runs" in done.stderr
    assert restored.ready()


def test_a_folder_that_is_not_empty_is_no_place_for_a_backup(before: Before) -> None:
    files = sorted(before.backup.rglob("*"))

    done = run_command(quick_settings(before.folder / "var2"), "backup", str(before.backup))

    assert (done.returncode, done.stdout) == (1, "")
    assert "is not empty" in done.stderr
    assert sorted(before.backup.rglob("*")) == files


def test_a_service_that_does_not_run_can_be_backed_up(before: Before, folder: Path) -> None:
    settings = quick_settings(folder / "var")
    assert run_command(settings, "restore", str(before.backup)).returncode == 0

    done = run_command(settings, "backup", str(folder / "second"))

    assert done.returncode == 0, done.stderr
    assert (folder / "second" / "files.jsonl").read_bytes() == (before.backup / "files.jsonl").read_bytes()
