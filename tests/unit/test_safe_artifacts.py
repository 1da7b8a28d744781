"""Artifacts that are made to do harm: each is refused, and nothing of it runs."""

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeRegressor

from shared.errors import InvalidRequest, ModelUnusable, UnsafeArtifact
from shared.settings import Settings
from tests.unit.small_types import Ratio
from worker.formats import FORMATS, load
from worker.formats.limits import ArtifactLimits
from worker.registration import examine

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X[:, 0] + X[:, 1]
Schema = dict[str, Any]


class Command:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there only if something ran."""
    return tmp_path / "it-ran"


def limits(**values: Any) -> ArtifactLimits:
    return ArtifactLimits.of(Settings(**values))


def members_of(artifact: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, data in members.items():
            written.writestr(name, data)
    return file.getvalue()


def skops_file(estimator: Any, change: Callable[[Schema], None]) -> bytes:
    """An estimator's file, with its schema changed by hand."""
    members = members_of(FORMATS["skops"].dump(estimator))
    schema = json.loads(members["schema.json"])
    change(schema)
    return archive(members | {"schema.json": json.dumps(schema).encode()})


def with_arrays(estimator: Any, change: Callable[[np.ndarray[Any, Any]], Any]) -> bytes:
    """An estimator's file, with its arrays changed by hand: `change` alters those that it knows in place."""
    members = members_of(FORMATS["skops"].dump(estimator))
    changed = 0
    for name, data in members.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(data)).copy()
            before = array.tobytes()
            change(array)
            file = io.BytesIO()
            np.save(file, array)
            members[name] = file.getvalue()
            changed += array.tobytes() != before
    assert changed
    return archive(members)


def called(function: str, argument: str, loader: str) -> Callable[[Schema], None]:
    """Puts a function with an argument in the place of an attribute, in one of the ways that skops knows."""
    module, _, name = function.rpartition(".")
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(argument)}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text]}
    nothing = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": {}, "key_types": {
        "__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []}}  # fmt: skip
    node: Schema = {"__class__": name, "__module__": module, "__loader__": loader}
    match loader:
        case "ConstructorFromReduceNode":
            node["content"] = arguments
        case "LossNode":
            node |= {"__reduce__": {"args": arguments}, "content": nothing}
        case "OperatorFuncNode":
            node["attrs"] = arguments
        case "ObjectNode":
            node["content"] = nothing

    def change(schema: Schema) -> None:
        schema["content"]["content"]["positive"] = node

    return change


def calling(function: str, loader: str, marker: Path) -> bytes:
    """A file that names a function with an argument for which it leaves a marker."""
    argument = f"open({str(marker)!r}, 'w')" if function == "builtins.eval" else f"touch {marker}"
    return skops_file(LinearRegression().fit(X, Y), called(function, argument, loader))


@pytest.mark.parametrize("loader", ["ConstructorFromReduceNode", "FunctionNode", "LossNode", "ObjectNode", "TypeNode"])
@pytest.mark.parametrize("function", ["os.system", "posix.system", "builtins.eval", "subprocess.Popen"])
def test_a_skops_file_that_names_a_function_is_refused_by_the_audit_and_runs_nothing(
    function: str, loader: str, marker: Path
) -> None:
    with pytest.raises(UnsafeArtifact, match=f"not trusted: {re.escape(function)}"):
        load("skops", calling(function, loader, marker))

    assert not marker.exists()


@pytest.mark.parametrize("function", ["os.system", "posix.system", "builtins.eval", "subprocess.Popen"])
def test_a_skops_file_that_calls_another_function_an_operator_is_refused(function: str, marker: Path) -> None:
    with pytest.raises(ModelUnusable, match="Expected module 'operator'"):
        load("skops", calling(function, "OperatorFuncNode", marker))

    assert not marker.exists()


@pytest.mark.parametrize("loader", ["ConstructorFromReduceNode", "LossNode"])
@pytest.mark.parametrize("function", ["os.system", "posix.system", "builtins.eval"])
def test_the_function_of_such_a_file_does_run_once_it_is_trusted(function: str, loader: str, marker: Path) -> None:
    load("skops", calling(function, loader, marker), limits(trusted_types=function))

    assert marker.exists()


def test_the_functions_of_a_skops_file_are_named_with_what_to_do() -> None:
    artifact = skops_file(LinearRegression().fit(X, Y), called("subprocess.Popen", "true", "ObjectNode"))

    with pytest.raises(UnsafeArtifact, match=r"subprocess\.Popen.*FORETELL_TRUSTED_TYPES") as refused:
        load("skops", artifact)

    assert [error["type"] for error in refused.value.data["errors"]] == ["subprocess.Popen"]
    assert {error["code"] for error in refused.value.data["errors"]} == {"untrusted_type"}


