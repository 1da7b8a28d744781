"""Ray Serve's asynchronous inference: an HTTP deployment puts Celery tasks into Redis, task consumers take them.

    python -m benchmarks.peers.ray_tasks PORT

Follows "Asynchronous Inference" (docs.ray.io/en/latest/serve/asynchronous-inference.html), with a consumer for each
core. The addresses of broker and backend are in CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
"""

import os
import sys
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import instantiate_adapter_from_config, task_consumer, task_handler

from benchmarks.peers.artifacts import load_model
from benchmarks.peers.ray_serve import start

web = FastAPI()


def application(broker_url: str, backend_url: str, model: str) -> Any:
    """The consumers, and the deployment that HTTP reaches, which takes and shows their tasks."""
    addresses = CeleryAdapterConfig(broker_url=broker_url, backend_url=backend_url)
    tasks = TaskProcessorConfig(queue_name="predictions", adapter_config=addresses)

    @task_consumer(task_processor_config=tasks)
    class Consumer:
        def __init__(self) -> None:
            self._model = load_model(model)

        @task_handler(name="predict")
        def predict(self, instances: list[Any]) -> list[Any]:
            predictions: list[Any] = self._model.predict(instances).tolist()
            return predictions

    @serve.ingress(web)
    class Jobs:
        def __init__(self, _consumer: Any) -> None:
            self._adapter = instantiate_adapter_from_config(tasks)

        @web.post("/jobs")
        def submit(self, document: dict[str, Any]) -> dict[str, Any]:
            return {"id": self._adapter.enqueue_task_sync(task_name="predict", args=[document["instances"]]).id}

        @web.get("/jobs/{job_id}")
        def show(self, job_id: str) -> dict[str, Any]:
            task = self._adapter.get_task_status_sync(job_id)
            # The adapter of Ray 2.60 reads the result first and then the status, between which the task may end.
            unread = task.status == "SUCCESS" and task.result is None
            return {"status": "PENDING" if unread else task.status, "prediction": task.result}

    consumers = serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.5})(Consumer)
    jobs = serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.2})(Jobs)
    return jobs.bind(consumers.bind())


if __name__ == "__main__":
    broker, backend = os.environ["CELERY_BROKER_URL"], os.environ["CELERY_RESULT_BACKEND"]
    start(int(sys.argv[1]), application(broker, backend, os.environ["PEER_MODEL"]))
