"""What scores a file: the service, the floor, naive ways and peers; how each is started and given a file."""

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
from benchmarks.environment import UnavailableError, interpreter
from benchmarks.peer_systems import SAVE_SECONDS, ray_environment
from benchmarks.processes import ProcessGroup
from benchmarks.sampling import Observation
from benchmarks.systems import celery_on, register, serve_foretell, start_redis

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
    `start_seconds` of them went before a script had its modules, its model and its processes; they are the same for any
    file. `steps_seconds` are sums over processes.
    """

    seconds: float
    start_seconds: float = 0.0
    upload_seconds: float = 0.0
    download_seconds: float = 0.0
    steps_seconds: dict[str, float]
    observation: Observation


Score = Callable[[Path, Path], Run]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a system is given beforehand.

    `warm_up` is a short file of the same kind of rows. Of the service alone: `accelerate` is how the model is to be
    faster, a word of `python -m worker register --accelerate`, and with a `shared_folder` it reads files where they
    lie in there instead of being sent them.
    """

    model: ModelFile
    warm_up: Path
    workers: int
    accelerate: str = ""
    shared_folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class System:
    """`open` starts in the process group what must run beforehand, warm; what it gives scores a file into another.

    `setup` says how it is set up, in Markdown. A naive system has a number of processes of its own, and scores a
    shorter file. So does a peer with an `environment` (environment.py).
    """

    name: str
    setup: str
    open: Callable[[ProcessGroup, Path, Setup], Score]
    naive_workers: int | None = None
    environment: str = ""


def _open_floor(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    model = setup.model

    def score(source: Path, result: Path) -> Run:
        files = [str(model.artifact), str(source), str(result)]
        arguments = [*files, "--processes", str(setup.workers), "--kind", model.kind]
        return _run_script(processes, folder, sys.executable, "floor", arguments, dict(os.environ))

    return score


def _open_pandas(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    def score(source: Path, result: Path) -> Run:
        arguments = [str(setup.model.artifact), str(source), str(result)]
        return _run_script(processes, folder, sys.executable, "pandas_loop", arguments, os.environ | ONE_THREAD)

    return score


def _open_celery(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    environment = os.environ | ONE_THREAD | celery_on(start_redis(processes, folder))
    environment |= {"PEER_MODELS": str(setup.model.artifact.parent)}
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.task_group", "worker", "--pool", "prefork"]
    processes.start("celery", [*command, "-c", str(setup.workers), "--loglevel", "WARNING"], environment)

    def score(source: Path, result: Path) -> Run:
        arguments = [setup.model.name, str(source), str(result)]
        return _run_script(processes, folder, sys.executable, "task_group", arguments, environment)

    score(setup.warm_up, folder / "warm-up.csv")
    return score


def _open_mlflow(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    python, stored = interpreter("mlflow"), folder / "model"
    environment = os.environ | ONE_THREAD | {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    save = [str(python), "-m", "benchmarks.peers.mlflow_model", str(setup.model.artifact), str(stored)]
    processes.run("mlflow-save", save, environment, seconds=SAVE_SECONDS)

    def score(source: Path, result: Path) -> Run:
        arguments = [str(stored), str(source), str(result)]
        return _run_script(processes, folder, str(python), "mlflow_file", arguments, environment)

    return score


def _open_ray(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    environment = os.environ | ONE_THREAD | ray_environment(folder)

    def score(source: Path, result: Path) -> Run:
        arguments = [str(setup.model.artifact), str(source), str(result)]
        return _run_script(processes, folder, str(interpreter("ray")), "ray_data", arguments, environment)

    return score


def _open_foretell(processes: ProcessGroup, folder: Path, setup: Setup) -> Score:
    model, settings = setup.model, {"FORETELL_WORKERS": str(setup.workers), "FORETELL_DEMO_MODELS": "false"}
    if setup.shared_folder:
        settings["FORETELL_INPUT_PREFIXES"] = f"{setup.shared_folder.resolve().as_uri()}/"
    port, environment = serve_foretell(processes, folder, settings)
    faster = ["--accelerate", setup.accelerate] if setup.accelerate else []
    register(environment, model.name, model.artifact, model.sample, *faster)
    if setup.accelerate:
        _check_accelerated(port, model.name)
    by_reference = setup.shared_folder is not None
    score = functools.partial(
        score_by_service, processes, folder / "foretell.log", port, model.name, by_reference=by_reference
    )
    score(setup.warm_up, folder / "warm-up.csv")
    return score


def _check_accelerated(port: int, model: str) -> None:
    """Raises UnavailableError if the service has decided that the model is not faster that way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LOG_SECONDS)
    try:
        found = json.loads(_request(connection, "GET", f"/models/{model}/versions/1", 200))["accelerated"]
    finally:
        connection.close()
    if not found.get("used"):
        raise UnavailableError(f"{model} is not accelerated: {found.get('reason', 'nothing is told of it')}")


SYSTEMS = (
    System(
        name="pandas",
        setup="`read_csv` in chunks of 50,000 rows, `predict`, `to_csv`; 1 process",
        open=_open_pandas,
        naive_workers=1,
    ),
    System(
        name="celery",
        setup="a group of tasks of 10,000 rows each, as JSON through Redis; 2 processes, warm",
        open=_open_celery,
        naive_workers=2,
    ),
    System(
        name="mlflow",
        setup="a stored model as a pyfunc, chunks of 50,000 rows from pandas; 1 process",
        open=_open_mlflow,
        naive_workers=1,
        environment="mlflow",
    ),
    System(
        name="ray-data",
        setup="`map_batches` with batches of 50,000 rows and 2 actors, the order kept",
        open=_open_ray,
        naive_workers=2,
        environment="ray",
    ),
    System(
        name="floor",
        setup="a script with pyarrow and a process for each worker, no service, no fsync",
        open=_open_floor,
    ),
    System(
        name="foretell",
        setup="`python -m deploy` with that many workers, warm; from the accepted upload to the result being ready",
        open=_open_foretell,
    ),
)


def _run_script(
    processes: ProcessGroup,
    folder: Path,
    python: str,
    peer: str,
    arguments: Sequence[str],
    environment: dict[str, str],
) -> Run:
    """Of its last line, `work_ms` is what grows with the rows; all else is its start, that of its processes too."""
    command = [python, "-m", f"benchmarks.peers.{peer}", *arguments]
    with Observation(processes) as observation:
        seconds = processes.run(peer, command, environment, seconds=RUN_SECONDS)
    report = json.loads((folder / f"{peer}.log").read_bytes().splitlines()[-1])
    return Run(
        seconds=seconds,
        start_seconds=seconds - report["work_ms"] / 1000,
        steps_seconds=_steps([report]),
        observation=observation,
    )


def score_by_service(
    processes: ProcessGroup, log: Path, port: int, model: str, source: Path, result: Path, *, by_reference: bool = False
) -> Run:
    """Send a file to a running service that logs there, or name it, and take its result. Raises VoidRunError."""
    log_bytes = log.stat().st_size
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RUN_SECONDS, blocksize=BLOCK_BYTES)
    try:
        started = time.perf_counter()
        if by_reference:
            job = _named_file(connection, model, source)
        else:
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


def _named_file(connection: http.client.HTTPConnection, model: str, source: Path) -> dict[str, Any]:
    """The accepted job over a file that the service reads where it lies."""
    asked = {"model": model, "input": {"uri": source.resolve().as_uri()}, "key": "id", "output_format": "csv"}
    connection.request("POST", "/jobs", json.dumps(asked).encode(), {"Content-Type": "application/json"})
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
