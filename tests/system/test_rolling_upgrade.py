"""Two versions of the service side by side: one replaces the other process by process, and goes back again."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from deploy.commands import root
from shared.queue import BATCH, CONTROL, ONLINE
from shared.settings import Settings
from tests.kept import short_folder
from tests.models import FINE, SLOW, register_moody
from tests.processes import Answer, Http, Process, RedisServer, free_port, start_api, start_scheduler, start_worker
from tests.system.service import Job
from tests.versions import next_version
from tests.wait import until

Version = Literal["old", "new"]
ROWS: Final = 60


class Fleet:
    """Processes of both versions on one Redis, and the jobs that clients sent."""

    def __init__(self, folder: Path) -> None:
        self.folders: dict[Version, Path] = {"old": root(), "new": next_version(folder / "next")}
        quick = {
            "lease_seconds": 300, "janitor_seconds": 0.5, "workers": 1, "api_processes": 1, "slice_bytes": 10,
            "max_chunk_slices": 1, "max_attempts": 1, "log_format": "json",
        }  # fmt: skip
        self.settings = Settings.model_validate(quick | {"data_dir": folder / "var", "port": free_port()})
        self.redis = RedisServer(self.settings)
        self.ports: dict[Version, int] = {"old": free_port(), "new": free_port()}
        self.running: dict[tuple[str, Version], Process] = {}
        self.others: list[Process] = []

    def start(self, what: str, version: Version) -> None:
        """Start an API, or the worker of a queue."""
        port = {"port": self.ports[version]} if what == "api" else {}
        settings = self.settings.model_copy(update=port)
        folder = self.folders[version]
        process = start_api(settings, folder) if what == "api" else start_worker(settings, what, folder=folder)
        self.running[what, version] = process

    def end(self, what: str, version: Version) -> None:
        """Stop it in order."""
        process = self.running.pop((what, version))
        assert process.stop(60) == 0, process.text()

    def replace(self, what: str, old: Version, new: Version) -> None:
        """Have one version take the place of the other."""
        self.start(what, new)
        self.end(what, old)

    def http(self, version: Version) -> Http:
        """A client of the API of this version."""
        return Http(self.ports[version])

    def stop(self) -> None:
        """End everything."""
        for process in (*self.running.values(), *self.others):
            process.stop()
        self.redis.stop()


@dataclass
class Clients:
    """Somebody who submits all the time, to whatever API answers, with an Idempotency-Key for each job."""

    fleet: Fleet
    accepted: dict[str, tuple[str, float]] = field(default_factory=dict)  # key -> job, first feature
    refused: list[Answer] = field(default_factory=list)
    _number: int = 0

    def submit(self, version: Version, key: str, value: float) -> Answer:
        """One try at one API."""
        body = {"model": "moody", "instances": [[value]]}
        return self.fleet.http(version)("POST", "/jobs", body, Idempotency_Key=key)

    def submit_until_accepted(self) -> None:
        """A new job, again and again with the same key."""
        self._number += 1
        key, value = f"job-{self._number}", FINE + 1000 + self._number

        def accepted() -> bool:
            for version in ("new", "old"):
                if ("api", version) not in self.fleet.running:
                    continue
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answer = self.submit(version, key, value)
                    if answer.status == 202:
                        self.accepted[key] = answer.json["id"], value
                        return True
                    if answer.status != 503:
                        self.refused.append(answer)
            return False

        until(accepted, 120, f"{key} is accepted")

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Submit in the background."""
        enough = threading.Event()

        def go_on() -> None:
            while not enough.wait(0.05):
                self.submit_until_accepted()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


@dataclass(kw_only=True)
class Seen:
    """What became of the jobs."""

    jobs: dict[str, Job]  # by key
    values: dict[str, float]
    refused: list[Answer]
    listed: list[str]
    file: Job
    scorers: int  # workers that scored a part of it
    same: tuple[str, str]  # of one key at the old API and at the new one
    newer: list[Job]  # what the new API said of new jobs while only old workers were there
    told_by_old: Answer
    older_meanwhile: Job
    newer_later: list[Job]
    log: str


def file_of(rows: int) -> bytes:
    return "\n".join(["id,x", *(f"{number},{SLOW + 0.5}" for number in range(rows))]).encode()