def test_every_type_that_is_not_trusted_is_listed() -> None:
    pipeline = make_pipeline(FunctionTransformer(os.path.join), FunctionTransformer(json.dumps))

    with pytest.raises(UnsafeArtifact) as refused:
        load("skops", FORMATS["skops"].dump(pipeline))

    assert [error["type"] for error in refused.value.data["errors"]] == ["json.dumps", "posixpath.join"]


def test_an_operator_can_trust_a_type() -> None:
    artifact = FORMATS["skops"].dump(Ratio().fit(X, Y))

    with pytest.raises(UnsafeArtifact, match=r"tests\.unit\.small_types\.Ratio"):
        load("skops", artifact)

    assert isinstance(load("skops", artifact, limits(trusted_types="tests.unit.small_types.Ratio")).estimator, Ratio)


@pytest.mark.parametrize("format", ["skops", "onnx"])
def test_a_pickle_under_another_name_is_refused_and_runs_nothing(format: str, marker: Path) -> None:
    with pytest.raises(ModelUnusable):
        load(format, pickle.dumps(Command(f"touch {marker}")))

    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle-as-member", "pickled-objects-in-an-array"])
def test_a_pickle_within_a_skops_file_runs_nothing(kind: str, marker: Path) -> None:
    members = members_of(FORMATS["skops"].dump(LinearRegression().fit(X, Y)))
    evil = io.BytesIO()
    if kind == "pickle-as-member":
        pickle.dump(Command(f"touch {marker}"), evil)
    else:
        np.save(evil, np.array([Command(f"touch {marker}")], dtype=object), allow_pickle=True)
    swapped = {name: evil.getvalue() if name.endswith(".npy") else data for name, data in members.items()}

    with pytest.raises(ModelUnusable, match="allow_pickle"):
        load("skops", archive(swapped))

    assert not marker.exists()


def test_a_joblib_file_does_run_what_it_holds_and_so_is_never_loaded_under_another_format(marker: Path) -> None:
    file = io.BytesIO()
    joblib.dump(Command(f"touch {marker}"), file)

    load("joblib", file.getvalue())

    assert marker.exists()


def test_a_skops_file_without_a_schema_is_refused() -> None:
    with pytest.raises(ModelUnusable, match=r"it has no schema\.json"):
        load("skops", archive({"1.npy": b""}))


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    begin = '{"protocol":2,"__class__":"list","__module__":"builtins","__loader__":"ListNode","content":['
    schema = begin * 400 + "]}" * 400

    with pytest.raises(ModelUnusable, match="nested too deeply"):
        load("skops", archive({"schema.json": schema.encode()}))


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(b"{", id="no-json"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b'{"protocol": 99}', id="of-the-future"),
        pytest.param(b'{"protocol": 2}', id="empty"),
        pytest.param(b'{"protocol": 2, "__loader__": "Nothing", "__class__": "a", "__module__": "b"}', id="no-loader"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(schema: bytes) -> None:
    with pytest.raises(ModelUnusable, match="not a skops file that can be loaded"):
        load("skops", archive({"schema.json": schema}))


def test_an_artifact_that_is_too_large_is_refused() -> None:
    artifact = FORMATS["skops"].dump(LinearRegression().fit(X, Y))

    with pytest.raises(ModelUnusable, match=r"and 100 are the most.*FORETELL_MAX_ARTIFACT_BYTES"):
        load("skops", artifact, limits(max_artifact_bytes=100))


def test_an_artifact_that_unpacks_to_too_much_is_refused() -> None:
    artifact = FORMATS["skops"].dump(KNeighborsRegressor().fit(np.zeros((10_000, 20)), np.zeros(10_000)))

    with pytest.raises(UnsafeArtifact, match="FORETELL_MAX_UNPACKED_ARTIFACT_BYTES"):
        load("skops", artifact, limits(max_unpacked_artifact_bytes=2**20))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no format 'pmml'; there are skops, onnx, joblib"):
        examine(b"", format="pmml", sample=None)


def wild(field: str, value: int) -> Callable[[np.ndarray[Any, Any]], None]:
    """Sets a field of the first node of every array of nodes."""

    def change(array: np.ndarray[Any, Any]) -> None:
        if array.dtype.names is not None and field in array.dtype.names and array.size:
            array[field][0] = value

    return change


def far_rows(array: np.ndarray[Any, Any]) -> None:
    """Has every list of rows begin far away."""
    if array.dtype.kind == "i" and array.shape == (60,):
        array[0] = 10**9


TREE = DecisionTreeRegressor(max_depth=3).fit(X, Y)
BOOSTED = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2).fit(X, Y)
NEAREST = KNeighborsRegressor(algorithm="kd_tree").fit(X, Y)


