"""The systems of others, each in its own environment (environment.py): how it is started, and how it is asked.

What their documents advise for throughput is named with its page in the module of each in peers/, or here where a
system is configured and not programmed.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.dialects import BENTOML, BENTOML_TASK, INVOCATIONS, PREDICT, TASK, TENSORS
from benchmarks.environment import interpreter
from benchmarks.processes import ProcessGroup, free_port, port_answers
from benchmarks.questions import BenchModel
from benchmarks.systems import (
    OWN_SYSTEMS,
    START_SECONDS,
    WAITING_WORKERS,
    System,
    answers_200,
    celery_on,
    peer_environment,
    start_gunicorn,
    start_redis,
)

SAVE_SECONDS = 120.0
SOCKET_FOLDER_BYTES = 45
# The first is advised by "Performance Tuning" (docs.ray.io/en/latest/serve/advanced-guides/performance.html). It lets
# clients ask a replica too, which nobody does here, but a replica that ends would wait half a minute for such. HAProxy,
# which Ray can put before its replicas, is not used: its statistics listen on all interfaces.
SERVE_SETTINGS = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}


def _start_rq(processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    redis_url = start_redis(processes, folder).url
    environment = peer_environment(model) | {"RQ_REDIS_URL": redis_url}
    python = str(interpreter("rq"))
    worker = [python, "-m", "rq.cli", "worker-pool", "--num-workers", "2", "--worker-class", "rq.worker.SimpleWorker"]
    processes.start("workers", [*worker, "--url", redis_url, "--quiet"], environment)
    return start_gunicorn(processes, python, "rq_jobs", environment, workers=WAITING_WORKERS)


def _start_bentoml(service: str, processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    port = free_port()
    environment = peer_environment(model) | {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    command = [str(interpreter("bentoml")), "-m", "bentoml", "serve", f"benchmarks.peers.{service}"]
    processes.start("bentoml", [*command, "--host", "127.0.0.1", "--port", str(port), "--quiet"], environment)
    return _ready(processes, port, "/readyz")


def _start_litserve(processes: ProcessGroup, _folder: Path, model: BenchModel) -> int:
    port = free_port()
    command = [str(interpreter("litserve")), "-m", "benchmarks.peers.litserve_api", str(port)]
    processes.start("litserve", command, peer_environment(model))
    return _ready(processes, port, "/health")


def _start_mlserver(
    workers: int, batching: dict[str, Any], processes: ProcessGroup, folder: Path, model: BenchModel
) -> int:
    """MLServer's runtime for scikit-learn, with a pool of so many processes, or without one for 0.

    Follows "Adaptive Batching" and "Parallel Inference" (docs.seldon.ai/mlserver/user-guide). `parallel_workers` 0, 1
    and 2 were tried, each as `python -m benchmarks.online --only mlserver mlserver-batching 16 64 1-row linear-bench
    forest-bench --rounds 1` measures; 1 was slower than one of the others but once.

    Without batches, 2 did 1.4 to 1.6 times the jobs of 0 with the forest, and 0.6 to 0.7 times with the linear model.
    None is the best of both, so there is a process for each core, which "Inference" advises for throughput
    (docs.seldon.ai/seldon-core-2/user-guide/performance-tuning/models/inference). With batches, 2 did 0.7 to 1.0 times
    the jobs of 0 with the forest, and 0.9 to 1.0 times with the linear model, so there is no pool.
    """
    port = free_port()
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "debug": False}
    settings = server | {"metrics_endpoint": None, "parallel_workers": workers}
    (folder / "settings.json").write_text(json.dumps(settings))
    served = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel"}
    (folder / "model-settings.json").write_text(
        json.dumps(served | {"parameters": {"uri": str(model.artifact)}} | batching)
    )
    # Not `-m mlserver`, which has no such module.
    command = [str(interpreter("mlserver").with_name("mlserver")), "start", str(folder)]
    processes.start("mlserver", command, peer_environment(model))
    return _ready(processes, port, "/v2/models/bench/ready")


def _start_mlflow(processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    port, stored = free_port(), folder / "model"
    environment = peer_environment(model) | {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    python = interpreter("mlflow")
    # The command looks for `uvicorn` by name.
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    save = [str(python), "-m", "benchmarks.peers.mlflow_model", str(model.artifact), str(stored)]
    processes.run("mlflow-save", save, environment, seconds=SAVE_SECONDS)
    command = [str(python), "-m", "mlflow", "models", "serve", "--model-uri", str(stored), "--env-manager", "local"]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    processes.start("mlflow", [*command, *address], environment)
    return _ready(processes, port, "/ping")


def _start_ray(application: str, processes: ProcessGroup, folder: Path, model: BenchModel) -> int:
    port = free_port()
    environment = peer_environment(model) | ray_environment(folder) | SERVE_SETTINGS
    if application == "ray_tasks":
        environment |= celery_on(start_redis(processes, folder))
    command = [str(interpreter("ray")), "-m", f"benchmarks.peers.{application}", str(port)]
    processes.start(application, command, environment)
    return _ready(processes, port, "/-/routes")


def ray_environment(folder: Path) -> dict[str, str]:
    """What keeps Ray to a folder. Its sockets, 61 bytes below it, must have paths of 107 bytes at most: unix(7)."""
    kept = {"RAY_USAGE_STATS_ENABLED": "0", "HOME": str(folder)}
    return kept | ({"RAY_TMPDIR": str(folder)} if len(str(folder)) <= SOCKET_FOLDER_BYTES else {})


def _ready(processes: ProcessGroup, port: int, path: str) -> int:
    """The port, once a GET of the path says that the system is ready."""
    url = f"http://127.0.0.1:{port}{path}"
    processes.wait_until(lambda: port_answers(port) and answers_200(url), "readiness", seconds=START_SECONDS)
    return port


def _bentoml(service: str) -> Callable[[ProcessGroup, Path, BenchModel], int]:
    return functools.partial(_start_bentoml, service)


PEER_SYSTEMS = (
    System(
        name="rq",
        start=_start_rq,
        dialects={"poll": TASK},
        setup="Flask on gunicorn, 5 processes; `rq worker-pool` of 2 SimpleWorkers, which do not fork for each job "
        "([workers](https://python-rq.org/docs/workers/))",
        environment="rq",
        packages=("rq", "redis", "flask", "gunicorn"),
    ),
    System(
        name="bentoml-tasks",
        start=_bentoml("bentoml_tasks:Tasks"),
        dialects={"poll": BENTOML_TASK},
        setup="`@bentoml.task`, 1 worker of 2 threads, since a second worker does not know the tasks of the first "
        "([tasks](https://docs.bentoml.com/en/latest/get-started/async-task-queues.html))",
        environment="bentoml",
        packages=("bentoml",),
    ),
    System(
        name="bentoml",
        start=_bentoml("bentoml_endpoint:Plain"),
        dialects={"sync": BENTOML},
        setup="`@bentoml.api`, 2 workers "
        "([workers](https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html))",
        environment="bentoml",
        packages=("bentoml",),
    ),
    System(
        name="bentoml-batching",
        start=_bentoml("bentoml_endpoint:Batching"),
        dialects={"sync": BENTOML},
        setup="the same with `batchable=True` "
        "([adaptive batching](https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html))",
        environment="bentoml",
        packages=("bentoml",),
        batches=True,
    ),
    System(
        name="mlserver",
        start=functools.partial(_start_mlserver, 2, {}),
        dialects={"sync": TENSORS},
        setup="the runtime for scikit-learn, `parallel_workers` 2, a process for each core "
        "([parallel inference](https://docs.seldon.ai/mlserver/user-guide/parallel-inference))",
        environment="mlserver",
        packages=("mlserver", "mlserver-sklearn"),
    ),
    System(
        name="mlserver-batching",
        start=functools.partial(_start_mlserver, 0, {"max_batch_size": 64, "max_batch_time": 0.005}),
        dialects={"sync": TENSORS},
        setup="the same with `parallel_workers` 0, and batches of up to 64 requests or 5 ms "
        "([adaptive batching](https://docs.seldon.ai/mlserver/user-guide/adaptive-batching))",
        environment="mlserver",
        packages=("mlserver", "mlserver-sklearn"),
        batches=True,
    ),
    System(
        name="litserve",
        start=_start_litserve,
        dialects={"sync": PREDICT},
        setup="2 workers, `fast_queue`, batches of up to 64 requests or 10 ms "
        "([batching](https://lightning.ai/docs/litserve/features/batching))",
        environment="litserve",
        packages=("litserve",),
        batches=True,
    ),
    System(
        name="mlflow",
        start=_start_mlflow,
        dialects={"sync": INVOCATIONS},
        setup="`mlflow models serve`, 2 workers "
        "([local server](https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/))",
        environment="mlflow",
        packages=("mlflow", "uvicorn"),
    ),
    System(
        name="ray-serve",
        start=functools.partial(_start_ray, "ray_serve"),
        dialects={"sync": PREDICT},
        setup="2 replicas, batches of up to 64 requests or 10 ms "
        "([request batching](https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html)), "
        "RAY_SERVE_THROUGHPUT_OPTIMIZED=1 "
        "([tuning](https://docs.ray.io/en/latest/serve/advanced-guides/performance.html))",
        environment="ray",
        packages=("ray",),
        batches=True,
    ),
    System(
        name="ray-tasks",
        start=functools.partial(_start_ray, "ray_tasks"),
        dialects={"poll": TASK},
        setup="2 task consumers over Celery, Redis as broker and result backend, RAY_SERVE_THROUGHPUT_OPTIMIZED=1 "
        "([asynchronous inference](https://docs.ray.io/en/latest/serve/asynchronous-inference.html))",
        environment="ray",
        packages=("ray", "celery", "redis"),
    ),
)
# Foretell last: what it is compared with was measured just before, and just after in the next round.
SYSTEMS = (*OWN_SYSTEMS[:-1], *PEER_SYSTEMS, OWN_SYSTEMS[-1])
