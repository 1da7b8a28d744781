"""Model formats: what is written can be read, and what cannot be trusted is never run."""

import os
import pickle
import re
import warnings
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.base
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from examples.demo import Demo, demos
from examples.small_network import network
from shared.errors import ArtifactCorrupt, ModelUnusable, UnsafeArtifact
from shared.registry import Manifest
from tests.unit.conftest import Train
from tests.unit.estimators import ONE_NUMBER
from worker.container import pack
from worker.formats import FORMATS, digest, load, load_verified
from worker.formats.libraries import installed
from worker.trial import find_signature

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
CONSTRUCTED: list[str] = []


class Tripwire(sklearn.base.BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Notes when it is constructed or its state is set."""

    def __new__(cls) -> "Tripwire":
        CONSTRUCTED.append("new")
        return super().__new__(cls)  # type: ignore[no-any-return]

    def __setstate__(self, state: Any) -> None:
        CONSTRUCTED.append("state")


class Bomb:
    """Notes when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return CONSTRUCTED.append, ("unpickled",)


@pytest.fixture(scope="module")
def linear() -> bytes:
    return FORMATS["skops"].dump(LinearRegression().fit(X, Y))


def manifest(artifact: bytes, format: str = "skops") -> Manifest:
    return Manifest(
        model="m",
        version=1,
        format=format,
        sha256=digest(artifact),
        size_bytes=len(artifact),
        signature=ONE_NUMBER,
        estimator="",
        libraries={},
        created_at="2026-01-31T12:00:00.000Z",
    )


@pytest.mark.parametrize("demo", demos(), ids=lambda demo: demo.name)
def test_a_demo_model_predicts_the_same_after_it_was_stored(demo: Demo, train: Train) -> None:
    estimator, sample = train(demo)
    signature = find_signature(estimator, sample)
    rows = pack(signature, [list(row.values()) for row in sample.to_pylist()])

    read = FORMATS["skops"].load(FORMATS["skops"].dump(estimator))

    for method in signature.methods:
        np.testing.assert_array_equal(getattr(read, method)(rows), getattr(estimator, method)(rows))


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(RandomForestClassifier(3, random_state=0), id="random-forest-classifier"),
        pytest.param(RandomForestRegressor(3, random_state=0), id="random-forest-regressor"),
        pytest.param(GradientBoostingClassifier(n_estimators=3), id="gradient-boosting"),
        pytest.param(HistGradientBoostingClassifier(max_iter=3), id="histogram-gradient-boosting"),
        pytest.param(KNeighborsClassifier(3), id="nearest-neighbours"),
    ],
)
def test_an_estimator_of_scikit_learn_is_trusted_with_its_parts(estimator: Any) -> None:
    estimator.fit(X, Y)

    read = FORMATS["skops"].load(FORMATS["skops"].dump(estimator))

    np.testing.assert_array_equal(read.predict(X), estimator.predict(X))


def test_an_untrusted_type_is_named_and_nothing_is_constructed() -> None:
    artifact = FORMATS["skops"].dump(Tripwire())
    CONSTRUCTED.clear()

    with pytest.raises(UnsafeArtifact, match=r"not trusted: tests\.unit\.test_formats\.Tripwire\. If you made it"):
        FORMATS["skops"].load(artifact)

    assert CONSTRUCTED == []


def test_an_untrusted_function_is_named() -> None:
    artifact = FORMATS["skops"].dump(FunctionTransformer(os.system))

    with pytest.raises(UnsafeArtifact, match=r"not trusted: posix\.system\."):
        FORMATS["skops"].load(artifact)


def test_a_pickle_is_no_skops_file_and_is_not_run() -> None:
    artifact = pickle.dumps(Bomb())
    CONSTRUCTED.clear()

    with pytest.raises(ModelUnusable, match="not a skops file"):
        FORMATS["skops"].load(artifact)

    assert CONSTRUCTED == []


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_skops_file_is_unusable(linear: bytes, kept: float) -> None:
    with pytest.raises(ModelUnusable, match="not a skops file that can be loaded"):
        FORMATS["skops"].load(linear[: int(len(linear) * kept)])


