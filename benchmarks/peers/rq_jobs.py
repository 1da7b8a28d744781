"""rq: Flask puts one job a request into a queue in Redis, two workers take them.

Follows "Performance notes" and "Worker pool" (python-rq.org/docs/workers): workers that do not fork for each job, since
every fork would import scikit-learn and load the model again, started as a pool of two.
"""

import os
from typing import Any

from flask import Flask, request
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus

from benchmarks.peers.artifacts import load_model

STATUSES = {JobStatus.FINISHED: "SUCCESS", JobStatus.FAILED: "FAILURE"}


def predict(model: str, instances: list[Any]) -> list[Any]:
    predictions: list[Any] = load_model(model).predict(instances).tolist()
    return predictions


def create_app() -> Flask:
    app = Flask("rq")
    connection = Redis.from_url(os.environ["RQ_REDIS_URL"])
    queue = Queue(connection=connection)

    @app.post("/jobs")
    def submit() -> tuple[dict[str, str], int]:
        document = request.get_json()
        job = queue.enqueue(predict, document["model"], document["instances"])
        return {"id": job.id}, 202

    @app.get("/jobs/<job_id>")
    def show(job_id: str) -> dict[str, Any]:
        job = Job.fetch(job_id, connection=connection)
        status = STATUSES.get(job.get_status(refresh=False), "PENDING")
        return {"status": status, "prediction": job.return_value() if status == "SUCCESS" else None}

    return app