def upgrade_and_rollback(fleet: Fleet) -> Seen:
    register_moody(fleet.settings)
    fleet.others.append(start_worker(fleet.settings, CONTROL))
    fleet.others.append(start_scheduler(fleet.settings))
    for what in (ONLINE, BATCH, "api"):
        fleet.start(what, "old")
    clients = Clients(fleet)
    with clients.busy():
        fleet.replace(ONLINE, "old", "new")
        fleet.start(BATCH, "new")
        sent = fleet.http("old")("POST", "/jobs?model=moody&key=id", raw=file_of(ROWS), Content_Type="text/csv")
        until(lambda: scorers(fleet) == 2, 120, "workers of both versions score the file")
        fleet.end(BATCH, "old")
        fleet.start("api", "new")
        first = clients.submit("old", "same", FINE).json["id"]
        same = first, clients.submit("new", "same", FINE).json["id"]
        fleet.end("api", "old")
        # And back, in the other order.
        fleet.replace("api", "new", "old")
    fleet.start("api", "new")
    client = fleet.http("new")
    jobs = {key: client.done(job_id, 120) for key, (job_id, _) in clients.accepted.items()}
    file = client.done(sent.json["id"], 120)
    fleet.replace(ONLINE, "new", "old")
    newer = [clients.submit("new", f"newer-{number}", FINE).json["id"] for number in range(5)]
    older = fleet.http("old").done(fleet.http("old").submit("moody", [[FINE]])["id"], 120)
    aside = f"{{{fleet.settings.redis_prefix}}}:aside:{ONLINE}"
    until(lambda: fleet.redis.client.zcard(aside) == len(newer), 60, "the old worker has seen all of them")
    waiting = [fleet.http("new")("GET", f"/jobs/{job_id}").json for job_id in newer]
    told = fleet.http("old")("GET", f"/jobs/{newer[0]}")
    fleet.start(ONLINE, "new")
    later = [client.done(job_id, 120) for job_id in newer]
    return Seen(
        jobs=jobs,
        values={key: value for key, (_, value) in clients.accepted.items()},
        refused=clients.refused,
        listed=listed(client),
        file=file,
        scorers=scorers(fleet),
        same=same,
        newer=waiting,
        told_by_old=told,
        older_meanwhile=older,
        newer_later=later,
        log="".join(path.read_text() for path in sorted(fleet.settings.data_dir.glob("*.log"))),
    )


def scorers(fleet: Fleet) -> int:
    """How many workers have scored a part of a file."""
    logs = fleet.settings.data_dir.glob("worker-batch-*")
    return sum('"kind":"chunk"' in path.read_text() for path in logs)


def listed(client: Http) -> list[str]:
    """The ids of all jobs that there are."""
    ids: list[str] = []
    cursor = ""
    while True:
        page: dict[str, Any] = client("GET", f"/jobs?limit=100{cursor and '&cursor='}{cursor}").json
        ids += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            return ids
        cursor = page["next"]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with short_folder() as folder:
        fleet = Fleet(folder)
        try:
            yield upgrade_and_rollback(fleet)
        finally:
            fleet.stop()


def test_every_job_that_was_accepted_meanwhile_succeeds_with_its_own_prediction(seen: Seen) -> None:
    assert len(seen.jobs) > 20
    assert {key: job["status"] for key, job in seen.jobs.items()} == dict.fromkeys(seen.jobs, "succeeded")
    assert {key: job["result"]["predictions"] for key, job in seen.jobs.items()} == {
        key: [value * 2] for key, value in seen.values.items()
    }


def test_no_job_needs_a_second_attempt(seen: Seen) -> None:
    assert {job["attempt"] for job in seen.jobs.values()} == {1}


def test_no_job_is_doubled(seen: Seen) -> None:
    ids = [job["id"] for job in seen.jobs.values()]

    # Beside them: the file, the key that both were sent, one of old and five of new.
    assert len(set(ids)) == len(ids)
    assert len(seen.listed) == len(ids) + 1 + 1 + 1 + len(seen.newer)


def test_no_client_is_refused_for_another_reason_than_that_a_retry_mends(seen: Seen) -> None:
    assert [answer.body for answer in seen.refused] == []


def test_a_key_means_the_same_job_to_both_versions(seen: Seen) -> None:
    assert seen.same[0] == seen.same[1]


def test_a_file_is_scored_by_workers_of_both_versions(seen: Seen) -> None:
    assert (seen.file["status"], seen.file["counts"]["succeeded"]) == ("succeeded", ROWS)
    assert seen.scorers == 2


def test_newer_jobs_wait_for_newer_workers_and_cost_no_attempt(seen: Seen) -> None:
    assert [(job["status"], job["attempt"], job["revision"]) for job in seen.newer] == [("queued", 0, 1)] * 5
    assert [(job["status"], job["attempt"]) for job in seen.newer_later] == [("succeeded", 1)] * 5


def test_older_workers_go_on_with_what_they_can_read(seen: Seen) -> None:
    assert seen.older_meanwhile["status"] == "succeeded"


def test_an_older_api_says_that_it_cannot_read_a_newer_job(seen: Seen) -> None:
    answer = seen.told_by_old

    assert (answer.status, answer.json["code"]) == (503, "newer_schema")
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def test_nothing_crashes_on_the_way(seen: Seen) -> None:
    assert '"level":"error"' not in seen.log
    assert "Traceback" not in seen.log
