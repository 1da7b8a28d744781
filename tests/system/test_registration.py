"""`python -m worker register`: an operator brings a model, and it is served."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from deploy.commands import root
from tests.processes import Http, clean_environment
from tests.system.service import Service

SAMPLE = "width,height\n1.5,2.5\n3.5,4.5\n"
Register = Callable[..., subprocess.CompletedProcess[str]]


def always(value: float) -> DummyRegressor:
    """A model that predicts one number, whatever the row."""
    return DummyRegressor(strategy="constant", constant=value).fit([[0.0, 0.0]], [value])


@pytest.fixture
def register(service: Service, folder: Path) -> Register:
    """Run the command beside the shared service, on files that are written first."""

    def run(name: str, artifact: Any, *, suffix: str = ".joblib", sample: str = SAMPLE) -> Any:
        path, rows = folder / f"artifact{suffix}", folder / "rows.csv"
        if isinstance(artifact, bytes):
            path.write_bytes(artifact)
        elif artifact is not None:
            joblib.dump(artifact, path)
        rows.write_text(sample)
        return subprocess.run(
            [sys.executable, "-m", "worker", "register", name, str(path), "--sample", str(rows)],
            env=clean_environment(service.settings),
            cwd=root(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def predictions(http: Http, reference: str) -> Any:
    return http.done(http.submit(reference, [{"width": 1, "height": 2}])["id"])["result"]["predictions"]


def test_a_registered_model_is_served_and_a_new_version_takes_its_place(http: Http, register: Register) -> None:
    first = register("constant", always(1.0))
    by_first = predictions(http, "constant")
    second = register("constant", always(2.0))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert by_first == [1.0]
    assert [predictions(http, name) for name in ("constant", "constant@1", "constant@2")] == [[2.0], [1.0], [2.0]]
    model = http("GET", "/models/constant").json
    assert (model["aliases"], [version["version"] for version in model["versions"]]) == ({"production": 2}, [2, 1])


def test_a_job_keeps_the_version_that_it_was_accepted_with(http: Http, register: Register, held_workers: Any) -> None:
    register("pinned", always(1.0))
    waiting = http.submit("pinned", [{"width": 1, "height": 2}])
    register("pinned", always(2.0))

    held_workers.open()

    job = http.done(waiting["id"])
    assert (job["model"]["version"], job["result"]["predictions"]) == (1, [1.0])


@pytest.mark.parametrize(
    ("artifact", "suffix", "sample", "words"),
    [
        pytest.param(b"no pickle", ".joblib", SAMPLE, "joblib", id="broken-joblib"),
        pytest.param(b"no zip", ".skops", SAMPLE, "skops", id="broken-skops"),
        pytest.param(None, ".joblib", SAMPLE, "artifact.joblib", id="no-such-file"),
        pytest.param(always(1.0), ".joblib", "width,height\n", "sample", id="a-sample-without-rows"),
        pytest.param(
            LinearRegression().fit([[0.0, 0.0]], [0.0]),
            ".joblib",
            "width,height\n1.5,\n2.5,3.5\n",
            "NaN",
            id="a-model-that-fails-on-the-sample",
        ),
    ],
)
def test_what_cannot_be_registered_is_one_line(
    http: Http, register: Register, artifact: Any, suffix: str, sample: str, words: str
) -> None:
    done = register("refused", artifact, suffix=suffix, sample=sample)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("foretell: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert http("GET", "/models/refused").status == 404