@pytest.mark.parametrize(
    ("estimator", "change", "message"),
    [
        pytest.param(TREE, wild("left_child", 10**9), "left_child", id="child-far-away"),
        pytest.param(TREE, wild("right_child", -5), "right_child", id="child-before-the-first"),
        pytest.param(TREE, wild("left_child", 0), "left_child", id="a-circle"),
        pytest.param(TREE, wild("feature", 10**9), "feature", id="feature-far-away"),
        pytest.param(BOOSTED, wild("left", 10**9), "left", id="boosted-child-far-away"),
        pytest.param(BOOSTED, wild("right", 0), "right", id="boosted-circle"),
        pytest.param(BOOSTED, wild("feature_idx", 10**9), "feature", id="boosted-feature-far-away"),
        pytest.param(NEAREST, wild("idx_end", 10**9), "node of other rows", id="neighbours-far-away"),
        pytest.param(NEAREST, far_rows, "a row that is none", id="neighbour-row-far-away"),
    ],
)
def test_numbers_that_lead_out_of_an_array_are_refused(estimator: Any, change: Any, message: str) -> None:
    with pytest.raises(UnsafeArtifact, match=f"is not sound: .*{message}"):
        load("skops", with_arrays(estimator, change))


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(TREE, id="tree"),
        pytest.param(GradientBoostingRegressor(n_estimators=2).fit(X, Y), id="boosting"),
        pytest.param(BOOSTED, id="histogram-boosting"),
    ],
)
def test_trees_that_know_more_features_than_their_estimator_are_refused(estimator: Any) -> None:
    def fewer(schema: Schema) -> None:
        count = schema["content"]["content"]["n_features_in_"]
        del count["__id__"]  # it stands for every number that is equal
        count["content"] = "1"

    with pytest.raises(UnsafeArtifact, match="is not sound"):
        load("skops", skops_file(estimator, fewer))


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(DecisionTreeRegressor().fit(X, Y), id="tree"),
        pytest.param(HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2).fit(X, Y), id="histogram-boosting"),
        pytest.param(KMeans(2, n_init=1).fit(X), id="clusters"),
    ],
)
def test_an_estimator_that_does_not_know_its_number_of_features_is_refused(estimator: Any) -> None:
    del estimator.n_features_in_

    with pytest.raises(UnsafeArtifact, match=r"is not sound: .*n_features_in_"):
        load("skops", FORMATS["skops"].dump(estimator))


def test_a_support_vector_machine_with_fewer_coefficients_than_vectors_is_refused() -> None:
    machine = SVC().fit(X, Y > 0)
    machine._dual_coef_ = machine._dual_coef_[:, :5]

    with pytest.raises(UnsafeArtifact, match="its coefficients"):
        load("skops", FORMATS["skops"].dump(machine))


def test_a_sparse_matrix_with_wild_indices_is_refused() -> None:
    matrix = scipy.sparse.csr_matrix(X)
    matrix.indices[0] = 10**6
    nearest = KNeighborsRegressor(algorithm="brute").fit(scipy.sparse.csr_matrix(X), Y)
    nearest._fit_X = matrix

    with pytest.raises(UnsafeArtifact, match="is not sound"):
        load("skops", FORMATS["skops"].dump(nearest))


def changed(estimator: Any, **attributes: Any) -> bytes:
    """The file of an estimator that has other attributes than it learned."""
    vars(estimator).update(attributes)
    return FORMATS["skops"].dump(estimator)


MORE_ROWS = np.zeros((1000, 3))


