"""Synchronous Flask: the model lives in the web process, and the answer is the response."""

from flask import Flask, request

from benchmarks.peers.artifacts import load_model


def create_app() -> Flask:
    app = Flask("synchronous")

    @app.post("/predict")
    def predict() -> dict[str, list[float]]:
        document = request.get_json()
        return {"predictions": load_model(document["model"]).predict(document["instances"]).tolist()}

    return app
