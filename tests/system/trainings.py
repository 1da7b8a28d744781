"""Trainings over HTTP: models of a test's own, labelled rows for them, and what becomes of them."""

import io
import uuid
from typing import Any
from urllib.parse import urlencode

import joblib
import numpy as np
import pyarrow as pa
from sklearn.linear_model import LinearRegression

from tests.models import registry_of
from tests.processes import Answer, Http
from tests.system.estimators import Waiting
from tests.system.service import Job, Service
from worker.formats import FORMATS
from worker.registration import register


def own_name(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def rows_of(n_rows: int, *, slope: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n_rows, 2) and target (n_rows,): slope a - b, and some noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_rows, 2)).round(3)
    return features, (slope * features[:, 0] - features[:, 1] + rng.normal(0, 0.1, n_rows)).round(3)


def labelled(n_rows: int = 200, *, slope: float = 2.0, seed: int = 1) -> bytes:
    """A CSV file of such rows: id, a, b, y."""
    features, target = rows_of(n_rows, slope=slope, seed=seed)
    lines = (f"r{number},{a},{b},{y}" for number, ((a, b), y) in enumerate(zip(features, target, strict=True)))
    return "\n".join(["id,a,b,y", *lines, ""]).encode()


def line(service: Service, *, slope: float = 1.0, name: str | None = None) -> str:
    """A model of the line with this slope, as a new version in production; its name."""
    name = name or own_name("line")
    artifact = FORMATS["skops"].dump(LinearRegression().fit(*rows_of(100, slope=slope)))
    sample = pa.table({"a": [1.0, 2.0], "b": [0.5, 1.5]})
    register(registry_of(service.settings), name, artifact, format="skops", sample=sample)
    return name


def waiting(service: Service) -> str:
    """A model that is made by `Waiting` and is always wrong; its name."""
    name, artifact = own_name("waiting"), io.BytesIO()
    joblib.dump(Waiting().fit(np.zeros((1, 2)), np.array([100.0])), artifact)
    sample = pa.table({"a": [1.0, 2.0], "b": [0.5, 1.5]})
    register(registry_of(service.settings), name, artifact.getvalue(), format="joblib", sample=sample)
    return name


def send_training(
    http: Http, model: str, data: bytes, *, headers: dict[str, str] | None = None, **query: Any
) -> Answer:
    """The answer to a file that a model is trained on, by default to tell y."""
    sent: dict[str, Any] = {"Content_Type": "text/csv"} | (headers or {})
    return http("POST", f"/models/{model}/retrain?{urlencode({'target': 'y'} | query)}", raw=data, **sent)


def begun(http: Http, model: str, data: bytes | None = None, **query: Any) -> str:
    """The id of a training that was accepted."""
    answer = send_training(http, model, labelled() if data is None else data, **query)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def trained(http: Http, model: str, data: bytes | None = None, **query: Any) -> Job:
    """A training, done."""
    return http.done(begun(http, model, data, **query))


def aliases(http: Http, model: str) -> dict[str, int]:
    """Where a model's aliases point."""
    found: dict[str, int] = http("GET", f"/models/{model}").json["aliases"]
    return found


def versions(http: Http, model: str) -> list[int]:
    """The versions that there are, newest first."""
    return [version["version"] for version in http("GET", f"/models/{model}").json["versions"]]
