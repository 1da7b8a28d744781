"""What the clients send: a fixed number of different small jobs and files, made from the seed."""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LinearRegression

from examples.linear import train
from shared.settings import Settings
from tests.models import FINE, RAISE, SLOW, register_moody, registry_of
from worker.formats import FORMATS
from worker.registration import register

# The model that is trained again and again; its own, so that production of the others stays.
TRAINED: Final = "line"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A small job: rows in the request."""

    name: str
    model: str
    instances: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class File:
    """A job over a CSV file."""

    name: str
    model: str
    data: bytes  # as it is sent
    rows: int
    compressed: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training on labelled rows."""

    name: str
    data: bytes
    rows: int


Work = Rows | File | Training


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All that is sent, and how much of it waits at most."""

    small: Sequence[Rows]
    files: Sequence[File]
    trainings: Sequence[Training]

    @property
    def all(self) -> Sequence[Work]:
        """Small jobs, files and trainings."""
        return (*self.small, *self.files, *self.trainings)


def workload(seed: int, *, largest_rows: int) -> Workload:
    """The workload of a seed."""
    chance = random.Random(f"workload {seed}")
    return Workload(
        small=[
            *(_linear(chance, number) for number in range(12)),
            *(_moody(chance, f"moody-{number}", 1 + number % 4, refused=0) for number in range(8)),
            *(_moody(chance, f"moody-refused-{number}", 3 + number, refused=1 + number % 2) for number in range(6)),
            *(_slow(chance, number) for number in range(6)),
        ],
        files=[
            _moody_file(chance, "few", 200),
            _moody_file(chance, "some", 3_000),
            _moody_file(chance, "some-gzip", 3_000, compressed=True),
            _moody_file(chance, "many", largest_rows // 5),
            _linear_file(chance, "most", largest_rows),
            _linear_file(chance, "most-gzip", largest_rows // 2, compressed=True),
        ],
        trainings=[_training(chance, number) for number in range(2)],
    )


def register_models(settings: Settings) -> None:
    """Register the models that the workload asks for."""
    register_moody(settings)
    estimator, sample = train()
    register(registry_of(settings), "linear", FORMATS["skops"].dump(estimator), format="skops", sample=sample)
    features = np.random.default_rng(0).normal(size=(100, 2))
    line = LinearRegression().fit(features, features[:, 0])
    table = pa.table({"a": [1.0, 2.0], "b": [0.5, 1.5]})
    register(registry_of(settings), TRAINED, FORMATS["skops"].dump(line), format="skops", sample=table)


def _linear(chance: random.Random, number: int) -> Rows:
    rows = tuple(
        tuple(round(chance.uniform(-0.1, 0.1), 4) for _ in range(3)) for _ in range(chance.choice((1, 1, 2, 5, 40)))
    )
    return Rows(name=f"linear-{number}", model="linear", instances=rows)


def _fine(chance: random.Random) -> float:
    return round(chance.uniform(-5, 5), 4) + FINE * 20


def _moody(chance: random.Random, name: str, count: int, *, refused: int) -> Rows:
    values = [_fine(chance) for _ in range(count)]
    for place in chance.sample(range(count), refused):
        values[place] = RAISE
    return Rows(name=name, model="moody", instances=tuple((value,) for value in values))


def _slow(chance: random.Random, number: int) -> Rows:
    """Long enough that a kill finds it under way."""
    return Rows(name=f"slow-{number}", model="moody", instances=((SLOW + round(chance.uniform(0.1, 0.5), 3),),))


def _moody_file(chance: random.Random, name: str, count: int, *, compressed: bool = False) -> File:
    """Rows of which some take time, some cannot be parsed, some the model refuses; and quoted line breaks."""
    lines = ["id,x,note"]
    for number in range(count):
        value: Any = {10: SLOW + 0.02, 20: RAISE, 30: "?"}.get(number % 150, _fine(chance))
        note = '"two\nlines, ""quoted"""' if number % 7 == 0 else f"note {number}"
        lines.append(f"a-{number:06d},{value},{note}")
    return _file(name, "moody", lines, count, compressed)


def _linear_file(chance: random.Random, name: str, count: int, *, compressed: bool = False) -> File:
    lines = ["id,x1,x2,x3"]
    for number in range(count):
        x1, x2, x3 = (round(chance.uniform(-0.1, 0.1), 4) for _ in range(3))
        lines.append(f"a-{number:06d},{x1},{'none' if number % 997 == 5 else x2},{x3}")
    return _file(name, "linear", lines, count, compressed)


def _file(name: str, model: str, lines: list[str], rows: int, compressed: bool) -> File:
    data = "\n".join([*lines, ""]).encode()
    # Without a time in it, so that a seed always gives the same bytes.
    return File(
        name=name,
        model=model,
        data=gzip.compress(data, mtime=0) if compressed else data,
        rows=rows,
        compressed=compressed,
    )


def _training(chance: random.Random, number: int) -> Training:
    lines = ["id,a,b,y"]
    for row in range(200):
        a, b = round(chance.gauss(0, 1), 3), round(chance.gauss(0, 1), 3)
        lines.append(f"r{row},{a},{b},{round((2 + number) * a - b + chance.gauss(0, 0.1), 3)}")
    return Training(name=f"training-{number}", data="\n".join([*lines, ""]).encode(), rows=200)
