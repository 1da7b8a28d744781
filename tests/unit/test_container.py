"""Rows as the estimator wants them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shared.signature import Container, Feature, FeatureType, Signature
from worker.container import pack

FEATURES = (
    Feature(name="number", type="number"),
    Feature(name="integer", type="integer"),
    Feature(name="string", type="string"),
    Feature(name="boolean", type="boolean"),
)


def signature(container: Container, *features: Feature) -> Signature:
    return Signature(container=container, features=features, methods=("predict",))


def test_a_matrix_is_float64_with_a_row_for_each_row() -> None:
    numbers = signature("matrix", *FEATURES[:2])

    packed = pack(numbers, [[1.5, 2], [3, 4]])

    assert packed.dtype == np.float64
    np.testing.assert_array_equal(packed, [[1.5, 2.0], [3.0, 4.0]])


def test_a_missing_value_is_nan_in_a_matrix() -> None:
    numbers = signature("matrix", *FEATURES[:2])

    packed = pack(numbers, [[None, 2], [3, None]])

    np.testing.assert_array_equal(np.isnan(packed), [[True, False], [False, True]])


def test_a_boolean_is_one_or_zero_in_a_matrix() -> None:
    flags = signature("matrix", FEATURES[3])

    np.testing.assert_array_equal(pack(flags, [[True], [False]]), [[1.0], [0.0]])


def test_text_is_a_list_of_strings() -> None:
    text = signature("text", FEATURES[2])

    assert pack(text, [["hello"], ["world"]]) == ["hello", "world"]


def test_a_table_has_the_names_and_types_of_the_features_in_their_order() -> None:
    table = signature("table", *FEATURES)

    packed = pack(table, [[1.5, 2, "a", True], [2, 3, "b", False]])

    assert packed.schema == pa.schema(
        {"number": pa.float64(), "integer": pa.int64(), "string": pa.string(), "boolean": pa.bool_()}
    )
    assert packed.to_pylist() == [
        {"number": 1.5, "integer": 2, "string": "a", "boolean": True},
        {"number": 2.0, "integer": 3, "string": "b", "boolean": False},
    ]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.type)
def test_a_column_of_a_table_keeps_its_type_when_all_its_values_are_missing(feature: Feature) -> None:
    table = signature("table", feature)

    packed = pack(table, [[None], [None]])

    assert packed.schema == pack(table, [[None]]).schema
    assert packed.column(0).type != pa.null()
    assert packed.column(0).null_count == 2


@pytest.mark.parametrize("container", ["matrix", "table"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**53 + 1, id="not-exact-in-float64"),
        pytest.param(1_700_000_000_000_000_001, id="nanoseconds-since-1970"),
        pytest.param(-(2**63), id="smallest-of-64-bits"),
        pytest.param(2**64 - 1, id="largest-that-json-brings"),
    ],
)
def test_a_number_may_be_any_whole_number(container: Container, value: int) -> None:
    numbers = signature(container, FEATURES[0])

    packed = pack(numbers, [[value], [0.5]])

    column = packed[:, 0].tolist() if container == "matrix" else packed.column(0).to_pylist()
    assert column == [float(value), 0.5]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("integer", 2**63 - 1, id="largest-integer"),
        pytest.param("integer", -(2**63), id="smallest-integer"),
        pytest.param("string", "", id="empty-string"),
        pytest.param("string", "naïve \U0001f600", id="unicode"),
    ],
)
def test_a_table_holds_every_value_exactly(kind: FeatureType, value: Any) -> None:
    table = signature("table", Feature(name="x", type=kind))

    assert pack(table, [[value]]).to_pylist() == [{"x": value}]
