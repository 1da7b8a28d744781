"""The training profile: what it says of each type of feature, and that it stays small."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.signature import Container, Feature, FeatureType, Signature
from worker.bins import Bins
from worker.container import ARROW
from worker.profile import MOST_FEATURES, profile_of


def signature(types: Mapping[str, FeatureType], container: Container = "table") -> Signature:
    features = tuple(Feature(name=name, type=kind, nullable=True) for name, kind in types.items())
    return Signature(container=container, features=features, methods=("predict",))


def entry(values: Any, kind: FeatureType, container: Container = "table") -> dict[str, Any]:
    """What the profile says of one column."""
    found: dict[str, Any] = profile_of(pa.table({"x": values}), signature({"x": kind}, container))["features"]["x"]
    return found


def test_a_number_is_told_by_its_deciles() -> None:
    found = entry([float(value) for value in range(1, 101)], "number")

    assert found == {
        "type": "number",
        "bins": "quantiles",
        "edges": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0],
        "shares": [0.1] * 10,
        "missing": 0.0,
        "mean": 50.5,
        "deviation": pytest.approx(np.sqrt((100**2 - 1) / 12)),
        "min": 1.0,
        "max": 100.0,
    }


def test_deciles_that_are_the_same_value_are_one_bin() -> None:
    found = entry([0.0] * 65 + [float(value) for value in range(1, 36)], "number")

    assert (found["edges"], found["shares"]) == ([0.0, 5.0, 15.0, 25.0], [0.65, 0.05, 0.1, 0.1, 0.1])


def test_a_number_with_few_values_is_told_by_them() -> None:
    found = entry([1, 2, 2, 5] * 25, "integer")

    assert (found["bins"], found["values"], found["shares"], found["other"]) == (
        "values",
        [1, 2, 5],
        [0.25, 0.5, 0.25],
        0,
    )
    assert (found["mean"], found["min"], found["max"]) == (2.5, 1, 5)


def test_a_number_that_has_few_values_only_since_there_are_few_rows_is_told_by_quantiles() -> None:
    assert entry([0.5, 1.5, 2.5], "number")["bins"] == "quantiles"


def test_whole_numbers_past_2_to_the_53_stay_exact() -> None:
    found = entry([2**60 + number for number in range(100)], "integer")

    assert found["edges"][0] == 2**60 + 9
    assert found["shares"] == [0.1] * 10


@pytest.mark.parametrize(
    "absent",
    [pytest.param(None, id="null"), pytest.param(float("nan"), id="nan"), pytest.param(float("inf"), id="infinite")],
)
def test_what_is_no_finite_number_is_missing(absent: float | None) -> None:
    found = entry(pa.array([absent, 1.0, 1.0, 2.0] * 25, pa.float64()), "number")

    assert (found["missing"], found["values"], found["shares"]) == (0.25, [1.0, 2.0], [0.5, 0.25])
    assert found["max"] == 2.0


@pytest.mark.parametrize("kind", ["number", "integer", "string"])
def test_a_feature_without_any_value_is_all_missing(kind: FeatureType) -> None:
    found = entry(pa.nulls(30), kind)

    assert found["missing"] == 1.0
    assert sum(found["shares"]) == 0


def test_a_string_is_told_by_its_most_frequent_values_and_equal_ones_by_name() -> None:
    found = entry(["red", "green", "red", None, "blue"] * 20, "string")

    assert found == {
        "type": "string",
        "bins": "categories",
        "values": ["red", "blue", "green"],
        "shares": [0.4, 0.2, 0.2],
        "other": 0.0,
        "missing": 0.2,
    }


def test_strings_past_the_twenty_most_frequent_are_other_values() -> None:
    found = entry([f"c{number:02d}" for number in range(25) for _ in range(4)], "string")

    assert (len(found["values"]), found["values"][0], found["other"]) == (20, "c00", 0.2)


def test_a_boolean_is_told_by_how_often_it_is_true() -> None:
    found = entry([True, True, True, None], "boolean")

    assert (found["values"], found["shares"], found["missing"]) == ([False, True], [0.0, 0.75], 0.25)


@pytest.mark.parametrize(
    ("values", "container"),
    [
        pytest.param([f"message {number}" for number in range(100)], "table", id="mostly-distinct"),
        pytest.param(["long " * 30, "short"] * 50, "table", id="long"),
        pytest.param(["yes", "no"] * 50, "text", id="the-text-of-a-text-model"),
    ],
)
def test_a_text_is_told_by_its_length(values: list[str], container: Container) -> None:
    found = entry(values, "string", container)

    assert found["bins"] == "lengths"
    assert (found["min"], found["max"]) == (min(map(len, values)), max(map(len, values)))
    assert found["mean"] == pytest.approx(sum(map(len, values)) / 100)


def test_a_length_is_in_characters() -> None:
    assert entry(["äöü"] * 10, "string", "text")["max"] == 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param(pa.array([1, 2, 3]), "number", id="whole-numbers-as-numbers"),
        pytest.param(pa.array([1.0, 2.0, None]), "integer", id="floats-as-whole-numbers"),
        pytest.param(pa.array([1.0, 2.0, float("nan")]), "integer", id="floats-with-nan-as-whole-numbers"),
        pytest.param(pa.array([2**62 + 1]), "number", id="a-large-whole-number"),
        pytest.param(pa.array(["a", "b"]).dictionary_encode(), "string", id="a-dictionary-as-strings"),
        pytest.param(pa.array(["a", "b"], pa.large_string()), "string", id="large-strings"),
    ],
)
def test_values_of_a_related_type_are_taken(values: pa.Array, kind: FeatureType) -> None:
    assert entry(values, kind)["type"] == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [pytest.param(["x"], "number", id="text-as-number"), pytest.param([1.5], "integer", id="half-as-whole-number")],
)
def test_values_of_another_type_are_refused_by_column(values: Sequence[Any], kind: FeatureType) -> None:
    with pytest.raises(InvalidRequest, match="Column x has values of type") as refused:
        entry(values, kind)

    assert refused.value.errors[0]["column"] == "x"


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InvalidRequest, match="no column y"):
        profile_of(pa.table({"x": [1.0]}), signature({"y": "number"}))


def test_no_rows_give_no_profile() -> None:
    assert profile_of(pa.table({"x": pa.array([], pa.float64())}), signature({"x": "number"})) == {}


def test_a_profile_of_many_features_is_cut_and_says_so() -> None:
    names = [f"f{number}" for number in range(MOST_FEATURES + 7)]
    table = pa.table({name: np.arange(500.0) + 0.123456789 for name in names})

    found = profile_of(table, signature(dict.fromkeys(names, "number")))

    assert (len(found["features"]), found["left_out"], found["rows"]) == (MOST_FEATURES, 7, 500)
    assert len(orjson.dumps(found)) < 400 * MOST_FEATURES


VALUES: dict[FeatureType, st.SearchStrategy[Any]] = {
    "number": st.floats(allow_nan=False) | st.integers(0, 3).map(float),
    "integer": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
    "string": st.text(max_size=4) | st.sampled_from(["a", "b"]),
    "boolean": st.booleans(),
}


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_every_row_is_in_one_bin_in_any_order_of_the_rows_and_json_keeps_it_all(
    kind: FeatureType, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=60))
    column = pa.chunked_array([values], ARROW[kind])

    found = entry(column, kind)

    mixed = entry(pa.array(data.draw(st.permutations(values)), ARROW[kind]), kind)
    assert {**mixed, "mean": None, "deviation": None} == {**found, "mean": None, "deviation": None}
    assert sum(found["shares"]) + found.get("other", 0) + found["missing"] == pytest.approx(1, abs=1e-4)
    assert len(found["shares"]) <= 20
    assert orjson.loads(orjson.dumps(found)) == found
    counts = Bins.of(orjson.loads(orjson.dumps(found))).counts(column)
    assert counts.sum() == len(values)
    assert [round(count / len(values), 6) for count in counts.tolist()] == [
        *found["shares"], *([found["other"]] if "other" in found else []), found["missing"]
    ]  # fmt: skip
    assert len(Bins.of(found).words()) == len(counts)
