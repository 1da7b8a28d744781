"""Drift: the index by hand, counts that add up, and samples that depend on the slice alone."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signature import Feature, FeatureType, Signature
from worker.drift import DRIFT_MIN_ROWS, DRIFT_ROWS, FeatureCounter, by_chance, drift_table, stability_index, total
from worker.profile import profile_of

TYPES: dict[str, FeatureType] = {"size": "number", "rooms": "integer", "colour": "string", "sold": "boolean"}
SIGNATURE = Signature(
    container="table",
    features=tuple(Feature(name=name, type=kind, nullable=True) for name, kind in TYPES.items()),
    methods=("predict",),
)


def rows(count: int, seed: int = 0, *, shift: float = 0.0) -> pa.Table:
    """Rows of one population, whose sizes can be shifted."""
    chance = np.random.default_rng(seed)
    return pa.table(
        {
            "size": chance.normal(100 + shift, 20, count),
            "rooms": chance.integers(1, 6, count),
            "colour": chance.choice([f"c{number}" for number in range(12)], count),
            "sold": chance.random(count) < 0.3,
        }
    )


PROFILE = profile_of(rows(2000), SIGNATURE)


def counted(table: pa.Table, profile: dict[str, Any] = PROFILE) -> dict[str, list[int]]:
    """What is counted of a slice."""
    counter = FeatureCounter(profile)
    return counter.counts(counter.sample(table))


def compared(table: pa.Table, profile: dict[str, Any] = PROFILE, threshold: float = 0.25) -> dict[str, Any]:
    return drift_table(profile, counted(table, profile), threshold)


@pytest.mark.parametrize(
    ("expected", "actual", "index"),
    [
        pytest.param([0.5, 0.5], [0.5, 0.5], 0.0, id="the-same"),
        pytest.param([0.5, 0.5], [0.25, 0.75], 0.25 * math.log(2) + 0.25 * math.log(1.5), id="moved"),
        # (0.1 - 0.3) ln (1/3) + (0.5 - 0.3) ln (5/3), and nothing of the bin that stays
        pytest.param([0.3, 0.3, 0.4], [0.1, 0.5, 0.4], 0.321887, id="three-bins"),
        # Of 200 rows none: half a row is 0.0025; (0 counts as 0.0025 - 0.2) ln (0.0025 / 0.2) + 0.2 ln 1.25
        pytest.param([0.2, 0.8], [0.0, 1.0], 0.1975 * math.log(80) + 0.2 * math.log(1.25), id="empty-now"),
        # In training none of 1,000 rows: half a row is 0.0005.
        pytest.param([0.0, 1.0], [0.2, 0.8], 0.1995 * math.log(400) + 0.2 * math.log(1.25), id="empty-in-training"),
        pytest.param([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], 0.0, id="empty-on-both-sides"),
    ],
)
def test_the_index_is_what_the_formula_gives_by_hand(expected: list[float], actual: list[float], index: float) -> None:
    found = stability_index(np.array(expected), np.array(actual), 1000, 200)

    assert found == pytest.approx(index, abs=1e-6)


def test_what_chance_explains_is_the_mean_and_two_deviations_of_chi_square_over_the_rows() -> None:
    shares = np.array([0.2] * 5 + [0.0])

    found = by_chance(shares, shares, 1000, 250)

    assert found == pytest.approx((4 + 2 * math.sqrt(8)) * (1 / 250 + 1 / 1000))


def test_rows_of_the_same_population_have_not_drifted() -> None:
    found = compared(rows(1000, seed=1))

    assert (found["drifted"], found["drifted_features"], found["reason"]) == (False, [], None)
    assert {about["level"] for about in found["features"].values()} == {"none"}


@pytest.mark.parametrize(("training", "scored"), [(100, 100), (100, 1000), (1000, 100), (1000, 1000)])
def test_chance_alone_raises_an_alarm_in_less_than_one_of_fifty_jobs(training: int, scored: int) -> None:
    alarms = sum(
        compared(rows(scored, 2 * seed + 1), profile_of(rows(training, 2 * seed), SIGNATURE))["drifted"]
        for seed in range(200)
    )

    assert alarms < 4


def test_a_shift_is_found_in_the_feature_that_has_it_and_told_in_words() -> None:
    found = compared(rows(1000, seed=1, shift=25))

    assert (found["drifted"], found["drifted_features"]) == (True, ["size"])
    size = found["features"]["size"]
    assert (size["level"], size["drifted"], size["psi"]) == ("much", True, found["max_psi"])
    assert size["moved_most"]["bin"] == f"above {PROFILE['features']['size']['edges'][-1]:.6g}"
    assert size["moved_most"]["expected"] == pytest.approx(0.1)
    assert size["moved_most"]["actual"] > 0.4


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        pytest.param("colour", ["never seen"] * 300, "any other value", id="unknown-category"),
        pytest.param("colour", ["c3"] * 300, "'c3'", id="one-category"),
        pytest.param("rooms", [4] * 300, "4", id="one-number"),
        pytest.param("sold", [True] * 300, "true", id="boolean"),
        pytest.param("size", [None] * 300, "missing", id="all-missing"),
    ],
)
def test_the_bin_that_moved_most_is_named(column: str, values: list[Any], words: str) -> None:
    table = rows(300)
    at = table.column_names.index(column)

    found = compared(table.set_column(at, column, pa.array(values, table.schema.field(column).type)))

    assert found["drifted_features"] == [column]
    assert found["features"][column]["moved_most"]["bin"] == words


def test_missing_values_are_compared() -> None:
    table = rows(400)
    sizes = [None if number % 4 == 0 else size for number, size in enumerate(table["size"].to_pylist())]

    found = compared(table.set_column(0, "size", pa.array(sizes, pa.float64())))

    assert found["features"]["size"]["missing"] == {"expected": 0.0, "actual": 0.25}


def test_a_long_category_is_shortened_in_words() -> None:
    signature = Signature(container="table", features=(Feature(name="x", type="string"),), methods=())
    profile = profile_of(pa.table({"x": ["a" * 90, "b"] * 50}), signature)

    found = compared(pa.table({"x": ["a" * 90] * 200}), profile)

    assert len(found["features"]["x"]["moved_most"]["bin"]) < 50


@pytest.mark.parametrize("count", [1, DRIFT_MIN_ROWS - 1])
def test_too_few_rows_say_neither_yes_nor_no(count: int) -> None:
    found = compared(rows(count, shift=1000))

    assert (found["drifted"], found["drifted_features"], found["rows"]) == (None, [], count)
    assert found["reason"] == f"too few rows: {count} were counted, at least {DRIFT_MIN_ROWS} are needed"
    assert {about["drifted"] for about in found["features"].values()} == {None}


@pytest.mark.parametrize("counts", [pytest.param({}, id="no-slice"), pytest.param({"size": [0] * 11}, id="no-row")])
def test_no_rows_have_no_index(counts: dict[str, list[int]]) -> None:
    found = drift_table(PROFILE, counts, 0.25)

    assert (found["rows"], found["drifted"], found["max_psi"], found["features"]) == (0, None, None, {})


def test_a_feature_drifts_only_past_the_threshold_of_the_service() -> None:
    shifted = rows(1000, seed=1, shift=25)

    assert compared(shifted, threshold=5)["drifted"] is False


VALUES = st.fixed_dictionaries(
    {
        "size": st.none() | st.floats(-50, 250),
        "rooms": st.none() | st.integers(-1, 8),
        "colour": st.none() | st.sampled_from(["c1", "c2", "c99", ""]),
        "sold": st.none() | st.booleans(),
    }
)


@given(table=st.lists(VALUES, min_size=1, max_size=50), cuts=st.lists(st.integers(0, 50), max_size=4))
def test_counts_of_slices_add_up_to_those_of_the_whole(table: list[dict[str, Any]], cuts: list[int]) -> None:
    schema = pa.schema([pa.field(name, PROFILE_TYPES[name]) for name in TYPES])
    whole = pa.Table.from_pylist(table, schema)
    ends = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]

    pieces = [counted(whole.slice(low, high - low)) for low, high in pairwise(ends)]

    assert total(pieces) == counted(whole)
    assert {sum(bins) for bins in total(pieces).values()} == {len(table)}


PROFILE_TYPES = {"size": pa.float64(), "rooms": pa.int64(), "colour": pa.string(), "sold": pa.bool_()}


@given(slices=st.lists(st.integers(1, 3 * DRIFT_ROWS), min_size=1, max_size=6), data=st.data())
def test_what_is_counted_does_not_depend_on_how_slices_make_chunks(slices: list[int], data: st.DataObject) -> None:
    counter = FeatureCounter(PROFILE)
    samples = [counter.sample(rows(count, seed)) for seed, count in enumerate(slices)]
    cut = data.draw(st.integers(0, len(slices)))
    chunks = [chunk for chunk in (samples[cut:], samples[:cut]) if chunk]  # in whatever order they are done

    found = total(counter.counts(pa.concat_tables(chunk)) for chunk in chunks)

    assert found == total(map(counter.counts, samples))
    assert sum(found["size"]) == sum(min(count, DRIFT_ROWS) for count in slices)


def test_a_large_slice_is_sampled_evenly_over_its_length() -> None:
    table = rows(10 * DRIFT_ROWS)
    sizes = pa.array(np.repeat([0.0, 1000.0], 5 * DRIFT_ROWS))

    counts = counted(table.set_column(0, "size", sizes))

    assert (counts["size"][0], counts["size"][-2]) == (DRIFT_ROWS // 2, DRIFT_ROWS // 2)


def test_a_slice_in_several_pieces_of_memory_counts_like_one() -> None:
    table = rows(3000)
    pieces = pa.concat_tables([table.slice(0, 1100), table.slice(1100, 0), table.slice(1100)])

    assert counted(pieces) == counted(table.combine_chunks())
