"""The plain tutorial: Flask submits one Celery task per job, Redis is broker and result backend.

Follows "Background Tasks with Celery" of the Flask documentation. CELERY_BROKER_URL and CELERY_RESULT_BACKEND
are read by Celery itself.
"""

from typing import Any

from celery import Celery
from celery.result import AsyncResult
from flask import Flask, request

from benchmarks.peers.artifacts import load_model

celery_app = Celery("tutorial")


@celery_app.task
def predict(model: str, instances: list[list[float]]) -> list[float]:
    predictions: list[float] = load_model(model).predict(instances).tolist()
    return predictions


def create_app() -> Flask:
    app = Flask("tutorial")

    @app.post("/jobs")
    def submit() -> tuple[dict[str, str], int]:
        document = request.get_json()
        task = predict.delay(document["model"], document["instances"])
        return {"id": task.id}, 202

    @app.get("/jobs/<job_id>")
    def show(job_id: str) -> dict[str, Any]:
        task: AsyncResult[Any] = AsyncResult(job_id, app=celery_app)
        status = task.status
        return {"status": status, "prediction": task.result if status == "SUCCESS" else None}

    return app
