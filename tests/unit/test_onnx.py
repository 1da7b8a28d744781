"""ONNX files: what a graph takes and gives is found out, and what cannot be served is refused with a reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
from onnx import helper

from examples.small_network import network, predicted
from shared.errors import InvalidRequest, ModelUnusable, UnsafeArtifact
from shared.settings import Settings
from shared.signature import Feature, RowChecker, Signature
from tests.unit.graphs import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT64,
    STRING,
    boosted_stumps,
    by_columns,
    identity,
    lengths_of_texts,
    linear_classifier,
    model,
    written,
)
from worker.formats import load
from worker.formats.limits import ArtifactLimits
from worker.formats.memory import at_most
from worker.predict import RowFailure, predict_rows
from worker.registration import Examined, examine
from worker.score import Scorer

ROOMS = {"size": [20.0, 15.5], "floor": [2, 0], "mode": ["eco", "off"], "sunny": [True, False]}
PROBABLE = 1 / (1 + np.exp(-6.0))  # of `yes` for a row that sums up to 3


def numbers(signature: Signature) -> list[tuple[str, str]]:
    return [(feature.name, feature.type) for feature in signature.features]


def by_job(found: Examined, rows: list[list[Any]], method: str = "predict", top_k: int | None = None) -> list[Any]:
    """What a prediction job gives for rows as a client sends them."""
    checked = RowChecker(found.signature, 100, 100).check(rows)
    return predict_rows(found.model, found.signature, checked, method=method, top_k=top_k, most_rows=100)


def by_file(found: Examined, rows: list[list[Any]], method: str = "predict") -> dict[str, list[Any]]:
    """What a batch job gives for the same rows in a file."""
    values = map(list, zip(*rows, strict=True))
    columns = {feature.name: column for feature, column in zip(found.signature.features, values, strict=True)}
    kinds = {"number": pa.float64(), "integer": pa.int64(), "string": pa.string(), "boolean": pa.bool_()}
    schema = pa.schema([(feature.name, kinds[feature.type]) for feature in found.signature.features])
    scorer = Scorer(found.model, found.signature, method, None)
    scores = scorer.score(pa.table(columns, schema=schema), scorer.schema(), lambda: False)
    assert not scores.failures
    table: dict[str, list[Any]] = scores.table.to_pydict()
    return table


def test_a_network_predicts_what_its_formula_says() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4))
    found = examine(network(), format="onnx", sample=None)

    predictions = by_job(found, rows.tolist())

    np.testing.assert_allclose(predictions, predicted(rows), rtol=1e-5, atol=1e-6)
    assert predictions == by_file(found, rows.tolist())["prediction"]


def test_the_signature_of_a_network_comes_from_its_graph() -> None:
    found = examine(network(), format="onnx", sample=None)

    signature = found.signature
    assert numbers(signature) == [("x1", "number"), ("x2", "number"), ("x3", "number"), ("x4", "number")]
    assert (signature.container, signature.methods, signature.classes) == ("matrix", ("predict",), None)
    assert signature.outputs == ({"name": "prediction", "type": "number"},)
    assert signature.example == (0.0, 0.0, 0.0, 0.0)
    assert found.libraries["onnxruntime"] == onnxruntime.__version__


def test_a_sample_gives_the_columns_their_names() -> None:
    sample = pa.table({name: [1, 2] for name in ("age", "mass", "pressure", "sugar")})

    signature = examine(network(), format="onnx", sample=sample).signature

    assert numbers(signature) == [(name, "number") for name in ("age", "mass", "pressure", "sugar")]
    assert signature.example == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("zipmap", [True, False], ids=["with-zipmap", "without-zipmap"])
@pytest.mark.parametrize("labels", [("no", "yes"), (7, 3)], ids=["names", "numbers"])
def test_a_classifier_gives_labels_and_probabilities(zipmap: bool, labels: tuple[Any, ...]) -> None:
    found = examine(linear_classifier(zipmap=zipmap, labels=labels), format="onnx", sample=None)
    rows = [[1.0, 2.0], [-1.0, -2.0]]

    assert found.signature.classes == labels
    assert found.signature.methods == ("predict", "predict_proba")
    assert by_job(found, rows) == [labels[1], labels[0]]
    (first, second) = by_job(found, rows, "predict_proba")
    assert first == pytest.approx([1 - PROBABLE, PROBABLE], abs=1e-6)
    assert second == pytest.approx([PROBABLE, 1 - PROBABLE], abs=1e-6)
    assert by_file(found, rows, "predict_proba")[f"probability_{labels[1]}"] == [first[1], second[1]]


def test_a_classifier_gives_the_most_probable_classes() -> None:
    found = examine(linear_classifier(zipmap=True), format="onnx", sample=None)

    ((best,),) = by_job(found, [[1.0, 2.0]], "predict_proba", top_k=1)

    assert best == {"item": "yes", "score": pytest.approx(PROBABLE, abs=1e-6)}


def test_each_column_may_be_an_input_of_its_own() -> None:
    found = examine(by_columns(), format="onnx", sample=pa.table(ROOMS))
    rows = [[20.0, 2, "eco", True], [15.5, 0, "off", False]]

    assert found.signature.container == "table"
    assert numbers(found.signature) == [
        ("size", "number"), ("floor", "integer"), ("mode", "string"), ("sunny", "boolean"),
    ]  # fmt: skip
    assert by_job(found, rows) == [1140.0, 15.5]
    assert by_file(found, rows) == {"prediction": [1140.0, 15.5]}


def test_the_columns_of_a_sample_are_taken_by_the_names_of_the_inputs() -> None:
    sample = pa.table({name: ROOMS[name] for name in ("sunny", "mode", "size", "floor")} | {"other": [1, 2]})

    signature = examine(by_columns(), format="onnx", sample=sample).signature

    assert [feature.name for feature in signature.features] == ["size", "floor", "mode", "sunny"]


def test_a_string_that_is_missing_fails_its_row_alone() -> None:
    found = examine(by_columns(), format="onnx", sample=pa.table(ROOMS))
    assert not found.signature.features[2].nullable

    rows: list[list[Any]] = [[20.0, 2, "eco", True], [15.5, 0, None, False]]
    fine, failed = predict_rows(found.model, found.signature, rows, method="predict", top_k=None, most_rows=10)

    assert fine == 1140.0
    assert isinstance(failed, RowFailure)
    assert "column mode is missing" in failed.message


def test_one_column_of_strings_is_text() -> None:
    found = examine(lengths_of_texts(), format="onnx", sample=None)

    assert found.signature.container == "text"
    assert by_job(found, [["long"], ["short"]]) == [1.0, 0.0]


def test_boosted_trees_take_missing_values_where_their_graph_says_so() -> None:
    found = examine(boosted_stumps(), format="onnx", sample=None)

    assert [feature.nullable for feature in found.signature.features] == [True, True]
    assert by_job(found, [[0.0, 1.0], [1.0, 4.0], [None, 4.0]]) == [16.0, 27.0, 26.0]


def test_a_network_does_not_take_missing_values() -> None:
    signature = examine(network(), format="onnx", sample=None).signature

    assert [feature.nullable for feature in signature.features] == [False] * 4


def test_doubles_keep_all_their_digits() -> None:
    found = examine(identity(DOUBLE, ["n", 1]), format="onnx", sample=None)

    assert by_job(found, [[0.1], [1e300]]) == [0.1, 1e300]


@pytest.mark.parametrize(
    ("row", "message"),
    [pytest.param([2.5], "whole number", id="fraction"), pytest.param([float("nan")], "whole number", id="missing")],
)
def test_a_graph_of_whole_numbers_refuses_others(row: list[float], message: str) -> None:
    found = examine(identity(INT64, ["n", 1]), format="onnx", sample=None)

    (kept,) = predict_rows(found.model, found.signature, [[3.0]], method="predict", top_k=None, most_rows=10)
    (failed,) = predict_rows(found.model, found.signature, [row], method="predict", top_k=None, most_rows=10)

    assert kept == 3
    assert isinstance(failed, RowFailure)
    assert message in failed.message


@pytest.mark.parametrize(
    ("shape", "prediction"),
    [
        pytest.param(["n"], 1.5, id="a-list"),
        pytest.param(["n", 1], 1.5, id="a-column"),
        pytest.param(["n", 2], [1.5, 2.5], id="two-columns"),
    ],
)
def test_numbers_are_one_prediction_or_several_by_their_shape(shape: list[Any], prediction: Any) -> None:
    found = examine(identity(FLOAT, shape), format="onnx", sample=None)

    assert by_job(found, [[1.5, 2.5][: len(found.signature.features)]]) == [prediction]


def test_several_outputs_of_a_number_are_one_prediction() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Identity", ["x"], ["plus"])]
    both: list[tuple[str, int, list[Any]]] = [("minus", FLOAT, ["n", 1]), ("plus", FLOAT, ["n", 1])]
    found = examine(written(nodes, [("x", FLOAT, ["n", 1])], both), format="onnx", sample=None)

    assert by_job(found, [[2.0]]) == [[-2.0, 2.0]]
    assert [output["name"] for output in found.signature.outputs] == ["prediction_0", "prediction_1"]


def test_a_graph_whose_output_says_so_transforms() -> None:
    node = helper.make_node("Neg", ["x"], ["transformed"])
    graph = written([node], [("x", FLOAT, ["n", 2])], [("transformed", FLOAT, ["n", 2])])

    found = examine(graph, format="onnx", sample=None)

    assert found.signature.methods == ("transform",)
    assert by_job(found, [[1.0, 2.0]], "transform") == [[-1.0, -2.0]]


def test_a_session_has_one_thread_and_keeps_no_memory_of_large_batches() -> None:
    options = load("onnx", network()).estimator._session.get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)


def with_external_data() -> bytes:
    built = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])],
                  w=np.ones(1, np.float32))  # fmt: skip
    (tensor,) = built.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"
    return bytes(built.SerializeToString())


def with_external_data_in_a_branch() -> bytes:
    """The tensor is a constant of a node in the body of an If."""
    tensor = onnx.TensorProto(name="hidden", data_type=FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    out = [helper.make_tensor_value_info("o", FLOAT, [1])]
    body = helper.make_graph([helper.make_node("Constant", [], ["o"], value=tensor)], "body", [], out)
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["c"], then_branch=body, else_branch=body),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    return written(nodes, [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])])


def with_own_operator() -> bytes:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    built = model([node], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])])
    built.opset_import.append(helper.make_opsetid("com.example", 1))
    return bytes(built.SerializeToString())


def labels_and_two_tables() -> bytes:
    nodes = [
        helper.make_node("Cast", ["x"], ["label"], to=INT64),
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Identity", ["x"], ["b"]),
    ]
    outputs: list[tuple[str, int, list[Any]]] = [
        ("label", INT64, ["n", 1]), ("a", FLOAT, ["n", 1]), ("b", FLOAT, ["n", 1]),
    ]  # fmt: skip
    return written(nodes, [("x", FLOAT, ["n", 1])], outputs)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(with_external_data, UnsafeArtifact, "tensor 'w' lies in another file", id="external-data"),
        pytest.param(
            with_external_data_in_a_branch, UnsafeArtifact, "'hidden' lies in another file", id="external-in-a-branch"
        ),
        pytest.param(with_own_operator, UnsafeArtifact, r"com\.example\.Frobnicate", id="operator-of-its-own"),
        pytest.param(lambda: b"no graph", ModelUnusable, "not an ONNX file", id="no-onnx"),
        pytest.param(lambda: b"", ModelUnusable, "not an ONNX file", id="empty"),
        pytest.param(lambda: network()[:-40], ModelUnusable, "not an ONNX file", id="truncated"),
        pytest.param(
            lambda: written([helper.make_node("Nothing", ["x"], ["y"])], [("x", FLOAT, ["n", 1])],
                            [("y", FLOAT, ["n", 1])]),
            ModelUnusable, "No Op registered for Nothing", id="operator-that-there-is-not",
        ),
        pytest.param(lambda: identity(FLOAT, ["n", 3, 8, 8]), ModelUnusable, "of 4 dimensions", id="pictures"),
        pytest.param(lambda: identity(FLOAT, [1, 3]), ModelUnusable, "made for 1 rows at a time", id="fixed-rows"),
        pytest.param(
            lambda: identity(onnx.TensorProto.COMPLEX64, ["n", 1]), ModelUnusable, "complex64", id="complex-numbers"
        ),
        pytest.param(labels_and_two_tables, ModelUnusable, "outputs of the graph are neither", id="too-many-outputs"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be_served_is_refused(
    make: Callable[[], bytes], error: type[ModelUnusable], message: str
) -> None:
    with pytest.raises(error, match=message):
        load("onnx", make())


@pytest.mark.parametrize(
    ("graph", "sample", "message"),
    [
        pytest.param(network(), {"a": [1.0]}, "takes 4 columns, not 1", id="fewer-columns"),
        pytest.param(network(), {name: ["x"] for name in "abcd"}, "Column a of the sample is string", id="other-types"),
        pytest.param(by_columns(), {"size": [1.0]}, "takes the input floor", id="no-such-column"),
        pytest.param(identity(FLOAT, ["n", "k"]), None, "give a few sample rows", id="open-number-of-columns"),
    ],
)
def test_a_sample_that_does_not_fit_the_graph_is_refused(graph: bytes, sample: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        examine(graph, format="onnx", sample=None if sample is None else pa.table(sample))


@pytest.mark.parametrize(
    "artifact",
    [
        pytest.param(linear_classifier(zipmap=False).replace(b"yes", b"ye\xff"), id="not-utf-8"),
        pytest.param(
            model(
                [helper.make_node("ArrayFeatureExtractor", [], ["y"], domain="ai.onnx.ml")],
                [("x", FLOAT, ["n", 1])],
                [("y", FLOAT, ["n", 1])],
            ).SerializeToString(),
            id="no-array",
        ),
        pytest.param(identity(FLOAT, ["n", 1], name="xyz").replace(b"xyz", b"x\xff\xff"), id="name-of-an-input"),
        pytest.param(linear_classifier(zipmap=False).replace(b"\x01x", b"\x01\x00", 1), id="input-that-nothing-gives"),
    ],
)
def test_a_graph_whose_names_or_labels_cannot_be_read_is_refused(artifact: bytes) -> None:
    with pytest.raises(ModelUnusable):
        load("onnx", artifact)


def test_labels_of_which_the_graph_does_not_say_the_shape_are_labels() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Compress", ["size", "keep"], ["kept"], axis=0),
        helper.make_node("Reshape", ["x", "kept"], ["label"]),
    ]
    built = model(nodes, [("x", INT64, ["n", 1])], [("label", INT64, ["n"])], keep=[True, False])
    built.graph.output[0].type.tensor_type.ClearField("shape")

    loaded = load("onnx", built.SerializeToString()).estimator

    assert loaded.predict(np.array([[3], [4]])).tolist() == [3, 4]


def test_a_sample_says_how_many_columns_an_open_graph_takes() -> None:
    signature = examine(identity(FLOAT, ["n", "k"]), format="onnx", sample=pa.table({"a": [1.5], "b": [2.5]})).signature

    assert signature.features == (Feature(name="a", type="number"), Feature(name="b", type="number"))


def test_several_strings_are_columns_of_a_table() -> None:
    found = examine(identity(STRING, ["n", 1], "name"), format="onnx", sample=None)

    assert found.signature.container == "text"
    assert by_job(found, [["Ada"]]) == ["Ada"]


TERA = 10**12
IN_OUT: Any = ([("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])])
ZERO = helper.make_tensor("zero", FLOAT, [1], [0.0])


def bomb(*nodes: Any, **arrays: Any) -> bytes:
    """A graph whose nodes make the tensor `big`, of which it adds the sum to its input."""
    ends = [
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["number"], to=FLOAT),
        helper.make_node("Add", ["x", "number"], ["y"]),
    ]
    return written([*nodes, *ends], *IN_OUT, **arrays)


def bomb_in_a_branch(count: int) -> bytes:
    """The same within a branch, where the number of elements cannot be told from the graph."""
    big = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["count"], ["made"], value=ZERO)],
        "big", [], [helper.make_tensor_value_info("made", FLOAT, [None])],
    )  # fmt: skip
    small = helper.make_graph(
        [helper.make_node("Constant", [], ["none"], value=ZERO)],
        "small", [], [helper.make_tensor_value_info("none", FLOAT, [None])],
    )  # fmt: skip
    choice = helper.make_node("If", ["always"], ["big"], then_branch=big, else_branch=small)
    return bomb(choice, always=np.array(True), count=np.array([count]))


@pytest.mark.parametrize(
    "artifact",
    [
        pytest.param(
            bomb(helper.make_node("ConstantOfShape", ["to"], ["big"], value=ZERO), to=np.array([TERA])), id="constant"
        ),
        pytest.param(bomb(helper.make_node("Expand", ["x", "to"], ["big"]), to=np.array([1, TERA])), id="expand"),
        pytest.param(bomb(helper.make_node("Tile", ["x", "to"], ["big"]), to=np.array([1, TERA])), id="tile"),
        pytest.param(
            bomb(
                helper.make_node("Range", ["zero", "to", "one"], ["big"]),
                zero=np.array(0), one=np.array(1), to=np.array(TERA),
            ),
            id="range",
        ),
        pytest.param(
            bomb(
                helper.make_node("MatMul", ["a", "b"], ["big"]),
                a=np.zeros((300_000, 1), np.float32), b=np.zeros((1, 300_000), np.float32),
            ),
            id="product",
        ),
        pytest.param(
            bomb(
                helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Gather", ["shape", "first"], ["rows"]),
                helper.make_node("Concat", ["rows", "to"], ["both"], axis=0),
                helper.make_node("Expand", ["x", "both"], ["big"]), first=np.array([0]), to=np.array([TERA]),
            ),
            id="expand-each-row",
        ),
    ],
)  # fmt: skip
def test_a_small_graph_that_makes_a_huge_tensor_is_refused_before_it_runs(artifact: bytes) -> None:
    assert len(artifact) < 3 * 2**20

    with pytest.raises(UnsafeArtifact, match=r"tensor 'big' of \d+ bytes.*FORETELL_MAX_UNPACKED_ARTIFACT_BYTES"):
        load("onnx", artifact)


def test_a_graph_may_make_tensors_up_to_the_limit() -> None:
    artifact = bomb(helper.make_node("Expand", ["x", "to"], ["big"]), to=np.array([1, 1000]))

    load("onnx", artifact, ArtifactLimits.of(Settings(max_unpacked_artifact_bytes=4000)))
    with pytest.raises(UnsafeArtifact, match="'big' of 4000 bytes"):
        load("onnx", artifact, ArtifactLimits.of(Settings(max_unpacked_artifact_bytes=3999)))


def test_a_graph_that_takes_more_memory_than_is_allowed_when_it_runs_is_refused() -> None:
    settings = Settings(max_unpacked_artifact_bytes=2**20)
    assert examine(bomb_in_a_branch(1000), format="onnx", sample=None, settings=settings).signature.methods

    with pytest.raises(ModelUnusable, match=r"needs more memory than .*FORETELL_MAX_UNPACKED_ARTIFACT_BYTES"):
        examine(bomb_in_a_branch(10**9), format="onnx", sample=None, settings=settings)


def test_a_row_for_which_a_graph_lacks_memory_is_told_so() -> None:
    with at_most(256 * 2**20), pytest.raises(MemoryError):
        load("onnx", bomb_in_a_branch(10**9)).estimator.predict(np.zeros((1, 1)))
