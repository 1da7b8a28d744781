"""The benchmark's models, and for each as many distinct rows with their right answers as a run may ask."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import orjson
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from benchmarks.load import Question

TRAINING_ROWS = 2_000
SAMPLE_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`jobs_per_second` is more than any system will reach: so many questions are prepared per second of a run."""

    features: int
    estimator: Callable[[], Any]
    jobs_per_second: int


RECIPES = {
    "linear-bench": Recipe(features=3, estimator=LinearRegression, jobs_per_second=15_000),
    "forest-bench": Recipe(
        features=10, estimator=lambda: RandomForestRegressor(n_estimators=100, random_state=0), jobs_per_second=5_000
    ),
}


@dataclass(frozen=True, kw_only=True)
class BenchModel:
    name: str
    artifact: Path
    sample: Path
    questions: list[Question]


def prepare_model(name: str, folder: Path, *, seconds: float) -> BenchModel:
    """Train the model, write `<name>.joblib` and a CSV sample of its features, and ask it what a run will ask."""
    recipe = RECIPES[name]
    random = np.random.default_rng(0)
    features = _rows(random, TRAINING_ROWS, recipe.features)
    # Far from zero, where a relative tolerance means something.
    target = 50 + features @ np.arange(1, recipe.features + 1) + np.sin(features[:, 0] * 3) + random.normal(0, 0.1)
    model = recipe.estimator().fit(features, target)

    artifact = folder / f"{name}.joblib"
    joblib.dump(model, artifact)
    sample = folder / f"{name}.csv"
    header = ",".join(f"x{column}" for column in range(1, recipe.features + 1))
    np.savetxt(sample, features[:SAMPLE_ROWS], delimiter=",", header=header, comments="", fmt="%.6f")

    asked = np.unique(_rows(random, max(1_000, int(recipe.jobs_per_second * seconds)), recipe.features), axis=0)
    random.shuffle(asked)
    questions = [
        Question(body=orjson.dumps({"model": name, "instances": [row]}), prediction=prediction)
        for row, prediction in zip(asked.tolist(), model.predict(asked).tolist(), strict=True)
    ]
    return BenchModel(name=name, artifact=artifact, sample=sample, questions=questions)


def _rows(random: np.random.Generator, rows: int, features: int) -> npt.NDArray[np.float64]:
    return np.round(random.uniform(0, 10, (rows, features)), 6)
