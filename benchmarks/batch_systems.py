"""What scores a file: the service, the floor, and two naive ways; each how it is started and how it is given a file."""

import functools
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.batch_files import ModelFile
from benchmarks.connection import VoidRunError
from benchmarks.processes import ProcessGroup
from benchmarks.sampling import Observation
from benchmarks.systems import register, serve_foretell, start_redis

RUN_SECONDS = 3600.0
LOG_SECONDS = 5.0
BLOCK_BYTES = 2**20
MEDIA_TYPES = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Of both the floor's report and the service's log lines; milliseconds there under `<step>_ms`.
STEPS = ("cut", "read", "parse", "predict", "encode", "write", "commit", "join")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One file scored.

    `seconds` is from the accepted upload to the result being ready for the service, and from start to end for a script;
    `start_seconds` of them went before a script had its modules and its model. `steps_seconds` are sums over processes.
    """

    seconds: float
    start_seconds: float = 0.0
    upload_seconds: float = 0.0
    download_seconds: float = 0.0
    steps_seconds: dict[str, float]
    observation: Observation


Score = Callable[[Path, Path], Run]


@dataclass(frozen=True, kw_only=True)
class System:
    """`open` starts in the process group what must run beforehand, warm; what it gives scores a file into another.

    A naive system has a number of processes of its own, and scores a shorter file.
    """

    name: str
    open: Callable[[ProcessGroup, Path, ModelFile, Path, int], Score]
    naive_workers: int | None = None


def _open_floor(processes: ProcessGroup, folder: Path, model: ModelFile, _warm_up: Path, workers: int) -> Score:
    def score(source: Path, result: Path) -> Run:
        arguments = [str(model.artifact), str(source), str(result), "--processes", str(workers)]
        return _run_script(processes, folder, "floor", arguments, dict(os.environ))

    return score


def _open_pandas(processes: ProcessGroup, folder: Path, model: ModelFile, _warm_up: Path, _workers: int) -> Score:
    def score(source: Path, result: Path) -> Run:
        arguments = [str(model.artifact), str(source), str(result)]
        return _run_script(processes, folder, "pandas_loop", arguments, os.environ | ONE_THREAD)

    return score


def _open_celery(processes: ProcessGroup, folder: Path, model: ModelFile, warm_up: Path, workers: int) -> Score:
    redis_url = f"redis://127.0.0.1:{start_redis(processes, folder)}/0"
    environment = os.environ | {
        **ONE_THREAD,
        "CELERY_BROKER_URL": redis_url,
        "CELERY_RESULT_BACKEND": redis_url,
        "PEER_MODELS": str(model.artifact.parent),
    }
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.task_group", "worker", "--pool", "prefork"]
    processes.start("celery", [*command, "-c", str(workers), "--loglevel", "WARNING"], environment)

    def score(source: Path, result: Path) -> Run:
        return _run_script(processes, folder, "task_group", [model.name, str(source), str(result)], environment)

    score(warm_up, folder / "warm-up.csv")
    return score


def _open_foretell(processes: ProcessGroup, folder: Path, model: ModelFile, warm_up: Path, workers: int) -> Score:
    settings = {"FORETELL_WORKERS": str(workers), "FORETELL_DEMO_MODELS": "false"}
    port, environment = serve_foretell(processes, folder, settings)
    register(environment, model.name, model.artifact, model.sample)
    score = functools.partial(_score_by_service, processes, folder / "foretell.log", port, model.name)
    score(warm_up, folder / "warm-up.csv")
    return score


SYSTEMS = (
    System(name="pandas", open=_open_pandas, naive_workers=1),
    System(name="celery", open=_open_celery, naive_workers=2),
    System(name="floor", open=_open_floor),
    System(name="foretell", open=_open_foretell),
)


def _run_script(
    processes: ProcessGroup, folder: Path, peer: str, arguments: Sequence[str], environment: dict[str, str]
) -> Run:
    command = [sys.executable, "-m", f"benchmarks.peers.{peer}", *arguments]
    with Observation(processes) as observation:
        seconds = processes.run(peer, command, environment, seconds=RUN_SECONDS)
    report = json.loads((folder / f"{peer}.log").read_bytes().splitlines()[-1])
    return Run(
        seconds=seconds,
        start_seconds=seconds - report["work_ms"] / 1000,
        steps_seconds=_steps([report]),
        observation=observation,
    )


def _score_by_service(processes: ProcessGroup, log: Path, port: int, model: str, source: Path, result: Path) -> Run:
    log_bytes = log.stat().st_size
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RUN_SECONDS, blocksize=BLOCK_BYTES)
    try:
        started = time.perf_counter()
        job = _upload(connection, f"/jobs?model={model}&key=id&output_format=csv", source)
        accepted = time.perf_counter()
        with Observation(processes) as observation:
            job = _await_done(connection, job)
            done = time.perf_counter()
        if job["status"] != "succeeded":
            raise VoidRunError(f"the job ended {job['status']}: {job['counts']} {job['failure']}")
        _download(connection, f"/jobs/{job['id']}/result", result)
        downloaded = time.perf_counter()
        lines = _logged(log, log_bytes, job["id"])
        _request(connection, "DELETE", f"/jobs/{job['id']}", 204)
    finally:
        connection.close()
    return Run(
        seconds=done - accepted,
        upload_seconds=accepted - started,
        download_seconds=downloaded - done,
        steps_seconds=_steps(lines),
        observation=observation,
    )


def _upload(connection: http.client.HTTPConnection, path: str, source: Path) -> dict[str, Any]:
    """The accepted job."""
    headers = {"Content-Type": MEDIA_TYPES[source.suffix], "Content-Length": str(source.stat().st_size)}
    with source.open("rb") as body:
        try:
            connection.request("POST", path, body, headers)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A refusal may come before the body was read; it says more than the broken pipe.
            raise VoidRunError(f"the upload was refused: {_early_answer(connection)}") from error
        return json.loads(_answer(connection, "POST /jobs", 202).read())  # type: ignore[no-any-return]


def _early_answer(connection: http.client.HTTPConnection) -> str:
    try:
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return "without an answer"


def _await_done(connection: http.client.HTTPConnection, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + RUN_SECONDS
    while not job["done"]:
        if time.monotonic() > deadline:
            raise VoidRunError(f"the job is not done within {RUN_SECONDS:.0f} s: {job}")
        job = json.loads(_request(connection, "GET", f"/jobs/{job['id']}", 200, {"Prefer": "wait=10"}))
    return job


def _download(connection: http.client.HTTPConnection, path: str, target: Path) -> None:
    connection.request("GET", path)
    answer = _answer(connection, f"GET {path}", 200)
    with target.open("wb") as file:
        while block := answer.read(BLOCK_BYTES):
            file.write(block)


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, status: int, headers: dict[str, str] | None = None
) -> bytes:
    connection.request(method, path, headers=headers or {})
    return _answer(connection, f"{method} {path}", status).read()


def _answer(connection: http.client.HTTPConnection, what: str, status: int) -> http.client.HTTPResponse:
    answer = connection.getresponse()
    if answer.status != status:
        raise VoidRunError(f"{what} was answered {answer.status}: {answer.read()[:1000].decode(errors='replace')}")
    return answer


def _logged(log: Path, start: int, job_id: str) -> list[dict[str, Any]]:
    """The `unit.committed` lines of the job; that of the unit that joins may come a moment after the job is done."""
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        with log.open("rb") as file:
            file.seek(start)
            committed = [line for line in file.read().splitlines() if b'"unit.committed"' in line]
        lines = [json.loads(line) for line in committed if line.startswith(b"{") and line.endswith(b"}")]
        lines = [line for line in lines if line.get("job_id") == job_id]
        if any("join_ms" in line for line in lines) or time.monotonic() > deadline:
            return lines
        time.sleep(0.05)


def _steps(reports: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each step that is in the reports."""
    sums = {step: [report[f"{step}_ms"] / 1000 for report in reports if f"{step}_ms" in report] for step in STEPS}
    return {step: sum(seconds) for step, seconds in sums.items() if seconds}