@pytest.mark.parametrize(
    ("estimator", "attributes", "message"),
    [
        pytest.param(
            KNeighborsClassifier(algorithm="brute").fit(X, Y > 0), {"_fit_X": MORE_ROWS, "n_samples_fit_": 1000},
            "its labels", id="rows-without-labels",
        ),
        pytest.param(
            RadiusNeighborsClassifier(algorithm="brute").fit(X, Y > 0), {"_fit_X": MORE_ROWS, "n_samples_fit_": 1000},
            "its labels", id="rows-without-labels-within-a-radius",
        ),
        pytest.param(
            RadiusNeighborsRegressor(algorithm="brute").fit(X, Y), {"_fit_X": MORE_ROWS, "n_samples_fit_": 1000},
            "its labels", id="rows-without-targets",
        ),
        pytest.param(
            KNeighborsClassifier(algorithm="brute").fit(X, Y > 0), {"_y": np.full(60, 10**6)},
            "a label that is none", id="a-label-far-away",
        ),
        pytest.param(
            KNeighborsClassifier(algorithm="kd_tree").fit(X, np.column_stack([Y > 0, Y > 1])),
            {"_y": np.full((60, 2), -1)}, "a label that is none", id="a-label-before-the-first-of-several",
        ),
        pytest.param(
            KNeighborsClassifier(algorithm="brute").fit(X, Y > 0), {"n_samples_fit_": 10**6},
            "its number of rows", id="another-number-of-rows",
        ),
        pytest.param(
            KNeighborsRegressor(algorithm="brute").fit(X, Y), {"_fit_X": X[:, :1]},
            "its number of features", id="rows-of-fewer-features",
        ),
        pytest.param(
            KNeighborsRegressor(algorithm="ball_tree").fit(X, Y),
            {"_tree": KNeighborsRegressor(algorithm="ball_tree").fit(MORE_ROWS, MORE_ROWS[:, 0])._tree},
            "its tree", id="a-tree-of-other-rows",
        ),
        pytest.param(
            LocalOutlierFactor(novelty=True, algorithm="kd_tree").fit(X), {"_tree": None}, "its tree", id="no-tree",
        ),
        pytest.param(
            KMeans(2, n_init=1).fit(X), {"cluster_centers_": np.zeros((50_000, 1))},
            "its cluster centers", id="centers-of-fewer-features",
        ),
        pytest.param(
            CountVectorizer().fit(["a root", "and stem"]), {"vocabulary_": {"root": 10**9}},
            "its vocabulary", id="a-word-far-away",
        ),
        pytest.param(
            TfidfVectorizer().fit(["a root", "and stem"]), {"vocabulary_": {"root": -5, "stem": 0}},
            "its vocabulary", id="a-word-before-the-first",
        ),
        pytest.param(
            DictVectorizer().fit([{"root": 1}]), {"vocabulary_": {"root": 10**9}},
            "its vocabulary", id="a-key-far-away",
        ),
        pytest.param(
            OneHotEncoder().fit([["a"], ["b"], ["c"]]), {"_n_features_outs": [1]},
            "its number of columns", id="fewer-columns-than-categories",
        ),
        pytest.param(
            OneHotEncoder(max_categories=2).fit([["a"], ["b"], ["c"]]),
            {"_default_to_infrequent_mappings": [np.array([0, 10**6, 1])]},
            "its rare categories", id="a-rare-category-far-away",
        ),
    ],
)  # fmt: skip
def test_attributes_that_do_not_fit_together_are_refused(
    estimator: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsafeArtifact, match=f"is not sound: {message}"):
        load("skops", changed(estimator, **attributes))


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(KNeighborsClassifier(algorithm="brute").fit(X, Y > 0), id="brute"),
        pytest.param(KNeighborsClassifier(algorithm="kd_tree").fit(X, np.column_stack([Y > 0, Y > 1])), id="outputs"),
        pytest.param(KNeighborsRegressor(algorithm="brute").fit(scipy.sparse.csr_matrix(X), Y), id="sparse"),
        pytest.param(KNeighborsRegressor(metric="precomputed").fit(np.zeros((60, 60)), Y), id="precomputed"),
        pytest.param(RadiusNeighborsClassifier(algorithm="ball_tree").fit(X, Y > 0), id="radius"),
        pytest.param(LocalOutlierFactor(novelty=True).fit(X), id="outliers"),
        pytest.param(KMeans(2, n_init=1).fit(X), id="clusters"),
        pytest.param(TfidfVectorizer().fit(["a root", "and stem"]), id="words"),
        pytest.param(OneHotEncoder(drop="first").fit([["a"], ["b"], ["c"]]), id="dropped-category"),
        pytest.param(OneHotEncoder(max_categories=2).fit([["a", 1], ["b", 2], ["c", 3]]), id="rare-categories"),
    ],
)
def test_what_scikit_learn_fitted_itself_is_sound(estimator: Any) -> None:
    assert type(load("skops", FORMATS["skops"].dump(estimator)).estimator) is type(estimator)


@pytest.mark.parametrize("kind", ["filename", "file"])
def test_a_model_that_reads_the_files_that_rows_name_is_refused(kind: str) -> None:
    reader = make_pipeline(CountVectorizer(vocabulary=["root"], input=kind), LinearRegression())

    with pytest.raises(UnsafeArtifact, match="reads the files that rows name"):
        load("skops", FORMATS["skops"].dump(reader))


def test_a_pipeline_that_keeps_files_in_a_folder_of_its_own_is_refused(tmp_path: Path) -> None:
    pipeline = make_pipeline(LinearRegression(), memory=str(tmp_path)).fit(X, Y)

    with pytest.raises(UnsafeArtifact, match="keeps files in a folder of its own"):
        load("skops", FORMATS["skops"].dump(pipeline))
