"""The benchmark's models, and for each as many distinct jobs with their right answers as a run may ask."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from benchmarks.dialects import Predictions, Question
from examples import support

TRAINING_ROWS = 2_000
SAMPLE_ROWS = 200
ROWS = (1, 100)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`train` fits the model; `draw` gives so many distinct rows or fewer, as they are sent.

    `jobs_per_second` is more than any system will reach: so many questions are prepared per second of a run.
    """

    features: tuple[str, ...]
    train: Callable[[], Any]
    draw: Callable[[int], list[Any]]
    jobs_per_second: int


def _numeric(features: int, estimator: Callable[[], Any], jobs_per_second: int) -> Recipe:
    def train() -> Any:
        random = np.random.default_rng(0)
        rows = _rows(random, TRAINING_ROWS, features)
        # Far from zero, where a relative tolerance means something.
        target = 50 + rows @ np.arange(1, features + 1) + np.sin(rows[:, 0] * 3) + random.normal(0, 0.1)
        return estimator().fit(rows, target)

    def draw(count: int) -> list[Any]:
        random = np.random.default_rng(1)
        rows = np.unique(_rows(random, count, features), axis=0)
        random.shuffle(rows)
        drawn: list[Any] = rows.tolist()
        return drawn

    return Recipe(
        features=tuple(f"x{column}" for column in range(1, features + 1)),
        train=train,
        draw=draw,
        jobs_per_second=jobs_per_second,
    )


def _messages(count: int) -> list[Any]:
    """Messages of the example `support`, each with an order number of its own, and mixed: they come class by class.

    So the answers to two jobs in a row are mostly not the same.
    """
    texts = support.load_messages()[0]
    mixed = np.random.default_rng(1).permutation(len(texts))
    return [f"{texts[mixed[number % len(texts)]]} (order {number:06d})" for number in range(count)]


RECIPES = {
    "linear-bench": _numeric(3, LinearRegression, 15_000),
    "forest-bench": _numeric(10, lambda: RandomForestRegressor(n_estimators=100, random_state=0), 5_000),
    # TfidfVectorizer and LogisticRegression: strings in, one of nine classes out.
    "text-bench": Recipe(features=("text",), train=lambda: support.train()[0], draw=_messages, jobs_per_second=5_000),
}


@dataclass(frozen=True, kw_only=True)
class BenchModel:
    """`sample` is a CSV file with a few rows of the features; `rows` and `predictions` are what is asked."""

    name: str
    artifact: Path
    sample: Path
    rows: list[Any]
    predictions: Predictions

    def questions(self, rows: int = 1) -> Iterator[Question]:
        """Jobs of so many rows, of which no two are equal: those of several rows overlap."""
        for first in range(len(self.rows) - rows + 1):
            span = slice(first, first + rows)
            yield Question(model=self.name, instances=self.rows[span], predictions=self.predictions[span])


def prepare_model(name: str, folder: Path, *, seconds: float) -> BenchModel:
    """Train the model, write `<name>.joblib` and a CSV sample of its features, and ask it what a run will ask."""
    recipe = RECIPES[name]
    model = recipe.train()
    artifact, sample = folder / f"{name}.joblib", folder / f"{name}.csv"
    joblib.dump(model, artifact)
    rows = recipe.draw(max(1_000, int(recipe.jobs_per_second * seconds)))
    with sample.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(recipe.features)
        writer.writerows([row] if isinstance(row, str) else row for row in rows[:SAMPLE_ROWS])
    return BenchModel(name=name, artifact=artifact, sample=sample, rows=rows, predictions=model.predict(rows).tolist())


def _rows(random: np.random.Generator, rows: int, features: int) -> npt.NDArray[np.float64]:
    return np.round(random.uniform(0, 10, (rows, features)), 6)
