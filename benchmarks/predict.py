"""The prediction itself: exact forms of tree ensembles, threads, precision, loading, and memory that is shared.

    python -m benchmarks.predict                    under two minutes

Every model is fitted on 5,000 rows of 20 features. A time is that of one call in a process with one thread, the least
of several calls; where two are compared, they take turns. Each table is measured in processes of its own.

- forms: rows of a call, the estimator's own time and that of its exact form by Treelite (worker/forms/trees.py).
- making: what the form takes when a version is registered and loaded: to compare and measure it, to make it of the
  estimator, and the memory that it takes beside the estimator's (USS), with what the cache counts for it.
- threads: a forest with `n_jobs=-1`, and with what workers do about it.
- precision: 1,000 rows of 64 bits, of 32 bits, and rounded to 32 within the call.
- loading: seconds from the bytes to the estimator, and the first and second prediction of one row.
- sharing: USS of each of two processes that have a model: loaded by itself, memory-mapped from a joblib file, and
  loaded before the fork.
"""

import argparse
import gc
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

# Read when the libraries are loaded, as in workers.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import joblib
import numpy as np
import psutil
import pyarrow as pa
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from benchmarks.processes import CHECKOUT
from benchmarks.report import aligned
from worker.accelerate import accelerate
from worker.accelerated import Accelerated
from worker.formats import FORMATS
from worker.forms.trees import TreesForm
from worker.threads import one_thread
from worker.trial import find_signature

FEATURES: Final = 20
SIZES: Final = (1, 8, 64, 256, 1000, 10_000)
TABLES: Final = ("forms", "making", "threads", "precision", "loading", "sharing")
MODELS: Final[dict[str, Callable[[], Any]]] = {
    "forest, 100 trees, classes": lambda: RandomForestClassifier(100, random_state=0),
    "forest, 1,000 trees, classes": lambda: RandomForestClassifier(1000, random_state=0),
    "forest, 100 trees, numbers": lambda: RandomForestRegressor(100, random_state=0),
    "gradient boosting, 100": lambda: GradientBoostingRegressor(random_state=0),
    "binned gradient boosting, 100": lambda: HistGradientBoostingRegressor(random_state=0),
    "neighbours, 100,000 rows": lambda: KNeighborsRegressor(algorithm="brute"),
    "linear": LinearRegression,
}
SMALL: Final = tuple(name for name in MODELS if "100 trees" in name or "boosting" in name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="*", choices=[[], *TABLES], help="which; default all")
    parser.add_argument("--models", type=Path, help="a folder of models that were fitted before")
    given = parser.parse_args(arguments)
    if given.models is not None:
        print(aligned(globals()[given.table[0]](given.models)))
        return 0
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:
        fit_all(Path(folder))
        for table in given.table or TABLES:
            print(f"{table}", flush=True)
            own = [sys.executable, "-m", "benchmarks.predict", table, "--models", folder]
            subprocess.run(own, cwd=CHECKOUT, check=True)
            print(flush=True)
    return 0


def fit_all(folder: Path) -> None:
    """Each model as an uncompressed joblib file, which alone can be memory-mapped."""
    rows = rows_of(5000)
    numbers = rows[:, 0] * 3 + np.sin(rows[:, 1] * 3) + np.random.default_rng(1).normal(size=len(rows))
    for name, make in MODELS.items():
        model = make()
        if name.startswith("neighbours"):
            model.fit(rows_of(100_000), rows_of(100_000)[:, 0])
        else:
            model.fit(rows, numbers > 0 if name.endswith("classes") else numbers)
        joblib.dump(model, folder / f"{name}.joblib")


def rows_of(count: int) -> Any:
    """(count, FEATURES) float64, always the same."""
    return np.random.default_rng(0).normal(size=(count, FEATURES))


def model_of(folder: Path, name: str) -> Any:
    return joblib.load(folder / f"{name}.joblib")


def ms(*calls: Callable[[], Any], repeats: int = 7) -> list[float]:
    """The least time of each, milliseconds; they take turns."""
    took = [[seconds(call) for call in calls] for _ in range(repeats)]
    return [1000 * min(times) for times in zip(*took, strict=True)]


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def forms(folder: Path) -> list[list[str]]:
    table = [["model", "rows", "own ms", "form ms", "times as fast", "most differing"]]
    for name in SMALL:
        model = model_of(folder, name)
        form = TreesForm(model)
        faster = Accelerated(model, form, form.methods, margin=0.0, up_to_rows=None)
        gap = differing(model, form)
        for count in SIZES:
            calls = [partial(one.predict, rows_of(count)) for one in (model, faster)]
            own, other = ms(*calls, repeats=3 if count > 1000 else 7)
            table.append([name, f"{count:,}", number(own), number(other), f"{own / other:.2g}", gap])
    return table


def differing(model: Any, form: TreesForm) -> str:
    """The largest difference over 1,000 fresh rows, as a share of the largest prediction."""
    rows = np.random.default_rng(2).normal(size=(1000, FEATURES))
    method = "predict_proba" if hasattr(model, "classes_") else "predict"
    own, other = getattr(model, method)(rows), form.answer(method, form.takes(rows))
    return f"{np.abs(own - other).max() / np.abs(own).max():.1g}"