def test_an_object_that_skops_cannot_write_is_unusable(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file, pytest.raises(ModelUnusable, match="skops cannot write this"):
        FORMATS["skops"].dump(LinearRegression(positive=file))


def test_joblib_reads_what_it_wrote() -> None:
    estimator = LinearRegression().fit(X, Y)

    read = FORMATS["joblib"].load(FORMATS["joblib"].dump(estimator))

    np.testing.assert_array_equal(read.predict(X), estimator.predict(X))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_truncated_joblib_file_is_unusable(kept: float) -> None:
    artifact = FORMATS["joblib"].dump(LinearRegression().fit(X, Y))

    with pytest.raises(ModelUnusable, match="cannot be loaded by joblib"):
        FORMATS["joblib"].load(artifact[: int(len(artifact) * kept)])


def test_the_registered_bytes_are_loaded(linear: bytes) -> None:
    loaded = load_verified(manifest(linear), linear)

    assert isinstance(loaded.estimator, LinearRegression)
    assert loaded.warnings == ()


def test_changed_bytes_are_corrupt(linear: bytes) -> None:
    changed = linear[:-1] + bytes([linear[-1] ^ 1])

    with pytest.raises(ArtifactCorrupt, match=f"m@1 has sha256 {digest(changed)}, but {digest(linear)} was registered"):
        load_verified(manifest(linear), changed)


def test_changed_bytes_are_not_even_parsed() -> None:
    bomb = FORMATS["joblib"].dump(Bomb())
    registered = manifest(b"other bytes", format="joblib")
    CONSTRUCTED.clear()

    with pytest.raises(ArtifactCorrupt):
        load_verified(registered, bomb)

    assert CONSTRUCTED == []


def made_with(artifact: bytes, **libraries: str) -> Manifest:
    """A version that was registered with other libraries than those that are installed."""
    return replace(
        manifest(artifact), libraries=installed() | {name.replace("_", "-"): libraries[name] for name in libraries}
    )


def test_a_version_made_with_other_libraries_is_loaded_with_a_warning(linear: bytes) -> None:
    loaded = load_verified(made_with(linear, scikit_learn="1.7.2", numpy="1.26.0"), linear)

    assert isinstance(loaded.estimator, LinearRegression)
    (told,) = loaded.warnings
    assert f"scikit-learn 1.7.2 (here {sklearn.__version__}), numpy 1.26.0" in told
    assert "fit it again" in told


def test_a_repair_of_a_library_is_no_other_library(linear: bytes) -> None:
    series = ".".join(sklearn.__version__.split(".")[:2])

    assert load_verified(made_with(linear, scikit_learn=f"{series}.99"), linear).warnings == ()


def test_the_libraries_of_another_format_do_not_matter() -> None:
    graph = network()

    assert load_verified(replace(made_with(graph, scikit_learn="0.1"), format="onnx"), graph).warnings == ()
    (told,) = load_verified(replace(made_with(graph, onnxruntime="0.1"), format="onnx"), graph).warnings
    assert "onnxruntime 0.1" in told


# Of as many characters as the release that is installed.
OLD = re.sub(r"\d", "0", sklearn.__version__)


def fitted_long_ago(*more: Any) -> bytes:
    """A joblib file of a pipeline, and of more, that says that it was fitted with another scikit-learn."""
    pipeline = make_pipeline(StandardScaler(), LinearRegression()).fit(X, Y)
    artifact = FORMATS["joblib"].dump([pipeline, *more] if more else pipeline)
    return artifact.replace(sklearn.__version__.encode(), OLD.encode())


def test_what_scikit_learn_warns_of_is_told_once_for_all_parts() -> None:
    (told,) = load("joblib", fitted_long_ago()).warnings

    assert told.startswith(f"It was fitted with scikit-learn {OLD} and is loaded by {sklearn.__version__};")


class Unloadable:
    """What an old release left and a new one cannot read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return attrgetter("no_such_name"), (LinearRegression,)


def test_what_scikit_learn_cannot_load_is_unusable_and_says_with_what_it_was_fitted() -> None:
    with pytest.raises(ModelUnusable, match=rf"no_such_name.*fitted with scikit-learn {re.escape(OLD)}; fit it again"):
        load("joblib", fitted_long_ago(Unloadable()))


def test_an_artifact_that_cannot_be_loaded_names_the_libraries_that_it_was_registered_with() -> None:
    artifact = FORMATS["joblib"].dump(Unloadable())
    registered = replace(made_with(artifact, scikit_learn="1.2.3"), format="joblib")

    with pytest.raises(ModelUnusable, match=r"registered with scikit-learn 1\.2\.3"):
        load_verified(registered, artifact)


def test_a_warning_of_any_library_is_told() -> None:
    assert load("joblib", FORMATS["joblib"].dump(Warning_())).warnings == ("old news",)


class Warning_:  # noqa: N801  # a class that warns, and no warning
    """Warns when it is unpickled."""

    def __setstate__(self, state: Any) -> None:
        warnings.warn("old news", stacklevel=1)

    def __getstate__(self) -> dict[str, int]:
        return {"some": 1}
