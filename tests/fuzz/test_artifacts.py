"""Artifacts with damage: each loads or is refused with a reason, in bounded memory, without a crash or an end.

joblib files are left out: to load one is to run its code, so only what an operator trusts is ever loaded.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import scipy.sparse
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from shared.errors import ModelUnusable, UnsafeArtifact
from tests.fuzz.mutations import damaged
from tests.fuzz.profile import examples
from tests.fuzz.sandbox import Sandbox
from tests.unit.graphs import by_columns, linear_classifier
from worker.formats import load
from worker.formats.archive import check_archive
from worker.formats.limits import ArtifactLimits

LIMITS: Final = ArtifactLimits(artifact_bytes=2**20, unpacked_bytes=16 * 2**20, trusted=())
# The process has libraries loaded and some models in it; what it touches on top is what one artifact may take.
MOST_TOUCHED: Final = 2**30
X: Final = np.random.default_rng(0).normal(size=(24, 3))
Y: Final = (X[:, 0] > 0).astype(int)
ORDER: Final = ["loaded", "refused", "unsafe", "too large"]


@cache
def skops_files() -> tuple[bytes, ...]:
    """Small files with the parts that compiled code reads: trees, neighbours, vectors, words, sparse matrices."""
    words = ["red", "blue", "red blue"] * 8
    table = np.column_stack([X[:, 0], np.tile(["a", "b"], 12)]).astype(object)
    encoder = ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), [1])], remainder="drop")
    estimators = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
        RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0).fit(X, Y),
        GradientBoostingClassifier(n_estimators=2, max_depth=2, random_state=0).fit(X, Y),
        HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2).fit(X, Y),
        KNeighborsClassifier(2, algorithm="kd_tree").fit(X, Y),
        SVC().fit(X, Y),
        make_pipeline(CountVectorizer(), LogisticRegression()).fit(words, Y),
        make_pipeline(encoder, LogisticRegression()).fit(table, Y),
        KNeighborsClassifier(2).fit(scipy.sparse.csr_matrix(X), Y),
    ]
    return tuple(bytes(skops.io.dumps(estimator)) for estimator in estimators)


@cache
def graphs() -> tuple[bytes, ...]:
    return linear_classifier(zipmap=True), linear_classifier(zipmap=False), by_columns()


def members_of(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in members.items():
            written.writestr(name, data)
    return file.getvalue()


@st.composite
def with_a_damaged_member(draw: st.DrawFn) -> bytes:
    """A whole archive of which one member is damaged, so that more than its checksum has to notice."""
    members = members_of(draw(st.sampled_from(skops_files())))
    name = draw(st.sampled_from(sorted(members)))
    return archive_of(members | {name: draw(damaged([members[name]], most=3))})


def leaves(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every value in a JSON document that is neither object nor array: what holds it, and under which key."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            leaves(value, found)
        else:
            found.append((node, key))
    return found


@st.composite
def with_another_schema(draw: st.DrawFn) -> bytes:
    """A whole archive whose description says something else: values of it in one another's place, or odd ones."""
    members = members_of(draw(st.sampled_from(skops_files())))
    schema = json.loads(members["schema.json"])
    places = leaves(schema, [])
    odd: Any = st.sampled_from(
        [None, True, -1, 0, 2**63, 1e308, "", "__class__", "os", "system", "../x", [], {}, "a" * 1000]
    )
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(places))
        other, name = draw(st.sampled_from(places))
        holder[key] = draw(odd | st.just(other[name]))
    return archive_of(members | {"schema.json": json.dumps(schema).encode()})


def outcome(format: str, artifact: bytes) -> str:
    """Called in the sandbox: what became of an artifact, which is used once if it could be loaded."""
    try:
        estimator = load(format, artifact, LIMITS).estimator
    except UnsafeArtifact as error:
        assert error.message
        return "unsafe"
    except ModelUnusable as error:
        assert error.message
        return "refused"
    except MemoryError:  # which whoever loads it makes a refusal of
        return "too large"
    try:
        estimator.predict(X[:2])
    except Exception:  # noqa: BLE001  # a fault of the model or its rows, which fails its rows
        return "loaded"
    return "loaded"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(outcome, most_bytes=LIMITS.check_bytes)
    yield sandbox
    sandbox.stop()


def checked(sandbox: Sandbox, format: str, artifact: bytes) -> str:
    before = sandbox.size_bytes() if sandbox.running else 0
    found = sandbox.call(format, artifact)

    assert found in ORDER
    assert not before or sandbox.size_bytes() - before < MOST_TOUCHED
    return found


@pytest.mark.parametrize("number", range(9))
def test_an_undamaged_skops_file_is_loaded(sandbox: Sandbox, number: int) -> None:
    artifact = skops_files()[number]

    assert sandbox.call("skops", artifact) == "loaded"
    assert sandbox.call("skops", archive_of(members_of(artifact))) == "loaded"


@pytest.mark.parametrize("number", range(3))
def test_an_undamaged_graph_is_loaded(sandbox: Sandbox, number: int) -> None:
    assert sandbox.call("onnx", graphs()[number]) == "loaded"


@given(st.deferred(lambda: damaged(skops_files())))
@examples(120)
def test_a_damaged_archive_is_refused_or_loaded(sandbox: Sandbox, artifact: bytes) -> None:
    checked(sandbox, "skops", artifact)


@given(with_a_damaged_member())
@examples(180)
def test_an_archive_with_a_damaged_member_is_refused_or_loaded(sandbox: Sandbox, artifact: bytes) -> None:
    checked(sandbox, "skops", artifact)


@given(with_another_schema())
@examples(180)
def test_an_archive_that_describes_something_else_is_refused_or_loaded(sandbox: Sandbox, artifact: bytes) -> None:
    checked(sandbox, "skops", artifact)


@given(st.deferred(lambda: damaged(graphs(), most=4)))
@examples(300)
def test_a_damaged_graph_is_refused_or_loaded(sandbox: Sandbox, artifact: bytes) -> None:
    checked(sandbox, "onnx", artifact)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x08\x0a"]), st.sampled_from(["skops", "onnx"]))
@examples(150)
def test_bytes_that_are_no_artifact_are_refused(sandbox: Sandbox, data: bytes, begins: bytes, format: str) -> None:
    assert checked(sandbox, format, begins + data) in ("refused", "unsafe")


@given(st.deferred(lambda: damaged(skops_files()[:3])), st.integers(0, 20_000))
@examples(150)
def test_no_damaged_archive_passes_that_unpacks_to_more_than_allowed(artifact: bytes, most_bytes: int) -> None:
    try:
        unpacked = check_archive(artifact, most_bytes=most_bytes)
    except ModelUnusable as error:
        assert error.message
    else:
        assert unpacked <= most_bytes