def making(folder: Path) -> list[list[str]]:
    table = [["model", "to compare, CPU s", "to make ms", "USS MiB", "counted MiB"]]
    sample = pa.table({f"x{place}": column for place, column in enumerate(rows_of(1000).T)})
    for name in ("forest, 1,000 trees, classes", *SMALL):
        model = model_of(folder, name)
        uss_mib, took_ms = in_a_child(partial(TreesForm, model), lambda form: form.takes(rows_of(1)))
        compared = "-"
        if "1,000" not in name:
            signature = find_signature(model, sample)
            began = time.process_time()
            accelerate(model, signature, sample, wanted="auto", format="skops")
            compared = f"{time.process_time() - began:.1f}"
        counted = TreesForm(model).memory_bytes() / 2**20
        table.append([name, compared, number(took_ms), f"{uss_mib:.1f}", f"{counted:.1f}"])
    return table


def threads(folder: Path) -> list[list[str]]:
    table = [["rows of a forest of 100 trees", "n_jobs", "ms"]]
    model = model_of(folder, "forest, 100 trees, classes")
    for count in (1, 64, 1000):
        predict = partial(model.predict, rows_of(count))
        for told in (None, -1):
            model.n_jobs = told
            table.append([f"{count:,}", str(told), number(ms(predict)[0])])
        with one_thread():
            table.append([f"{count:,}", "-1, as in workers", number(ms(predict)[0])])
    return table


def precision(folder: Path) -> list[list[str]]:
    table = [["model", "64 bits ms", "32 bits ms", "64, rounded in the call ms", "32 bits differ by"]]
    exact = rows_of(1000)
    short = exact.astype(np.float32)
    for name in ("linear", *SMALL):
        model = model_of(folder, name)
        took = ms(
            partial(model.predict, exact),
            partial(model.predict, short),
            partial(rounded, model.predict, exact),
        )
        own = model.predict(exact).astype(float)
        gap = np.abs(own - model.predict(short)).max() / np.abs(own).max()
        table.append([name, *map(number, took), f"{gap:.1g}"])
    return table


def rounded(predict: Callable[[Any], Any], rows: Any) -> Any:
    return predict(rows.astype(np.float32))


def loading(folder: Path) -> list[list[str]]:
    table = [["model", "format", "MiB", "load ms", "form ms", "first prediction ms", "second ms"]]
    one = rows_of(1)
    for format in ("joblib", "skops"):
        FORMATS[format].load(FORMATS[format].dump(LinearRegression().fit(rows_of(50), rows_of(50)[:, 0])))  # imports
    for name in ("linear", "forest, 100 trees, classes", "binned gradient boosting, 100"):
        for format in ("joblib", "skops"):
            artifact = FORMATS[format].dump(model_of(folder, name))
            began = time.perf_counter()
            model = FORMATS[format].load(artifact)
            load = time.perf_counter() - began
            make = 0.0 if name == "linear" else seconds(partial(TreesForm, model))
            first, second = (seconds(partial(model.predict, one)) for _ in range(2))
            size = f"{len(artifact) / 2**20:.1f}"
            table.append([name, format, size, *(number(1000 * took) for took in (load, make, first, second))])
    return table


def sharing(folder: Path) -> list[list[str]]:
    table = [["model", "by itself MiB", "memory-mapped MiB", "before the fork MiB", "load ms", "mapped load ms"]]
    for name in ("forest, 1,000 trees, classes", "forest, 100 trees, numbers", "neighbours, 100,000 rows"):
        file = folder / f"{name}.joblib"
        own, own_ms = in_a_child(partial(joblib.load, file), predict_some)
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as beside:
            beside[:]  # so that the pages are those of two processes
            mapped, mapped_ms = in_a_child(partial(joblib.load, file, mmap_mode="r"), predict_some)
        before = joblib.load(file)
        gc.freeze()
        forked, _ = in_a_child(partial(same, before), predict_some)
        del before
        gc.unfreeze()
        table.append([name, *(f"{mib:.0f}" for mib in (own, mapped, forked)), number(own_ms), number(mapped_ms)])
    return table


def same(model: Any) -> Any:
    return model


def predict_some(model: Any) -> None:
    model.predict(rows_of(100))


def in_a_child(make: Callable[[], Any], use: Callable[[Any], object]) -> tuple[float, float]:
    """MiB that a child has for itself once it has made something and used it; and how long to make it took, ms."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = psutil.Process().memory_full_info().uss
        began = time.perf_counter()
        made = make()
        took = 1000 * (time.perf_counter() - began)
        use(made)
        uss = psutil.Process().memory_full_info().uss - before
        os.write(writing, f"{uss / 2**20} {took}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    uss_mib, took = map(float, os.read(reading, 100).split())
    os.close(reading)
    os.close(writing)
    return uss_mib, took


if __name__ == "__main__":
    sys.exit(main())
