"""A service as a user starts it, with a folder and a port of its own, and a gate that holds jobs while a test looks."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import joblib
import psutil
import pyarrow as pa

from deploy.commands import root
from shared.settings import Settings
from tests.models import registry_of
from tests.processes import Answer, Http, Process, clean_environment, free_port, start_service
from tests.rabbitmq import chosen_broker
from tests.system.estimators import KNOWN_TEXT, Gate, Lookup
from tests.wait import until
from worker.registration import register

Job = dict[str, Any]


def quick_settings(data_dir: Path, **values: Any) -> Settings:
    """Settings with short pauses, on a free port."""
    quick = {
        "data_dir": data_dir,
        "port": free_port(),
        "workers": 2,
        "lease_seconds": 2,
        "janitor_seconds": 0.5,
        "metrics_seconds": 0.5,
        "log_format": "json",
    }
    return Settings.model_validate(quick | chosen_broker() | values)


class Service:
    """`python -m deploy`, ready, and a client of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = Http(settings.port)
        self.process = start_service(settings)

    @property
    def address(self) -> str:
        """Where it can be reached."""
        return f"http://127.0.0.1:{self.settings.port}"

    def members(self) -> list[psutil.Process]:
        """Its processes that run."""
        return processes_of(self.settings)

    def logged(self) -> list[dict[str, Any]]:
        """The structured lines of its log, oldest first; without one that is just being written."""
        lines = self.process.text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def ready(self) -> bool:
        """Whether it says that jobs can be done."""
        return self.http.alive() and self.http("GET", "/readyz").status == 200

    def stop(self) -> int:
        """End it in order, with everything that it left; its exit code."""
        exit_code = self.process.stop(60)
        kill_all(self.members())
        return exit_code


def start_unready(settings: Settings) -> Process:
    """`python -m deploy`, which is still starting."""
    log = settings.data_dir.parent / f"starting-{settings.port}.log"
    process = Process([sys.executable, "-m", "deploy"], clean_environment(settings), log)
    until(lambda: process.children() or process.popen.poll() is not None, what="the first child is started")
    return process


def run_command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m deploy ...` with these settings, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        env=clean_environment(settings),
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def processes_of(settings: Settings) -> list[psutil.Process]:
    """Every process that works on the data folder of these settings, whoever its parent is."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended, or belongs to somebody else
            if process.environ().get("FORETELL_DATA_DIR") == str(settings.data_dir) and alive(process):
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill what still runs of some processes, which should have ended by themselves."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def press_ctrl_c(process: Process) -> None:
    """Send SIGINT to the whole process group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def register_estimators(settings: Settings) -> None:
    """Register `gate` and `lookup` in the registry of a service that runs."""
    for name, estimator, sample in (("gate", Gate(), {"path": ["/"]}), ("lookup", Lookup(), {"text": [KNOWN_TEXT]})):
        artifact = io.BytesIO()
        joblib.dump(estimator, artifact)
        register(registry_of(settings), name, artifact.getvalue(), format="joblib", sample=pa.table(sample))


class Barrier:
    """Jobs of the model `gate`, each of which holds one prediction process until it is let through."""

    def __init__(self, http: Http, folder: Path) -> None:
        self._http = http
        self._folder = folder
        self._jobs: dict[str, Path] = {}

    @property
    def gates(self) -> list[Path]:
        """The files that its jobs wait for."""
        return list(self._jobs.values())

    def submit(self, **more: Any) -> Job:
        """A job that does not end before it is let through."""
        path = self._folder / f"gate-{uuid.uuid4().hex}"
        job = self._http.submit("gate", [str(path)], **more)
        self._jobs[job["id"]] = path
        return job

    def hold(self) -> Job:
        """A job that runs, and does not end before it is let through."""
        job = self.submit()
        until(lambda: self._read(job["id"])["status"] == "running", 60, "the held job runs")
        return self._read(job["id"])

    def let_through(self, job_id: str) -> None:
        """Let one job end."""
        self._jobs[job_id].touch()

    def open(self) -> None:
        """Let all jobs end, and wait until they have."""
        for path in self._jobs.values():
            path.touch()
        until(lambda: all(self._read(job_id).get("done", True) for job_id in self._jobs), 60, "no job is held any more")

    def _read(self, job_id: str) -> Job:
        job: Job = self._http("GET", f"/jobs/{job_id}").json
        return job


def send_file(
    http: Http, data: bytes, *, media_type: str = "text/csv", headers: Mapping[str, str] | None = None, **query: Any
) -> Answer:
    """The answer to a file with the options of its job."""
    sent: dict[str, Any] = {"Content_Type": media_type, **(headers or {})}
    return http("POST", f"/jobs?{urlencode(query)}", raw=data, **sent)


def scored_file(http: Http, data: bytes, **options: Any) -> Job:
    """A job over a file, done."""
    answer = send_file(http, data, **options)
    assert answer.status == 202, answer.body
    return http.done(answer.json["id"])


def files_below(service: Service, folder: str) -> set[str]:
    """All files below a folder of the storage, also those that are still being written."""
    root = service.settings.data_dir / "storage" / folder
    # Unlike rglob it does not mind that folders vanish meanwhile.
    return {str(Path(place, name).relative_to(root)) for place, _, names in os.walk(root) for name in names}


class HeldFile:
    """A file of large rows for the model `gate`: its first half is scored at once, the second when it is let through.

    Each half is a slice of usual size, which is nine rows, and the first chunk is a single slice.
    """

    AT_ONCE = 9
    ROWS = 18

    def __init__(self, http: Http, folder: Path) -> None:
        self._http = http
        self.gate = folder / f"gate-{uuid.uuid4().hex}"
        self._job_ids: list[str] = []
        padding = "x" * 900_000
        paths = ["/"] * self.AT_ONCE + [str(self.gate)] * (self.ROWS - self.AT_ONCE)
        self.data = "\n".join(["path,padding", *(f"{path},{padding}" for path in paths)]).encode()

    def submit(self, **query: Any) -> Job:
        """A job over it that waits, or runs."""
        answer = send_file(self._http, self.data, model="gate", **query)
        assert answer.status == 202, answer.body
        self._job_ids.append(answer.json["id"])
        job: Job = answer.json
        return job

    def half_done(self, **query: Any) -> Job:
        """A job over it of which all is scored that can be."""
        job_id = self.submit(**query)["id"]

        def half() -> bool:
            counts = self._read(job_id)["counts"]
            return bool(counts["succeeded"] == self.AT_ONCE and counts["total"] == self.ROWS)

        until(half, 60, "what can be scored is")
        return self._read(job_id)

    def let_through(self) -> None:
        """Let it be scored to its end."""
        self.gate.touch()

    def end(self) -> None:
        """See that no job holds a process any more."""
        self.let_through()
        until(lambda: all(self._read(job_id).get("done", True) for job_id in self._job_ids), 60, "no file is held")

    def _read(self, job_id: str) -> Job:
        job: Job = self._http("GET", f"/jobs/{job_id}").json
        return job
