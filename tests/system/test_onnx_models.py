"""ONNX models and accelerated ones, registered from disk and served as any other."""

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deploy.commands import root
from examples.small_network import network, predicted
from tests.processes import Http, clean_environment
from tests.system.service import Service, scored_file

ROWS = np.random.default_rng(0).normal(size=(200, 4))


def registered(service: Service, path: Path, *options: str) -> str:
    """The name of a model that `python -m worker register` made of a file."""
    name = f"onnx-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        [sys.executable, "-m", "worker", "register", name, str(path), *options],
        env=clean_environment(service.settings),
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return name


def csv_of(rows: Any, names: str) -> str:
    return "\n".join([names, *(",".join(map(repr, row)) for row in rows.tolist())]) + "\n"


def column(http: Http, job: dict[str, Any], name: str) -> list[str]:
    """A column of a batch job's result."""
    header, *lines = http("GET", f"/jobs/{job['id']}/result", Accept="text/csv").body.decode().splitlines()
    place = header.split(",").index(name)
    return [line.split(",")[place] for line in lines]


def test_a_network_is_served_in_jobs_and_over_files(service: Service, http: Http, folder: Path) -> None:
    path = folder / "network.onnx"
    path.write_bytes(network())
    name = registered(service, path)

    job = http.done(http.submit(name, ROWS.tolist())["id"])
    scored = scored_file(http, csv_of(ROWS, "x1,x2,x3,x4").encode(), model=name)

    assert (job["status"], scored["status"]) == ("succeeded", "succeeded")
    np.testing.assert_allclose(job["result"]["predictions"], predicted(ROWS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        list(map(float, column(http, scored, "prediction"))), predicted(ROWS), rtol=1e-5, atol=1e-6
    )
    assert http("GET", f"/models/{name}").json["versions"][0]["format"] == "onnx"


def test_an_accelerated_forest_gives_the_forests_labels_and_the_manifest_says_so(
    service: Service, http: Http, folder: Path
) -> None:
    labels = np.where(ROWS[:, 0] + ROWS[:, 1] > 0, "up", "down")
    forest = RandomForestClassifier(50, random_state=0).fit(ROWS, labels)
    path, sample = folder / "forest.joblib", folder / "sample.csv"
    joblib.dump(forest, path)
    sample.write_text(csv_of(ROWS, "a,b,c,d"))
    name = registered(service, path, "--sample", str(sample), "--accelerate", "onnx")
    fresh = np.random.default_rng(1).normal(size=(200, 4))

    job = http.done(http.submit(name, fresh.tolist())["id"])
    scored = scored_file(http, csv_of(fresh, "a,b,c,d").encode(), model=name)

    assert job["result"]["predictions"] == forest.predict(fresh).tolist() == column(http, scored, "prediction")
    accelerated = http("GET", f"/models/{name}/versions/1").json["accelerated"]
    assert accelerated["used"], accelerated["reason"]
    manifest = http("GET", f"/jobs/{scored['id']}/manifest").json
    assert manifest["model"]["accelerated"] == accelerated


def test_a_forest_in_a_pipeline_is_accelerated_by_itself_and_answers_the_very_same(
    service: Service, http: Http, folder: Path
) -> None:
    target = np.c_[ROWS[:, 0] * 3, ROWS[:, 1]]
    pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(50, random_state=0)).fit(ROWS, target)
    path, sample = folder / "pipeline.joblib", folder / "sample.csv"
    joblib.dump(pipeline, path)
    sample.write_text(csv_of(ROWS, "a,b,c,d"))
    name = registered(service, path, "--sample", str(sample))
    fresh = np.random.default_rng(1).normal(size=(30_000, 4))  # in slices of more rows than the form pays for

    job = http.done(http.submit(name, fresh[:40].tolist())["id"])
    scored = scored_file(http, csv_of(fresh, "a,b,c,d").encode(), model=name)

    accelerated = http("GET", f"/models/{name}/versions/1").json["accelerated"]
    assert (accelerated["wanted"], accelerated["used"], accelerated["form"]) == ("auto", True, "treelite"), accelerated
    own = pipeline.predict(fresh)
    assert job["result"]["predictions"] == own[:40].tolist()
    assert list(map(float, column(http, scored, "prediction_0"))) == own[:, 0].tolist()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"no graph", "not an ONNX file", id="no-graph"),
        pytest.param(network()[:-40], "not an ONNX file", id="truncated"),
    ],
)
def test_what_is_no_graph_is_refused_with_one_line(service: Service, folder: Path, data: bytes, words: str) -> None:
    path = folder / "broken.onnx"
    path.write_bytes(data)

    done = subprocess.run(
        [sys.executable, "-m", "worker", "register", "broken", str(path)],
        env=clean_environment(service.settings), cwd=root(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
