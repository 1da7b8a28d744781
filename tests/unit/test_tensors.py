"""Tensors of the Open Inference Protocol v2: what is read is what was written, and a wrong one is named."""

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.features import inputs_of, outputs_of, rows_of
from api.tensors import CODES, FLOATS, Tensor, read_tensors, split_body, tensor_of, written
from shared.errors import InvalidRequest, TooManyInstances
from shared.signature import Feature, FeatureType, Signature

RANGES = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def value_of(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BYTES":
        return st.text()
    if datatype == "BOOL":
        return st.booleans()
    if datatype in FLOATS:
        return st.none() | st.floats(allow_nan=False, allow_infinity=False, width=int(datatype[2:]))  # type: ignore[arg-type]
    return st.integers(*RANGES[datatype])


MOST = {"most_rows": 100, "most_columns": 3}

TENSORS = st.sampled_from((*CODES, "BYTES")).flatmap(
    lambda datatype: st.lists(value_of(datatype), max_size=6).map(
        lambda values: Tensor(name="t", datatype=datatype, shape=(len(values),), values=values)
    )
)


@given(tensors=st.lists(TENSORS, min_size=1, max_size=4), binary=st.booleans())
def test_tensors_are_read_as_they_were_written(tensors: list[Tensor], binary: bool) -> None:
    parts = [written(tensor, binary=binary) for tensor in tensors]

    found = read_tensors([about for about, _ in parts], memoryview(b"".join(data for _, data in parts)), **MOST)

    assert [(one.datatype, one.shape, list(one.values)) for one in found] == [
        (one.datatype, one.shape, list(one.values)) for one in tensors
    ]


@given(data=st.binary(max_size=40), count=st.integers(0, 5), datatype=st.sampled_from((*CODES, "BYTES")))
def test_any_bytes_are_a_tensor_or_a_named_fault(data: bytes, count: int, datatype: str) -> None:
    about = {"name": "t", "datatype": datatype, "shape": [count], "parameters": {"binary_data_size": len(data)}}

    found: Sequence[Tensor] = ()
    with contextlib.suppress(InvalidRequest):
        found = read_tensors([about], memoryview(data), **MOST)

    assert [len(tensor.values) for tensor in found] in ([], [count])


@pytest.mark.parametrize(
    ("rows", "datatype", "shape"),
    [
        pytest.param([1, 2], "INT64", (2,), id="integers"),
        pytest.param([1.0, None], "FP64", (2,), id="numbers"),
        pytest.param([None], "FP64", (1,), id="only-null"),
        pytest.param([2**63], "FP64", (1,), id="past-64-bits"),
        pytest.param([True, False], "BOOL", (2,), id="truths"),
        pytest.param(["a", "b"], "BYTES", (2,), id="strings"),
        pytest.param([[0.5, 0.5], [1.0, 0.0]], "FP64", (2, 2), id="probabilities"),
        pytest.param([[[1.0], [2.0]]], "FP64", (1, 2, 1), id="several-outputs"),
        pytest.param([[], []], "FP64", (2, 0), id="no-columns"),
    ],
)
def test_predictions_are_a_tensor_of_their_own_type(rows: list[Any], datatype: str, shape: tuple[int, ...]) -> None:
    tensor = tensor_of("predict", rows)

    assert (tensor.datatype, tensor.shape) == (datatype, shape)


@pytest.mark.parametrize(
    "rows", [[[1, 2], [3]], [[1], 2], ["a", 1], [{"a": 1}]], ids=["ragged", "mixed", "kinds", "object"]
)
def test_what_is_no_tensor_is_refused(rows: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="no tensor"):
        tensor_of("predict", rows)


def test_a_body_is_split_where_the_header_says() -> None:
    header, rest = split_body(b'{"a":1}' + struct.pack("<d", 1.5), "7")

    assert (header, bytes(rest)) == (b'{"a":1}', struct.pack("<d", 1.5))


def signature(*kinds: FeatureType, container: Any = "table", **more: Any) -> Signature:
    features = tuple(Feature(name=f"f{number}", type=kind) for number, kind in enumerate(kinds))
    outputs = more.pop("outputs", ({"name": "prediction", "type": "number"},))
    return Signature(container=container, features=features, methods=("predict",), outputs=outputs, **more)


def test_a_model_of_several_outputs_gives_a_tensor_of_two_dimensions() -> None:
    several = tuple({"name": f"prediction_{number}", "type": "number"} for number in range(2))

    (output,) = outputs_of(signature("number", outputs=several))

    assert output == {"name": "predict", "datatype": "FP64", "shape": [-1, 2]}


def test_whole_numbers_of_one_matrix_may_stand_beside_others() -> None:
    mixed = signature("number", "integer")
    tensor = Tensor(name="any name", datatype="FP32", shape=(2, 2), values=[0.5, 1.0, 1.5, 2.0])

    assert rows_of([tensor], mixed) == [[0.5, 1.0], [1.5, 2.0]]
    assert [one["name"] for one in inputs_of(mixed)] == ["f0", "f1"]


@pytest.mark.parametrize("rows", [pytest.param((2, 1), id="lengths"), pytest.param((1,), id="missing")])
def test_a_long_name_is_shown_as_its_beginning(rows: tuple[int, ...]) -> None:
    features = tuple(Feature(name=letter * 5000, type="number") for letter in "ab")
    model = Signature(container="table", features=features, methods=("predict",))
    tensors = [
        Tensor(name=features[number].name, datatype="FP64", shape=(count,), values=[0.0] * count)
        for number, count in enumerate(rows)
    ]

    with pytest.raises(InvalidRequest) as refused:
        rows_of(tensors, model)

    assert len(refused.value.message) < 500
    assert "b" * 100 in refused.value.message


def test_strings_and_numbers_do_not_go_into_one_tensor() -> None:
    tensor = Tensor(name="all", datatype="FP64", shape=(1, 2), values=[0.5, 1.0])

    with pytest.raises(InvalidRequest, match="f1 is a string: send BYTES, in a tensor of its own") as refused:
        rows_of([tensor], signature("number", "string"))

    assert refused.value.errors[0]["column"] == "f1"


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param([101, 3], TooManyInstances, id="rows"),
        pytest.param([100, 4], InvalidRequest, id="values"),
        pytest.param([2**31] * 8, TooManyInstances, id="beyond-reason"),
    ],
)
def test_more_than_a_job_may_have_is_refused_before_it_is_read(shape: list[int], kind: type[InvalidRequest]) -> None:
    # Whoever looked at the bytes first would miss them.
    about = {"name": "t", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": 10**9}}

    with pytest.raises(InvalidRequest) as caught:
        read_tensors([about], memoryview(b""), **MOST)

    assert (type(caught.value), caught.value.errors[0]["pointer"]) == (kind, "/inputs")


@pytest.mark.parametrize("datatype", RANGES)
def test_whole_numbers_are_in_the_range_of_their_datatype(datatype: str) -> None:
    low, high = RANGES[datatype]

    def read(*values: int) -> Sequence[Any]:
        about = {"name": "t", "datatype": datatype, "shape": [len(values)], "data": list(values)}
        return read_tensors([about], memoryview(b""), **MOST)[0].values

    assert list(read(low, high)) == [low, high]
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidRequest, match="its value number 2 is none"):
            read(0, value)


def test_a_long_name_is_cut_where_an_error_shows_it() -> None:
    about = {"name": "n" * 10_000, "datatype": "FP64", "shape": [1], "data": ["a"]}

    with pytest.raises(InvalidRequest) as caught:
        read_tensors([about], memoryview(b""), **MOST)

    assert len(caught.value.message) < 300


def test_a_tensor_without_dimensions_is_no_column() -> None:
    signature = Signature(
        container="table",
        features=(Feature(name="x1", type="number"), Feature(name="x2", type="number")),
        methods=("predict",),
    )
    tensors = [
        Tensor(name="x2", datatype="FP64", shape=(), values=[1.0]),
        Tensor(name="x1", datatype="FP64", shape=(1,), values=[1.0]),
    ]

    with pytest.raises(InvalidRequest, match=r"Tensor x2 has the shape \[\]"):
        rows_of(tensors, signature)
